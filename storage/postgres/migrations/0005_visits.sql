-- Users who come back, once a day
-- depends: 0004_outage

-- migrate: apply
-- The last day on which the user is known to have come, in the experiment's time zone.
ALTER TABLE assignments ADD COLUMN seen_on date;
UPDATE assignments SET seen_on = day;
ALTER TABLE assignments ALTER COLUMN seen_on SET NOT NULL;

-- Distinct users of the day; bots are counted apart.
ALTER TABLE experiment_traffic_stats
    ADD COLUMN visitors bigint NOT NULL DEFAULT 0,
    ALTER COLUMN bot_requests SET DEFAULT 0;

-- As before, but the key is made once for each context, not once for each segment that it is compared with.
CREATE OR REPLACE FUNCTION segment_of(experiment integer, version integer, context jsonb, segment_by text[])
    RETURNS integer LANGUAGE sql STABLE
    RETURN coalesce((
        SELECT segment_no FROM experiment_segments
        WHERE experiment_no = experiment AND segmentation_version = version
            AND segment_key = (SELECT segment_key_of(context, segment_by))
    ), 1);

-- migrate: rollback
ALTER TABLE experiment_traffic_stats DROP COLUMN visitors, ALTER COLUMN bot_requests DROP DEFAULT;
ALTER TABLE assignments DROP COLUMN seen_on;
