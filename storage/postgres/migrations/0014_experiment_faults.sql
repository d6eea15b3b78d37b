-- Alerts about an experiment that Samplit cannot work on, and time zones that PostgreSQL knows
-- depends: 0011_choices

-- migrate: apply
ALTER TYPE alert_kind ADD VALUE IF NOT EXISTS 'EXPERIMENT_FAILS';

-- A statement that meets a name which PostgreSQL does not know fails for all experiments that it reads.
UPDATE experiments SET revision = revision + 1, time_zone = coalesce(
        (SELECT name FROM pg_timezone_names WHERE name = regexp_replace(time_zone, '^(posix|right)/', '')), 'UTC')
    WHERE time_zone NOT IN (SELECT name FROM pg_timezone_names);
INSERT INTO decision_rules SELECT * FROM current_decision_rules ON CONFLICT DO NOTHING;

-- migrate: rollback
DELETE FROM alerts WHERE kind::text = 'EXPERIMENT_FAILS'; -- the kind itself stays: PostgreSQL cannot delete one
