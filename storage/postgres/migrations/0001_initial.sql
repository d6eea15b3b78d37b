-- Experiments, assignments, conversions, counts and posteriors
-- depends:

-- migrate: apply
CREATE TYPE experiment_state AS ENUM ('DRAFT', 'RUNNING', 'PAUSED', 'COMPLETED');
CREATE TYPE segmentation_mode AS ENUM ('DISABLED', 'MANUAL');
CREATE TYPE allocation_reason AS ENUM ('SAMPLED', 'HOLDOUT', 'BASELINE', 'FALLBACK');
CREATE TYPE allocation_group AS ENUM ('ADAPTIVE', 'BASELINE', 'HOLDOUT');

-- One row: what every server of an installation must agree on.
CREATE TABLE installation (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    identity_fingerprint bytea NOT NULL,
    shards smallint NOT NULL CHECK (shards BETWEEN 1 AND 100)
);

CREATE TABLE experiments (
    experiment_no integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    experiment_id text NOT NULL UNIQUE CHECK (experiment_id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    description text NOT NULL CHECK (length(description) <= 2048),
    owner text NOT NULL CHECK (length(owner) <= 128),
    state experiment_state NOT NULL DEFAULT 'DRAFT',
    control_variant_no smallint NOT NULL,
    winner_variant_no smallint,
    primary_metric text NOT NULL,
    holdout_share double precision NOT NULL CHECK (holdout_share BETWEEN 0 AND 0.5),
    baseline_share double precision NOT NULL CHECK (baseline_share BETWEEN 0 AND 0.5),
    time_zone text NOT NULL,
    salt bytea NOT NULL CHECK (octet_length(salt) = 16),
    revision bigint NOT NULL DEFAULT 1,
    posterior_version bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    started_at timestamptz,
    completed_at timestamptz,
    CHECK ((state = 'COMPLETED') = (completed_at IS NOT NULL)),
    CHECK ((state = 'COMPLETED') = (winner_variant_no IS NOT NULL)),
    CHECK ((state = 'DRAFT') = (started_at IS NULL))
);

CREATE TABLE element_variants (
    experiment_no integer NOT NULL REFERENCES experiments,
    variant_no smallint NOT NULL CHECK (variant_no >= 0),
    variant_id text NOT NULL CHECK (variant_id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    content jsonb NOT NULL CHECK (jsonb_typeof(content) = 'object'),
    position smallint NOT NULL,
    added_at timestamptz NOT NULL,
    retired_at timestamptz,
    PRIMARY KEY (experiment_no, variant_no),
    UNIQUE (experiment_no, variant_id)
);

ALTER TABLE experiments
    ADD FOREIGN KEY (experiment_no, control_variant_no) REFERENCES element_variants DEFERRABLE INITIALLY DEFERRED,
    ADD FOREIGN KEY (experiment_no, winner_variant_no) REFERENCES element_variants DEFERRABLE INITIALLY DEFERRED;

CREATE TABLE experiment_segmentation_config (
    experiment_no integer PRIMARY KEY REFERENCES experiments,
    segmentation_version integer NOT NULL DEFAULT 1 CHECK (segmentation_version > 0),
    mode segmentation_mode NOT NULL,
    segment_by text[] NOT NULL,
    min_samples_per_segment integer NOT NULL CHECK (min_samples_per_segment BETWEEN 0 AND 1000000),
    CHECK ((mode = 'MANUAL') = (cardinality(segment_by) BETWEEN 1 AND 6))
);

-- Segments that users were answered. Number 0 is "global", 1 is "other".
CREATE TABLE experiment_segments (
    experiment_no integer NOT NULL REFERENCES experiments,
    segmentation_version integer NOT NULL,
    segment_no integer NOT NULL CHECK (segment_no >= 0),
    segment_key text NOT NULL,
    PRIMARY KEY (experiment_no, segmentation_version, segment_no),
    UNIQUE (experiment_no, segmentation_version, segment_key)
);

CREATE TABLE assignments (
    experiment_no integer NOT NULL REFERENCES experiments,
    user_key bytea NOT NULL CHECK (octet_length(user_key) = 16),
    variant_no smallint NOT NULL,
    segmentation_version integer NOT NULL,
    segment_no integer NOT NULL,
    reason allocation_reason NOT NULL,
    allocation_group allocation_group NOT NULL,
    posterior_version bigint NOT NULL,
    revision bigint NOT NULL,
    propensity double precision NOT NULL CHECK (propensity > 0 AND propensity <= 1),
    marginal_propensity double precision NOT NULL CHECK (marginal_propensity > 0 AND marginal_propensity <= 1),
    q_segment double precision NOT NULL,
    q_global double precision NOT NULL,
    context jsonb NOT NULL,
    assigned_at timestamptz NOT NULL,
    day date NOT NULL, -- of assigned_at, in the experiment's time zone
    counted_version bigint NOT NULL, -- the posterior version that first counted this trial
    converted_at timestamptz, -- first conversion in the primary metric
    converted_version bigint, -- the posterior version that first counted this success
    PRIMARY KEY (experiment_no, user_key),
    FOREIGN KEY (experiment_no, variant_no) REFERENCES element_variants,
    CHECK ((converted_at IS NULL) = (converted_version IS NULL))
) PARTITION BY HASH (experiment_no, user_key);
CREATE TABLE assignments_0 PARTITION OF assignments FOR VALUES WITH (MODULUS 4, REMAINDER 0);
CREATE TABLE assignments_1 PARTITION OF assignments FOR VALUES WITH (MODULUS 4, REMAINDER 1);
CREATE TABLE assignments_2 PARTITION OF assignments FOR VALUES WITH (MODULUS 4, REMAINDER 2);
CREATE TABLE assignments_3 PARTITION OF assignments FOR VALUES WITH (MODULUS 4, REMAINDER 3);

CREATE TABLE conversions (
    experiment_no integer NOT NULL,
    user_key bytea NOT NULL,
    metric text NOT NULL,
    event_id text NOT NULL,
    value double precision NOT NULL,
    currency text NOT NULL,
    occurred_at timestamptz NOT NULL,
    PRIMARY KEY (experiment_no, user_key, metric, event_id),
    FOREIGN KEY (experiment_no, user_key) REFERENCES assignments
) PARTITION BY HASH (experiment_no, user_key);
CREATE TABLE conversions_0 PARTITION OF conversions FOR VALUES WITH (MODULUS 4, REMAINDER 0);
CREATE TABLE conversions_1 PARTITION OF conversions FOR VALUES WITH (MODULUS 4, REMAINDER 1);
CREATE TABLE conversions_2 PARTITION OF conversions FOR VALUES WITH (MODULUS 4, REMAINDER 2);
CREATE TABLE conversions_3 PARTITION OF conversions FOR VALUES WITH (MODULUS 4, REMAINDER 3);

CREATE TABLE segment_counts (
    experiment_no integer NOT NULL REFERENCES experiments,
    segmentation_version integer NOT NULL,
    segment_no integer NOT NULL,
    variant_no smallint NOT NULL,
    day date NOT NULL,
    trials bigint NOT NULL,
    successes bigint NOT NULL CHECK (successes >= 0 AND successes <= trials),
    pending_version bigint NOT NULL, -- the first posterior version that knows all of this
    PRIMARY KEY (experiment_no, segmentation_version, segment_no, variant_no, day)
);

-- The posterior that serves; earlier ones follow from the log by counted_version and converted_version.
CREATE TABLE segment_posteriors (
    experiment_no integer PRIMARY KEY REFERENCES experiments,
    version bigint NOT NULL,
    ciphertext bytea NOT NULL,
    published_at timestamptz NOT NULL
);

CREATE TABLE api_keys (
    key_id text PRIMARY KEY,
    name text NOT NULL,
    secret_hash bytea NOT NULL UNIQUE,
    scopes text[] NOT NULL CHECK (scopes <@ ARRAY['allocate', 'admin'] AND cardinality(scopes) > 0),
    created_at timestamptz NOT NULL,
    revoked_at timestamptz
);

-- Answers of admin writes by the caller's request_id, for 24 hours.
CREATE TABLE admin_requests (
    request_id text PRIMARY KEY,
    fingerprint bytea NOT NULL,
    response bytea NOT NULL,
    created_at timestamptz NOT NULL
);

-- migrate: rollback
DROP TABLE admin_requests, api_keys, segment_posteriors, segment_counts, conversions, assignments,
    experiment_segments, experiment_segmentation_config, installation CASCADE;
DROP TABLE element_variants, experiments CASCADE;
DROP TYPE experiment_state, segmentation_mode, allocation_reason, allocation_group;
