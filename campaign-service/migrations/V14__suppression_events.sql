-- The numbers that events of the suppression lists' audit logs are about, and where they came from. Apart from
-- the log, which only grows: when a person is erased, its rows go.
CREATE TABLE suppression_events (
    tenant text NOT NULL,
    event_number bigint NOT NULL,
    phone text NOT NULL,
    source text NOT NULL,
    PRIMARY KEY (tenant, event_number, phone)
);
CREATE INDEX suppression_events_by_phone ON suppression_events (phone);

-- Entries of numbers that are one subscriber's under two spellings (domain module subscriber): Mexico with and
-- without 1, Argentina with and without 9, Brazil with and without the ninth digit.
INSERT INTO suppressions (phone, source, created_at, tenant)
SELECT CASE
        WHEN phone ~ '^\+521\d{10}$' THEN '+52' || substr(phone, 5)
        WHEN phone ~ '^\+52\d{10}$' THEN '+521' || substr(phone, 4)
        WHEN phone ~ '^\+549\d{10}$' THEN '+54' || substr(phone, 5)
        WHEN phone ~ '^\+54\d{10}$' THEN '+549' || substr(phone, 4)
        WHEN phone ~ '^\+55\d{2}9[6-9]\d{7}$' THEN substr(phone, 1, 5) || substr(phone, 7)
        ELSE substr(phone, 1, 5) || '9' || substr(phone, 6)
    END, source, created_at, tenant
FROM suppressions
WHERE phone ~ '^\+(521?\d{10}|549?\d{10}|55\d{2}9?[6-9]\d{7})$'
ON CONFLICT DO NOTHING;
