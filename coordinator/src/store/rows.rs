//! Many rows in few statements: a statement costs more than a row.

use sqlx::query_builder::Separated;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

/// Rows of one statement at most.
const ROWS_MAX: usize = 128;

/// The place for one row's values.
pub(super) type Values<'a> = Separated<'a, Sqlite, &'static str>;

/// Runs `before VALUES (..), (..) after` with what `bind` binds of each row; as often as it takes.
pub(super) async fn put<T>(
    connection: &mut SqliteConnection,
    before: &'static str,
    rows: &[T],
    after: &'static str,
    mut bind: impl FnMut(Values<'_>, &T),
) -> Result<(), sqlx::Error> {
    for rows in chunks(rows) {
        let mut query = QueryBuilder::<Sqlite>::new(before);
        query.push_values(rows, &mut bind);
        query.push(after);
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// 128, 64, 32, .. or 1 at a time: few statements have to stay prepared.
fn chunks<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = 1 << rows.len().min(ROWS_MAX).checked_ilog2()?;
        let (chunk, rest) = rows.split_at_checked(size)?;
        rows = rest;
        Some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_one_chunk_of_few_sizes() {
        let check = |rows: usize, expected: &[usize]| {
            let rows: Vec<usize> = (0..rows).collect();
            let sizes: Vec<usize> = chunks(&rows).map(<[usize]>::len).collect();
            assert_eq!(sizes, expected);
            assert_eq!(chunks(&rows).flatten().copied().collect::<Vec<_>>(), rows);
        };
        check(0, &[]);
        check(1, &[1]);
        check(128, &[128]);
        check(333, &[128, 128, 64, 8, 4, 1]);
    }
}
