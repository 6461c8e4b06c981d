-- Jobs that ran in a browser. What the browser did is in web_platform_results and webgpu_advanced_features.
ALTER TABLE jobs ADD COLUMN browser VARCHAR;                -- the browser that ran it, or the only one that might have
ALTER TABLE jobs ADD COLUMN web_result_id BIGINT;           -- web_platform_results, if a browser ended it

-- A measurement table has no column for a browser: it stands where a compiler stands, since its engine compiles both
-- WebAssembly and shaders, so that two browsers are two configurations to whatever learns from the table.
CREATE OR REPLACE VIEW measurement_table AS
SELECT j.model_name AS model, mo.model_family AS family, h.device_name AS device, j.platform, j.backend,
       m.backend_version, j.browser AS compiler, j."precision", NULL::VARCHAR AS layout,
       j.batch_size::DOUBLE AS batch_size, j.image_size::DOUBLE AS image_size,
       j.sequence_length::DOUBLE AS sequence_length, j.threads::DOUBLE AS threads,
       nullif(g.parameters, 0) / 1e6 AS params_m, nullif(g.macs, 0) / 1e9 / j.batch_size AS gmacs,
       -- What graph_costs counts is read and written, which is more than a table's activations.
       NULL::DOUBLE AS activations_m,
       m.latency_p50_ms AS latency_ms, m.throughput_items_per_second, m.memory_peak_mb, m.power_w, m.result_id
FROM measurements m
JOIN jobs j ON j.job_id = m.job_id
JOIN hardware_platforms h ON h.hardware_id = j.hardware_id
LEFT JOIN models mo ON mo.model_name = j.model_name AND mo.version = j.model_sha256
LEFT JOIN graph_costs g ON g.costs_sha256 = m.costs_sha256
WHERE m.accepted
UNION ALL BY NAME
SELECT mo.model_name AS model, mo.model_family AS family, h.device_name AS device, h.hardware_type AS platform,
       p.batch_size::DOUBLE AS batch_size, p."precision", mo.parameters_million AS params_m,
       p.average_latency_ms AS latency_ms, p.throughput_items_per_second, p.memory_peak_mb, p.result_id
FROM performance_results p
LEFT JOIN models mo ON mo.model_id = p.model_id
LEFT JOIN hardware_platforms h ON h.hardware_id = p.hardware_id
WHERE p.result_id NOT IN (SELECT result_id FROM measurements)
UNION ALL BY NAME
SELECT * EXCLUDE (configuration_sha256, row_sha256, source, imported_at) FROM imported_measurements;
