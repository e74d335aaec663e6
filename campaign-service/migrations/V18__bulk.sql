-- Contacts with a number in all campaigns, so that a suppression or an erasure finds them without a walk through
-- campaigns. Another migration may have made the same index before. The version before does without it.
CREATE INDEX IF NOT EXISTS contacts_by_phone ON contacts (phone);

-- Dial times of numbers by tenant: newest first, as many as the cap counts. number_attempts stays for services that
-- count over the whole installation.
--
-- During an upgrade the version before writes number_attempts alone. What it writes counts for every tenant, until it
-- is a day old. The version before does not see what is written here: while both versions run, each may dial a number
-- as often as the cap says. The same holds after a return to the version before, for a day.
CREATE TABLE number_attempts_by_tenant (
    -- E.164 without the plus sign.
    number bigint NOT NULL,
    tenant text NOT NULL CHECK (tenant ~ '^[a-z0-9-]{0,63}$'),
    attempted_at timestamptz[] NOT NULL,
    PRIMARY KEY (number, tenant)
) WITH (fillfactor = 80);
