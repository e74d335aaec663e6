-- Details of the ends of calls: code, cause, the provider's id, a reason, who hung up. Null: the provider told none.
-- The version before neither reads nor writes them. To that version, an outcome that only this one knows is UNKNOWN.
ALTER TABLE call_reports ADD COLUMN details bytea;

-- Authorisations of a run by lease, so that the time of one attempt is found without a walk through its run: an attempt
-- in which no phone rang is taken back from the attempts on its number. The index also serves whoever asks for a run.
CREATE INDEX authorizations_by_lease ON authorizations (campaign_id, run, lease);
DROP INDEX authorizations_by_run;
