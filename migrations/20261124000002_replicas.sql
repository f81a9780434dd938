-- Several replicas train one trial. Which ones do now is not kept: it is learnt again from the workers.

ALTER TABLE trials ADD COLUMN replicas_min INTEGER NOT NULL DEFAULT 1;
ALTER TABLE trials ADD COLUMN replicas_max INTEGER NOT NULL DEFAULT 1;
-- That ever joined it, over all attempts: no number is given twice.
ALTER TABLE trials ADD COLUMN replicas_started INTEGER NOT NULL DEFAULT 0;
-- While it runs: where the chief of its current attempt listens.
ALTER TABLE trials ADD COLUMN chief_address TEXT;

-- 32 bytes, drawn when the store is opened for the first time: makes the secrets that replicas of an attempt share.
-- In no export.
ALTER TABLE store ADD COLUMN exchange_key BLOB;
