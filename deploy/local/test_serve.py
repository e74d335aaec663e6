"""Tests of serve.py with a service that only listens: python3 -m unittest discover -s deploy/local"""

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

SCRIPT = Path(__file__).with_name("serve.py")
LATE_SECONDS = 0.5
# Plays `campaign-service migrate` and `campaign-service serve`, which listens late.
SERVICE = f"""#!{sys.executable}
import os, socket, sys, time
if sys.argv[1] == "migrate":
    sys.exit(int(os.environ.get("MIGRATION", "0")))
time.sleep({LATE_SECONDS})
host, port = os.environ["CAMPAIGN_LISTEN"].rsplit(":", 1)
print("listening at", time.time(), file=sys.stderr, flush=True)
with socket.create_server((host, int(port))) as server:
    while True:
        server.accept()
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Serve(unittest.TestCase):
    def setUp(self):
        self.programs = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.programs)
        service = Path(self.programs, "campaign-service")
        service.write_text(SERVICE)
        service.chmod(0o755)

    def start(self, **variables):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CAMPAIGN_")}
        process = subprocess.Popen([sys.executable, SCRIPT, self.programs], env={**clean, **variables},
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def failed(self, **variables):
        process = self.start(**variables)
        out, err = process.communicate(timeout=60)
        self.assertEqual((process.returncode, out), (1, ""), err)
        return err

    def test_advice_comes_once_the_service_listens(self):
        port = free_port()
        began = time.monotonic()
        process = self.start(CAMPAIGN_LISTEN=f"127.0.0.1:{port}")
        lines = [process.stdout.readline() for _ in range(5)]
        self.assertGreaterEqual(time.monotonic() - began, LATE_SECONDS)
        self.assertEqual(lines[0], f"The service answers on 127.0.0.1:{port}. Ctrl-C stops it.\n")
        commands = [line.split(" # ")[0].strip() for line in lines[2:]]
        self.assertEqual(commands, [
            f"{self.programs}/dialer-worker --time-scale 0.01 --service-url http://127.0.0.1:{port}",
            f"{self.programs}/campaignctl --service-url http://127.0.0.1:{port} doctor",
            f"grpcurl -plaintext 127.0.0.1:{port} list",
        ])
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(60), -signal.SIGTERM, "the signal reaches the service itself")

    def test_port_0_takes_a_free_port_and_names_it(self):
        process = self.start(CAMPAIGN_LISTEN="0.0.0.0:0", CAMPAIGN_PG_PORT="5432")
        said = process.stdout.readline()
        self.assertRegex(said, r"^The service answers on 127\.0\.0\.1:[1-9]\d*\. Ctrl-C .* The database goes with it\.$")

    def test_a_port_that_is_taken_is_named(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            said = self.failed(CAMPAIGN_LISTEN=f"127.0.0.1:{port}")
        self.assertIn(f"port {port}: Address already in use", said)
        self.assertIn("make serve CAMPAIGN_LISTEN=", said)

    def test_a_wrong_address_and_a_failed_migration_are_told(self):
        for wrong in ("50051", "127.0.0.1:65536", "127.0.0.1:²"):
            self.assertIn("write an address and a port", self.failed(CAMPAIGN_LISTEN=wrong))
        self.assertIn("could not be prepared", self.failed(CAMPAIGN_LISTEN="127.0.0.1:0", MIGRATION="3"))

    def test_a_program_that_is_not_built_is_named(self):
        Path(self.programs, "campaign-service").unlink()
        self.assertIn("make serve", self.failed())


if __name__ == "__main__":
    unittest.main()
