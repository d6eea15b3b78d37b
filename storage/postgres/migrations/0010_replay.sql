-- What decisions followed, so that they can be made again
-- depends: 0009_alerts

-- migrate: apply
-- What decisions follow beside the posterior, from a revision of the experiment on.
CREATE TABLE decision_rules (
    experiment_no integer NOT NULL REFERENCES experiments,
    revision bigint NOT NULL,
    variants smallint[] NOT NULL, -- that may be drawn, in the order of the arms
    holdout_share double precision NOT NULL,
    baseline_share double precision NOT NULL,
    mode segmentation_mode NOT NULL,
    segment_by text[] NOT NULL,
    min_samples_per_segment integer NOT NULL,
    model_version integer,
    PRIMARY KEY (experiment_no, revision)
);

-- What they follow now.
CREATE VIEW current_decision_rules AS
    SELECT experiment_no, revision,
        ARRAY(SELECT variant_no FROM element_variants v
              WHERE v.experiment_no = e.experiment_no AND retired_at IS NULL ORDER BY position) AS variants,
        holdout_share, baseline_share, mode, segment_by, min_samples_per_segment, model_version
    FROM experiments e JOIN experiment_segmentation_config USING (experiment_no);

INSERT INTO decision_rules SELECT * FROM current_decision_rules;

-- The first posterior version that was made under the present maturity.
ALTER TABLE experiments ADD COLUMN maturity_from bigint NOT NULL DEFAULT 0;

-- migrate: rollback
ALTER TABLE experiments DROP COLUMN maturity_from;
DROP VIEW current_decision_rules;
DROP TABLE decision_rules;
