-- The PostgreSQL clusters that the data lived in, by number; the last is the one it lives in. A copy by dump and
-- restore or by logical replication goes on in another cluster, which counts transactions anew and whose sequences
-- may begin anew: a service that starts notices. No rows here: a copy brings its own.
CREATE TABLE clusters (
    number int PRIMARY KEY,
    -- System identifier of the cluster, and the database in it.
    identity text NOT NULL,
    noticed_at timestamptz NOT NULL,
    -- Added to transaction ids that are stored, so that those of this cluster come after all stored before.
    transaction_shift bigint NOT NULL CHECK (transaction_shift >= 0)
);
