"""Runs the launch guide from Python: create, import, launch, dispatch, pause, resume, cancel, launch again.

    pip install grpcio grpcio-tools
    python3 deploy/examples/python_client.py 127.0.0.1:50051

The clients are generated from the .proto files into a temporary folder each time. A program of yours
would generate them once, with the same command.

The example works beside other workers and may run again and again. Its campaign has a name of its own, and more
contacts than others can take meanwhile. Its numbers are drawn from ranges that no phone has.
"""

import atexit
import collections
import importlib
import pathlib
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import time

try:
    import grpc
    import grpc_tools  # noqa: F401, used as a program below
except ModuleNotFoundError as missing:
    sys.exit(f"{missing.name} is missing: pip install grpcio grpcio-tools")

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"
CONTACTS = 400
# Pace of the campaign. Another worker may lease 5 seconds of calls at a time, so contacts are left for this one.
CALLS_PER_SECOND = 20
# Longest time of one call, and of the worker's stream.
CALL_SECONDS = 10
STREAM_SECONDS = 60
# Area codes of British cities in which 496 0000 to 496 0999 are reserved for films and books.
FICTION = ("0113", "0114", "0116", "0117", "0118", "0121", "0131", "0141", "0151", "0161")


def generate():
    """Generates the clients and makes them importable."""
    out = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, out, ignore_errors=True)
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


# Contact that this worker holds, under the lease that covers it.
Held = collections.namedtuple("Held", ["lease", "contact"])


class Worker:
    """A worker of a few lines: leases contacts, asks before each dial, and reports facts."""

    def __init__(self, channel, campaign):
        self.requests = queue.Queue()
        self.responses = DispatchStub(channel).Dispatch(iter(self.requests.get, None), timeout=STREAM_SECONDS)
        self.held = collections.deque()
        self.send(hello=dispatch_pb.Hello(worker_id="python", protocol_version=1, campaigns=[campaign]))
        self.wait("welcome")

    def send(self, **message):
        self.requests.put(dispatch_pb.DispatchRequest(**message))

    def wait(self, kind):
        """Returns the next message of this kind. Keeps contacts that arrive meanwhile."""
        for response in self.responses:
            if response.WhichOneof("message") == "batch":
                self.held.extend(Held(response.batch.lease, contact) for contact in response.batch.contacts)
            if response.WhichOneof("message") == kind:
                return getattr(response, kind)
        raise RuntimeError("the stream ended")

    def ask_for(self, contacts):
        """Allows the service to send this many contacts more. They come when there are some."""
        self.send(credit=dispatch_pb.Credit(contacts=contacts))

    def take(self, contacts):
        """Returns this many leased contacts, and waits for them."""
        while len(self.held) < contacts:
            self.wait("batch")
        return [self.held.popleft() for _ in range(contacts)]

    def authorize(self, held):
        """Asks whether a contact may be dialled now. Returns the id of the attempt, or None.

        A quicker worker asks for all contacts of a lease at once."""
        while True:
            self.send(authorize=dispatch_pb.Authorize(request_number=1, lease=held.lease, slots=[held.contact.slot]))
            result = self.wait("authorize_result")
            attempt = result.attempts[0]
            if attempt.decision == dispatch_pb.AUTHORIZE_DECISION_GRANTED:
                return attempt.attempt_id
            if attempt.decision != dispatch_pb.AUTHORIZE_DECISION_THROTTLED:
                return None
            # The campaign's pace allows no call at this moment: other workers were quicker.
            time.sleep(result.retry_delay.ToTimedelta().total_seconds())

    def report(self, facts):
        """Reports facts. Returns the status of each, once they are durable."""
        self.send(report=dispatch_pb.Report(report_number=1, interactions=facts))
        return [result.status for result in self.wait("report_ack").results]

    def close(self):
        self.requests.put(None)


def call_ended(held, attempt, outcome):
    return facts_pb.Interaction(contact=held.contact.contact, attempt_id=attempt,
                                call_ended=facts_pb.CallEnded(outcome=outcome))


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
    try:
        grpc.channel_ready_future(channel).result(CALL_SECONDS)
    except grpc.FutureTimeoutError:
        sys.exit(f"no service answers on {address}: start one with `make serve`")
    campaigns, contacts, reports = CampaignStub(channel), ContactStub(channel), InteractionStub(channel)

    created = campaigns.CreateCampaign(campaigns_pb.CreateCampaignRequest(campaign=campaign_pb.Campaign(
        display_name=f"From Python {random.randrange(16**6):06x}", description="Tell customers about the offer",
        schedule=always(), pacing=campaign_pb.Pacing(max_calls_per_second=CALLS_PER_SECOND))))
    name = created.name

    numbers = random.sample([f"({area}) 496 0{n:03}" for area in FICTION for n in range(1000)], CONTACTS)
    rows = [contacts_pb.ImportRow(phone_number=number) for number in numbers]
    imported = contacts.ImportContacts(iter([
        contacts_pb.ImportContactsRequest(header=contacts_pb.ImportHeader(
            parent=name, import_id="first", default_region="GB")),
        contacts_pb.ImportContactsRequest(rows=contacts_pb.ImportRows(first_row=1, rows=rows)),
    ]))
    assert imported.created == CONTACTS, imported
    print(f"imported {imported.created} contacts into {name}")

    # This worker asks before the launch, so that it gets its share of the first contacts.
    worker = Worker(channel, name)
    worker.ask_for(6)
    settings = campaign_pb.LaunchSettings(exclude=campaign_pb.Exclusions(success=True))
    preview = campaigns.PreviewLaunch(campaigns_pb.PreviewLaunchRequest(name=name, settings=settings))
    launched = campaigns.LaunchCampaign(campaigns_pb.LaunchCampaignRequest(
        name=name, settings=settings, preview_token=preview.preview_token, actor="python"))
    print(f"run {launched.run}: {preview.eligible} of {preview.total} contacts are engaged")

    facts = []
    for held in worker.take(4):
        attempt = worker.authorize(held)
        assert attempt, "a contact of a running campaign may be dialled"
        facts.append(facts_pb.Interaction(contact=held.contact.contact, attempt_id=attempt,
                                          interaction_id=f"{attempt}-s", success=facts_pb.Success()))
        facts.append(call_ended(held, attempt, facts_pb.CALL_OUTCOME_ANSWERED))
    assert set(worker.report(facts)) == {facts_pb.INTERACTION_STATUS_RECORDED}
    assert set(worker.report(facts)) == {facts_pb.INTERACTION_STATUS_DUPLICATE}, "reported twice, counted once"

    stopped, kept = worker.take(2)
    campaigns.PauseCampaign(campaigns_pb.PauseCampaignRequest(name=name, actor="python", reason="lunch"))
    assert not worker.authorize(stopped) and not worker.authorize(kept), "no attempt is authorised after a pause"
    print("paused: nothing is authorised")

    stop = facts_pb.Interaction(interaction_id="stop", contact=stopped.contact.contact,
                                opted_out=facts_pb.OptedOut(channel="text"))
    reports.RecordInteractions(reports_pb.RecordInteractionsRequest(
        parent=name, interactions=[reports_pb.ReportedInteraction(interaction=stop)]))
    campaigns.ResumeCampaign(campaigns_pb.ResumeCampaignRequest(name=name))
    assert not worker.authorize(stopped), "a contact that opted out is not dialled"
    attempt = worker.authorize(kept)
    assert attempt, "the other contact is dialled after the pause"
    explained = contacts.ExplainContact(contacts_pb.ExplainContactRequest(name=stopped.contact.contact))
    print(explained.message)

    campaigns.CancelCampaign(campaigns_pb.CancelCampaignRequest(name=name, reason="wrong list"))
    error = refused(grpc.StatusCode.FAILED_PRECONDITION, campaigns.ResumeCampaign,
                    campaigns_pb.ResumeCampaignRequest(name=name))
    print(f"cancelled; resume says: {error.details()}")
    # Every authorised attempt needs its end, also when the call was hung up.
    ended = worker.report([call_ended(kept, attempt, facts_pb.CALL_OUTCOME_NO_ANSWER)])
    assert ended == [facts_pb.INTERACTION_STATUS_RECORDED]
    worker.close()

    again = campaigns.LaunchCampaign(campaigns_pb.LaunchCampaignRequest(
        name=name, settings=campaign_pb.LaunchSettings(rerun_all_contacts=True)))
    progress = campaigns.GetCampaignProgress(campaigns_pb.GetCampaignProgressRequest(name=name))
    removed = sum(count.contacts for count in progress.removed)
    buckets = progress.waiting + progress.waiting_retry + progress.leased + progress.in_call + removed
    assert buckets == progress.total == CONTACTS
    assert progress.history.success >= 4, "a rerun keeps the history"
    assert progress.history.refused >= 1, "an opt-out stays, also in a rerun"
    print(f"run {again.run}: {progress.waiting} wait, {progress.history.success} had success before")
    campaigns.CancelCampaign(campaigns_pb.CancelCampaignRequest(name=name, reason="the example is over"))
    print("ok")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051")
