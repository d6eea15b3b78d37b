-- Redis: which installation it belongs to, and what tells an older copy of it from the one that was used last
-- depends: 0011_choices

-- migrate: apply
ALTER TABLE installation ADD COLUMN installation_id uuid NOT NULL DEFAULT gen_random_uuid();
CREATE TABLE redis_shards (
    shard integer PRIMARY KEY,
    epoch bytea, -- NULL: not known yet
    next_epoch bytea, -- written before Redis gets it, so that a crash in between leaves either
    run_id text NOT NULL DEFAULT '', -- of the process of Redis that had the epoch
    drained_milliseconds bigint NOT NULL DEFAULT 0, -- the id of the last entry that was drained from the stream
    drained_sequence bigint NOT NULL DEFAULT 0
);
ALTER TYPE alert_kind ADD VALUE 'VOLATILE_REDIS';

-- migrate: rollback
DELETE FROM alerts WHERE kind = 'VOLATILE_REDIS';
ALTER TYPE alert_kind RENAME TO alert_kind_before;
CREATE TYPE alert_kind AS ENUM (
    'SEGMENT_UNDERPERFORMS', 'CLUSTER_MODEL_OLD', 'SAMPLE_RATIO_MISMATCH', 'DRAIN_LAG', 'BOT_SURGE',
    'CONVERSIONS_STOPPED', 'AUTO_ACTIVATION_FAILED', 'NOTIFICATION_FAILED'
);
ALTER TABLE alerts ALTER COLUMN kind TYPE alert_kind USING kind::text::alert_kind;
DROP TYPE alert_kind_before;
DROP TABLE redis_shards;
ALTER TABLE installation DROP COLUMN installation_id;
