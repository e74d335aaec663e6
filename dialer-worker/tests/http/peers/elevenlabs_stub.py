"""ElevenLabs. Each webhook is read by the vendor's own library before it is sent."""

import hashlib
import hmac
import json
import time
import urllib.parse

import stub
from elevenlabs.webhooks_custom import WebhooksClient

CONVERSATIONS = "/v1/convai/conversations"
CREATES = ("/v1/convai/sip-trunk/outbound-call", "/v1/convai/twilio/outbound-call")


class ElevenLabs(stub.Stub):
    def __init__(self):
        super().__init__()
        self.vendor = WebhooksClient(client_wrapper=None)

    def signed(self, url, body):
        header = sign(body, self.settings["secret"], 0)
        assert self.vendor.construct_event(body, header, self.settings["secret"]) == json.loads(body)
        return {"elevenlabs-signature": header}

    def answer(self, request):
        if request["key"] != self.settings["key"]:
            return 401, {"detail": {"status": "invalid_api_key"}}
        path = request["path"]
        if path in CREATES:
            return self.create(json.loads(request["body"]))
        if path == CONVERSATIONS:
            return self.list(dict(urllib.parse.parse_qsl(request["query"])))
        if path.startswith(f"{CONVERSATIONS}/"):
            return 200, self.calls[path.rsplit("/", 1)[1]]["shown"]
        return 200, {"agent_id": path.rsplit("/", 1)[1]}

    def create(self, order):
        assert set(order) == {"agent_id", "agent_phone_number_id", "to_number",
                              "conversation_initiation_client_data"}, order
        variables = order["conversation_initiation_client_data"]["dynamic_variables"]
        assert all(isinstance(value, str) for value in variables.values())
        plan = self.plan(order["to_number"])
        if "status" in plan:
            return plan["status"], {"detail": {"message": plan.get("message", "")}}
        if "refused" in plan:
            return 200, {"success": False, "message": plan["refused"], "conversation_id": None}
        with self.lock:
            conversation_id = f"conv_{len(self.calls)}"
            shown = {"agent_id": order["agent_id"], "conversation_id": conversation_id, "status": "initiated",
                     "transcript": [], "metadata": {"start_time_unix_secs": int(time.time()),
                                                    "call_duration_secs": 0, "phone_call": {"call_result": None}},
                     "analysis": None, "has_audio": True, "has_user_audio": True, "has_response_audio": True,
                     "has_auxiliary_audio": False,
                     "conversation_initiation_client_data": order["conversation_initiation_client_data"]}
            call = {"shown": shown, "key": variables["campaign_key"], "begun": time.time()}
            self.calls[conversation_id] = call
        self.spawn(self.play, call, plan)
        made = {"success": True, "message": "Success", "conversation_id": conversation_id, "sip_call_id": "1@x"}
        return None if plan.get("lost") else (200, made)

    def list(self, query):
        assert set(query) == {"agent_id", "call_start_after_unix", "dynamic_variable_filter", "page_size"}, query
        name, op, value = query["dynamic_variable_filter"].split(":")
        assert op == "eq"
        with self.lock:
            found = [{"conversation_id": call["shown"]["conversation_id"]} for call in self.calls.values()
                     if call["shown"]["conversation_initiation_client_data"]["dynamic_variables"].get(name) == value
                     and call["begun"] >= int(query["call_start_after_unix"])]
        return 200, {"conversations": found[: int(query["page_size"])], "has_more": False, "next_cursor": None}

    def play(self, call, plan):
        shown = call["shown"]
        if "failure" in plan:
            shown.update(status="failed")
            failure = {"agent_id": shown["agent_id"], "conversation_id": shown["conversation_id"],
                       "failure_reason": plan["failure"], "metadata": {"type": "sip", "body": plan.get("body", {})}}
            self.tell("call_initiation_failure", failure, plan)
            return
        shown["status"] = "in-progress"
        if plan.get("waits"):
            return
        time.sleep(plan.get("pause", 0))
        shown["metadata"].update(
            call_duration_secs=plan.get("duration", 61), termination_reason="Call ended by remote party",
            phone_call={"type": "sip_trunking", "call_result": plan.get("result", "answered")},
            error=plan.get("error"), features_usage={"voicemail_detection": {"used": plan.get("voicemail", False)}})
        results = {name: {"value": value} for name, value in plan.get("collected", {}).items()}
        shown.update(status="failed" if plan.get("error") else "done",
                     analysis={"call_successful": "success", "transcript_summary": "",
                               "data_collection_results": results})
        self.tell("post_call_transcription", shown, plan)

    def tell(self, kind, data, plan):
        if plan.get("silent"):
            return
        body = json.dumps({"type": kind, "event_timestamp": int(time.time()), "data": data})
        for _ in range(plan.get("times", 1)):
            self.spawn(self.send, self.settings["callback"], body)

    def do(self, command):
        if command["do"] == "send":
            header = sign(command["signed"], command["secret"], command.get("age", 0))
            return {"status": self.send(self.settings["callback"], command["body"],
                                        headers={"elevenlabs-signature": header})}
        return {"differs": self.differs()}

    def differs(self):
        """Compares the last request to create with the vendor's for the same order."""
        from elevenlabs import ConversationInitiationClientDataRequestInput, ElevenLabs as Client
        from elevenlabs import GetConversationResponseModel
        ours = [request for request in self.requests if request["path"] in CREATES][-1]
        order = json.loads(ours["body"])
        data = ConversationInitiationClientDataRequestInput.model_validate(
            order.pop("conversation_initiation_client_data"))
        unknown = sorted([*(data.model_extra or {})])
        agents = Client(api_key=self.settings["key"], base_url=self.url).conversational_ai
        over = agents.twilio if "twilio" in ours["path"] else agents.sip_trunk
        made = over.outbound_call(**order, conversation_initiation_client_data=data)
        assert made.success
        theirs = [request for request in self.requests if request["path"] in CREATES][-1]
        shown = agents.conversations.get(conversation_id="conv_0")
        assert isinstance(shown, GetConversationResponseModel), shown
        return unknown + stub.same(comparable(ours), comparable(theirs))


def sign(body, secret, age):
    stamp = int(time.time()) - age
    mac = hmac.new(secret.encode(), f"{stamp}.{body}".encode(), hashlib.sha256).hexdigest()
    return f"t={stamp},v0={mac}"


def comparable(request):
    return {**{name: request[name] for name in ("method", "path", "query", "key", "type")},
            "body": json.loads(request["body"])}


if __name__ == "__main__":
    stub.serve(ElevenLabs())
