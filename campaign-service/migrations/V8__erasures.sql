-- People who were erased: nothing is kept of them but a keyed hash of their number (HMAC-SHA256), so that no
-- list brings them back. Only adds: the version before, which does not know them, keeps working, but would
-- take an erased number in again; so let it go before the first erasure.

CREATE TABLE erasures (
    -- Of the empty tenant: holds for everybody, as for suppressions.
    tenant text NOT NULL CHECK (tenant ~ '^[a-z0-9-]{0,63}$'),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    erased_at timestamptz NOT NULL,
    -- Who asked for it and why, and the number itself until it is erased everywhere.
    actor text NOT NULL,
    reason text NOT NULL,
    phone text,
    PRIMARY KEY (tenant, hash)
);
CREATE INDEX erasures_under_way ON erasures (erased_at) WHERE phone IS NOT NULL;

-- Tells the key of the first erasure from others: with another one nobody would be found. At most one row.
CREATE TABLE erasure_key (
    only_row bool PRIMARY KEY DEFAULT true CHECK (only_row),
    key_id bytea NOT NULL CHECK (octet_length(key_id) = 8)
);
