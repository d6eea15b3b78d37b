-- What users get who cannot be found while Redis is out of reach
-- depends: 0003_segmentations

-- migrate: apply
CREATE TYPE outage_policy AS ENUM ('CONTROL', 'UNAVAILABLE');
ALTER TABLE experiments ADD COLUMN on_outage outage_policy NOT NULL DEFAULT 'CONTROL';

-- migrate: rollback
ALTER TABLE experiments DROP COLUMN on_outage;
DROP TYPE outage_policy;
