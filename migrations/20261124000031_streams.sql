-- Which stream of images a trial reads: trials of one sweep and one stream can train side by side on one slot. Trials
-- of before have none, and train alone.

ALTER TABLE trials ADD COLUMN stream INTEGER;
