-- What a measurement counts for: `accepted`, `released`, `quarantined`, `throttled`, `disturbed` or `rejected`.
-- `accepted` stays what it was: whether predictors may learn from it, which is so of the first two.
ALTER TABLE measurements ADD COLUMN standing VARCHAR;
ALTER TABLE measurements ADD COLUMN conditions JSON;        -- what the machine was doing meanwhile, if somebody looked
UPDATE measurements SET standing =
    CASE WHEN accepted THEN 'accepted'
         WHEN rejection LIKE 'its % is %' AND rejection <> 'its device is unknown' THEN 'quarantined'
         ELSE 'rejected' END;

-- Somebody said that a quarantined measurement is to be learned from after all.
CREATE TABLE quarantine_lifts (
    job_id UUID NOT NULL,
    lifted_at TIMESTAMP NOT NULL
);
