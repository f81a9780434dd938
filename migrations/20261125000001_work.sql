-- What training a trial on one image costs, for the schedule: Mult-Adds, and a price for each value of its activations.
-- Trials of before keep their Mult-Adds alone.

ALTER TABLE trials ADD COLUMN work INTEGER NOT NULL DEFAULT 0;
UPDATE trials SET work = mult_adds;
