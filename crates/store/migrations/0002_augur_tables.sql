-- Augur's own tables. A run and a job are keyed by the UUIDs that travel in messages; `run_id`, `result_id` and so on
-- point into the benchmark tables.

CREATE TABLE runs (
    run_uuid UUID PRIMARY KEY,
    run_id BIGINT NOT NULL DEFAULT nextval('run_id_seq'),
    suite VARCHAR NOT NULL,
    origin VARCHAR NOT NULL,
    jobs_total UINTEGER NOT NULL,
    announced BOOLEAN NOT NULL,          -- its RunSubmitted was seen, and not only its results
    submitted_at TIMESTAMP NOT NULL,     -- from RunSubmitted; until that is seen, of the earliest job
    git_commit VARCHAR,
    git_branch VARCHAR,
    command_line VARCHAR,
    done UINTEGER NOT NULL,
    passed UINTEGER NOT NULL,
    failed UINTEGER NOT NULL,
    error UINTEGER NOT NULL,
    cancelled UINTEGER NOT NULL,
    tests UINTEGER NOT NULL,             -- how many of the done ones are of kind `test`
    last_finished_at TIMESTAMP,
    completed_at TIMESTAMP,              -- end of the last job, once all have ended
    created_at TIMESTAMP DEFAULT current_timestamp
);

-- One row per ended job, with what it asked for and how it ended.
CREATE TABLE jobs (
    job_id UUID PRIMARY KEY,
    run_uuid UUID NOT NULL,
    case_name VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    platform VARCHAR NOT NULL,
    priority VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    attempt UINTEGER NOT NULL,
    worker_id VARCHAR NOT NULL,
    submitted_at TIMESTAMP NOT NULL,
    started_at TIMESTAMP NOT NULL,
    finished_at TIMESTAMP NOT NULL,
    timeout_ms UBIGINT NOT NULL,
    hardware_id BIGINT,
    result_id BIGINT,                    -- performance_results, if it measured
    test_result_id BIGINT,               -- integration_test_results, its first row, if it tested
    model_name VARCHAR,
    model_sha256 VARCHAR,
    backend VARCHAR,
    "precision" VARCHAR,
    batch_size UINTEGER,
    sequence_length UINTEGER,
    image_size UINTEGER,
    threads UINTEGER,
    exit_code INTEGER,
    tests_total UINTEGER,
    tests_failed UINTEGER,
    failure_type VARCHAR,
    failure_message VARCHAR,
    output_tail VARCHAR,
    suggestion VARCHAR,
    spec JSON NOT NULL,
    created_at TIMESTAMP DEFAULT current_timestamp
);

-- Attempts whose result was stored. An attempt that was given back to the queue leaves no result.
CREATE TABLE attempts (
    job_id UUID NOT NULL,
    attempt UINTEGER NOT NULL,
    worker_id VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    started_at TIMESTAMP NOT NULL,
    finished_at TIMESTAMP NOT NULL,
    created_at TIMESTAMP DEFAULT current_timestamp
);

-- What performance_results has no column for.
CREATE TABLE measurements (
    result_id BIGINT NOT NULL,
    job_id UUID NOT NULL,
    latency_mean_ms DOUBLE,
    latency_p50_ms DOUBLE,
    latency_p90_ms DOUBLE,
    latency_p99_ms DOUBLE,
    throughput_items_per_second DOUBLE,
    memory_peak_mb DOUBLE,
    power_w DOUBLE,
    load_ms DOUBLE,
    iterations UINTEGER NOT NULL,
    stop_reason VARCHAR NOT NULL,
    backend_version VARCHAR NOT NULL,
    costs_sha256 VARCHAR NOT NULL,       -- graph_costs
    accepted BOOLEAN NOT NULL,           -- whether predictors may learn from it
    rejection VARCHAR,                   -- why not
    created_at TIMESTAMP DEFAULT current_timestamp
);

-- Costs of a model's graph at one shape, keyed by the hash of `operators` and `parameters`.
CREATE TABLE graph_costs (
    costs_sha256 VARCHAR NOT NULL,
    parameters UBIGINT NOT NULL,
    macs UBIGINT NOT NULL,
    activation_elements UBIGINT NOT NULL,
    weight_elements UBIGINT NOT NULL,
    operator_count UBIGINT NOT NULL,
    operators JSON NOT NULL
);

CREATE TABLE predictions (
    job_id UUID NOT NULL,
    run_uuid UUID NOT NULL,
    release_id VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    value DOUBLE,
    lower DOUBLE,
    upper DOUBLE,
    created_at TIMESTAMP DEFAULT current_timestamp
);

-- Predictions whose job measured that metric.
CREATE TABLE prediction_errors (
    job_id UUID NOT NULL,
    run_uuid UUID NOT NULL,
    release_id VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    predicted DOUBLE,
    lower DOUBLE,
    upper DOUBLE,
    measured DOUBLE,
    error_pct DOUBLE,                    -- 100 (predicted - measured) / measured
    inside BOOLEAN,                      -- whether the interval held the truth
    created_at TIMESTAMP DEFAULT current_timestamp
);

CREATE TABLE releases (
    release_id VARCHAR NOT NULL,
    parent VARCHAR,
    created_at TIMESTAMP NOT NULL,
    training_rows UINTEGER NOT NULL,
    evaluation JSON NOT NULL
);

CREATE TABLE workers (
    worker_id VARCHAR NOT NULL,
    host VARCHAR NOT NULL,
    pid UINTEGER NOT NULL,
    version VARCHAR NOT NULL,
    started_at TIMESTAMP NOT NULL,
    last_seen_at TIMESTAMP NOT NULL,
    platforms JSON NOT NULL,
    concurrency UINTEGER NOT NULL,
    draining BOOLEAN NOT NULL,
    running JSON NOT NULL,
    jobs_done UBIGINT NOT NULL
);

CREATE TABLE stream_offsets (
    stream VARCHAR NOT NULL,
    next_offset UBIGINT NOT NULL,
    updated_at TIMESTAMP DEFAULT current_timestamp
);

-- Accepted measurements, encoded, that still have to be published and confirmed.
CREATE SEQUENCE outbox_id_seq;
CREATE TABLE outbox (
    id BIGINT NOT NULL DEFAULT nextval('outbox_id_seq'),
    message_type VARCHAR NOT NULL,
    schema_version USMALLINT NOT NULL,
    body BLOB NOT NULL,
    created_at TIMESTAMP DEFAULT current_timestamp
);
