-- The stream on which a worker said that its provider fails: the end of an older one does not take it back.
-- The version before does not set it; what it wrote goes by itself after some minutes.
ALTER TABLE provider_troubles ADD COLUMN stream_id uuid;
