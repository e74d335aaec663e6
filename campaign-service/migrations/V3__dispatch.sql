-- The data path: frontier and due contacts -> lease -> authorisation -> interaction -> contact state.
--
-- A contact of a run that is still to be engaged is in exactly one place: ahead of its group's frontier,
-- in due_contacts, or in a slot of a lease.

-- How far a run has come in each group: the highest position noted. A step adds a row and deletes the
-- one before instead of changing it, so that the newest is found at the end of the index at once,
-- however many dead rows a snapshot that someone holds open keeps from being vacuumed.
CREATE TABLE frontiers (
    campaign_id uuid NOT NULL,
    run int NOT NULL,
    group_id int NOT NULL,
    -- First position not looked at yet.
    next_position bigint NOT NULL,
    PRIMARY KEY (campaign_id, run, group_id, next_position)
);

-- Contacts behind the frontier that are to be engaged at some time. Rows of older runs mean nothing.
CREATE TABLE due_contacts (
    campaign_id uuid NOT NULL,
    position bigint NOT NULL,
    run int NOT NULL,
    group_id int NOT NULL,
    due_at timestamptz NOT NULL,
    PRIMARY KEY (campaign_id, position)
);
CREATE INDEX due_contacts_by_time ON due_contacts (campaign_id, run, due_at);

CREATE SEQUENCE lease_numbers;

CREATE TABLE leases (
    campaign_id uuid NOT NULL,
    lease bigint NOT NULL,
    run int NOT NULL,
    worker_id text NOT NULL,
    -- Proves to be the holder.
    token uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    -- Contacts in order of slot. Never updated, so it stays out of the way of the changing slots.
    positions bigint[] NOT NULL,
    -- Their phone numbers, E.164 without the plus sign.
    numbers bigint[] NOT NULL,
    -- One byte a slot: domain type Slots.
    slots bytea NOT NULL CHECK (octet_length(slots) = cardinality(positions)),
    -- The contacts were found eligible at this revision of the campaign, and as long as it is that one
    -- they are, until judged_until, when the hours of some of them end.
    judged_revision bigint NOT NULL,
    judged_until timestamptz NOT NULL,
    PRIMARY KEY (campaign_id, lease)
);
CREATE INDEX leases_by_expiry ON leases (expires_at);
CREATE INDEX leases_by_run ON leases (campaign_id, run);
-- Out of the row, so that a change of slots does not write them again; compression would cost more.
ALTER TABLE leases ALTER positions SET STORAGE EXTERNAL, ALTER numbers SET STORAGE EXTERNAL;

-- Every authorisation ever given, for audits and proofs. Only grows.
CREATE TABLE authorizations (
    campaign_id uuid NOT NULL,
    lease bigint NOT NULL,
    run int NOT NULL,
    authorized_at timestamptz NOT NULL,
    slots int[] NOT NULL,
    positions bigint[] NOT NULL,
    -- With audit_events.snapshot it proves what was committed after a command.
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id()
);
ALTER TABLE authorizations ALTER positions SET STORAGE EXTERNAL, ALTER slots SET STORAGE EXTERNAL;
CREATE INDEX authorizations_by_run ON authorizations (campaign_id, run);

-- How calls ended. One row for all calls of a lease that were reported together; only grows. A later row
-- with the same slot stands in the place of the earlier one: the real end of a call that was UNKNOWN.
-- A contact's calls are found from its state, which names the last; each names the one before.
CREATE SEQUENCE call_report_numbers;
CREATE TABLE call_reports (
    campaign_id uuid NOT NULL,
    lease bigint NOT NULL,
    report bigint NOT NULL DEFAULT nextval('call_report_numbers'),
    run int NOT NULL,
    generation int NOT NULL,
    recorded_at timestamptz NOT NULL,
    -- Packed: store::calls.
    calls bytea NOT NULL,
    PRIMARY KEY (campaign_id, lease, report)
) PARTITION BY HASH (campaign_id);

-- All other reported facts; only grows.
CREATE TABLE interactions (
    campaign_id uuid NOT NULL,
    position bigint NOT NULL,
    -- Chosen by the reporter: the same id counts once for a contact.
    interaction_id text COLLATE "C" NOT NULL,
    generation int NOT NULL,
    run int NOT NULL,
    -- Attempt it comes from, if any: with the run, domain type AttemptId.
    lease bigint,
    slot int CHECK ((slot IS NULL) = (lease IS NULL)),
    -- Domain type Fact: its number, and what the kind needs.
    kind smallint NOT NULL CHECK (kind BETWEEN 1 AND 6),
    seconds int NOT NULL CHECK (seconds >= 0),
    detail text NOT NULL,
    occurred_at timestamptz,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (campaign_id, position, interaction_id)
) PARTITION BY HASH (campaign_id);

-- In partitions, so that vacuum and the deletion of old history work on a part at a time.
DO $$
BEGIN
    FOR part IN 0..15 LOOP
        EXECUTE format('CREATE TABLE interactions_%s PARTITION OF interactions
            FOR VALUES WITH (MODULUS 16, REMAINDER %s)', part, part);
        EXECUTE format('CREATE TABLE call_reports_%s PARTITION OF call_reports
            FOR VALUES WITH (MODULUS 16, REMAINDER %s)', part, part);
        EXECUTE format('ALTER TABLE call_reports_%s ALTER calls SET STORAGE EXTERNAL', part);
    END LOOP;
END $$;

-- What is known of contacts: domain type ContactState, packed for 32 consecutive positions at a time
-- (store::states). Contacts to which nothing happened may have no block. No index but the key and free
-- space in each page, so that updates stay in the page; never out of the row.
CREATE TABLE state_blocks (
    campaign_id uuid NOT NULL,
    -- Position of the first contact, divided by 32.
    block bigint NOT NULL,
    states bytea NOT NULL,
    PRIMARY KEY (campaign_id, block)
) WITH (fillfactor = 70);
ALTER TABLE state_blocks ALTER states SET STORAGE PLAIN;

-- When the next call of a campaign would begin at an even pace. Only of campaigns that limit theirs.
CREATE TABLE campaign_paces (
    campaign_id uuid PRIMARY KEY,
    next_call_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Workers whose provider fails, as they say; gone when it works again or the worker leaves.
CREATE TABLE provider_troubles (
    worker_id text PRIMARY KEY,
    reason text NOT NULL,
    -- A worker that vanished is not believed for ever.
    reported_at timestamptz NOT NULL
);

-- When numbers were last dialled, above all campaigns: newest first, as many as the cap counts.
CREATE TABLE number_attempts (
    -- E.164 without the plus sign.
    number bigint PRIMARY KEY,
    attempted_at timestamptz[] NOT NULL
) WITH (fillfactor = 80);
