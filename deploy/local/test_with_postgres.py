"""Tests of with_postgres.py: python3 -m unittest discover -s deploy/local"""

import os
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


def start(*command, **changes):
    return subprocess.Popen([sys.executable, SCRIPT, "--", *command], env=environment(**changes),
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def port_of(url):
    return int(url.rsplit(":", 1)[1].split("/")[0])


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def state_of(process):
    """The letter that Linux has for a process; Z has ended and waits for its parent to notice."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "gone"


def temporary_folders():
    return set(Path(tempfile.gettempdir()).glob("campaign-postgres-*"))


class WithPostgres(unittest.TestCase):
    def setUp(self):
        self.folders = temporary_folders()

    def assert_gone(self, port):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while is_open(port) or temporary_folders() - self.folders:
            self.assertLess(time.monotonic(), deadline, "the server or its folder is still there")
            time.sleep(0.05)

    def ask(self, **changes):
        command = '"$CAMPAIGN_PG_BIN/psql" -XAt "$DATABASE_URL" -c "select 40 + 2" && echo $DATABASE_URL; exit 7'
        process = start("sh", "-c", command, **changes)
        out, err = process.communicate(timeout=600)
        self.assertEqual(process.returncode, 7, err)
        answer, url = out.split()
        self.assertEqual(answer, "42")
        self.assert_gone(port_of(url))
        return err

    def test_the_command_has_a_database_and_its_exit_code_counts(self):
        self.ask()

    def test_the_wheel_serves_where_nothing_is_installed(self):
        bare = tempfile.mkdtemp()
        for name in ("sh", "env"):
            os.symlink(f"/bin/{name}", f"{bare}/{name}")
        self.assertIn("PostgreSQL 18", self.ask(PATH=bare, CAMPAIGN_PG_SEARCH=""))

    def test_a_given_database_is_used(self):
        process = start("sh", "-c", "echo $DATABASE_URL", DATABASE_URL="postgres://given")
        self.assertEqual(process.communicate()[0], "postgres://given\n")

    def end(self, how):
        process = start("sh", "-c", SHOW_AND_WAIT)
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
