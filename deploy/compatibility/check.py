#!/usr/bin/env python3
"""Runs programs of two versions together.

The older version is the commit or tag in COMPATIBILITY_BASE. The first part is the older demo, always on the newer
schema: it is a client that knows none of the new parts, and it compares what each program counts. The second part plays
COMPATIBILITY_HISTORIES (default 80) under faults. These histories begin with the older programs and their schema, and
are upgraded in the middle. Run the script through `make compatibility`."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "deploy" / "local"))
from lending import lend_libraries  # noqa: E402

HOME = ROOT / "target" / "compatibility"
NEWER = ROOT / "target" / "debug"
# Mixes to run: version of the service, of the worker.
MIXES = [("older", "older"), ("newer", "older"), ("older", "newer")]
LIMIT_SECONDS = 600
# Migration that brought erasures. Faults include erasures, and a version without them re-admits the people.
KNOWS_ERASURES = "campaign-service/migrations/V8__erasures.sql"


def fail(text):
    print(text, file=sys.stderr)
    sys.exit(1)


def older(base):
    """Builds the older version. Returns the folder of its programs."""
    source = HOME / "source"
    found = subprocess.run(["git", "rev-parse", "--verify", "--quiet", f"{base}^{{commit}}"], cwd=ROOT,
                           capture_output=True, text=True)
    if found.returncode != 0:
        fail(f"COMPATIBILITY_BASE={base} is not a commit or tag here; fetch it, or name another")
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    archive = subprocess.Popen(["git", "archive", found.stdout.strip()], cwd=ROOT, stdout=subprocess.PIPE)
    subprocess.run(["tar", "x", "-C", source], stdin=archive.stdout, check=True)
    if archive.wait() != 0:
        fail("git archive failed")
    print(f"building {base} in {HOME}; some minutes the first time", flush=True)
    lend_libraries(HOME / "target")
    cargo = os.environ.get("CARGO", "cargo")
    subprocess.run([cargo, "build", "-q", "-p", "campaign-service", "-p", "dialer-worker", "-p", "campaign-demo"],
                   cwd=source, env={**os.environ, "CARGO_TARGET_DIR": str(HOME / "target")}, check=True)
    return HOME / "target" / "debug"


def run(folder, service, worker, old):
    """Runs the older demo with a service and a worker, after the newer version's migration."""
    # Migrations are always the newer version's, as in an upgrade.
    program = folder / "campaign-service"
    program.write_text(f'#!/bin/sh\n[ "$1" = migrate ] && exec {NEWER}/campaign-service "$@"\n'
                       f'exec {service}/campaign-service "$@"\n')
    program.chmod(0o755)
    shutil.copy(worker / "dialer-worker", folder)
    shutil.copy(old / "campaign-demo", folder)
    demo = [folder / "campaign-demo", "--contacts", ROOT / "deploy" / "demo" / "contacts.csv"]
    postgres = [sys.executable, ROOT / "deploy" / "local" / "with_postgres.py", "--"]
    return subprocess.run(postgres + demo, cwd=folder, capture_output=True, text=True, timeout=LIMIT_SECONDS)


def upgraded_under_faults(old):
    """Reports whether the promises held while one version took the place of the other."""
    if not (HOME / "source" / KNOWS_ERASURES).exists():
        print("NOT RUN: an upgrade under faults, since the older version has no erasures")
        return True
    histories = os.environ.get("COMPATIBILITY_HISTORIES", "80")
    print(f"{histories} histories under faults, upgraded in the middle …", flush=True)
    chaos = [NEWER / "chaos", "--histories", histories, "--previous-service", old / "campaign-service"]
    postgres = [sys.executable, ROOT / "deploy" / "local" / "with_postgres.py", "--"]
    return subprocess.run(postgres + chaos, cwd=ROOT, check=False).returncode == 0


def main():
    base = os.environ.get("COMPATIBILITY_BASE")
    if not base:
        fail("COMPATIBILITY_BASE is not set: make compatibility COMPATIBILITY_BASE=v1.2.3 (the tag or commit in use)")
    old = older(base)
    versions = {"older": old, "newer": NEWER}
    bad = 0
    for service, worker in MIXES:
        name = f"{service} service, {worker} worker, older client, newer schema"
        print(f"{name} …", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            ran = run(Path(folder), versions[service], versions[worker], old)
        if ran.returncode != 0:
            bad += 1
            print(ran.stdout[-4000:], ran.stderr[-4000:], f"NOT COMPATIBLE: {name}", sep="\n")
        else:
            print("  compatible")
    if not upgraded_under_faults(old):
        bad += 1
        print("NOT COMPATIBLE: an upgrade under faults")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
