-- Workers that a campaign asks for: a pool, and the channels that it goes out by. They are columns and not in `config`,
-- because the version before writes `config` without them at every command. It leases to any worker.
ALTER TABLE campaigns
    ADD COLUMN worker_pool text NOT NULL DEFAULT '' CHECK (worker_pool ~ '^[a-z0-9-]{0,63}$'),
    ADD COLUMN channels text[] NOT NULL DEFAULT '{}' CHECK (cardinality(channels) <= 10);

-- The same for the dispatcher, which reads the agenda alone. Null: the version before wrote the entry, and the
-- campaign has them.
ALTER TABLE agenda ADD COLUMN worker_pool text, ADD COLUMN channels text[];

-- Pools and channels of a worker whose provider fails: campaigns that it does not serve do not wait for it.
ALTER TABLE provider_troubles
    ADD COLUMN pools text[] NOT NULL DEFAULT '{}', ADD COLUMN channels text[] NOT NULL DEFAULT '{}';
