-- Times at which each active campaign next needs the service. The chores and the dispatcher ask for what is due by
-- index, and a campaign that sleeps costs nothing. A campaign without a row needs nothing at any time.
-- The version before writes no rows here; the slow check of the agenda adds what it leaves out.
CREATE TABLE agenda (
    campaign_id uuid PRIMARY KEY,
    tenant text NOT NULL,
    weight int NOT NULL,
    -- Time at which the clock may start or end the run.
    clock_at timestamptz,
    -- Time from which the run may have contacts to hand out. A transaction that adds contacts or due times makes it
    -- earlier. Only a transaction that holds the gate alone, with the positions locked, makes it later.
    work_at timestamptz,
    -- Whether the run ends when its list is done.
    ends_when_done boolean NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX agenda_by_clock ON agenda (clock_at, campaign_id) WHERE clock_at IS NOT NULL;
CREATE INDEX agenda_by_work ON agenda (work_at, campaign_id) WHERE work_at IS NOT NULL;

INSERT INTO agenda (campaign_id, tenant, weight, clock_at, work_at, ends_when_done)
SELECT c.campaign_id, c.tenant, coalesce((c.config->'pacing'->>'weight')::int, 1),
    CASE c.state WHEN 'SCHEDULED' THEN coalesce(c.start_time, now()) ELSE now() END,
    CASE c.state WHEN 'RUNNING' THEN now() END,
    NOT coalesce((r.settings->>'live_forever')::boolean, false)
FROM campaigns c LEFT JOIN runs r ON r.campaign_id = c.campaign_id AND r.run = c.run
WHERE c.state IN ('SCHEDULED', 'RUNNING');

-- Retries of a group by time, so that a lease does not walk those of zones that are shut.
CREATE INDEX due_contacts_by_group ON due_contacts (campaign_id, run, group_id, due_at);

-- Contacts with a number in all campaigns, so that a suppression or an erasure finds their campaigns without a walk
-- through campaigns, and without reading the contacts.
CREATE INDEX contacts_by_phone ON contacts (phone, campaign_id);
