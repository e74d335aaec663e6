-- The audit log shows when it was changed: each event carries the SHA-256 of its content and of the hash of
-- the event before (domain type audit::Event). Only adds: the version before keeps inserting without a hash.

ALTER TABLE audit_events ADD COLUMN hash bytea CHECK (octet_length(hash) = 32);

-- The last event with a hash of each campaign, so that one cut off at the end is missed.
CREATE TABLE audit_heads (
    campaign_id uuid PRIMARY KEY,
    event_number bigint NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32)
);
