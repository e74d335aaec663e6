-- The request that launched a run, as traceparent of W3C trace context, where it was traced: calls point to it.
ALTER TABLE runs ADD COLUMN launch_traceparent text CHECK (length(launch_traceparent) <= 128);
