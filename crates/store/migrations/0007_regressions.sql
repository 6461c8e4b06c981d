-- Complete runs, held against earlier measurements of the same configurations on the same devices. The result stream
-- determines them only together with the moment at which the aggregator looked.
CREATE TABLE run_judgements (
    run_uuid UUID NOT NULL,
    judged_at TIMESTAMP NOT NULL,
    done UINTEGER NOT NULL,              -- results of the run at that moment; it is judged again once there are more
    compared UINTEGER NOT NULL,          -- configurations that had been measured before
    undecided UINTEGER NOT NULL,         -- of these, with too few repeats to tell
    improvements UINTEGER NOT NULL,
    threshold_pct DOUBLE NOT NULL,       -- smallest difference that matters
    false_alarms DOUBLE NOT NULL         -- probability of any false alarm in the run
);

CREATE TABLE regressions (
    run_uuid UUID NOT NULL,
    configuration VARCHAR NOT NULL,      -- for people
    run_repeats UINTEGER NOT NULL,
    baseline_repeats UINTEGER NOT NULL,
    run_ms DOUBLE NOT NULL,              -- median over the repeats of their medians
    baseline_ms DOUBLE NOT NULL,
    difference_pct DOUBLE NOT NULL,      -- the estimated effect, in percent of the baseline
    lower_pct DOUBLE,                    -- its 95 % interval
    upper_pct DOUBLE,
    p DOUBLE NOT NULL,
    p_corrected DOUBLE NOT NULL
);
