-- What the committed rows of an import were, so that another list under its id is noticed: a hash over all of
-- them, and one over the first 1, 2, 4, 8… The version before leaves both as they are; what it adds makes the
-- import one that is not compared.
ALTER TABLE imports
    ADD COLUMN chain bytea NOT NULL DEFAULT '',
    ADD COLUMN chain_rows bigint NOT NULL DEFAULT 0,
    ADD COLUMN checkpoints bytea NOT NULL DEFAULT '';
