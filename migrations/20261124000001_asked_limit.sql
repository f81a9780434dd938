-- The limit that a person has asked for while a sweep runs, in place of its file's max_concurrent_trials.
ALTER TABLE sweeps ADD COLUMN asked_limit_json TEXT; -- sweeps::scheduler::AskedLimit; NULL: the file's limit holds
