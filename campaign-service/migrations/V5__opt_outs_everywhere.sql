-- Of an opt-out: of every campaign, so that the number was suppressed with it.
ALTER TABLE interactions ADD COLUMN everywhere boolean NOT NULL DEFAULT false;
