-- Choices: a model that people choose while another is being trained is not replaced by it
-- depends: 0010_replay

-- migrate: apply
ALTER TABLE clustering_jobs ADD COLUMN to_serve boolean NOT NULL DEFAULT true;

-- migrate: rollback
ALTER TABLE clustering_jobs DROP COLUMN to_serve;
