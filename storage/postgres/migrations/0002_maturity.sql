-- How long conversions may take, and the counts of users who are younger
-- depends: 0001_initial

-- migrate: apply
ALTER TABLE experiments
    ADD COLUMN maturity_seconds integer NOT NULL DEFAULT 0
        CHECK (maturity_seconds = 0 OR maturity_seconds BETWEEN 60 AND 2592000),
    ADD COLUMN auto_maturity boolean NOT NULL DEFAULT false;

-- Whether a conversion makes its assignment a success.
CREATE FUNCTION is_success(assigned_at timestamptz, converted_at timestamptz, maturity_seconds integer)
    RETURNS boolean LANGUAGE sql IMMUTABLE
    RETURN converted_at IS NOT NULL AND (maturity_seconds = 0
        OR extract(epoch FROM converted_at - assigned_at) <= maturity_seconds);

-- Cohorts are 1/32 of the maturity long, and numbered from 1970. NULL without a maturity.
CREATE FUNCTION cohort_of(moment timestamptz, maturity_seconds integer) RETURNS bigint LANGUAGE sql IMMUTABLE
    RETURN floor(extract(epoch FROM moment) * 32 / nullif(maturity_seconds, 0))::bigint;

-- Users assigned before this are mature: by cohorts, so up to 1/32 of the maturity later than they might be.
CREATE FUNCTION mature_before(moment timestamptz, maturity_seconds integer) RETURNS timestamptz LANGUAGE sql IMMUTABLE
    RETURN coalesce(to_timestamp((cohort_of(moment, maturity_seconds) - 32) * maturity_seconds / 32.0), 'infinity');

-- The delay of a success in 1/32 of the maturity, 0 to 31.
CREATE FUNCTION delay_step_of(assigned_at timestamptz, converted_at timestamptz, maturity_seconds integer)
    RETURNS smallint LANGUAGE sql IMMUTABLE
    RETURN least(31, floor(extract(epoch FROM converted_at - assigned_at) * 32 / nullif(maturity_seconds, 0)));

-- The part of segment_counts that is young, by cohort. Old cohorts are deleted.
CREATE TABLE cohort_counts (
    experiment_no integer NOT NULL REFERENCES experiments,
    segmentation_version integer NOT NULL,
    cohort bigint NOT NULL,
    segment_no integer NOT NULL,
    variant_no smallint NOT NULL,
    day date NOT NULL,
    trials bigint NOT NULL,
    successes bigint NOT NULL,
    PRIMARY KEY (experiment_no, segmentation_version, cohort, segment_no, variant_no, day)
);

-- How long the successes of a cohort took. Old cohorts are deleted.
CREATE TABLE conversion_delays (
    experiment_no integer NOT NULL REFERENCES experiments,
    cohort bigint NOT NULL,
    variant_no smallint NOT NULL,
    delay_step smallint NOT NULL CHECK (delay_step BETWEEN 0 AND 31),
    successes bigint NOT NULL,
    PRIMARY KEY (experiment_no, cohort, variant_no, delay_step)
);

-- migrate: rollback
DROP TABLE conversion_delays, cohort_counts;
DROP FUNCTION is_success, mature_before, cohort_of, delay_step_of;
ALTER TABLE experiments DROP COLUMN maturity_seconds, DROP COLUMN auto_maturity;
