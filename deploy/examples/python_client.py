"""Runs the launch guide from Python: create, import, launch, dispatch, pause, resume, cancel, launch again.

    pip install grpcio grpcio-tools
    python3 deploy/examples/python_client.py 127.0.0.1:50051

The clients are generated from the .proto files into a temporary folder each time. A program of yours
would generate them once, with the same command.
"""

import importlib
import pathlib
import queue
import subprocess
import sys
import tempfile

import grpc

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"


def generate():
    """Generates the clients and makes them importable."""
    out = tempfile.mkdtemp()
    files = sorted(str(path) for path in PROTO.glob("campaign/v1/*.proto"))
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"--python_out={out}",
                    f"--grpc_python_out={out}", *files], check=True)
    sys.path.insert(0, out)


generate()
campaign_pb = importlib.import_module("campaign.v1.campaign_pb2")
campaigns_pb = importlib.import_module("campaign.v1.campaign_service_pb2")
contacts_pb = importlib.import_module("campaign.v1.contact_service_pb2")
dispatch_pb = importlib.import_module("campaign.v1.dispatch_service_pb2")
facts_pb = importlib.import_module("campaign.v1.interaction_pb2")
reports_pb = importlib.import_module("campaign.v1.interaction_service_pb2")
CampaignStub = importlib.import_module("campaign.v1.campaign_service_pb2_grpc").CampaignServiceStub
ContactStub = importlib.import_module("campaign.v1.contact_service_pb2_grpc").ContactServiceStub
DispatchStub = importlib.import_module("campaign.v1.dispatch_service_pb2_grpc").DispatchServiceStub
InteractionStub = importlib.import_module("campaign.v1.interaction_service_pb2_grpc").InteractionServiceStub


class Worker:
    """A worker of a few lines: leases contacts, asks to authorise them, and reports facts."""

    def __init__(self, channel, campaign):
        self.requests = queue.Queue()
        self.responses = DispatchStub(channel).Dispatch(iter(self.requests.get, None))
        self.send(hello=dispatch_pb.Hello(worker_id="python", protocol_version=1, campaigns=[campaign]))
        self.wait("welcome")

    def send(self, **message):
        self.requests.put(dispatch_pb.DispatchRequest(**message))

    def wait(self, *kinds):
        """Returns the next message of one of these kinds."""
        for response in self.responses:
            if response.WhichOneof("message") in kinds:
                return getattr(response, response.WhichOneof("message"))
        raise RuntimeError("the stream ended")

    def lease(self, contacts):
        """Leases a batch of at most `contacts` contacts. Returns None when the service has no contacts now."""
        self.send(credit=dispatch_pb.Credit(contacts=contacts))
        answer = self.wait("batch", "idle")
        return answer if isinstance(answer, dispatch_pb.Batch) else None

    def authorize(self, batch):
        """Asks to authorise all contacts of a batch. Returns the attempt ids of granted slots, by slot."""
        slots = [contact.slot for contact in batch.contacts]
        self.send(authorize=dispatch_pb.Authorize(request_number=1, lease=batch.lease, slots=slots))
        attempts = self.wait("authorize_result").attempts
        return {attempt.slot: attempt.attempt_id for attempt in attempts
                if attempt.decision == dispatch_pb.AUTHORIZE_DECISION_GRANTED}

    def report(self, facts):
        self.send(report=dispatch_pb.Report(report_number=1, interactions=facts))
        return [result.status for result in self.wait("report_ack").results]

    def close(self):
        self.requests.put(None)


def always():
    windows = [campaign_pb.WeeklyWindow(weekday=day, start_minute=0, end_minute=1440) for day in range(1, 8)]
    return campaign_pb.Schedule(time_zone="Europe/Berlin", windows=windows)


def refused(code, call, *args):
    """Makes a call that must fail with a status code. Returns the error."""
    try:
        call(*args)
    except grpc.RpcError as error:
        assert error.code() == code, error
        return error
    raise AssertionError(f"should have failed with {code}")


def main(address):
    channel = grpc.insecure_channel(address)
    campaigns, contacts, reports = CampaignStub(channel), ContactStub(channel), InteractionStub(channel)

    created = campaigns.CreateCampaign(campaigns_pb.CreateCampaignRequest(campaign=campaign_pb.Campaign(
        display_name="Spring offer", description="From Python", schedule=always())))
    name = created.name

    rows = [contacts_pb.ImportRow(phone_number=f"(415) 555-01{n:02}") for n in range(10)]
    imported = contacts.ImportContacts(iter([
        contacts_pb.ImportContactsRequest(header=contacts_pb.ImportHeader(
            parent=name, import_id="first", default_region="US")),
        contacts_pb.ImportContactsRequest(rows=contacts_pb.ImportRows(first_row=1, rows=rows)),
    ]))
    print(f"imported {imported.created} contacts into {name}")

    settings = campaign_pb.LaunchSettings(exclude=campaign_pb.Exclusions(success=True))
    preview = campaigns.PreviewLaunch(campaigns_pb.PreviewLaunchRequest(name=name, settings=settings))
    launched = campaigns.LaunchCampaign(campaigns_pb.LaunchCampaignRequest(
        name=name, settings=settings, preview_token=preview.preview_token, actor="python"))
    print(f"run {launched.run}: {preview.eligible} of {preview.total} contacts are engaged")

    worker = Worker(channel, name)
    batch = worker.lease(4)
    attempts = worker.authorize(batch)
    facts = []
    for contact in batch.contacts:
        attempt = attempts[contact.slot]
        facts.append(facts_pb.Interaction(contact=contact.contact, attempt_id=attempt, interaction_id=f"{attempt}-s",
                                          success=facts_pb.Success()))
        facts.append(facts_pb.Interaction(contact=contact.contact, attempt_id=attempt, call_ended=facts_pb.CallEnded(
            outcome=facts_pb.CALL_OUTCOME_ANSWERED)))
    assert set(worker.report(facts)) == {facts_pb.INTERACTION_STATUS_RECORDED}
    assert set(worker.report(facts)) == {facts_pb.INTERACTION_STATUS_DUPLICATE}, "reported twice, counted once"

    held = worker.lease(2)
    campaigns.PauseCampaign(campaigns_pb.PauseCampaignRequest(name=name, actor="python", reason="lunch"))
    assert worker.authorize(held) == {}, "no attempt is authorised after a pause"
    print("paused: nothing is authorised")

    stop = facts_pb.Interaction(interaction_id="stop", contact=held.contacts[0].contact,
                                opted_out=facts_pb.OptedOut(channel="text"))
    reports.RecordInteractions(reports_pb.RecordInteractionsRequest(
        parent=name, interactions=[reports_pb.ReportedInteraction(interaction=stop)]))
    campaigns.ResumeCampaign(campaigns_pb.ResumeCampaignRequest(name=name))
    granted = worker.authorize(held)
    assert list(granted) == [held.contacts[1].slot], "a contact that opted out is not dialled"
    explained = contacts.ExplainContact(contacts_pb.ExplainContactRequest(name=held.contacts[0].contact))
    print(explained.message)

    campaigns.CancelCampaign(campaigns_pb.CancelCampaignRequest(name=name, reason="wrong list"))
    error = refused(grpc.StatusCode.FAILED_PRECONDITION, campaigns.ResumeCampaign,
                    campaigns_pb.ResumeCampaignRequest(name=name))
    print(f"cancelled; resume says: {error.details()}")
    worker.close()

    again = campaigns.LaunchCampaign(campaigns_pb.LaunchCampaignRequest(
        name=name, settings=campaign_pb.LaunchSettings(rerun_all_contacts=True)))
    progress = campaigns.GetCampaignProgress(campaigns_pb.GetCampaignProgressRequest(name=name))
    removed = sum(count.contacts for count in progress.removed)
    buckets = progress.waiting + progress.waiting_retry + progress.leased + progress.in_call + removed
    assert buckets == progress.total == 10
    assert progress.waiting == 8, "all contacts except the opted-out one and the one still in a call"
    print(f"run {again.run}: {progress.waiting} wait, {progress.history.success} had success before")
    print("ok")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051")
