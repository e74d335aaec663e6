#!/usr/bin/env python3
"""Installs the queues that `make bench` measures beside ours, once, and prints their folder.

The folder has node_modules, with the packages of campaign-service/benches/peers/package-lock.json, and pgmq.sql."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "deploy" / "local"))
import cache  # noqa: E402

SCRIPTS = ROOT / "campaign-service" / "benches" / "peers"
FILES = ["package.json", "package-lock.json"]
# Crate that carries the extension's SQL; cargo fetches it, nothing of it is compiled.
PGMQ = "0.34.0-alpha.7"
PGMQ_SQL = "src/install/embedded/sql/pgmq.sql"
MANIFEST = f"""[package]
name = "fetch-pgmq"
version = "0.0.0"
edition = "2021"
[dependencies]
pgmq = {{ version = "={PGMQ}", default-features = false }}
[workspace]
"""
MIN_NODE = 20


def run(command, folder):
    if subprocess.run(command, cwd=folder, stdout=sys.stderr, check=False).returncode != 0:
        sys.exit(f"`{' '.join(command)}` failed; see above")


def check_node():
    for program in ("node", "npm"):
        if not shutil.which(program):
            sys.exit(f"{program} is not installed, and graphile-worker and pg-boss need it (Debian: apt-get install "
                     "nodejs npm); or measure without other queues: BENCH_PEERS=0 make bench")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < MIN_NODE:
        sys.exit(f"node is {version}; pg-boss needs {MIN_NODE} or newer; or measure without other queues: "
                 "BENCH_PEERS=0 make bench")


def build(draft):
    print("installing other queues to measure, with npm and cargo (once)", file=sys.stderr, flush=True)
    for name in FILES:
        shutil.copy(SCRIPTS / name, draft)
    run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], draft)
    fetch = draft / "fetch-pgmq"
    (fetch / "src").mkdir(parents=True)
    (fetch / "src" / "lib.rs").touch()
    (fetch / "Cargo.toml").write_text(MANIFEST)
    run([os.environ.get("CARGO", "cargo"), "vendor", "--quiet", "vendor"], fetch)
    shutil.copy(fetch / "vendor" / "pgmq" / PGMQ_SQL, draft / "pgmq.sql")
    shutil.rmtree(fetch)


def main():
    check_node()
    key = hashlib.sha256(PGMQ.encode())
    for name in FILES:
        key.update((SCRIPTS / name).read_bytes())
    print(cache.build_once(f"bench-peers-{key.hexdigest()[:12]}", build))


if __name__ == "__main__":
    main()
