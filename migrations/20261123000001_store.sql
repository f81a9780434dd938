-- The store. One writer: the coordinator. Times are Unix milliseconds unless a name says otherwise.

-- Tells stores apart: an artifacts folder knows whose it is.
CREATE TABLE store (
    id              TEXT PRIMARY KEY
) STRICT;
INSERT INTO store (id) VALUES (lower(hex(randomblob(16))));

CREATE TABLE sweeps (
    name            TEXT PRIMARY KEY,
    description     TEXT NOT NULL,
    file_name       TEXT NOT NULL,
    yaml            TEXT NOT NULL,              -- as submitted last
    spec_json       TEXT NOT NULL,              -- resolved
    fingerprint     TEXT NOT NULL,              -- of all that must not change under this name
    limits_json     TEXT NOT NULL,              -- sweeps::scheduler::SweepLimits
    scripted        INTEGER NOT NULL,           -- 1: its numbers are made up by the scripted trainer
    paused          INTEGER NOT NULL DEFAULT 0,
    submitted_ms    INTEGER NOT NULL
) STRICT;

CREATE TABLE trials (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    sweep           TEXT NOT NULL REFERENCES sweeps (name),
    key             TEXT NOT NULL,              -- hash of resolved parameters and the data's fingerprint
    number          INTEGER NOT NULL,           -- place in the sweep, from 1
    alpha           REAL NOT NULL,
    resolution      INTEGER NOT NULL,
    seed            INTEGER NOT NULL,
    parameters_json TEXT NOT NULL,
    settings_json   TEXT NOT NULL,              -- sweeps::trial::Trial
    mult_adds       INTEGER NOT NULL,
    params          INTEGER NOT NULL,
    epochs          INTEGER NOT NULL,
    state           TEXT NOT NULL,              -- the word
    state_json      TEXT NOT NULL,              -- sweeps::scheduler::TrialState
    attempts        INTEGER NOT NULL DEFAULT 0,
    restarts        INTEGER NOT NULL DEFAULT 0,
    losses          INTEGER NOT NULL DEFAULT 0,
    epochs_done     INTEGER NOT NULL DEFAULT 0,
    best_epoch      INTEGER NOT NULL DEFAULT 0, -- by the sweep's first metric; 0: none yet
    train_ms        INTEGER NOT NULL DEFAULT 0, -- spent in epochs, over all attempts
    started_ms      INTEGER,
    ended_ms        INTEGER,
    UNIQUE (sweep, key)
) STRICT;
CREATE INDEX trials_by_state ON trials (sweep, state);

CREATE TABLE attempts (
    trial           INTEGER NOT NULL REFERENCES trials (id),
    attempt         INTEGER NOT NULL,           -- from 1
    worker          TEXT NOT NULL,              -- 16 hexadecimal digits
    slot            INTEGER NOT NULL,
    host            TEXT NOT NULL,
    device          TEXT NOT NULL,
    threads         INTEGER,                    -- what follows is known once the trainer runs
    instruction_set TEXT,
    libtorch        TEXT,
    resumed_epoch   INTEGER,
    started_ms      INTEGER NOT NULL,
    ended_ms        INTEGER,
    end_json        TEXT,                       -- sweeps::scheduler::AttemptEnd
    PRIMARY KEY (trial, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE metrics (
    trial           INTEGER NOT NULL,
    name            TEXT NOT NULL,
    step            INTEGER NOT NULL,
    attempt         INTEGER NOT NULL,
    value           REAL NOT NULL,
    PRIMARY KEY (trial, name, step, attempt)
) STRICT, WITHOUT ROWID;

-- The newest attempt for each step: resuming never doubles a point.
CREATE VIEW newest_metrics AS
SELECT trial, name, step, attempt, value
FROM metrics AS m
WHERE attempt = (SELECT max(attempt) FROM metrics WHERE trial = m.trial AND name = m.name AND step = m.step);

CREATE TABLE checkpoints (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    trial           INTEGER NOT NULL REFERENCES trials (id),
    attempt         INTEGER NOT NULL,
    epoch           INTEGER NOT NULL,
    step            INTEGER NOT NULL,
    bytes           INTEGER NOT NULL,
    sha256          TEXT NOT NULL,
    file            TEXT NOT NULL,              -- below the artifacts folder
    best            INTEGER NOT NULL,
    latest          INTEGER NOT NULL,
    saved_ms        INTEGER NOT NULL,
    UNIQUE (trial, sha256)                      -- sent twice, kept once
) STRICT;

CREATE TABLE events (
    sequence        INTEGER PRIMARY KEY AUTOINCREMENT,
    time_ms         INTEGER NOT NULL,
    sweep           TEXT NOT NULL,              -- empty: of no sweep
    trial           INTEGER,
    json            TEXT NOT NULL               -- sweeps::event::Happening
) STRICT;
CREATE INDEX events_by_sweep ON events (sweep, sequence);

CREATE TABLE logs (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    trial           INTEGER NOT NULL,
    attempt         INTEGER NOT NULL,
    time_ms         INTEGER NOT NULL,
    text            TEXT NOT NULL
) STRICT;
CREATE INDEX logs_by_trial ON logs (trial, id);
