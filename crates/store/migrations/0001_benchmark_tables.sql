-- The benchmark schema that existed before Augur: these tables and columns keep their names.
-- The sequences are created by migrations.rs before this file runs, because each must start after the keys that an
-- older file already holds. No foreign keys and no primary keys here: DuckDB refuses to alter a table that others
-- refer to, and keys come from sequences in the one process that may write.

CREATE TABLE hardware_platforms (
    hardware_id BIGINT DEFAULT nextval('hardware_id_seq'),
    hardware_type VARCHAR,
    device_name VARCHAR,
    platform VARCHAR,
    platform_version VARCHAR,
    driver_version VARCHAR,
    memory_gb DOUBLE,
    compute_units INTEGER,
    created_at TIMESTAMP DEFAULT current_timestamp,
    metadata JSON
);

CREATE TABLE models (
    model_id BIGINT DEFAULT nextval('model_id_seq'),
    model_name VARCHAR,
    model_family VARCHAR,
    modality VARCHAR,
    source VARCHAR,
    version VARCHAR,
    parameters_million DOUBLE,
    created_at TIMESTAMP DEFAULT current_timestamp,
    metadata JSON
);

CREATE TABLE test_runs (
    run_id BIGINT DEFAULT nextval('run_id_seq'),
    test_name VARCHAR,
    test_type VARCHAR,
    started_at TIMESTAMP,
    completed_at TIMESTAMP,
    execution_time_seconds DOUBLE,
    success BOOLEAN,
    git_commit VARCHAR,
    git_branch VARCHAR,
    command_line VARCHAR,
    created_at TIMESTAMP DEFAULT current_timestamp,
    metadata JSON
);

CREATE TABLE performance_results (
    result_id BIGINT DEFAULT nextval('result_id_seq'),
    run_id BIGINT,
    model_id BIGINT,
    hardware_id BIGINT,
    test_case VARCHAR,
    batch_size INTEGER,
    "precision" VARCHAR,
    total_time_seconds DOUBLE,
    average_latency_ms DOUBLE,
    throughput_items_per_second DOUBLE,
    memory_peak_mb DOUBLE,
    iterations INTEGER,
    warmup_iterations INTEGER,
    created_at TIMESTAMP DEFAULT current_timestamp,
    metadata JSON
);

CREATE TABLE performance_batch_results (
    batch_id BIGINT DEFAULT nextval('batch_id_seq'),
    result_id BIGINT,
    batch_index INTEGER,
    batch_size INTEGER,
    latency_ms DOUBLE,
    memory_usage_mb DOUBLE,
    created_at TIMESTAMP DEFAULT current_timestamp,
    metadata JSON
);

CREATE TABLE hardware_compatibility (
    compatibility_id BIGINT DEFAULT nextval('compatibility_id_seq'),
    run_id BIGINT,
    model_id BIGINT,
    hardware_id BIGINT,
    is_compatible BOOLEAN,
    detection_success BOOLEAN,
    initialization_success BOOLEAN,
    error_message VARCHAR,
    error_type VARCHAR,
    suggested_fix VARCHAR,
    workaround_available BOOLEAN,
    compatibility_score DOUBLE,
    created_at TIMESTAMP DEFAULT current_timestamp,
    metadata JSON
);

CREATE TABLE integration_test_results (
    test_result_id BIGINT DEFAULT nextval('test_result_id_seq'),
    run_id BIGINT,
    test_module VARCHAR,
    test_class VARCHAR,
    test_name VARCHAR,
    status VARCHAR,
    execution_time_seconds DOUBLE,
    hardware_id BIGINT,
    model_id BIGINT,
    error_message VARCHAR,
    error_traceback VARCHAR,
    created_at TIMESTAMP DEFAULT current_timestamp,
    metadata JSON
);

CREATE TABLE integration_test_assertions (
    assertion_id BIGINT DEFAULT nextval('assertion_id_seq'),
    test_result_id BIGINT,
    assertion_name VARCHAR,
    passed BOOLEAN,
    expected_value VARCHAR,
    actual_value VARCHAR,
    message VARCHAR,
    created_at TIMESTAMP DEFAULT current_timestamp,
    metadata JSON
);

CREATE TABLE web_platform_results (
    result_id BIGINT DEFAULT nextval('web_result_id_seq'),
    run_id BIGINT,
    model_id BIGINT,
    hardware_id BIGINT,
    platform VARCHAR,
    browser VARCHAR,
    browser_version VARCHAR,
    test_file VARCHAR,
    success BOOLEAN,
    load_time_ms DOUBLE,
    initialization_time_ms DOUBLE,
    inference_time_ms DOUBLE,
    total_time_ms DOUBLE,
    shader_compilation_time_ms DOUBLE,
    memory_usage_mb DOUBLE,
    error_message VARCHAR,
    created_at TIMESTAMP DEFAULT current_timestamp,
    metadata JSON
);

CREATE TABLE webgpu_advanced_features (
    feature_id BIGINT DEFAULT nextval('feature_id_seq'),
    result_id BIGINT,
    compute_shader_support BOOLEAN,
    parallel_compilation BOOLEAN,
    shader_cache_hit BOOLEAN,
    workgroup_size INTEGER,
    compute_pipeline_time_ms DOUBLE,
    pre_compiled_pipeline BOOLEAN,
    memory_optimization_level VARCHAR,
    audio_acceleration BOOLEAN,
    video_acceleration BOOLEAN,
    created_at TIMESTAMP DEFAULT current_timestamp,
    metadata JSON
);
