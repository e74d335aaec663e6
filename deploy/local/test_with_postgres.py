"""Tests of with_postgres.py: python3 -m unittest discover -s deploy/local"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

SCRIPT = Path(__file__).with_name("with_postgres.py")
PATIENCE_SECONDS = 60
# Prints what the command sees, then waits to be ended.
SHOW_AND_WAIT = "echo $DATABASE_URL $$; exec sleep 600"


def environment(**changes):
    clean = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    return {**clean, **changes}


def port_of(url):
    return int(url.rsplit(":", 1)[1].split("/")[0])


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def state_of(process):
    """Returns the letter of a process in Linux; Z means that it has ended and its parent has not noticed yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "gone"


class WithPostgres(unittest.TestCase):
    def setUp(self):
        # A folder of our own, so that other runs on this machine do not count.
        self.temporary = self.folder()

    def folder(self, mode=0o755):
        path = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, path, ignore_errors=True)
        path.chmod(mode)
        return path

    def start(self, *command, as_user=(sys.executable,), script=SCRIPT, **changes):
        return subprocess.Popen([*as_user, script, "--", *command],
                                env=environment(TMPDIR=str(self.temporary), **changes),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def assert_gone(self, port):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while is_open(port) or list(self.temporary.glob("campaign-postgres-*")):
            self.assertLess(time.monotonic(), deadline, "the server or its folder is still there")
            time.sleep(0.05)

    def ask(self, **changes):
        command = '"$CAMPAIGN_PG_BIN/psql" -XAt "$DATABASE_URL" -c "select 40 + 2" && echo $DATABASE_URL; exit 7'
        process = self.start("sh", "-c", command, **changes)
        out, err = process.communicate(timeout=600)
        self.assertEqual(process.returncode, 7, err)
        answer, url = out.split()
        self.assertEqual(answer, "42")
        self.assert_gone(port_of(url))
        return err

    def test_the_command_has_a_database_and_its_exit_code_counts(self):
        self.ask()

    def test_the_wheel_serves_where_nothing_is_installed(self):
        bare = self.folder()
        (bare / "sh").symlink_to("/bin/sh")
        self.assertIn("PostgreSQL 18", self.ask(PATH=str(bare), CAMPAIGN_PG_SEARCH=""))

    def test_an_ordinary_user_can_run_it(self):
        if os.geteuid() != 0:
            self.ask()
            return
        become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        self.temporary = self.folder(mode=0o777)
        home = str(self.temporary)
        # The checkout may lie below root's home, and so may our own Python. That Python may start all the same and
        # then not find its own files.
        scripts = self.folder()
        for script in Path(SCRIPT).parent.glob("*.py"):
            shutil.copy(script, scripts)
        probe = "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
        pythons = [sys.executable, shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")]
        for python in filter(None, pythons):
            if subprocess.run([*become, python, "-c", probe], cwd="/", env=environment(HOME=home),
                              capture_output=True, check=False).returncode == 0:
                break
        else:
            self.fail("no Python here can be run by every user; install one (Debian: apt-get install python3 python3-pip)")
        self.ask(as_user=[*become, python], script=scripts / Path(SCRIPT).name, HOME=home,
                 CAMPAIGN_CACHE_DIR=f"{home}/cache")

    def test_what_the_command_leaves_behind_does_not_keep_the_server(self):
        # All descriptors are passed on. Except: the output that we read to its end.
        leave = ("import os, subprocess; quiet = subprocess.DEVNULL; left = subprocess.Popen(['sleep', '600'], "
                 "stdout=quiet, stderr=quiet, close_fds=False, start_new_session=True); "
                 "print(os.environ['CAMPAIGN_PG_PORT'], left.pid)")
        process = self.start(sys.executable, "-c", leave)
        port, left = map(int, process.communicate(timeout=PATIENCE_SECONDS)[0].split())
        self.addCleanup(os.kill, left, signal.SIGKILL)
        self.assert_gone(port)

    def test_a_given_database_is_used(self):
        process = self.start("sh", "-c", "echo $DATABASE_URL", DATABASE_URL="postgres://given")
        self.assertEqual(process.communicate()[0], "postgres://given\n")

    def end(self, how):
        process = self.start("sh", "-c", SHOW_AND_WAIT)
        url, command = process.stdout.readline().split()
        port = port_of(url)
        self.assertTrue(is_open(port))
        process.send_signal(how)
        process.wait(PATIENCE_SECONDS)
        self.assert_gone(port)
        self.assertIn(state_of(command), ("gone", "Z"), "the command goes on")
        process.stdout.close()
        process.stderr.close()
        return process.returncode

    def test_it_cleans_up_when_terminated(self):
        self.assertEqual(self.end(signal.SIGTERM), 128 + signal.SIGTERM)

    def test_it_cleans_up_when_killed(self):
        self.assertEqual(self.end(signal.SIGKILL), -signal.SIGKILL)


if __name__ == "__main__":
    unittest.main()
