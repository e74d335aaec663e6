-- Tenants: whose a campaign is. The empty one is the installation's own, and all that there was before.
-- Only adds: the version before, which knows no tenants, keeps working.

ALTER TABLE campaigns ADD COLUMN tenant text NOT NULL DEFAULT ''
    CHECK (tenant ~ '^[a-z0-9-]{0,63}$');
CREATE INDEX campaigns_by_tenant ON campaigns (tenant, created_at, campaign_id)
    WHERE deleted_at IS NULL;

-- A number may stand on the lists of several tenants. The entries of the empty one hold for everybody; those
-- of another for its own campaigns. The version before takes every entry to hold for everybody.
ALTER TABLE suppressions ADD COLUMN tenant text NOT NULL DEFAULT ''
    CHECK (tenant ~ '^[a-z0-9-]{0,63}$');
ALTER TABLE suppressions DROP CONSTRAINT suppressions_pkey, ADD PRIMARY KEY (phone, tenant);
CREATE INDEX suppressions_by_tenant ON suppressions (tenant, phone);

-- What a worker says of its provider is for the campaigns that it serves.
ALTER TABLE provider_troubles ADD COLUMN tenant text NOT NULL DEFAULT '';
