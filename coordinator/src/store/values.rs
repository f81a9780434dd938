//! The values of a trial's best and last epochs: kept in its row, in the transaction that takes the epoch, so that a
//! sweep's status needs no look at its metrics.

use super::read::epoch_metrics_json;
use super::{Store, StoreError, rows, signed};
use sqlx::SqliteConnection;
use std::collections::BTreeMap;
use sweeps::ids::TrialId;
use sweeps::metrics::Goal;

/// By metric's name.
type Values = BTreeMap<String, f64>;

/// Trials whose best epoch is to be found anew, by which metric.
pub(crate) type Best = BTreeMap<TrialId, (String, Goal)>;

const OF_BEST_AND_LAST: &str = "
    SELECT t.id, m.name, m.value, m.step = t.best_epoch, m.step = t.epochs_done FROM trials AS t
    JOIN newest_metrics AS m ON m.trial = t.id AND m.step IN (t.best_epoch, t.epochs_done)
         AND m.name IN (SELECT value FROM json_each(?2))
    WHERE t.id IN (SELECT value FROM json_each(?1))";
const BEST_EPOCH_MAXIMIZE: &str = "UPDATE trials SET best_epoch = coalesce(
    (SELECT step FROM newest_metrics WHERE trial = column1 AND name = column2 ORDER BY value DESC, step LIMIT 1), 0)
    FROM (";
const BEST_EPOCH_MINIMIZE: &str = "UPDATE trials SET best_epoch = coalesce(
    (SELECT step FROM newest_metrics WHERE trial = column1 AND name = column2 ORDER BY value, step LIMIT 1), 0)
    FROM (";

/// Finds the best epochs, and puts them and the values of the best and last epochs into the trials' rows.
pub(super) async fn put(connection: &mut SqliteConnection, best: &Best) -> Result<(), sqlx::Error> {
    for (before, goal) in [(BEST_EPOCH_MAXIMIZE, Goal::Maximize), (BEST_EPOCH_MINIMIZE, Goal::Minimize)] {
        let rows: Vec<_> = best.iter().filter(|(_, of)| of.1 == goal).map(|(trial, of)| (trial, &of.0)).collect();
        rows::put(connection, before, &rows, ") WHERE id = column1", |mut values, (trial, metric)| {
            values.push_bind(signed(trial.0)).push_bind(metric.as_str());
        })
        .await?;
    }
    put_values(connection, &best.keys().map(|trial| signed(trial.0)).collect::<Vec<_>>()).await
}

/// Looks up the values of those trials' best and last epochs, and puts them into their rows.
async fn put_values(connection: &mut SqliteConnection, trials: &[i64]) -> Result<(), sqlx::Error> {
    if trials.is_empty() {
        return Ok(());
    }
    let query = sqlx::query_as::<_, (i64, String, f64, bool, bool)>(OF_BEST_AND_LAST);
    let query = query.bind(proto::convert::to_json(&trials)).bind(epoch_metrics_json());
    let found = query.fetch_all(&mut *connection).await?;
    let mut of_trials: BTreeMap<i64, (Values, Values)> =
        trials.iter().map(|trial| (*trial, Default::default())).collect();
    for (trial, name, value, is_best, is_last) in found {
        let (best, last) = of_trials.entry(trial).or_default();
        if is_best {
            best.insert(name.clone(), value);
        }
        if is_last {
            last.insert(name, value);
        }
    }
    let of_trials: Vec<(i64, (Values, Values))> = of_trials.into_iter().collect();
    let before = "UPDATE trials SET best_json = column2, last_json = column3 FROM (";
    rows::put(connection, before, &of_trials, ") WHERE id = column1", |mut values, (trial, (best, last))| {
        values.push_bind(*trial).push_bind(proto::convert::to_json(best)).push_bind(proto::convert::to_json(last));
    })
    .await
}

/// As they stand in a row; only those named, if any are.
pub(super) fn read(json: Option<&str>, names: &[String]) -> Values {
    // Written by us: what cannot be read is not there.
    let mut values: Values = json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    if !names.is_empty() {
        values.retain(|name, _| names.contains(name));
    }
    values
}

impl Store {
    /// Of trials whose rows a version before this one has written.
    pub(super) async fn fill_in_values(&mut self) -> Result<(), StoreError> {
        let problem = "filling in values of epochs";
        let query = sqlx::query_scalar::<_, i64>("SELECT id FROM trials WHERE best_json IS NULL AND epochs_done > 0");
        let trials = query.fetch_all(self.connection().await?).await.map_err(self.error(problem))?;
        if trials.is_empty() {
            return Ok(());
        }
        let filled = async {
            let connection = self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)?;
            sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
            put_values(connection, &trials).await?;
            sqlx::query("COMMIT").execute(connection).await.map(drop)
        };
        filled.await.map_err(self.error(problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::{Executor, Row};

    #[tokio::test]
    async fn rows_of_an_older_version_are_filled_in() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("a.db")).await.unwrap();
        let connection = store.connection().await.unwrap();
        let sweep = "INSERT INTO sweeps (name, description, file_name, yaml, spec_json, fingerprint, limits_json, scripted, submitted_ms)
                     VALUES ('s', '', '', '', '{}', '', '{}', 0, 0)";
        connection.execute(sweep).await.unwrap();
        for (id, best_epoch, epochs_done) in [(1, 2, 3), (2, 0, 0), (3, 1, 1)] {
            let trial = format!(
                "INSERT INTO trials (id, sweep, key, number, alpha, resolution, seed, parameters_json, settings_json,
                 mult_adds, params, epochs, state, state_json, best_epoch, epochs_done)
                 VALUES ({id}, 's', '{id}', {id}, 1, 128, 1, '{{}}', '{{}}', 1, 1, 3, 'pending', '{{}}', {best_epoch}, {epochs_done})"
            );
            connection.execute(sqlx::AssertSqlSafe(trial)).await.unwrap();
        }
        // The newest attempt counts; a value that decimals do not write exactly comes back as it went; a value of a
        // step is not one of an epoch.
        let points = "INSERT INTO metrics (trial, name, step, attempt, value) VALUES
            (1, 'val_top1', 2, 1, 0.5), (1, 'val_top1', 2, 2, 0.30000000000000004), (1, 'val_top1', 3, 1, 0.25),
            (1, 'val_loss', 3, 1, 1.5), (1, 'step_loss', 3, 1, 9.0), (3, 'val_top1', 1, 1, 0.75)";
        connection.execute(points).await.unwrap();
        store.fill_in_values().await.unwrap();
        let rows = sqlx::query("SELECT best_json, last_json FROM trials ORDER BY id");
        let rows = rows.fetch_all(store.connection().await.unwrap()).await.unwrap();
        let found: Vec<(Option<String>, Option<String>)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let json = |text: &str| Some(text.to_owned());
        assert_eq!(
            found,
            [
                (json(r#"{"val_top1":0.30000000000000004}"#), json(r#"{"val_loss":1.5,"val_top1":0.25}"#)),
                (None, None),
                (json(r#"{"val_top1":0.75}"#), json(r#"{"val_top1":0.75}"#)),
            ]
        );
        let names = ["val_top1".to_owned()];
        assert_eq!(read(found[0].1.as_deref(), &names), Values::from([("val_top1".to_owned(), 0.25)]));
        assert_eq!(read(found[0].0.as_deref(), &[])["val_top1"].to_bits(), 0.300_000_000_000_000_04_f64.to_bits());
        assert_eq!(read(None, &[]), Values::new());
    }
}
