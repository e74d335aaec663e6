"""Calls a service by generated clients until standard input ends, and prints what came of it as JSON.

The clients retry as deploy/kubernetes/service-config.json says, and in no other way."""

import json
import pathlib
import sys
import threading
import time

import grpc

TOP = pathlib.Path(__file__).resolve().parents[4]
PAUSE_SECONDS = 0.02

# The example generates the clients, as a user would do.
sys.path.insert(0, str(TOP / "deploy" / "examples"))
import python_client as clients  # noqa: E402, from where the example is


class Client:
    """One connection, and a campaign that nobody else commands."""

    def __init__(self, number, told):
        self.number, self.told = number, told
        self.campaign = told["campaigns"][number]
        self.calls, self.failures, self.acknowledged = 0, [], []
        with open(told["ca"], "rb") as pem:
            credentials = grpc.ssl_channel_credentials(pem.read())
        options = [
            ("grpc.service_config", (TOP / "deploy/kubernetes/service-config.json").read_text()),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        self.channel = grpc.secure_channel(told["target"], credentials, options)
        self.metadata = [("authorization", f"Bearer {told['token']}")]

    def call(self, method, request):
        self.calls += 1
        try:
            return method(request, metadata=self.metadata)
        except grpc.RpcError as error:
            self.failures.append(f"{type(request).__name__}: {error.code().name}: {error.details()}")
            return None

    def run(self, stop):
        campaigns, contacts = clients.CampaignStub(self.channel), clients.ContactStub(self.channel)
        interactions = clients.InteractionStub(self.channel)
        turn = 0
        while not stop.is_set():
            turn += 1
            identifier = f"{self.number}-{turn}"
            self.call(campaigns.PauseCampaign, clients.campaigns_pb.PauseCampaignRequest(
                name=self.campaign, request_id=f"pause-{identifier}"))
            self.call(campaigns.ResumeCampaign, clients.campaigns_pb.ResumeCampaignRequest(
                name=self.campaign, request_id=f"resume-{identifier}"))
            contact = f"{self.told['facts']}/contacts/{turn % self.told['contacts']}"
            fact = clients.facts_pb.Interaction(interaction_id=identifier, contact=contact,
                                                link_opened=clients.facts_pb.LinkOpened())
            report = clients.reports_pb.RecordInteractionsRequest(
                parent=self.told["facts"], interactions=[clients.reports_pb.ReportedInteraction(interaction=fact)])
            if self.call(interactions.RecordInteractions, report):
                self.acknowledged.append(identifier)
            self.call(contacts.GetContactHistory, clients.contacts_pb.GetContactHistoryRequest(name=contact))
            time.sleep(PAUSE_SECONDS)


def main():
    told = json.loads(sys.stdin.readline())
    stop = threading.Event()
    clients = [Client(number, told) for number in range(len(told["campaigns"]))]
    threads = [threading.Thread(target=client.run, args=(stop,)) for client in clients]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    json.dump({
        "calls": sum(client.calls for client in clients),
        "failures": [failure for client in clients for failure in client.failures],
        "acknowledged": [fact for client in clients for fact in client.acknowledged],
    }, sys.stdout)


main()
