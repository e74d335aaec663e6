-- Notes that the checker needs and the service does not keep: the transaction of each write, and what that transaction
-- saw. Only in the databases that faults are tested on.
CREATE SCHEMA chaos;

-- Facts and ends of calls, also those that a reset lets the service delete.
CREATE TABLE chaos.facts AS
    SELECT campaign_id, position, interaction_id, kind, seconds, generation, run, lease, slot, recorded_at,
        ''::text AS seen
    FROM interactions LIMIT 0;
CREATE TABLE chaos.calls AS
    SELECT campaign_id, lease, report, run, generation, recorded_at, calls, ''::text AS seen
    FROM call_reports LIMIT 0;
-- Ends given to leases, and the deletion of a lease (no end).
CREATE TABLE chaos.leases (
    campaign_id uuid NOT NULL,
    lease bigint NOT NULL,
    expires_at timestamptz,
    seen text NOT NULL
);
-- Contacts by position, also those of people erased since.
CREATE TABLE chaos.contacts (
    campaign_id uuid NOT NULL,
    position bigint NOT NULL,
    phone text NOT NULL,
    added_at timestamptz NOT NULL,
    transaction text NOT NULL
);
-- Commits that had happened when a client had its answer.
CREATE TABLE chaos.marks (mark bigint PRIMARY KEY, seen text NOT NULL);

CREATE FUNCTION chaos.note_fact() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.facts VALUES (NEW.campaign_id, NEW.position, NEW.interaction_id, NEW.kind, NEW.seconds,
        NEW.generation, NEW.run, NEW.lease, NEW.slot, NEW.recorded_at, pg_current_snapshot()::text);
    RETURN NULL;
END $$;
CREATE TRIGGER note_fact AFTER INSERT ON interactions
    FOR EACH ROW EXECUTE FUNCTION chaos.note_fact();

CREATE FUNCTION chaos.note_call() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.calls VALUES (NEW.campaign_id, NEW.lease, NEW.report, NEW.run, NEW.generation,
        NEW.recorded_at, NEW.calls, pg_current_snapshot()::text);
    RETURN NULL;
END $$;
CREATE TRIGGER note_call AFTER INSERT ON call_reports
    FOR EACH ROW EXECUTE FUNCTION chaos.note_call();

CREATE FUNCTION chaos.note_contact() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.contacts VALUES (NEW.campaign_id, NEW.position, NEW.phone, clock_timestamp(),
        pg_current_xact_id()::text);
    RETURN NULL;
END $$;
CREATE TRIGGER note_contact AFTER INSERT ON contacts
    FOR EACH ROW EXECUTE FUNCTION chaos.note_contact();

CREATE FUNCTION chaos.note_lease() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO chaos.leases VALUES (OLD.campaign_id, OLD.lease, NULL, pg_current_snapshot()::text);
    ELSE
        INSERT INTO chaos.leases
            VALUES (NEW.campaign_id, NEW.lease, NEW.expires_at, pg_current_snapshot()::text);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_lease AFTER INSERT OR DELETE OR UPDATE OF expires_at ON leases
    FOR EACH ROW EXECUTE FUNCTION chaos.note_lease();
