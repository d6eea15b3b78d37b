-- Alerts, and the notices that people are sent
-- depends: 0008_audit

-- migrate: apply
CREATE TYPE alert_kind AS ENUM (
    'SEGMENT_UNDERPERFORMS', 'CLUSTER_MODEL_OLD', 'SAMPLE_RATIO_MISMATCH', 'DRAIN_LAG', 'BOT_SURGE',
    'CONVERSIONS_STOPPED', 'AUTO_ACTIVATION_FAILED', 'NOTIFICATION_FAILED'
);
CREATE TABLE alerts (
    alert_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert_id uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    experiment_no integer REFERENCES experiments, -- NULL: the installation's
    kind alert_kind NOT NULL,
    key text NOT NULL, -- what it is about, such as a segment key; '': there is but one
    summary text NOT NULL,
    raised_at timestamptz NOT NULL,
    resolved_at timestamptz,
    acknowledged_at timestamptz,
    acknowledged_by text, -- the id of an API key
    CHECK ((acknowledged_at IS NULL) = (acknowledged_by IS NULL))
);
CREATE UNIQUE INDEX alerts_open ON alerts (experiment_no, kind, key) NULLS NOT DISTINCT WHERE resolved_at IS NULL;
CREATE INDEX alerts_experiment ON alerts (experiment_no, alert_no);

-- When an experiment's log was last compared with its propensities.
CREATE TABLE sample_ratio_checks (
    experiment_no integer PRIMARY KEY REFERENCES experiments,
    checked_at timestamptz NOT NULL
);

-- Notices to be sent, in the transaction that made them true: one row for each recipient.
CREATE TABLE notifications (
    notification_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    experiment_no integer REFERENCES experiments, -- NULL: the installation's
    kind text NOT NULL,
    recipient text, -- a name, never a URL; NULL: not known yet; '': there is none
    subject text NOT NULL,
    body text NOT NULL,
    created_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    admitted_at timestamptz, -- when it took a place among those that a recipient may get within an hour
    held_until timestamptz, -- when there was no place
    digest_no bigint REFERENCES notifications, -- the one that it goes in
    sent_at timestamptz,
    failed_at timestamptz,
    error text NOT NULL DEFAULT '' -- of the last attempt
);
CREATE VIEW pending_notifications AS
    SELECT * FROM notifications WHERE sent_at IS NULL AND failed_at IS NULL AND digest_no IS NULL;
CREATE INDEX notifications_pending ON notifications (recipient, next_attempt_at)
    WHERE sent_at IS NULL AND failed_at IS NULL AND digest_no IS NULL;
CREATE INDEX notifications_admitted ON notifications (experiment_no, recipient, admitted_at)
    WHERE admitted_at IS NOT NULL;

-- migrate: rollback
DROP VIEW pending_notifications;
DROP TABLE notifications, sample_ratio_checks, alerts;
DROP TYPE alert_kind;
