-- The audit: what a change was from and to, of experiments and of the installation, for good
-- depends: 0007_adaptation

-- migrate: apply
ALTER TABLE audit_events
    ALTER COLUMN experiment_no DROP NOT NULL, -- NULL: the installation's, such as its API keys
    ADD COLUMN before jsonb,
    ADD COLUMN after jsonb;
UPDATE audit_events SET
    before = CASE action
        WHEN 'segmentation.update' THEN detail -> 'from'
        WHEN 'segmentation.serves' THEN jsonb_build_object('segment_by', detail -> 'from')
        WHEN 'clusters.rename' THEN jsonb_build_object('cluster:' || (detail ->> 'cluster'), detail -> 'from')
        ELSE '{}' END,
    after = CASE action
        WHEN 'segmentation.update' THEN detail -> 'to'
        WHEN 'segmentation.serves' THEN detail - 'from' - 'to' || jsonb_build_object('segment_by', detail -> 'to')
        WHEN 'clusters.rename' THEN jsonb_build_object('cluster:' || (detail ->> 'cluster'), detail -> 'to')
        ELSE detail END;
ALTER TABLE audit_events
    ALTER COLUMN before SET NOT NULL,
    ALTER COLUMN after SET NOT NULL,
    ADD CHECK (jsonb_typeof(before) = 'object' AND jsonb_typeof(after) = 'object'),
    DROP COLUMN detail;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP;
END
$$;
CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- migrate: rollback
DROP TRIGGER audit_events_append_only ON audit_events;
DROP FUNCTION refuse_change;
DELETE FROM audit_events WHERE experiment_no IS NULL;
ALTER TABLE audit_events ADD COLUMN detail jsonb;
UPDATE audit_events SET detail = jsonb_build_object('from', before, 'to', after);
ALTER TABLE audit_events
    ALTER COLUMN experiment_no SET NOT NULL,
    ALTER COLUMN detail SET NOT NULL,
    DROP COLUMN before,
    DROP COLUMN after;
