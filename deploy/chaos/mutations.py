#!/usr/bin/env python3
"""Breaks the code on purpose, one promise at a time, and expects the fault tests to notice.

Each mutation is a small change to a copy of the source, which is built and run under faults until a
violation is found. A change that no longer applies fails: rewrite the change for the code as it is now.
Run the script through `make chaos-mutations`; names of mutations as arguments choose some of them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "deploy" / "local"))
from lending import lend_libraries  # noqa: E402

HOME = ROOT / "target" / "chaos-mutations"
SOURCE = HOME / "source"
TARGET = HOME / "target"
PROGRAMS = ["campaign-service", "dialer-worker", "campaign-chaos"]
HISTORIES = int(os.environ.get("CHAOS_MUTATION_HISTORIES", "1200"))
FIRST_SEED = int(os.environ.get("CHAOS_SEED", "1"))
VIOLATION = re.compile(r"^  (P\d+|privacy)\b.* in ", re.M)
DONE = re.compile(r"^(\d+) of \d+ histories", re.M)

ERASING = "campaign-service/src/app/people/erasing.rs"
REVOKING = "campaign-service/src/app/people/revoking.rs"
AUTHORIZING = "campaign-service/src/app/dispatch/authorizing.rs"
DISPATCH = "shared/domain/src/dispatch.rs"
LEASING = "campaign-service/src/app/dispatch/leasing.rs"
GATE = "campaign-service/src/store/gate.rs"
TX = "campaign-service/src/store/tx.rs"
SESSION = "campaign-service/src/store/session.rs"
AGENDA = "campaign-service/src/store/agenda.rs"
RETRY = "shared/domain/src/retry.rs"
# Name: (promises of which at least one must be found broken, [(file, old, new)]).
MUTATIONS = {
    "drop-the-fence": (["P6"], [(
        AUTHORIZING,
        "lease.filter(|lease| lease.token == key.token)",
        "lease.filter(|lease| lease.number == key.number)"), (
        DISPATCH,
        "if !terms.is_in_force(now) {",
        "if false {")]),
    # This may also lose a fact acknowledged to a worker (P5), or an authorised attempt (P2).
    "acknowledge-before-commit": (["P7", "P5", "P2"], [(
        TX,
        'return self.answered(client.batch_execute("COMMIT")).await;',
        'let _ = client.batch_execute("SELECT pg_sleep(0.02); COMMIT").now_or_never();\n            return Ok(());')]),
    "skip-the-re-check": (["P4"], [(
        DISPATCH,
        "self.judged_revision == revision && now < self.judged_until",
        "self.judged_revision <= revision || now < self.judged_until")]),
    "advance-the-frontier-early": (["P1"], [(
        LEASING,
        """        let inserted = async {
            let leases = batches.iter_mut().flatten().map(|batch| &mut batch.lease);
            try_join_all(leases.map(|lease| leases::insert(&tx, lease))).await?;
            Ok(())
        };
        try_join!(picking.save(), inserted)?;
        tx.commit().await?;
""",
        """        picking.save().await?;
        drop(picking);
        tx.commit().await?;
        let tx = connection.begin_relaxed(Gate::Shared(id)).await?;
        let leases = batches.iter_mut().flatten().map(|batch| &mut batch.lease);
        try_join_all(leases.map(|lease| leases::insert(&tx, lease))).await?;
        tx.commit().await?;
""")]),
    "retry-a-report-without-its-id": (["P5"], [(
        "dialer-worker/src/reports.rs",
        "        let sent = std::mem::take(&mut self.sent).into_values().flatten();\n",
        """        let sent = std::mem::take(&mut self.sent).into_values().flatten().map(|mut entry| {
            if !entry.interaction.interaction_id.is_empty() {
                entry.interaction.interaction_id.push('+');
            }
            entry
        });
""")]),
    "retry-at-once": (["P2"], [(
        RETRY,
        "now + TimeDelta::seconds(rule.min_delay_seconds)",
        "now + TimeDelta::seconds(rule.min_delay_seconds * 0)")]),
    # Only a worker that simulates its calls meets such people, and such a trunk.
    "call-again-who-rejects": (["P2"], [(
        RETRY,
        """CallOutcome::Answered | CallOutcome::Rejected | CallOutcome::InvalidNumber => {
                return None;
            }""",
        """CallOutcome::Answered => return None,
            CallOutcome::Rejected | CallOutcome::InvalidNumber => self.no_answer,""")]),
    "retry-at-once-what-was-given-back": (["P2"], [(
        RETRY,
        "let wait = i64::from(self.first_wait_seconds) << doublings;",
        "let wait = i64::from(self.first_wait_seconds * 0) << doublings;")]),
    # A round needs a trunk, which answers with codes.
    "take-busy-for-no-answer": (["P5"], [(
        "dialer-worker/src/call/sip_codes.rs",
        "486 | 600 | 603 => Outcome::Busy,",
        "486 | 600 | 603 => Outcome::NoAnswer,")]),
    # Workers are not notified either, as a worker may miss a notice.
    "authorise-who-was-erased": (["P4"], [
        (REVOKING, "let phones = vec![erasure.phone.clone()];", "let phones = Vec::new();"),
        (ERASING, "        campaigns::bump_facts_revision(&tx, id).await?;\n", "")]),
    "take-in-who-was-erased": (["P4"], [(
        "campaign-service/src/app/people/importing.rs",
        "let erased = erased.among(tx, &keys, &campaign.tenant, &phones).await?;",
        "let _ = (erased, keys);\n        let erased = HashSet::new();")]),
    "name-people-in-logs": (["privacy"], [(
        "campaign-service/src/app/people/importing.rs",
        "let erased = erased.among(tx, &keys, &campaign.tenant, &phones).await?;",
        'let erased = erased.among(tx, &keys, &campaign.tenant, &phones).await?;\n        tracing::info!(?phones, "taken in");')]),
    # A round needs a crowd to have so many starts.
    "start-one-campaign-at-a-time": (["P10"], [(
        AGENDA,
        "ORDER BY clock_at, campaign_id LIMIT $4",
        "ORDER BY clock_at, campaign_id LIMIT LEAST($4, 1)")]),
    # A round needs a frozen replica to hold a lock for so long.
    "hold-locks-for-a-minute": (["P10"], [(
        SESSION,
        '("idle_in_transaction_session_timeout", "4000")',
        '("idle_in_transaction_session_timeout", "60000")')]),
    "share-the-gate": (["P3", "P4"], [(
        GATE,
        '                ("pg_advisory_xact_lock($1)", gate_key(id))',
        '                ("pg_advisory_xact_lock_shared($1)", gate_key(id))')]),
}


def say(text):
    print(text, flush=True)


def copy_source():
    """Writes only files that differ, with a new time, so that cargo sees the last mutation taken back."""
    listed = subprocess.run(["git", "ls-files", "-z", "-c", "-o", "--exclude-standard"], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    names = {name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()}
    for gone in [copy for copy in SOURCE.rglob("*") if copy.is_file()]:
        if str(gone.relative_to(SOURCE)) not in names:
            gone.unlink()
    for name in sorted(names):
        original, copy = ROOT / name, SOURCE / name
        if not copy.is_file() or copy.read_bytes() != original.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(original, copy)
    lend_libraries(TARGET)


def change(path, old, new):
    text = (SOURCE / path).read_text()
    if text.count(old) != 1:
        sys.exit(f"{path} has {text.count(old)} times, not once, the text to change:\n{old}")
    (SOURCE / path).write_text(text.replace(old, new))


def build():
    command = [os.environ.get("CARGO", "cargo"), "build", "--quiet"]
    for program in PROGRAMS:
        command += ["-p", program]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(TARGET)}
    built = subprocess.run(command, cwd=SOURCE, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    if built.returncode != 0:
        sys.exit(f"the mutated source does not build:\n{built.stderr}")


def run(name, promises):
    """Returns the promises found broken until one of `promises` was, the number of histories played, and the output."""
    folder = HOME / f"logs-{name}"
    found, histories, seed, said = set(), 0, FIRST_SEED, ""
    # A round may go wrong in another way; then the next rounds are played.
    while histories < HISTORIES and not found.intersection(promises):
        shutil.rmtree(folder, ignore_errors=True)
        command = [TARGET / "debug" / "chaos", "--histories", str(HISTORIES - histories), "--seed", str(seed),
                   "--fail-fast", "--folder", folder]
        played = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        done = [int(number) for number in DONE.findall(played.stdout)]
        said += played.stdout
        if not done:
            break
        found.update(VIOLATION.findall(played.stdout))
        histories += max(done)
        seed += len(done)
    return sorted(found), histories, said


def main():
    names = sys.argv[1:] or list(MUTATIONS)
    unknown = [name for name in names if name not in MUTATIONS]
    if unknown:
        sys.exit(f"no such mutation: {', '.join(unknown)}; there are {', '.join(MUTATIONS)}")
    missed = []
    for name in names:
        promises, changes = MUTATIONS[name]
        copy_source()
        for path, old, new in changes:
            change(path, old, new)
        build()
        found, histories, output = run(name, promises)
        is_caught = any(promise in found for promise in promises)
        if not is_caught:
            missed.append(name)
            say(output)
        say(f"{name}: {'caught' if is_caught else 'NOT CAUGHT'} within {histories} histories from seed {FIRST_SEED}; "
            f"broken: {', '.join(found) or 'nothing'}; expected: {' or '.join(promises)}")
    if missed:
        sys.exit(f"not caught: {', '.join(missed)}")


if __name__ == "__main__":
    main()
