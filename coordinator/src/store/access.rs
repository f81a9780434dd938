//! Tokens and owners of workers.

use super::{Store, StoreError};
use crate::clock::unix_ms;
use crate::tokens::{TokenRow, Tokens};
use sqlx::{Row, SqliteConnection};
use std::collections::BTreeMap;
use std::sync::Arc;
use sweeps::ids::WorkerId;

/// Owners of workers that have not registered for so long are forgotten.
const OWNER_DAYS: i64 = 90;

impl Store {
    /// Those that are good; those that have ended are dropped.
    pub(crate) async fn tokens(&mut self) -> Result<Tokens, StoreError> {
        let query = sqlx::query("DELETE FROM tokens WHERE ends_ms <= ?").bind(unix_ms());
        query.execute(self.connection().await?).await.map_err(self.error("dropping old tokens"))?;
        let query = sqlx::query("SELECT id, name, role, hash, created_ms, ends_ms FROM tokens");
        let rows = query.fetch_all(self.connection().await?).await.map_err(self.error("reading its tokens"))?;
        let mut tokens = BTreeMap::new();
        for row in &rows {
            let (id, role): (String, String) = (self.get(row, "id")?, self.get(row, "role")?);
            let hash: Vec<u8> = self.get(row, "hash")?;
            let (Ok(role), Ok(hash)) = (role.parse(), hash.try_into()) else {
                return Err(self.damaged(format!("token {id} has no known role, or no hash")));
            };
            let (name, created_ms, ends_ms) =
                (self.get(row, "name")?, self.get(row, "created_ms")?, self.get(row, "ends_ms")?);
            tokens.insert(id.clone(), TokenRow { id, name, role, hash, created_ms, ends_ms });
        }
        Ok(Tokens(Arc::new(tokens)))
    }

    /// Whose each worker is.
    pub(crate) async fn owners(&mut self) -> Result<BTreeMap<WorkerId, String>, StoreError> {
        let before_ms = unix_ms() - OWNER_DAYS * 86_400_000;
        let query = sqlx::query("DELETE FROM worker_owners WHERE seen_ms < ?").bind(before_ms);
        query.execute(self.connection().await?).await.map_err(self.error("dropping old owners"))?;
        let query = sqlx::query("SELECT worker, name FROM worker_owners");
        let rows = query.fetch_all(self.connection().await?).await.map_err(self.error("reading its owners"))?;
        let owner = |row: &sqlx::sqlite::SqliteRow| {
            let worker = row.try_get::<&str, _>("worker").ok()?;
            Some((WorkerId(u64::from_str_radix(worker, 16).ok()?), row.try_get("name").ok()?))
        };
        Ok(rows.iter().filter_map(owner).collect())
    }
}

pub(super) async fn put_token(connection: &mut SqliteConnection, row: &TokenRow) -> Result<(), sqlx::Error> {
    let TokenRow { id, name, role, hash, created_ms, ends_ms } = row;
    let query = sqlx::query("INSERT INTO tokens (id, name, role, hash, created_ms, ends_ms) VALUES (?, ?, ?, ?, ?, ?)");
    let query = query.bind(id).bind(name).bind(role.word()).bind(hash.as_slice()).bind(created_ms).bind(ends_ms);
    query.execute(connection).await.map(drop)
}

pub(super) async fn put_owner(
    connection: &mut SqliteConnection,
    worker: WorkerId,
    name: &str,
    at_ms: i64,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "INSERT INTO worker_owners (worker, name, seen_ms) VALUES (?, ?, ?)
         ON CONFLICT (worker) DO UPDATE SET seen_ms = excluded.seen_ms",
    );
    query.bind(worker.to_string()).bind(name).bind(at_ms).execute(connection).await.map(drop)
}
