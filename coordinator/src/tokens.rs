//! The tokens that are good, and who called with one.

use crate::clock::unix_ms;
use access::{HASH_BYTES, Role, Token};
use proto::wire;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tonic::Status;

/// A token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) hash: [u8; HASH_BYTES],
    pub(crate) created_ms: i64,
    pub(crate) ends_ms: Option<i64>,
}

impl TokenRow {
    pub(crate) fn is_good(&self, now_ms: i64) -> bool {
        self.ends_ms.is_none_or(|ends_ms| now_ms < ends_ms)
    }

    pub(crate) fn status(&self) -> wire::TokenStatus {
        let ms = |ms: i64| u64::try_from(ms).unwrap_or(0);
        wire::TokenStatus {
            name: self.name.clone(),
            role: self.role.word().to_owned(),
            id: self.id.clone(),
            created_ms: ms(self.created_ms),
            ends_ms: self.ends_ms.map_or(0, ms),
        }
    }
}

/// All tokens, by id. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens(pub(crate) Arc<BTreeMap<String, TokenRow>>);

impl Tokens {
    /// The row of a token that is good now.
    pub(crate) fn find(&self, token: &Token) -> Option<&TokenRow> {
        // Its id is no secret: how it is looked up may take as long as it likes.
        let row = self.0.get(token.id())?;
        (token.has_hash(&row.hash) && row.is_good(unix_ms())).then_some(row)
    }

    /// Of a name.
    pub(crate) fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a TokenRow> {
        self.0.values().filter(move |row| row.name == name)
    }

    /// By name, then by time.
    pub(crate) fn statuses(&self) -> Vec<wire::TokenStatus> {
        let now_ms = unix_ms();
        let mut statuses: Vec<_> = self.0.values().filter(|row| row.is_good(now_ms)).map(TokenRow::status).collect();
        statuses.sort_by(|a, b| (&a.name, a.created_ms).cmp(&(&b.name, b.created_ms)));
        statuses
    }
}

/// Who made a call, where callers must say so.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) name: String,
    id: String,
    tokens: watch::Receiver<Tokens>,
}

impl Caller {
    pub(crate) fn new(row: &TokenRow, tokens: watch::Receiver<Tokens>) -> Self {
        Self { name: row.name.clone(), id: row.id.clone(), tokens }
    }

    /// Waits until its token is not good any more. For streams, which are checked when they begin.
    pub(crate) async fn ended(mut self) -> Status {
        loop {
            let good_for = {
                let tokens = self.tokens.borrow_and_update();
                match tokens.0.get(&self.id) {
                    Some(row) => row.ends_ms.map(|ends_ms| ends_ms.saturating_sub(unix_ms())),
                    None => Some(0),
                }
            };
            // The wall clock may be set: it is looked at again and again.
            let nap = match good_for {
                Some(..=0) => return Status::unauthenticated(format!("the token of {} has ended", self.name)),
                Some(left_ms) => Duration::from_millis(left_ms.unsigned_abs()).min(NAP_MAX),
                None => NAP_MAX,
            };
            tokio::select! {
                changed = self.tokens.changed() => if changed.is_err() {
                    // The coordinator is stopping, which ends all streams.
                    return Status::unavailable("the coordinator is stopping");
                },
                () = tokio::time::sleep(nap) => {}
            }
        }
    }
}

const NAP_MAX: Duration = Duration::from_secs(60);

/// Until the token of a caller ends; for ever where callers need none.
pub(crate) async fn ended(caller: Option<Caller>) -> Status {
    match caller {
        // Boxed: where callers need none, it takes no room.
        Some(caller) => Box::pin(caller.ended()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(token: &Token, name: &str, ends_ms: Option<i64>) -> TokenRow {
        let (id, name) = (token.id().to_owned(), name.to_owned());
        TokenRow { id, name, role: Role::Read, hash: token.hash(), created_ms: 1, ends_ms }
    }

    fn tokens(rows: Vec<TokenRow>) -> Tokens {
        Tokens(Arc::new(rows.into_iter().map(|row| (row.id.clone(), row)).collect()))
    }

    #[test]
    fn a_token_is_found_while_it_is_good() {
        let (good, old, unknown) = (Token::draw().unwrap(), Token::draw().unwrap(), Token::draw().unwrap());
        let known = tokens(vec![row(&good, "alice", None), row(&old, "alice", Some(unix_ms() - 1))]);
        assert_eq!(known.find(&good).map(|row| row.name.as_str()), Some("alice"));
        assert_eq!(known.find(&old), None);
        assert_eq!(known.find(&unknown), None);
        // The id of one with the secret of another.
        let mixed = format!("alpharho_{}_{}", good.id(), unknown.text().rsplit('_').next().unwrap());
        assert_eq!(known.find(&mixed.parse().unwrap()), None);
        assert_eq!(known.of("alice").count(), 2);
        assert_eq!(known.statuses().len(), 1);
    }

    #[tokio::test]
    async fn a_stream_hears_of_the_end_of_its_token() {
        let token = Token::draw().unwrap();
        let (sender, receiver) = watch::channel(tokens(vec![row(&token, "alice", None)]));
        let caller = Caller::new(&row(&token, "alice", None), receiver);
        let waiting = tokio::spawn(caller.ended());
        // What happens to others is nothing to it.
        let other = Token::draw().unwrap();
        sender.send_replace(tokens(vec![row(&token, "alice", None), row(&other, "bob", None)]));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        // Replaced, and good for a moment still.
        sender.send_replace(tokens(vec![row(&token, "alice", Some(unix_ms() + 20))]));
        let status = waiting.await.unwrap();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
    }
}
