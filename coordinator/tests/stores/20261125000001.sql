BEGIN;
CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO "_sqlx_migrations" VALUES (20261123000001, 'store', '2026-11-24 01:37:32', 1, X'B334BE90D544884D658263D859F7BE4CFCF67FD9A0FDADFDECD66A699958C47854BD6D19A03C0FE2CB8D874FA04D981D', 1175734);
INSERT INTO "_sqlx_migrations" VALUES (20261124000001, 'asked limit', '2026-11-24 01:37:32', 1, X'52B9D055A76C4922067CE4F4FB1E139A3AD38CF998F1424B6D5E0BC5CA00EEAA458BFFCD37AEE2D7F4C8CDAB1C9BCD69', 735137);
INSERT INTO "_sqlx_migrations" VALUES (20261124000002, 'replicas', '2026-11-24 01:37:32', 1, X'93E0E385F5E3D38C7E6C504081A570BD8C8431D7656203550AFC63DB74897C1CB84720D511443115168D8C98E44B717F', 1168973);
INSERT INTO "_sqlx_migrations" VALUES (20261124000011, 'epoch values', '2026-11-24 01:37:32', 1, X'E754E608A3716E9256416014679738EFE8006D0AA4E34B074FE66A09F1DFA89F12B65C51C04408F7060261EB9483DB09', 759994);
INSERT INTO "_sqlx_migrations" VALUES (20261124000021, 'access', '2026-11-24 01:37:32', 1, X'58F7CCAF6839CA0C00745030858BF175C432017A13D6CE32B5044AB785B0310A63E0D3208B58F09FF6F0BCF16B1C5637', 607115);
INSERT INTO "_sqlx_migrations" VALUES (20261124000031, 'streams', '2026-11-24 01:37:32', 1, X'61EF790296F73EAF88472B7E1447441FB9BE07B2E61CACA201A4FB886092D451176F62A14FE8445CDBC5D5AB0463FB53', 647796);
INSERT INTO "_sqlx_migrations" VALUES (20261125000001, 'work', '2026-11-24 01:37:32', 1, X'4C292FC45DB8BAA5F7F88DB8E42A07C67D44F49D02FF510B3A7011C18A46B8A39F10B7161BAE94F8C97EB0E8552F080D', 639153);
CREATE TABLE store (
    id              TEXT PRIMARY KEY
, exchange_key BLOB) STRICT;
INSERT INTO "store" VALUES ('195f45c46bebd7d51cebf319c1519b33', X'B4CF78A0285E7629B830B38021BCEC514B6A1B4BC1F327E381705D6395A7791B');
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
, asked_limit_json TEXT) STRICT;
INSERT INTO "sweeps" VALUES ('old', '', 'sweep.yaml', 'name: old
parameters:
  alpha: {values: [1.0, 0.5]}
  resolution: {values: [128]}
data: {format: image_folder, train: photos, validation: {fraction: 0.25}, classes: 10}
training: {epochs: 2}
resources: {packing: {max_trials_per_slot: 1}}
', '{"name":"old","description":"","method":"grid","metrics":[{"name":"val_top1","goal":"maximize"},{"name":"mult_adds","goal":"minimize"}],"network":"mobilenet","parameters":{"alpha":{"values":[1.0,0.5]},"resolution":{"values":[128]}},"seeds":[1],"data":{"format":"image_folder","train":"photos","validation":{"fraction":0.25},"classes":10,"seed":1,"broken_images_max":10,"crop":{"area":[0.25,1.0],"aspect":[0.75,1.333]},"flip":true,"color":{"brightness":0.125,"saturation":[0.5,1.5]},"evaluation_crop":0.875},"training":{"epochs":2,"batch_size":32,"optimizer":{"name":"rmsprop","decay":0.9,"momentum":0.9,"epsilon":1.0},"learning_rate":0.045,"schedule":{"name":"exponential","decay":0.94,"every_epochs":2.0,"warmup_epochs":0.0},"weight_decay":0.00004,"weight_decay_depthwise":0.0,"gradient_clip_norm":"none","dropout":0.001,"label_smoothing":0.0,"weight_ema":"none","activation":"relu6","batch_norm":{"epsilon":0.001,"decay":"auto","reestimate_batches":0},"init_std":0.09,"precision":"f32","replicas":1},"resources":{"slots":1,"priority":50,"packing":{"max_trials_per_slot":1}},"max_concurrent_trials":"none","max_restarts":5,"max_losses":100,"checkpoint":{"every_epochs":1,"every_minutes":10.0,"keep":["best","latest"]}}', '60259d01ec8fac6e73d66049ec596f2c', '{"priority":50,"max_concurrent_trials":null,"max_restarts":5,"max_losses":100,"max_trials_per_slot":1}', 0, 0, 1795484252100, NULL);
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
    ended_ms        INTEGER, replicas_min INTEGER NOT NULL DEFAULT 1, replicas_max INTEGER NOT NULL DEFAULT 1, replicas_started INTEGER NOT NULL DEFAULT 0, chief_address TEXT, best_json TEXT, last_json TEXT, stream INTEGER, work INTEGER NOT NULL DEFAULT 0,
    UNIQUE (sweep, key)
) STRICT;
INSERT INTO "trials" VALUES (1, 'old', '4f096cbbd7916ad493c58201b573f0de', 1, 1.0, 128, 1, '{"alpha":1,"resolution":128}', '{"key":"4f096cbbd7916ad493c58201b573f0de","parameters":{"alpha":1,"resolution":128},"network":"mobilenet","alpha":1.0,"resolution":128,"seed":1,"data":{"format":"image_folder","train":"photos","validation":{"fraction":0.25},"classes":10,"seed":1,"broken_images_max":10,"crop":{"area":[0.25,1.0],"aspect":[0.75,1.333]},"flip":true,"color":{"brightness":0.125,"saturation":[0.5,1.5]},"evaluation_crop":0.875},"training":{"epochs":2,"batch_size":32,"optimizer":{"name":"rmsprop","decay":0.9,"momentum":0.9,"epsilon":1.0},"learning_rate":0.045,"schedule":{"name":"exponential","decay":0.94,"every_epochs":2.0,"warmup_epochs":0.0},"weight_decay":0.00004,"weight_decay_depthwise":0.0,"gradient_clip_norm":"none","dropout":0.001,"label_smoothing":0.0,"weight_ema":"none","activation":"relu6","batch_norm":{"epsilon":0.001,"decay":"auto","reestimate_batches":0},"init_std":0.09,"precision":"f32","replicas":1},"checkpoint":{"every_epochs":1,"every_minutes":10.0,"keep":["best","latest"]},"best":{"name":"val_top1","goal":"maximize"}}', 185387008, 3217226, 2, 'completed', '{"state":"completed"}', 1, 0, 0, 2, 1, 3000, 1795484252102, 1795484252115, 1, 1, 0, NULL, '{"images_per_second":100.0,"val_top1":0.75}', '{"images_per_second":100.0,"val_top1":0.75}', -796209598772815534, 284306008);
INSERT INTO "trials" VALUES (2, 'old', '6056d29005daf2c8d5bd7a92e792da6d', 2, 0.5, 128, 1, '{"alpha":0.5,"resolution":128}', '{"key":"6056d29005daf2c8d5bd7a92e792da6d","parameters":{"alpha":0.5,"resolution":128},"network":"mobilenet","alpha":0.5,"resolution":128,"seed":1,"data":{"format":"image_folder","train":"photos","validation":{"fraction":0.25},"classes":10,"seed":1,"broken_images_max":10,"crop":{"area":[0.25,1.0],"aspect":[0.75,1.333]},"flip":true,"color":{"brightness":0.125,"saturation":[0.5,1.5]},"evaluation_crop":0.875},"training":{"epochs":2,"batch_size":32,"optimizer":{"name":"rmsprop","decay":0.9,"momentum":0.9,"epsilon":1.0},"learning_rate":0.045,"schedule":{"name":"exponential","decay":0.94,"every_epochs":2.0,"warmup_epochs":0.0},"weight_decay":0.00004,"weight_decay_depthwise":0.0,"gradient_clip_norm":"none","dropout":0.001,"label_smoothing":0.0,"weight_ema":"none","activation":"relu6","batch_norm":{"epsilon":0.001,"decay":"auto","reestimate_batches":0},"init_std":0.09,"precision":"f32","replicas":1},"checkpoint":{"every_epochs":1,"every_minutes":10.0,"keep":["best","latest"]},"best":{"name":"val_top1","goal":"maximize"}}', 48653312, 823722, 2, 'running', '{"state":"running","attempt":1,"slot":{"worker":1,"index":0},"stopping":null}', 1, 0, 0, 1, 1, 1500, 1795484252115, NULL, 1, 1, 0, NULL, '{"images_per_second":100.0,"val_top1":0.75}', '{"images_per_second":100.0,"val_top1":0.75}', -796209598772815534, 98113112);
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
INSERT INTO "attempts" VALUES (1, 1, '0000000000000001', 0, 'host1', 'cpu', NULL, NULL, NULL, NULL, 1795484252102, 1795484252115, '{"end":"completed"}');
INSERT INTO "attempts" VALUES (2, 1, '0000000000000001', 0, 'host1', 'cpu', NULL, NULL, NULL, NULL, 1795484252115, NULL, NULL);
CREATE TABLE metrics (
    trial           INTEGER NOT NULL,
    name            TEXT NOT NULL,
    step            INTEGER NOT NULL,
    attempt         INTEGER NOT NULL,
    value           REAL NOT NULL,
    PRIMARY KEY (trial, name, step, attempt)
) STRICT, WITHOUT ROWID;
INSERT INTO "metrics" VALUES (1, 'images_per_second', 1, 1, 100.0);
INSERT INTO "metrics" VALUES (1, 'images_per_second', 2, 1, 100.0);
INSERT INTO "metrics" VALUES (1, 'val_top1', 1, 1, 0.75);
INSERT INTO "metrics" VALUES (1, 'val_top1', 2, 1, 0.75);
INSERT INTO "metrics" VALUES (2, 'images_per_second', 1, 1, 100.0);
INSERT INTO "metrics" VALUES (2, 'val_top1', 1, 1, 0.75);
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
INSERT INTO "checkpoints" VALUES (1, 1, 1, 1, 10, 7, '9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c', 'old/trial-1/epoch-0001-step-000010-9a129038.safetensors', 1, 1, 1795484252109);
INSERT INTO "checkpoints" VALUES (3, 2, 1, 1, 10, 7, '9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c', 'old/trial-2/epoch-0001-step-000010-9a129038.safetensors', 1, 1, 1795484252119);
CREATE TABLE events (
    sequence        INTEGER PRIMARY KEY AUTOINCREMENT,
    time_ms         INTEGER NOT NULL,
    sweep           TEXT NOT NULL,              -- empty: of no sweep
    trial           INTEGER,
    json            TEXT NOT NULL               -- sweeps::event::Happening
) STRICT;
INSERT INTO "events" VALUES (1, 1795484252100, 'old', NULL, '{"kind":"sweep_submitted","trials":2,"trials_new":2}');
INSERT INTO "events" VALUES (2, 1795484252102, '', NULL, '{"kind":"worker_joined","worker":1,"host":"host1","devices":["cpu"]}');
INSERT INTO "events" VALUES (3, 1795484252102, 'old', 1, '{"kind":"trial_changed","state":{"state":"running","attempt":1,"slot":{"worker":1,"index":0},"stopping":null}}');
INSERT INTO "events" VALUES (4, 1795484252102, 'old', 1, '{"kind":"attempt_started","attempt":1,"worker":1,"host":"host1","device":"cpu"}');
INSERT INTO "events" VALUES (5, 1795484252106, 'old', 1, '{"kind":"epoch_finished","attempt":1,"epoch":1,"points":[{"name":"val_top1","step":1,"value":0.75},{"name":"images_per_second","step":1,"value":100.0}]}');
INSERT INTO "events" VALUES (6, 1795484252109, 'old', 1, '{"kind":"checkpoint_saved","attempt":1,"epoch":1,"bytes":7,"best":true}');
INSERT INTO "events" VALUES (7, 1795484252111, 'old', 1, '{"kind":"epoch_finished","attempt":1,"epoch":2,"points":[{"name":"val_top1","step":2,"value":0.75},{"name":"images_per_second","step":2,"value":100.0}]}');
INSERT INTO "events" VALUES (8, 1795484252115, 'old', 1, '{"kind":"trial_changed","state":{"state":"completed"}}');
INSERT INTO "events" VALUES (9, 1795484252115, 'old', 2, '{"kind":"trial_changed","state":{"state":"running","attempt":1,"slot":{"worker":1,"index":0},"stopping":null}}');
INSERT INTO "events" VALUES (10, 1795484252115, 'old', 1, '{"kind":"attempt_ended","attempt":1,"end":"completed"}');
INSERT INTO "events" VALUES (11, 1795484252115, 'old', 2, '{"kind":"attempt_started","attempt":1,"worker":1,"host":"host1","device":"cpu"}');
INSERT INTO "events" VALUES (12, 1795484252116, 'old', 2, '{"kind":"epoch_finished","attempt":1,"epoch":1,"points":[{"name":"val_top1","step":1,"value":0.75},{"name":"images_per_second","step":1,"value":100.0}]}');
INSERT INTO "events" VALUES (13, 1795484252119, 'old', 2, '{"kind":"checkpoint_saved","attempt":1,"epoch":1,"bytes":7,"best":true}');
CREATE TABLE logs (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    trial           INTEGER NOT NULL,
    attempt         INTEGER NOT NULL,
    time_ms         INTEGER NOT NULL,
    text            TEXT NOT NULL
) STRICT;
CREATE TABLE tokens (
    id              TEXT PRIMARY KEY,           -- 16 hexadecimal digits, shown with the secret
    name            TEXT NOT NULL,              -- of a person or a machine; the same as in its certificate
    role            TEXT NOT NULL,              -- admin, submit, worker, read
    hash            BLOB NOT NULL,              -- SHA-256 of the secret
    created_ms      INTEGER NOT NULL,
    ends_ms         INTEGER                     -- replaced: not good from then on
) STRICT;
CREATE TABLE worker_owners (
    worker          TEXT PRIMARY KEY,           -- 16 hexadecimal digits
    name            TEXT NOT NULL,
    seen_ms         INTEGER NOT NULL            -- registered last
) STRICT, WITHOUT ROWID;
CREATE INDEX trials_by_state ON trials (sweep, state);
CREATE VIEW newest_metrics AS
SELECT trial, name, step, attempt, value
FROM metrics AS m
WHERE attempt = (SELECT max(attempt) FROM metrics WHERE trial = m.trial AND name = m.name AND step = m.step);
CREATE INDEX events_by_sweep ON events (sweep, sequence);
CREATE INDEX logs_by_trial ON logs (trial, id);
DELETE FROM sqlite_sequence;
INSERT INTO "sqlite_sequence" VALUES ('trials', 2);
INSERT INTO "sqlite_sequence" VALUES ('events', 13);
INSERT INTO "sqlite_sequence" VALUES ('checkpoints', 3);
COMMIT;
