-- Segmentations that come and go by themselves: traffic by dimensions, recommendations, and when what serves began
-- depends: 0006_clusters

-- migrate: apply
-- Users by what is known of them. Dimension '' has everyone under the value ''. Values beyond the first hundred of a
-- day share 'other', dimensions beyond 64 are not counted. Days are kept for a quarter of a year.
CREATE TABLE dimension_counts (
    experiment_no integer NOT NULL REFERENCES experiments,
    dimension text NOT NULL, -- as contexts have it: custom attributes without their prefix
    day date NOT NULL, -- in the experiment's time zone
    value text NOT NULL,
    variant_no smallint NOT NULL,
    visitors bigint NOT NULL, -- distinct users of the day
    trials bigint NOT NULL, -- users who were assigned on the day
    successes bigint NOT NULL, -- of these
    PRIMARY KEY (experiment_no, dimension, day, value, variant_no)
) WITH (fillfactor = 70);
CREATE INDEX dimension_counts_day ON dimension_counts USING brin (day);

WITH users AS (
    SELECT experiment_no, dimension, day, value, variant_no,
        is_success(assigned_at, converted_at, maturity_seconds) AS success
    FROM assignments JOIN experiments USING (experiment_no),
        LATERAL (SELECT * FROM jsonb_each_text(context) UNION ALL SELECT '', '') AS known (dimension, value)
    WHERE day > CURRENT_DATE - 90
), sized AS (
    SELECT experiment_no, dimension, day, value,
        row_number() OVER (PARTITION BY experiment_no, dimension, day ORDER BY count(*) DESC, value) <= 100 AS own
    FROM users GROUP BY 1, 2, 3, 4
)
INSERT INTO dimension_counts
SELECT experiment_no, dimension, day, CASE WHEN own THEN value ELSE 'other' END, variant_no, count(*), count(*),
    count(*) FILTER (WHERE success)
FROM users JOIN sized USING (experiment_no, dimension, day, value)
GROUP BY 1, 2, 3, 4, 5;

-- When an experiment was last heard of.
CREATE TABLE experiment_activity (
    experiment_no integer PRIMARY KEY REFERENCES experiments,
    last_assignment_at timestamptz,
    last_conversion_at timestamptz -- in the primary metric
);
INSERT INTO experiment_activity
SELECT experiment_no, max(assigned_at), max(converted_at) FROM assignments GROUP BY experiment_no;

ALTER TABLE experiment_segmentation_config
    ADD COLUMN newest_version integer NOT NULL DEFAULT 1, -- of all segmentations that were ever prepared
    ADD COLUMN auto_activation boolean NOT NULL DEFAULT false,
    ADD COLUMN auto_activation_threshold integer NOT NULL DEFAULT 1000
        CHECK (auto_activation_threshold BETWEEN 1 AND 1000000000),
    ADD COLUMN auto_clustering_enabled boolean NOT NULL DEFAULT false,
    ADD COLUMN serves_since timestamptz, -- NULL: since the experiment was started
    ADD COLUMN recommendation_id uuid, -- that it came from
    ADD COLUMN expected_lift double precision,
    ADD COLUMN expected_error double precision, -- the standard error of expected_lift
    ADD COLUMN evidence_from date, -- the first day that may speak for segmenting; NULL: the first of all
    -- After an automatic activation more users are served unsegmented, until a day; then as many as before.
    ADD COLUMN baseline_share_after double precision,
    ADD COLUMN baseline_share_until timestamptz,
    ADD COLUMN checked_at timestamptz, -- when it was last looked whether to segment
    ADD CHECK ((baseline_share_after IS NULL) = (baseline_share_until IS NULL));

ALTER TABLE pending_segmentations
    ADD COLUMN recommendation_id uuid,
    ADD COLUMN expected_lift double precision,
    ADD COLUMN expected_error double precision;

UPDATE experiment_segmentation_config c SET newest_version = greatest(segmentation_version,
    (SELECT max(segmentation_version) FROM pending_segmentations p WHERE p.experiment_no = c.experiment_no),
    (SELECT max(segmentation_version) FROM experiment_segments s WHERE s.experiment_no = c.experiment_no));
ALTER TABLE experiment_segmentation_config ADD CHECK (newest_version >= segmentation_version);

CREATE TYPE recommendation_kind AS ENUM (
    'SEGMENT_BY', 'ADD_DIMENSION', 'DROP_DIMENSION', 'USE_CLUSTERS', 'TRAIN_CLUSTERS', 'TURN_OFF', 'FINISH'
);
CREATE TYPE recommendation_state AS ENUM ('OPEN', 'ACCEPTED', 'DISMISSED', 'WITHDRAWN');
CREATE TABLE segmentation_recommendations (
    recommendation_id uuid PRIMARY KEY,
    recommendation_no bigint GENERATED ALWAYS AS IDENTITY UNIQUE, -- their order
    experiment_no integer NOT NULL REFERENCES experiments,
    kind recommendation_kind NOT NULL,
    segment_by text[] NOT NULL, -- with SEGMENT_BY, ADD_DIMENSION and DROP_DIMENSION: what there would be
    winner_variant_no smallint, -- with FINISH
    state recommendation_state NOT NULL DEFAULT 'OPEN',
    summary text NOT NULL,
    expected_lift double precision,
    expected_error double precision, -- the standard error of expected_lift
    e_value double precision,
    e_value_needed double precision,
    trials bigint NOT NULL, -- that it rests on
    days integer NOT NULL,
    segmentation_version integer NOT NULL, -- that served
    proposed_at timestamptz NOT NULL,
    renewed_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    decided_at timestamptz,
    decided_by text,
    dismissed_because text,
    FOREIGN KEY (experiment_no, winner_variant_no) REFERENCES element_variants,
    CHECK ((state IN ('ACCEPTED', 'DISMISSED')) = (decided_by IS NOT NULL))
);
CREATE UNIQUE INDEX segmentation_recommendations_open
    ON segmentation_recommendations (experiment_no, kind, segment_by, coalesce(winner_variant_no, -1))
    WHERE state = 'OPEN';
CREATE INDEX segmentation_recommendations_experiment
    ON segmentation_recommendations (experiment_no, recommendation_no);

-- migrate: rollback
DROP TABLE segmentation_recommendations, experiment_activity, dimension_counts;
DROP TYPE recommendation_kind, recommendation_state;
ALTER TABLE pending_segmentations DROP COLUMN recommendation_id, DROP COLUMN expected_lift, DROP COLUMN expected_error;
ALTER TABLE experiment_segmentation_config DROP COLUMN newest_version, DROP COLUMN auto_activation, DROP COLUMN auto_activation_threshold,
    DROP COLUMN auto_clustering_enabled, DROP COLUMN serves_since, DROP COLUMN recommendation_id,
    DROP COLUMN expected_lift, DROP COLUMN expected_error, DROP COLUMN evidence_from,
    DROP COLUMN baseline_share_after, DROP COLUMN baseline_share_until, DROP COLUMN checked_at;
