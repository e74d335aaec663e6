-- The data path: frontier and due contacts -> lease -> authorisation -> interaction -> contact state.
--
-- A contact of a run that is still to be engaged is in exactly one place: ahead of its group's frontier,
-- in due_contacts, or in a slot of a lease.

-- How far a run has come in each group.
CREATE TABLE frontiers (
    campaign_id uuid NOT NULL,
    run int NOT NULL,
    group_id int NOT NULL,
    -- First position not looked at yet.
    next_position bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (campaign_id, run, group_id)
) WITH (fillfactor = 50);

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
    -- One byte a slot: domain type Slots.
    slots bytea NOT NULL CHECK (octet_length(slots) = cardinality(positions)),
    -- The contacts were found eligible at this revision of the campaign, and as long as it is that one
    -- they are, until judged_until, when the hours of some of them end.
    judged_revision bigint NOT NULL,
    judged_until timestamptz NOT NULL,
    PRIMARY KEY (campaign_id, lease)
);
CREATE INDEX leases_by_expiry ON leases (expires_at);
-- Out of the row, so that a change of slots does not write them again; compression would cost more.
ALTER TABLE leases ALTER positions SET STORAGE EXTERNAL;

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

-- Reported facts; only grows, but that a late report replaces an UNKNOWN outcome. In partitions, so that
-- vacuum and the deletion of old history work on a part at a time.
CREATE TABLE interactions (
    campaign_id uuid NOT NULL,
    position bigint NOT NULL,
    -- Reporter's id, or the attempt's for the end of a call: the same key counts once.
    key text COLLATE "C" NOT NULL,
    generation int NOT NULL,
    run int NOT NULL,
    -- Attempt it comes from, if any: with the run, domain type AttemptId.
    lease bigint,
    slot int CHECK ((slot IS NULL) = (lease IS NULL)),
    -- Domain type Fact: its number, and what the kind needs.
    kind smallint NOT NULL CHECK (kind BETWEEN 0 AND 5),
    outcome smallint CHECK ((outcome IS NULL) = (kind <> 0)),
    seconds int NOT NULL CHECK (seconds >= 0),
    detail text NOT NULL,
    occurred_at timestamptz,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (campaign_id, position, key)
) PARTITION BY HASH (campaign_id);
DO $$
BEGIN
    FOR part IN 0..15 LOOP
        EXECUTE format('CREATE TABLE interactions_%s PARTITION OF interactions
            FOR VALUES WITH (MODULUS 16, REMAINDER %s)', part, part);
    END LOOP;
END $$;

-- What is known of a contact: domain type ContactState. A contact nothing happened to has no row.
-- No index but the key and free space in each page, so that updates stay in the page.
CREATE TABLE contact_states (
    campaign_id uuid NOT NULL,
    position bigint NOT NULL,
    generation int NOT NULL,
    cycle int NOT NULL,
    flags smallint NOT NULL,
    cycle_flags smallint NOT NULL,
    longest_transfer_seconds int NOT NULL CHECK (longest_transfer_seconds >= 0),
    attempts int NOT NULL,
    cycle_attempts int NOT NULL,
    last_outcome smallint,
    refused_run int NOT NULL,
    finished boolean NOT NULL,
    due_at timestamptz,
    PRIMARY KEY (campaign_id, position),
    CHECK (cycle_attempts BETWEEN 0 AND attempts)
) WITH (fillfactor = 70);
