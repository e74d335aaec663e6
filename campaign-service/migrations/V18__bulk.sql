-- Contacts with a number in all campaigns, so that a suppression or an erasure finds them without a walk through
-- campaigns. Another migration may have made the same index before. The version before does without it.
CREATE INDEX IF NOT EXISTS contacts_by_phone ON contacts (phone);
