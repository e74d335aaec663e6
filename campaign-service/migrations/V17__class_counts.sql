-- Counts of contacts by class, kept beside the states, so that progress and previews do not read every contact.
-- A class is what the rules look at, apart from the due time: store::packed. The version before writes states
-- without counting them. A campaign is counted whole at its first progress, and checked again from time to time.

-- Time at which the counts of a campaign were last found right. Without a row or a time they are not known to be right.
CREATE TABLE class_checks (
    campaign_id uuid PRIMARY KEY,
    -- Number of checks so far.
    checks int NOT NULL DEFAULT 0,
    checked_at timestamptz,
    -- Time at which deltas were last added up.
    folded_at timestamptz
) WITH (fillfactor = 50);
CREATE INDEX class_checks_by_time ON class_checks (checked_at);

-- Changes of the counts, appended by whatever changes states, until they are added up.
CREATE SEQUENCE class_delta_numbers;
CREATE TABLE class_deltas (
    campaign_id uuid NOT NULL,
    delta bigint NOT NULL DEFAULT nextval('class_delta_numbers'),
    class bytea NOT NULL CHECK (octet_length(class) = 16),
    -- Time at which these contacts are due, in microseconds since 1970, if it was ahead; else 0.
    due_at bigint NOT NULL,
    contacts bigint NOT NULL,
    -- Attempts on these contacts.
    attempts bigint NOT NULL,
    PRIMARY KEY (campaign_id, delta)
);

-- Sums of the deltas. The class of a contact to which nothing happened counts from 0, not from all positions.
CREATE TABLE class_counts (
    campaign_id uuid NOT NULL,
    class bytea NOT NULL CHECK (octet_length(class) = 16),
    contacts bigint NOT NULL,
    attempts bigint NOT NULL,
    -- Contacts among them that class_waits has.
    waiting bigint NOT NULL,
    PRIMARY KEY (campaign_id, class)
) WITH (fillfactor = 50);

-- Contacts of a class by due time. Rows whose time has come go when deltas are added up.
CREATE TABLE class_waits (
    campaign_id uuid NOT NULL,
    class bytea NOT NULL CHECK (octet_length(class) = 16),
    due_at bigint NOT NULL,
    contacts bigint NOT NULL,
    PRIMARY KEY (campaign_id, class, due_at)
);

-- Contacts that may be counted as deleted or suppressed without being so, or the other way round.
CREATE TABLE recounts (
    campaign_id uuid NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (campaign_id, position)
);

-- Numbers that were put on a suppression list or taken off it, until their contacts are in recounts.
CREATE TABLE relisted_numbers (
    tenant text NOT NULL,
    phone text NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, phone)
);
