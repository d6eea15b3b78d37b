-- Keys that expire, and keys that another one replaces
-- depends: 0011_choices

-- migrate: apply
ALTER TABLE api_keys
    ADD COLUMN expires_at timestamptz, -- NULL: never
    ADD COLUMN replaced_by text REFERENCES api_keys; -- the key that `samplit keys rotate` made in its stead

-- migrate: rollback
ALTER TABLE api_keys DROP COLUMN replaced_by, DROP COLUMN expires_at;
