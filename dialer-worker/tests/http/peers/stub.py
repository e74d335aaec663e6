"""Platform that a test controls: it serves the platform's API, plays calls, and sends signed webhooks.

The last seven digits of a number are a slot, and a plan says what happens to the call of each slot. Paths below /_/
are the test's own: GET /_/state, POST /_/set and POST /_/do.
"""

import http.client
import json
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Longest that a request without an answer is held.
HELD_SECONDS = 60


class Stub:
    """Base of the platforms."""

    def __init__(self):
        self.lock = threading.RLock()
        self.calls = {}
        self.requests = []
        self.answers = []
        self.plans = {}
        self.settings = {}
        self.url = ""

    # Each platform has its own of these.

    def answer(self, request):
        """Returns status and body of the answer to a request, or None to give no answer."""
        raise NotImplementedError

    def signed(self, url, body):
        """Returns the headers that identify the platform."""
        raise NotImplementedError

    def do(self, command):
        """Does what a test asks for."""
        raise NotImplementedError

    # All platforms share these.

    def plan(self, number):
        slot = str(int(number[-7:]))
        return self.plans.get(slot) or self.plans.get("*") or {}

    def spawn(self, work, *arguments):
        threading.Thread(target=work, args=arguments, daemon=True).start()

    def send(self, url, body, kind="application/json", headers=None):
        """Sends one webhook. Returns the status of its answer."""
        parts = urllib.parse.urlsplit(self.settings.get("reach") or url)
        path = urllib.parse.urlsplit(url)
        target = path.path + (f"?{path.query}" if path.query else "")
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
        try:
            connection.request("POST", target, body.encode(),
                               {"content-type": kind, **(self.signed(url, body) if headers is None else headers)})
            status = connection.getresponse().status
        except OSError:
            status = 0
        finally:
            connection.close()
        with self.lock:
            self.answers.append(status)
        return status

    def state(self):
        with self.lock:
            return {"calls": list(self.calls.values()), "requests": self.requests, "answers": self.answers}

    def control(self, path, body):
        if path == "/_/set":
            self.settings.update(body.get("settings", {}))
            self.plans.update(body.get("plans", {}))
            return {}
        if path == "/_/do":
            return self.do(body)
        return self.state()

    def handle(self, request):
        if request["path"].startswith("/_/"):
            return 200, self.control(request["path"], json.loads(request["body"] or "{}"))
        with self.lock:
            self.requests.append(request)
        if self.settings.get("down"):
            return self.settings["down"], {"message": "not now"}
        return self.answer(request)


def handler(stub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def respond(self):
            split = urllib.parse.urlsplit(self.path)
            length = int(self.headers.get("content-length") or 0)
            request = {"method": self.command, "path": split.path, "query": split.query,
                       "at": time.time(), "type": self.headers.get("content-type", ""), "body": self.rfile.read(length).decode(),
                       "key": self.headers.get("authorization") or self.headers.get("xi-api-key") or ""}
            answer = stub.handle(request)
            if answer is None:
                time.sleep(HELD_SECONDS)
                return
            status, body, *headers = answer
            text = json.dumps(body).encode()
            self.send_response(status)
            for name, value in (headers[0] if headers else {}).items():
                self.send_header(name, value)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PATCH = do_DELETE = respond

    return Handler


def serve(stub):
    """Serves until the test ends. The first line of output names the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(stub))
    stub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    # The test closes our input when it is over.
    sys.stdin.read()


def same(ours, theirs):
    """Returns how a request of ours differs from the vendor's for the same order; empty if it does not."""
    return [name for name in ours if ours[name] != theirs[name]]
