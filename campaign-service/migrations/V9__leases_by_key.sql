-- Leases are found by their key, or all of a campaign: there are few at a time. This index made the planner look
-- at every lease of the campaign for one of them, those that are gone and not vacuumed yet too.
-- The version before does without it.

DROP INDEX leases_by_run;
