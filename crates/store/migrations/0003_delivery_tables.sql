-- What becomes of a job besides its counted attempt: retries, dead letters, claims, cancellations.
-- Each table is a set of facts from the result stream: a fact that comes again is not stored again.

-- A row per counted result has no `next`, and what its `jobs` row holds is not repeated. A row with one is an attempt
-- that failed and was not counted.
ALTER TABLE attempts ADD COLUMN replays UINTEGER DEFAULT 0;
ALTER TABLE attempts ADD COLUMN next VARCHAR;               -- `retry` or `dead-letter`
ALTER TABLE attempts ADD COLUMN run_uuid UUID;
ALTER TABLE attempts ADD COLUMN case_name VARCHAR;
ALTER TABLE attempts ADD COLUMN platform VARCHAR;
ALTER TABLE attempts ADD COLUMN failure_type VARCHAR;
ALTER TABLE attempts ADD COLUMN failure_message VARCHAR;
ALTER TABLE attempts ADD COLUMN output_tail VARCHAR;

ALTER TABLE runs ADD COLUMN due_at TIMESTAMP;               -- no job starts before
ALTER TABLE runs ADD COLUMN retried UINTEGER DEFAULT 0;     -- attempts that failed and were followed by another
ALTER TABLE runs ADD COLUMN dead UINTEGER DEFAULT 0;        -- jobs that lie with the dead letters
ALTER TABLE runs ADD COLUMN last_dead_at TIMESTAMP;         -- when the last of these ended

ALTER TABLE workers ADD COLUMN offer JSON;                  -- memory, browsers and tags
-- Names the message before `next_offset`, so that another stream of the same name is told apart.
ALTER TABLE stream_offsets ADD COLUMN last_message VARCHAR;

-- A worker took a job off its queue and holds it under a lease.
CREATE TABLE claims (
    job_id UUID NOT NULL,
    run_uuid UUID NOT NULL,
    replays UINTEGER NOT NULL,
    attempt UINTEGER NOT NULL,
    worker_id VARCHAR NOT NULL,
    claimed_at TIMESTAMP NOT NULL,
    lease_ms UBIGINT NOT NULL,
    schema_version USMALLINT NOT NULL,
    body BLOB NOT NULL                   -- the whole claim, encoded: the job goes back from here
);

-- A claimed job was handed back unfinished.
CREATE TABLE claim_returns (
    job_id UUID NOT NULL,
    run_uuid UUID NOT NULL,
    attempt UINTEGER NOT NULL,
    worker_id VARCHAR NOT NULL,
    returned_at TIMESTAMP NOT NULL
);

-- A dead letter was sent back to its lane for the `replays`th time.
CREATE TABLE replays (
    job_id UUID NOT NULL,
    run_uuid UUID NOT NULL,
    replays UINTEGER NOT NULL,
    replayed_at TIMESTAMP NOT NULL
);

CREATE TABLE cancels (
    target VARCHAR NOT NULL,             -- `job` or `run`
    target_id UUID NOT NULL,
    requested_at TIMESTAMP NOT NULL
);

-- Jobs of a run whose one result is stored under another run that submitted the same unique key.
CREATE TABLE run_jobs (
    run_uuid UUID NOT NULL,
    job_id UUID NOT NULL
);

-- What a run's jobs ask of workers.
CREATE TABLE run_needs (
    run_uuid UUID NOT NULL,
    platform VARCHAR NOT NULL,
    memory_mb_min UBIGINT,
    device_memory_mb_min UBIGINT,
    browser VARCHAR,
    tags JSON NOT NULL,
    jobs UINTEGER NOT NULL
);

-- The last attempts of jobs that are dead now: no result beats them, and they were not sent back since.
CREATE VIEW dead_letters AS
SELECT a.run_uuid, a.job_id, a.case_name, a.platform, a.replays, a.attempt, a.worker_id, a.status, a.started_at, a.finished_at,
       a.next, a.failure_type, a.failure_message, a.output_tail
FROM attempts a
LEFT JOIN jobs j ON j.job_id = a.job_id
LEFT JOIN (SELECT job_id, run_uuid, max(replays) AS replays FROM replays GROUP BY job_id, run_uuid) r
       ON r.job_id = a.job_id AND r.run_uuid = a.run_uuid
WHERE a.next = 'dead-letter' AND j.job_id IS NULL AND coalesce(r.replays, 0) <= a.replays;
