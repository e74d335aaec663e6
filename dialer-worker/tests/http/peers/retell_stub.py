"""Retell, with webhooks signed by the vendor's own library."""

import importlib.util
import json
import time
from pathlib import Path

import stub

CONNECTED = {"user_hangup", "agent_hangup", "user_requested_dnc", "user_requested_callback", "call_transfer",
             "transfer_bridged", "transfer_cancelled", "call_take_over", "inactivity", "max_duration_reached",
             "manual_stopped", "voicemail_reached", "ivr_reached"}
AGENT = "agent_7"


def vendor(module):
    """Loads one file of the vendor's package: the whole package takes seconds."""
    package = importlib.util.find_spec("retell")
    path = Path(package.submodule_search_locations[0], *module.split(".")).with_suffix(".py")
    spec = importlib.util.spec_from_file_location(module, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


class Retell(stub.Stub):
    def __init__(self):
        super().__init__()
        self.auth = vendor("lib.webhook_auth")

    def signed(self, url, body):
        return {"x-retell-signature": self.auth.symmetric["sign"](body, self.settings["secret"])}

    def answer(self, request):
        path, body = request["path"], json.loads(request["body"] or "{}")
        if request["key"] != f"Bearer {self.settings['key']}":
            return 401, {"status": "error", "message": "Invalid API key."}
        if path == "/v2/create-phone-call":
            return self.create(body)
        if path == "/v3/list-calls":
            return self.list(body)
        if path.startswith("/v2/get-call/"):
            call = self.calls.get(path.rsplit("/", 1)[1])
            return (200, call["shown"]) if call else (404, {"message": "no such call"})
        if path.startswith("/v2/stop-call/"):
            return self.stop(path.rsplit("/", 1)[1])
        if path == "/get-concurrency":
            return 200, {"current_concurrency": 0, "concurrency_limit": 20}
        return 404, {"message": "no such path"}

    def create(self, body):
        plan = self.plan(body["to_number"])
        if "status" in plan:
            return plan["status"], {"status": "error", "message": plan.get("message", "")}, plan.get("headers", {})
        with self.lock:
            known = [call for call in self.calls.values() if call["key"] == body["idempotency_key"]]
            if known and "repeat" in plan:
                return plan["repeat"], {"status": "error", "message": "not now"}
            if known:
                return 201, known[0]["shown"]
            call_id = f"call_{len(self.calls)}"
            shown = {"call_id": call_id, "call_status": "registered", "call_type": "phone_call", "agent_version": 0,
                     "agent_id": body.get("override_agent_id", AGENT), "direction": "outbound",
                     "from_number": body["from_number"], "to_number": body["to_number"],
                     "metadata": body["metadata"]}
            call = {"key": body["idempotency_key"], "shown": shown, "rings": 1, "stopped": False}
            self.calls[call_id] = call
        self.spawn(self.play, call, plan)
        return None if plan.get("lost") else (201, dict(shown))

    def list(self, body):
        [wanted] = body["filter_criteria"]["metadata"]
        assert (wanted["type"], wanted["op"]) == ("string", "eq"), wanted
        with self.lock:
            items = [call["shown"] for call in self.calls.values()
                     if call["shown"]["metadata"].get(wanted["key"]) == wanted["value"]
                     and not self.plan(call["shown"]["to_number"]).get("hidden")]
        return 200, {"items": items[: body["limit"]], "has_more": False}

    def stop(self, call_id):
        call = self.calls[call_id]
        call["stopped"] = True
        if not self.plan(call["shown"]["to_number"]).get("never_ends"):
            self.end(call, "manual_stopped", {})
            self.tell("call_ended", call)
        return 200, {}

    def play(self, call, plan):
        reason = plan.get("reason", "user_hangup")
        is_connected = plan.get("connected", reason in CONNECTED)
        events = plan.get("events") or [*["call_started"] * is_connected, "call_ended", "call_analyzed"]
        if is_connected:
            call["shown"].update(call_status="ongoing", start_timestamp=now() - 70_000)
        if plan.get("waits") or plan.get("never_ends"):
            if not plan.get("silent"):
                self.tell("call_started", call)
            return
        if not plan.get("silent"):
            for event in [event for event in events if event.startswith("transfer")]:
                self.tell(event, call)
        self.end(call, reason, plan)
        for event in [event for event in events if not event.startswith("transfer")]:
            if event == "call_analyzed":
                call["shown"]["call_analysis"] = {"in_voicemail": plan.get("in_voicemail", False),
                                                  "custom_analysis_data": plan.get("analysis", {})}
            if not plan.get("silent"):
                for _ in range(plan.get("times", 1)):
                    self.tell(event, call)
            time.sleep(plan.get("pause", 0))

    def end(self, call, reason, plan):
        is_connected = plan.get("connected", reason in CONNECTED)
        status = "ended" if is_connected else "error" if reason.startswith("error") else "not_connected"
        call["shown"].update(call_status=status, disconnection_reason=reason,
                             duration_ms=plan.get("duration_ms", 2_500 if is_connected else 0))
        call["shown"]["end_timestamp"] = now()

    def tell(self, event, call):
        shown = dict(call["shown"])
        if event != "call_analyzed":
            shown.pop("call_analysis", None)
        body = json.dumps({"event": event, "call": shown})
        return self.spawn(self.send, self.settings["callback"], body)

    def do(self, command):
        if command["do"] == "send":
            headers = {"x-retell-signature": self.auth.symmetric["sign"](
                command["signed"], command["secret"], timestamp=now() + command.get("ahead_ms", 0))}
            return {"status": self.send(self.settings["callback"], command["body"], headers=headers)}
        if command["do"] == "reasons":
            return {"reasons": reasons()}
        return {"differs": self.differs()}

    def differs(self):
        """Compares the last request to create with the vendor's for the same order."""
        import retell
        from pydantic import TypeAdapter
        from retell.types.call_create_phone_call_params import CallCreatePhoneCallParams
        from retell.types import PhoneCallResponse
        created = [request for request in self.requests if request["path"] == "/v2/create-phone-call"]
        ours, order = created[-1], json.loads(created[-1]["body"])
        TypeAdapter(CallCreatePhoneCallParams).validate_python(order, strict=True)
        unknown = sorted(set(order) - set(CallCreatePhoneCallParams.__annotations__))
        client = retell.Retell(api_key=self.settings["key"], base_url=self.url, max_retries=0)
        made = client.call.create_phone_call(**order)
        assert isinstance(made, PhoneCallResponse), made
        theirs = [request for request in self.requests if request["path"] == "/v2/create-phone-call"][-1]
        return unknown + stub.same(comparable(ours), comparable(theirs))


def comparable(request):
    return {**{name: request[name] for name in ("method", "path", "query", "key", "type")},
            "body": json.loads(request["body"])}


def reasons():
    """Returns all disconnection reasons that the vendor's types name."""
    from typing import get_args
    from retell.types import PhoneCallResponse
    annotation = PhoneCallResponse.model_fields["disconnection_reason"].annotation
    return [reason for part in get_args(annotation) for reason in get_args(part)]


def now():
    return int(time.time() * 1_000)


if __name__ == "__main__":
    stub.serve(Retell())
