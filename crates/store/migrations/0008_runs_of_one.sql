-- Who cancels the only job of a run cancels the run.
ALTER TABLE runs ADD COLUMN only_job UUID;                  -- its job, if the run has one only and was announced
