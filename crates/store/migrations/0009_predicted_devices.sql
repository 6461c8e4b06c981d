-- Of which device something was predicted; another one's measurement is not held against it.
ALTER TABLE predictions ADD COLUMN device VARCHAR;          -- null in jobs from before that was said
