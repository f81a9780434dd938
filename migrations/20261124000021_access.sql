-- Who may do what. Of a token only the hash of its secret is kept; that has 256 random bits, so it cannot be guessed and
-- needs neither salt nor a slow hash.

CREATE TABLE tokens (
    id              TEXT PRIMARY KEY,           -- 16 hexadecimal digits, shown with the secret
    name            TEXT NOT NULL,              -- of a person or a machine; the same as in its certificate
    role            TEXT NOT NULL,              -- admin, submit, worker, read
    hash            BLOB NOT NULL,              -- SHA-256 of the secret
    created_ms      INTEGER NOT NULL,
    ends_ms         INTEGER                     -- replaced: not good from then on
) STRICT;

-- Whose a worker is: by the name that registered it first. Nobody else may speak for it.
CREATE TABLE worker_owners (
    worker          TEXT PRIMARY KEY,           -- 16 hexadecimal digits
    name            TEXT NOT NULL,
    seen_ms         INTEGER NOT NULL            -- registered last
) STRICT, WITHOUT ROWID;
