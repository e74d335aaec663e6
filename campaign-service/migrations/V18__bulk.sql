-- Dial times of numbers by tenant: newest first, as many as the cap counts. number_attempts stays for services that
-- count over the whole installation.
--
-- During an upgrade the version before writes number_attempts alone. Its attempts count for every tenant, until they are
-- a day old. It does not see the attempts that are written here: while both versions run, each may dial a number as
-- often as the cap says. The same holds after a return to the version before, for a day.
CREATE TABLE number_attempts_by_tenant (
    -- E.164 without the plus sign.
    number bigint NOT NULL,
    -- Name as the campaign has it. It is checked there, because a check here would cost each attempt a third more.
    tenant text COLLATE "C" NOT NULL,
    attempted_at timestamptz[] NOT NULL,
    PRIMARY KEY (number, tenant)
) WITH (fillfactor = 80);

-- Attempts authorised in each run, so that a list of runs does not sum them up.
-- Null: not counted yet. A chore counts such a run, and each run once more when it is over. So what the version
-- before authorises during an upgrade, which appends nothing below, is missing only until then.
ALTER TABLE runs
    ADD COLUMN authorized_attempts bigint CHECK (authorized_attempts >= 0),
    ADD COLUMN is_attempt_count_final boolean NOT NULL DEFAULT false;
CREATE INDEX runs_not_counted ON runs (campaign_id, run) WHERE authorized_attempts IS NULL;
CREATE INDEX runs_over ON runs (ended_at) WHERE ended_at IS NOT NULL AND NOT is_attempt_count_final;

-- Attempts to add to the counts. Each authorisation appends its own, and a chore adds them up, so that no worker waits
-- for a row that others write.
CREATE TABLE run_attempts (
    campaign_id uuid NOT NULL,
    run int NOT NULL,
    attempts bigint NOT NULL CHECK (attempts > 0)
);
CREATE INDEX run_attempts_by_run ON run_attempts (campaign_id, run);

-- Deleted campaigns by age, so that their rows go after a time.
CREATE INDEX campaigns_deleted ON campaigns (deleted_at) WHERE deleted_at IS NOT NULL;
