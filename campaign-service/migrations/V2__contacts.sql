-- Contacts, numbered by position in their campaign, and how they came in.

-- Contacts that are leased together: same zone (so that shut hours shut the whole group), same priority.
CREATE TABLE contact_groups (
    campaign_id uuid NOT NULL,
    group_id int NOT NULL,
    time_zone text NOT NULL,
    priority smallint NOT NULL CHECK (priority BETWEEN 0 AND 9),
    PRIMARY KEY (campaign_id, group_id),
    UNIQUE (campaign_id, time_zone, priority)
);

-- Nothing that a lease or a report changes is here.
CREATE TABLE contacts (
    campaign_id uuid NOT NULL,
    position bigint NOT NULL,
    phone text NOT NULL,
    group_id int NOT NULL,
    display_name text NOT NULL,
    attributes jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    -- A deleted contact keeps its number and its refusal, in case the number comes again.
    deleted_at timestamptz,
    PRIMARY KEY (campaign_id, position),
    UNIQUE (campaign_id, phone)
);
CREATE INDEX contacts_by_group ON contacts (campaign_id, group_id, position);
CREATE INDEX contacts_deleted ON contacts (campaign_id, position) WHERE deleted_at IS NOT NULL;

CREATE TABLE imports (
    campaign_id uuid NOT NULL,
    import_id text NOT NULL,
    -- First row that is not committed.
    next_row bigint NOT NULL DEFAULT 1,
    created bigint NOT NULL DEFAULT 0,
    duplicates bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (campaign_id, import_id)
);

CREATE TABLE import_problems (
    campaign_id uuid NOT NULL,
    import_id text NOT NULL,
    row_number bigint NOT NULL,
    field text NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (campaign_id, import_id, row_number)
);

CREATE TABLE suppressions (
    phone text PRIMARY KEY,
    source text NOT NULL,
    created_at timestamptz NOT NULL
);
