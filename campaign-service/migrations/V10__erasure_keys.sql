-- Keys of erasures may change: people are erased under the current one, and those of before stay known. So
-- there may be several; the version before, which knows one, works until there is a second, and from then on
-- takes nobody in, rather than somebody who was erased.
ALTER TABLE erasure_key DROP CONSTRAINT erasure_key_pkey, ADD PRIMARY KEY (key_id);

-- Where people were erased and let in again, by the hashes that the log keeps of them.
CREATE INDEX audit_events_of_people ON audit_events ((details ->> 'person'), campaign_id, event_number)
    WHERE command IN ('ERASE', 'LIFT_ERASURE');
