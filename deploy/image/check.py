#!/usr/bin/env python3
"""Builds both images from the Dockerfile beside this script, inspects, measures and starts them: `make image-check`

The script uses no container engine and no registry of images: buildah builds in a chroot. RUST is a Debian made by
debootstrap with this machine's Rust toolchain. BASE is the part of that Debian that a program with glibc needs. The
script needs root, buildah and debootstrap; the first build takes as long as a release build.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.append(str(TOP / "deploy" / "local"))
import cache  # noqa: E402

RELEASE = "bookworm"
# Packages and paths of BASE, as in a distroless base.
BASE_PACKAGES = ["libc6", "libgcc-s1", "ca-certificates", "base-files", "tzdata"]
BASE_PREFIXES = ("/usr/lib", "/etc/ssl", "/usr/share/ca-certificates", "/usr/share/zoneinfo")
MAX_BYTES = 40_000_000
NOBODY = 65532
PATIENCE_SECONDS = 30
LABELS = {"title", "description", "version", "revision", "licenses"}
ENTRYPOINTS = {"campaign-service": ["serve"], "dialer-worker": []}


def need(condition, text):
    if not condition:
        sys.exit(text)


def say(text):
    print(text, flush=True)


class Buildah:
    """Buildah with storage of its own."""

    def __init__(self, home):
        self.flags = ["--root", home / "storage", "--runroot", home / "run", "--storage-driver", "vfs"]

    def __call__(self, command, *args, **options):
        made = subprocess.run(["buildah", *self.flags, command, *args], stdout=subprocess.PIPE, text=True,
                              check=False, **options)
        need(made.returncode == 0, f"buildah {command} failed; see above")
        return made.stdout.strip()

    def image_of(self, folder, name, *config):
        """Makes an image of a folder's files."""
        container = self("from", "scratch")
        self("copy", "--quiet", container, folder, "/")
        if config:
            self("config", *config, container)
        self("commit", "--quiet", container, name)
        self("rm", container)

    def rootfs(self, image):
        return Path(self("mount", self("from", "--pull-never", image)))


def debian():
    """Returns a Debian with a C compiler."""
    def build(draft):
        say("making a Debian with debootstrap (once)")
        made = subprocess.run(["debootstrap", "--variant=minbase",
                               "--include=gcc,libc6-dev,ca-certificates,tzdata", RELEASE, draft],
                              stdout=subprocess.DEVNULL, check=False)
        need(made.returncode == 0, "debootstrap failed; see above")

    return cache.build_once(f"image-debian-{RELEASE}", build)


def base_of(system, target):
    """Copies the files of a Debian that programs with glibc need at run time."""
    paths = []
    for package in BASE_PACKAGES:
        listed = subprocess.run(["dpkg", f"--admindir={system}/var/lib/dpkg", "-L", package], capture_output=True,
                                text=True, check=True)
        paths += listed.stdout.splitlines()
    for path in [*paths, "/etc/ssl/certs/ca-certificates.crt"]:
        # Debian keeps these in /usr and has links to them at the top.
        path = f"/usr{path}" if path.startswith(("/lib/", "/lib64/")) else path
        source, copy = system / path.lstrip("/"), target / path.lstrip("/")
        if path.startswith(BASE_PREFIXES) and (source.is_file() or source.is_symlink()):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)
    for folder in ("lib", "lib64"):
        (target / folder).symlink_to(f"usr/{folder}")
    (target / "tmp").mkdir(exist_ok=True)
    etc = target / "etc"
    etc.mkdir(exist_ok=True)
    (etc / "passwd").write_text(f"root:x:0:0::/:\nnonroot:x:{NOBODY}:{NOBODY}::/:\n")


def build(buildah, scratch):
    """Builds both images."""
    system = debian()
    toolchain = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True)
    registry = os.environ.get("CARGO_HOME") or Path.home() / ".cargo"
    subprocess.run(["cargo", "fetch", "--locked"], cwd=TOP, check=True)
    say("making RUST and BASE")
    buildah.image_of(system, "localhost/rust", "--env", "PATH=/rust/bin:/usr/bin:/bin", "--env", "CARGO_HOME=/cargo",
                     "--env", "CARGO_NET_OFFLINE=true")
    base = scratch / "base"
    base.mkdir()
    base_of(system, base)
    buildah.image_of(base, "localhost/base")
    for target in ENTRYPOINTS:
        say(f"building {target}")
        buildah("bud", "--isolation", "chroot", "--layers", "--pull-never", "--target", target,
                "--build-arg", "RUST=localhost/rust", "--build-arg", "BASE=localhost/base",
                "--build-arg", f"REVISION={revision()}",
                "--volume", f"{toolchain.stdout.strip()}:/rust:ro", "--volume", f"{registry}:/cargo",
                "--file", TOP / "deploy/image/Dockerfile", "--tag", f"localhost/{target}", TOP)


def revision():
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=TOP, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def size(folder):
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def inspect(buildah, target, rootfs, base_bytes):
    """Checks the labels, user and size of an image."""
    config = json.loads(buildah("inspect", "--type", "image", f"localhost/{target}"))["OCIv1"]["config"]
    need(config["User"] == f"{NOBODY}:{NOBODY}", f"{target} runs as {config.get('User')}")
    need(config["Entrypoint"] == [f"/usr/local/bin/{target}"], f"{target} starts {config['Entrypoint']}")
    need((config.get("Cmd") or []) == ENTRYPOINTS[target], f"{target} is given {config.get('Cmd')}")
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    missing = [label for label in LABELS if not labels.get(label)]
    need(not missing, f"{target} has no label {missing}")
    need((rootfs / "usr/share/campaign-control/Cargo.lock").exists(), f"{target} does not list its dependencies")
    need(not (rootfs / "bin/sh").exists(), "the base has a shell")
    program = (rootfs / "usr/local/bin" / target).stat().st_size
    added = size(rootfs) - base_bytes
    say(f"{target}: {added / 1e6:.1f} MB without the base, of which the program {program / 1e6:.1f} MB")
    need(added < MAX_BYTES, f"{target} is larger than {MAX_BYTES / 1e6:.0f} MB")
    return [*config["Entrypoint"], *(config.get("Cmd") or [])]


def start(rootfs, command, **variables):
    """Starts a program as in a container: on a read-only root, as nobody, with no other variables."""
    enter = f"mount --bind {rootfs} {rootfs} && mount -o remount,ro,bind {rootfs} && " \
            f"exec chroot --userspec={NOBODY}:{NOBODY} {rootfs} \"$@\""
    return subprocess.Popen(["unshare", "--mount", "sh", "-c", enter, "sh", *command], env={
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "CAMPAIGN_LOG_FORMAT": "json", **variables})


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_serving(port, service):
    """Asks grpc.health.v1; the messages are short enough to be written by hand."""
    import grpc
    name = service.encode()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check", request_serializer=bytes,
                                    response_deserializer=bytes)
        try:
            return check(b"\x0a" + bytes([len(name)]) + name if name else b"", timeout=2) == b"\x08\x01"
        except grpc.RpcError:
            return False


def wait_until_serving(process, port):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (is_serving(port, "liveness") and is_serving(port, "")):
        need(process.poll() is None, f"a program ended with {process.returncode}; see above")
        need(time.monotonic() < deadline, "a program did not get ready; see above")
        time.sleep(0.1)


def run(service, worker):
    """Migrates, serves, works and stops with the programs of the images."""
    database = {"DATABASE_URL": os.environ["DATABASE_URL"]}
    rootfs, command = service
    need(start(rootfs, [command[0], "migrate"], **database).wait() == 0, "the migration failed; see above")
    api, health, worker_health = free_port(), free_port(), free_port()
    serving = start(rootfs, command, CAMPAIGN_LISTEN=f"127.0.0.1:{api}", CAMPAIGN_HEALTH_LISTEN=f"127.0.0.1:{health}",
                    **database)
    processes = [serving]
    try:
        wait_until_serving(serving, health)
        working = start(*worker, DIALER_SERVICE_URL=f"http://127.0.0.1:{api}",
                        CAMPAIGN_HEALTH_LISTEN=f"127.0.0.1:{worker_health}")
        processes.append(working)
        wait_until_serving(working, worker_health)
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
            need(process.wait(PATIENCE_SECONDS) == 0, f"a program stopped with {process.returncode}")
    finally:
        for process in processes:
            process.kill()
    say("both start as nobody on a read-only root, get ready, and stop in order")


def main():
    need(os.geteuid() == 0, "run this as root: buildah and debootstrap make file systems")
    missing = [tool for tool in ("buildah", "debootstrap") if not shutil.which(tool)]
    need(not missing, f"{' and '.join(missing)} missing: apt-get install buildah debootstrap")
    need("DATABASE_URL" in os.environ, "run this by `make image-check`, which brings a PostgreSQL")
    with tempfile.TemporaryDirectory(prefix="campaign-image-") as scratch:
        home = cache.folder() / "image"
        buildah = Buildah(home)
        build(buildah, Path(scratch))
        base = buildah.rootfs("localhost/base")
        say(f"base: {size(base) / 1e6:.1f} MB")
        images = []
        for target in ENTRYPOINTS:
            rootfs = buildah.rootfs(f"localhost/{target}")
            images.append((rootfs, inspect(buildah, target, rootfs, size(base))))
        run(*images)
        buildah("rm", "--all")


if __name__ == "__main__":
    main()
