-- Segmentations that change while an experiment runs
-- depends: 0002_maturity

-- migrate: apply
ALTER TABLE experiment_segmentation_config
    ADD COLUMN max_segments integer NOT NULL DEFAULT 200 CHECK (max_segments BETWEEN 1 AND 1000);

-- The segmentation that an experiment is being moved to.
CREATE TABLE pending_segmentations (
    experiment_no integer PRIMARY KEY REFERENCES experiments,
    segmentation_version integer NOT NULL CHECK (segmentation_version > 1),
    mode segmentation_mode NOT NULL,
    segment_by text[] NOT NULL,
    actor text NOT NULL,
    created_at timestamptz NOT NULL,
    labelled_to bytea, -- the last user key of the log that has its label; NULL before the segments are chosen
    CHECK ((mode = 'MANUAL') = (cardinality(segment_by) BETWEEN 1 AND 6))
);

-- Whoever counts, counts for all of these: the one that serves, and the one that is labelled.
CREATE VIEW counted_segmentations AS
    SELECT experiment_no, segmentation_version FROM experiment_segmentation_config
    UNION ALL SELECT experiment_no, segmentation_version FROM pending_segmentations WHERE labelled_to IS NOT NULL;

-- Retired segments are answered to nobody new; their users keep them.
ALTER TABLE experiment_segments ADD COLUMN retired boolean NOT NULL DEFAULT false;

-- The cell that is credited, by segmentation version: the serving one, and the one that is being prepared.
-- segment_no stays what was answered to the user.
ALTER TABLE assignments ADD COLUMN cells jsonb;
UPDATE assignments SET cells = jsonb_build_object(segmentation_version, segment_no);
ALTER TABLE assignments ALTER COLUMN cells SET NOT NULL;
CREATE INDEX assignments_assigned_at ON assignments USING brin (assigned_at);

-- The segment key of a stored context, as allocator.segments makes it.
CREATE FUNCTION segment_key_of(context jsonb, segment_by text[]) RETURNS text LANGUAGE sql IMMUTABLE
    RETURN (
        SELECT coalesce(string_agg(name || ':' || replace(replace(replace(
            coalesce(context ->> name, 'unknown'), '%', '%25'), '|', '%7C'), ':', '%3A'), '|' ORDER BY position), 'global')
        FROM (SELECT regexp_replace(dimension, '^attributes\.', '') AS name, position
              FROM unnest(segment_by) WITH ORDINALITY AS u (dimension, position)) AS named
    );

-- Where a context is under a segmentation; in "other" (1) where its key has no number.
CREATE FUNCTION segment_of(experiment integer, version integer, context jsonb, segment_by text[])
    RETURNS integer LANGUAGE sql STABLE
    RETURN coalesce((
        SELECT segment_no FROM experiment_segments
        WHERE experiment_no = experiment AND segmentation_version = version
            AND segment_key = segment_key_of(context, segment_by)
    ), 1);

-- Allocation requests of bots, by the day of the experiment's time zone.
CREATE TABLE experiment_traffic_stats (
    experiment_no integer NOT NULL REFERENCES experiments,
    day date NOT NULL,
    bot_requests bigint NOT NULL,
    PRIMARY KEY (experiment_no, day)
);

CREATE TABLE audit_events (
    event_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text NOT NULL, -- the id of an API key, or "samplit"
    action text NOT NULL,
    experiment_no integer NOT NULL REFERENCES experiments,
    detail jsonb NOT NULL
);
CREATE INDEX audit_events_experiment ON audit_events (experiment_no, event_no);

-- migrate: rollback
DROP VIEW counted_segmentations;
DROP TABLE audit_events, experiment_traffic_stats, pending_segmentations;
DROP FUNCTION segment_of, segment_key_of;
DROP INDEX assignments_assigned_at;
ALTER TABLE assignments DROP COLUMN cells;
ALTER TABLE experiment_segments DROP COLUMN retired;
ALTER TABLE experiment_segmentation_config DROP COLUMN max_segments;
