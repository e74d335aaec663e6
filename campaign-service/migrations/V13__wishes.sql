-- What a person asked for, only an admin takes back. The version before does not set it; its entries of
-- opt-outs are told by their source.
ALTER TABLE suppressions ADD COLUMN is_wish boolean NOT NULL DEFAULT false;
