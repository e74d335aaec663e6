"""Vapi. It publishes no library that signs; its types name the reasons, and its client sends the same requests."""

import ast
import datetime
import hashlib
import hmac
import importlib.util
import json
import time
import urllib.parse
from pathlib import Path

import stub

ANSWERED = {"customer-ended-call", "assistant-ended-call", "assistant-forwarded-call", "silence-timed-out",
            "call.forwarding.no-answer", "voicemail"}


class Vapi(stub.Stub):
    def signed(self, url, body):
        if "header" not in self.settings:
            return {"authorization": f"Bearer {self.settings['secret']}"}
        stamp = str(int(time.time() * 1_000))
        mac = hmac.new(self.settings["secret"].encode(), f"{stamp}.{body}".encode(), hashlib.sha256).hexdigest()
        return {self.settings["header"]: mac, "x-timestamp": stamp}

    def answer(self, request):
        path = request["path"]
        if path.startswith("/control/"):
            return self.stop(path.rsplit("/", 1)[1], request)
        if request["key"] != f"Bearer {self.settings['key']}":
            return 401, {"message": "Invalid Key.", "statusCode": 401}
        if request["method"] == "POST" and path == "/call":
            return self.create(json.loads(request["body"]))
        if path == "/call":
            return self.list(dict(urllib.parse.parse_qsl(request["query"])))
        if path.startswith("/call/"):
            return 200, self.calls[path.rsplit("/", 1)[1]]["shown"]
        return 200, {"id": "phone-number"}

    def create(self, order):
        plan = self.plan(order["customer"]["number"])
        if "status" in plan:
            return plan["status"], {"message": plan.get("message", ""), "statusCode": plan["status"]}
        with self.lock:
            call_id = f"019-{len(self.calls)}"
            shown = {"id": call_id, "orgId": "org", "type": "outboundPhoneCall", "status": "queued",
                     "createdAt": moment(), "updatedAt": moment(), "customer": order["customer"],
                     "phoneNumberId": order["phoneNumberId"], "assistantId": order["assistantId"],
                     "assistantOverrides": order["assistantOverrides"],
                     "monitor": {"controlUrl": f"{self.url}/control/{call_id}"}}
            call = {"shown": shown, "stopped": False}
            self.calls[call_id] = call
        self.spawn(self.play, call, plan)
        return None if plan.get("lost") else (201, dict(shown))

    def list(self, query):
        assert set(query) == {"phoneNumberId", "createdAtGe", "limit"}, query
        since = datetime.datetime.fromisoformat(query["createdAtGe"])
        with self.lock:
            found = [call["shown"] for call in self.calls.values()
                     if datetime.datetime.fromisoformat(call["shown"]["createdAt"]) >= since]
        return 200, found[: int(query["limit"])]

    def stop(self, call_id, request):
        assert json.loads(request["body"]) == {"type": "end-call"}
        call = self.calls[call_id]
        call["stopped"] = True
        self.end(call, "manually-canceled", True)
        self.tell(call, {"type": "end-of-call-report"}, self.plan(call["shown"]["customer"]["number"]))
        return 200, {}

    def play(self, call, plan):
        reason = plan.get("reason", "customer-ended-call")
        is_connected = plan.get("connected", reason in ANSWERED)
        messages = plan.get("messages", ["ringing", "in-progress", "ended", "report"])
        for message in messages:
            if message in ("ended", "report"):
                self.end(call, reason, is_connected)
            else:
                call["shown"]["status"] = message
            if message == "report":
                self.tell(call, {"type": "end-of-call-report", "analysis": plan.get("analysis", {})}, plan)
            else:
                self.tell(call, {"type": "status-update", "status": message}, plan)
            time.sleep(plan.get("pause", 0))

    def end(self, call, reason, is_connected):
        shown = call["shown"]
        ended = datetime.datetime.now(datetime.UTC)
        shown.update(status="ended", endedReason=reason, endedAt=moment(ended))
        if is_connected:
            shown["startedAt"] = moment(ended - datetime.timedelta(seconds=65))

    def tell(self, call, message, plan):
        if plan.get("silent"):
            return
        shown = dict(call["shown"])
        if message["type"] == "end-of-call-report" or message.get("status") == "ended":
            message["endedReason"] = shown["endedReason"]
        if message["type"] == "end-of-call-report":
            message.update({name: shown[name] for name in ("startedAt", "endedAt") if name in shown})
        # The call of a message is as it was when it began.
        for name in ("endedAt", "startedAt", "endedReason"):
            shown.pop(name, None)
        body = json.dumps({"message": {**message, "call": shown}})
        for _ in range(plan.get("times", 1)):
            self.spawn(self.send, self.settings["callback"], body)

    def do(self, command):
        if command["do"] == "reasons":
            return {"reasons": reasons()}
        if command["do"] == "send":
            return {"status": self.send(self.settings["callback"], command["body"], headers=command["headers"])}
        return {"differs": self.differs()}

    def differs(self):
        """Compares the last request to create with the vendor's for the same order."""
        from vapi import AssistantOverrides, CreateCustomerDto, Vapi as Client
        created = [request for request in self.requests if request["path"] == "/call" and request["method"] == "POST"]
        ours, order = created[-1], json.loads(created[-1]["body"])
        overrides = AssistantOverrides.model_validate(order["assistantOverrides"])
        unknown = sorted([*(overrides.model_extra or {})])
        client = Client(token=self.settings["key"], base_url=self.url)
        made = client.calls.create(assistant_id=order["assistantId"], phone_number_id=order["phoneNumberId"],
                                   customer=CreateCustomerDto(**order["customer"]), assistant_overrides=overrides)
        assert made.id
        created = [request for request in self.requests if request["path"] == "/call" and request["method"] == "POST"]
        return unknown + stub.same(comparable(ours), comparable(created[-1]))


def comparable(request):
    return {**{name: request[name] for name in ("method", "path", "query", "key", "type")},
            "body": json.loads(request["body"])}


def reasons():
    """Returns all ended reasons that the vendor's types name. Importing them takes seconds, so they are read."""
    package = importlib.util.find_spec("vapi").submodule_search_locations[0]
    tree = ast.parse(Path(package, "types", "call_ended_reason.py").read_text())
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]


def moment(time=None):
    return (time or datetime.datetime.now(datetime.UTC)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


if __name__ == "__main__":
    stub.serve(Vapi())
