-- What a run's jobs measure, as its announcement told, before any of them has begun.
CREATE TABLE run_configurations (
    run_uuid UUID NOT NULL,
    configuration VARCHAR NOT NULL
);
