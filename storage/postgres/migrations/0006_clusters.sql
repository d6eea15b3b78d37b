-- Clusters: models that divide users, and the jobs that train them
-- depends: 0005_visits

-- migrate: apply
ALTER TYPE segmentation_mode ADD VALUE 'AUTO';
CREATE TYPE clustering_job_state AS ENUM ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED');

CREATE TABLE clustering_models (
    experiment_no integer NOT NULL REFERENCES experiments,
    model_version integer NOT NULL CHECK (model_version > 0),
    ciphertext bytea NOT NULL, -- encoder, centroids, shares, radius
    trained_at timestamptz NOT NULL,
    assignments bigint NOT NULL, -- that there were
    sampled integer NOT NULL,
    clusters jsonb NOT NULL CHECK (jsonb_typeof(clusters) = 'array'), -- number, share, kept; the largest first
    silhouette double precision NOT NULL,
    gap double precision NOT NULL,
    gap_error double precision NOT NULL,
    prediction_strength double precision NOT NULL,
    problem text NOT NULL DEFAULT '',
    PRIMARY KEY (experiment_no, model_version)
);

-- What an audience is called, whichever models have it. Numbers are never given twice.
CREATE TABLE clusters (
    experiment_no integer NOT NULL REFERENCES experiments,
    cluster_no integer NOT NULL CHECK (cluster_no > 0),
    found_name text NOT NULL,
    given_name text CHECK (length(given_name) BETWEEN 1 AND 40),
    name text NOT NULL GENERATED ALWAYS AS (coalesce(given_name, found_name)) STORED,
    PRIMARY KEY (experiment_no, cluster_no),
    UNIQUE (experiment_no, name)
);

CREATE TABLE clustering_jobs (
    job_id uuid PRIMARY KEY,
    experiment_no integer NOT NULL REFERENCES experiments,
    state clustering_job_state NOT NULL DEFAULT 'QUEUED',
    stage text NOT NULL DEFAULT '',
    progress double precision NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
    actor text NOT NULL,
    requested_at timestamptz NOT NULL,
    started_at timestamptz,
    finished_at timestamptz,
    error text NOT NULL DEFAULT '',
    model_version integer,
    FOREIGN KEY (experiment_no, model_version) REFERENCES clustering_models
);
CREATE UNIQUE INDEX clustering_jobs_under_way ON clustering_jobs (experiment_no) WHERE finished_at IS NULL;
CREATE INDEX clustering_jobs_experiment ON clustering_jobs (experiment_no, requested_at);

ALTER TABLE experiment_segmentation_config
    ADD COLUMN max_clusters integer NOT NULL DEFAULT 8 CHECK (max_clusters BETWEEN 2 AND 20),
    ADD COLUMN model_version integer,
    ADD FOREIGN KEY (experiment_no, model_version) REFERENCES clustering_models;
-- With AUTO and without a model, it waits for one.
ALTER TABLE pending_segmentations
    ADD COLUMN model_version integer,
    ADD FOREIGN KEY (experiment_no, model_version) REFERENCES clustering_models;

-- migrate: rollback
ALTER TABLE pending_segmentations DROP COLUMN model_version;
ALTER TABLE experiment_segmentation_config DROP COLUMN model_version, DROP COLUMN max_clusters;
DROP TABLE clustering_jobs, clusters, clustering_models;
DROP TYPE clustering_job_state;
