-- Campaigns, their runs and what was done to them.
--
-- Every table is keyed by campaign_id first and refers to no other campaign, so that all of them can be
-- distributed on campaign_id. suppressions is the exception: it is keyed by number, above all campaigns.

CREATE TABLE campaigns (
    campaign_id uuid PRIMARY KEY,
    state text NOT NULL DEFAULT 'DRAFT'
        CHECK (state IN ('DRAFT', 'SCHEDULED', 'RUNNING', 'PAUSED', 'COMPLETED', 'CANCELLED')),
    -- Domain type Config, as JSON.
    config jsonb NOT NULL,
    -- Copies of what the clock's chores look for.
    start_time timestamptz,
    end_time timestamptz CHECK (end_time > start_time),
    -- Current or last run; 0 before the first launch.
    run int NOT NULL DEFAULT 0 CHECK (run >= 0),
    -- Epoch: number of resets, and the run that last let everyone start afresh.
    generation int NOT NULL DEFAULT 0 CHECK (generation BETWEEN 0 AND run),
    cycle int NOT NULL DEFAULT 0 CHECK (cycle BETWEEN 0 AND run),
    -- Grows with every change of configuration or state; the etag.
    revision bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz,
    -- A campaign is a draft exactly until its first launch.
    CHECK ((state = 'DRAFT') = (run = 0)),
    CHECK (deleted_at IS NULL OR state IN ('DRAFT', 'COMPLETED', 'CANCELLED'))
);
CREATE INDEX campaigns_by_creation ON campaigns (created_at, campaign_id) WHERE deleted_at IS NULL;
CREATE INDEX campaigns_active ON campaigns (state) WHERE state IN ('SCHEDULED', 'RUNNING', 'PAUSED');

CREATE TABLE runs (
    campaign_id uuid NOT NULL,
    run int NOT NULL CHECK (run > 0),
    -- Domain type LaunchSettings, as JSON. Never updated.
    settings jsonb NOT NULL,
    generation int NOT NULL,
    cycle int NOT NULL,
    -- Contacts at this position and after it are not in the run; null when new ones join.
    position_limit bigint,
    launched_at timestamptz NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    PRIMARY KEY (campaign_id, run)
);

-- What grows while contacts and facts come in, apart from campaigns so that control never waits for it.
CREATE TABLE campaign_counters (
    campaign_id uuid PRIMARY KEY,
    -- Position of the next contact. Locked until the contacts are committed, so that positions
    -- become visible in order and nothing appears behind a frontier.
    next_position bigint NOT NULL DEFAULT 0,
    -- Contacts that are not deleted.
    contacts bigint NOT NULL DEFAULT 0 CHECK (contacts BETWEEN 0 AND next_position)
);

-- Grows with whatever may change the verdict on a contact that is in no call: facts from outside,
-- changed contacts, suppressions, a new configuration. What was judged at another revision, a lease or a
-- preview, is judged again. The highest counts; a step adds a row and deletes the one before, as for
-- frontiers. Apart from the counters, which an import holds for as long as a chunk takes.
CREATE TABLE campaign_revisions (
    campaign_id uuid NOT NULL,
    revision bigint NOT NULL,
    PRIMARY KEY (campaign_id, revision)
);

-- Deletion of history of generations before this one, which has come to this position and this lease.
CREATE TABLE history_purges (
    campaign_id uuid PRIMARY KEY,
    generation int NOT NULL,
    position bigint NOT NULL DEFAULT 0,
    lease bigint NOT NULL DEFAULT 0
);

CREATE TABLE audit_events (
    campaign_id uuid NOT NULL,
    event_number bigint NOT NULL,
    happened_at timestamptz NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    command text NOT NULL,
    state_before text,
    state_after text NOT NULL,
    run int NOT NULL,
    request_id text NOT NULL,
    details jsonb NOT NULL,
    -- Which transactions the command saw: an authorisation it did not see was committed after it.
    snapshot pg_snapshot NOT NULL DEFAULT pg_current_snapshot(),
    PRIMARY KEY (campaign_id, event_number)
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'table % only grows', TG_TABLE_NAME;
END $$;
CREATE TRIGGER audit_events_only_grow
    BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- First answers of requests that carried a request_id.
CREATE TABLE requests (
    campaign_id uuid NOT NULL,
    request_id text NOT NULL,
    -- Of the method and the request, to tell a repeat from another request under the same id.
    fingerprint uuid NOT NULL,
    response jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (campaign_id, request_id)
);
CREATE INDEX requests_by_age ON requests (created_at);
