"""Twilio, with webhooks signed by the vendor's own library, and requests held against its client's parameters."""

import email.utils
import inspect
import json
import re
import time
import urllib.parse

import stub
from twilio.request_validator import RequestValidator

ACCOUNT = "AC00000000000000000000000000000007"
BASE = f"/2010-04-01/Accounts/{ACCOUNT}"
PROGRESS = {"initiated", "ringing", "answered", "completed"}
UNANSWERED = {"busy", "no-answer", "canceled", "failed"}


def parameters(creates):
    """Returns the parameters of a method of the vendor's client, as they are sent."""
    names = set(inspect.signature(creates).parameters) - {"self"}
    return {"".join(part.capitalize() for part in name.strip("_").split("_")) for name in names}


class Twilio(stub.Stub):
    def __init__(self):
        super().__init__()
        self.known = {}

    def signed(self, url, body):
        secret = self.settings["secret"]
        validator = RequestValidator(secret)
        fields = Fields(urllib.parse.parse_qsl(body, keep_blank_values=True))
        if self.settings.get("sha256"):
            mac = validator.compute_signature(url, fields, "HMAC_SHA256")
            return {"x-twilio-signature": mac,
                    "x-twilio-webhooks-signature-settings": "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"}
        return {"x-twilio-signature": validator.compute_signature(url, fields)}

    def answer(self, request):
        if not request["key"].startswith("Basic "):
            return 401, {"code": 20003, "message": "Authenticate"}
        path = request["path"].removesuffix(".json")
        if path == BASE:
            return 200, {"sid": ACCOUNT, "status": "active"}
        kind, _, sid = path.removeprefix(f"{BASE}/").partition("/")
        if request["method"] == "GET":
            return self.shown(kind, sid, dict(urllib.parse.parse_qsl(request["query"])))
        fields = urllib.parse.parse_qsl(request["body"], keep_blank_values=True)
        if sid:
            return self.stop(self.calls[sid], dict(fields))
        return self.create(kind, fields)

    def check(self, kind, fields):
        """Rejects what the API would not read, with its own words."""
        if kind not in self.known:
            from twilio.rest.api.v2010.account.call import CallList
            from twilio.rest.api.v2010.account.message import MessageList
            self.known = {"Calls": parameters(CallList.create), "Messages": parameters(MessageList.create)}
        names = [name for name, _ in fields]
        unknown = set(names) - self.known[kind]
        assert not unknown, unknown
        repeated = {name for name in names if names.count(name) > 1}
        assert repeated <= {"StatusCallbackEvent"}, repeated
        for name, value in fields:
            assert name != "StatusCallbackEvent" or value in PROGRESS, f"{value} is no event"
            assert name != "AsyncAmd" or value in ("true", "false")

    def create(self, kind, fields):
        self.check(kind, fields)
        order = dict(fields)
        if not re.fullmatch(r"\+[1-9][0-9]{6,14}", order["To"]):
            return 400, {"code": 21211, "message": "Invalid 'To' Phone Number", "status": 400}
        plan = self.plan(order["To"])
        if "status" in plan:
            return plan["status"], {"code": plan.get("code"), "status": plan["status"]}, plan.get("headers", {})
        with self.lock:
            prefix = "CA" if kind == "Calls" else "SM"
            sid = f"{prefix}{len(self.calls):032d}"
            shown = {"sid": sid, "status": "queued", "to": order["To"], "from": order.get("From"), "duration": None,
                     "answered_by": None, "error_code": None, "start_time": None, "account_sid": ACCOUNT,
                     "date_created": email.utils.formatdate(usegmt=False).replace("-0000", "+0000")}
            call = {"shown": shown, "kind": kind, "stopped": False, "callback": order["StatusCallback"],
                    "events": [value for name, value in fields if name == "StatusCallbackEvent"],
                    "text": order.get("Body"), "amd": order.get("AsyncAmdStatusCallback")}
            self.calls[sid] = call
        if not plan.get("never_begins"):
            self.spawn(self.play, call, plan)
        return None if plan.get("lost") else (201, dict(shown))

    def shown(self, kind, sid, query):
        if sid:
            return 200, self.calls[sid]["shown"]
        with self.lock:
            found = [call["shown"] for call in self.calls.values() if call["kind"] == kind
                     and call["shown"]["to"] == query["To"] and call["shown"]["from"] == query["From"]]
        return 200, {kind.lower(): [] if self.settings.get("lists_late") else found[::-1], "page": 0}

    def stop(self, call, fields):
        assert fields == {"Status": "completed"}, fields
        call["stopped"] = True
        self.become(call, "completed", {"CallDuration": "1"}, self.plan(call["shown"]["to"]))
        return 200, call["shown"]

    def play(self, call, plan):
        if call["kind"] == "Messages":
            for status in plan.get("statuses", ["sent", "delivered"]):
                code = plan.get("code") if status in ("failed", "undelivered") else None
                call["shown"].update(status=status, error_code=code)
                self.tell(call, {"MessageSid": call["shown"]["sid"], "SmsStatus": status, "MessageStatus": status,
                                 **({"ErrorCode": str(code)} if code else {})}, plan)
            return
        end = plan.get("end", "completed")
        statuses = plan.get("statuses", ["initiated", "ringing", *["in-progress", end] * (end not in UNANSWERED),
                                         *[end] * (end in UNANSWERED)])
        for status in statuses:
            extra = {"CallDuration": plan.get("duration", "2")} if status == "completed" else {}
            if status == "failed" and "sip" in plan:
                extra["SipResponseCode"] = str(plan["sip"])
            if status == "amd":
                self.answered_by(call, plan["amd"])
            else:
                self.become(call, status, extra, plan)
            time.sleep(plan.get("pause", 0))

    def answered_by(self, call, verdict):
        call["shown"]["answered_by"] = verdict
        fields = {"CallSid": call["shown"]["sid"], "AccountSid": ACCOUNT, "AnsweredBy": verdict,
                  "MachineDetectionDuration": "3200"}
        self.spawn(self.send, call["amd"], urllib.parse.urlencode(fields), "application/x-www-form-urlencoded")

    def become(self, call, status, extra, plan=None):
        shown = call["shown"]
        if shown["status"] not in UNANSWERED | {"completed"}:
            shown["status"] = status
            shown["duration"] = extra.get("CallDuration")
        event = {"in-progress": "answered"}.get(status, "completed" if status in UNANSWERED else status)
        if event not in call["events"]:
            return
        self.tell(call, {"CallSid": shown["sid"], "AccountSid": ACCOUNT, "To": shown["to"], "From": shown["from"],
                         "CallStatus": status, "Direction": "outbound-api", "SequenceNumber": "0", **extra},
                  plan or {})

    def tell(self, call, fields, plan):
        if plan.get("silent"):
            return
        for _ in range(plan.get("times", 1)):
            self.spawn(self.send, call["callback"], urllib.parse.urlencode(fields),
                       "application/x-www-form-urlencoded")

    def do(self, command):
        if command["do"] == "settings":
            return self.settings
        if command["do"] == "send":
            settings, self.settings = self.settings, {**self.settings, **command.get("settings", {})}
            body = urllib.parse.urlencode(command["fields"])
            headers = self.signed(command.get("signed", command["url"]), body)
            try:
                status = self.send(command["url"], body, "application/x-www-form-urlencoded", headers)
            finally:
                self.settings = settings
            return {"status": status}
        return {"differs": self.differs(command["kind"])}

    def differs(self, kind):
        """Compares the last request to create with the vendor's for the same order."""
        from twilio.http.http_client import TwilioHttpClient
        from twilio.rest import Client
        path = f"{BASE}/{kind}.json"
        ours = [request for request in self.requests if request["path"] == path and request["method"] == "POST"][-1]
        fields = Fields(urllib.parse.parse_qsl(ours["body"], keep_blank_values=True))
        client = Client(ACCOUNT, self.settings["key"], http_client=TwilioHttpClient())
        client.api.base_url = self.url
        options = {snake(name): fields.getall(name) if name == "StatusCallbackEvent" else fields[name]
                   for name in fields}
        getattr(client, kind.lower()).create(**options)
        theirs = [request for request in self.requests if request["path"] == path and request["method"] == "POST"][-1]
        return stub.same(comparable(ours), comparable(theirs))


class Fields(dict):
    """Parameters that may repeat, as frameworks give them to the vendor's validator."""

    def __init__(self, pairs):
        super().__init__(pairs)
        self.pairs = pairs

    def getall(self, name):
        return [value for own, value in self.pairs if own == name]


def snake(name):
    return {"From": "from_"}.get(name, re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower())


def comparable(request):
    fields = urllib.parse.parse_qsl(request["body"], keep_blank_values=True)
    return {**{name: request[name] for name in ("method", "path", "query", "key", "type")}, "fields": sorted(fields)}


if __name__ == "__main__":
    stub.serve(Twilio())
