-- Values of a trial's best and last epochs, so that a sweep's status is one look at its trials. NULL in rows that are
-- older: filled in by the next start.
ALTER TABLE trials ADD COLUMN best_json TEXT; -- by metric's name: values at best_epoch
ALTER TABLE trials ADD COLUMN last_json TEXT; -- by metric's name: values at epochs_done
