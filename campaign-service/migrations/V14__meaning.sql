-- Attempts are looked up by their lease: facts may come late, and name attempts that never were. In the place
-- of the index by run, so that an authorisation writes as many index entries as before; whoever asks by run
-- uses it too.
CREATE INDEX authorizations_by_lease ON authorizations (campaign_id, run, lease);
DROP INDEX authorizations_by_run;
