//! Tokens: `alpharho_ID_SECRET`, of which only the hash of the secret is kept by a coordinator.

use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::str::FromStr;
use subtle::ConstantTimeEq;
use thiserror::Error;

/// What every token begins with, so that it is known for one wherever it turns up.
const PREFIX: &str = "alpharho";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;
/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;

/// Something that is not a token. It is not repeated: it may be one with a slip.
#[derive(Debug, Error)]
#[error("what stands there is no token; one looks like alpharho_, 16 hexadecimal digits, _, 64 hexadecimal digits")]
pub struct BadToken;

/// A token as its owner has it. Never printed by accident: what it shows of itself is its id.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: String,
    secret: String,
}

impl Token {
    /// A new one, of the system's random numbers.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn draw() -> io::Result<Self> {
        let mut bytes = [0; ID_BYTES + SECRET_BYTES];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let (id, secret) = bytes.split_at(ID_BYTES);
        Ok(Self { id: hex::encode(id), secret: hex::encode(secret) })
    }

    /// Which one it is: no secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What a coordinator keeps of it. 256 random bits cannot be guessed, so one round of SHA-256 without salt is as
    /// good as a slow hash, which is for secrets that people think up.
    #[must_use]
    pub fn hash(&self) -> [u8; HASH_BYTES] {
        Sha256::digest(self.secret.as_bytes()).into()
    }

    /// Whether that hash is its own; how long it takes says nothing of where they differ.
    #[must_use]
    pub fn has_hash(&self, expected: &[u8; HASH_BYTES]) -> bool {
        self.hash().ct_eq(expected).into()
    }

    /// The whole of it, for its owner's file and for the calls of its owner.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{PREFIX}_{}_{}", self.id, self.secret)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("id", &self.id).finish_non_exhaustive()
    }
}

impl FromStr for Token {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        let mut parts = text.trim().split('_');
        let (prefix, id, secret) = (parts.next(), parts.next(), parts.next());
        let is_hex = |part: &&str, bytes: usize| {
            part.len() == 2 * bytes && part.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        };
        match (prefix, id.filter(|id| is_hex(id, ID_BYTES)), secret.filter(|part| is_hex(part, SECRET_BYTES))) {
            (Some(PREFIX), Some(id), Some(secret)) if parts.next().is_none() => {
                Ok(Self { id: id.to_owned(), secret: secret.to_owned() })
            }
            _ => Err(BadToken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_from_its_text_and_no_other_has_its_hash() {
        let (token, other) = (Token::draw().unwrap(), Token::draw().unwrap());
        let again: Token = format!("{}\n", token.text()).parse().unwrap();
        assert_eq!(again, token);
        assert!(again.has_hash(&token.hash()) && !other.has_hash(&token.hash()));
        let mut nearly = token.hash();
        nearly[31] ^= 1;
        assert!(!token.has_hash(&nearly));
    }

    #[test]
    fn it_does_not_show_its_secret() {
        let token = Token::draw().unwrap();
        let shown = format!("{token:?}");
        assert!(shown.contains(token.id()) && !shown.contains(&token.secret), "{shown}");
    }

    #[test]
    fn what_is_no_token_is_not_repeated() {
        let good = format!("alpharho_{}_{}", "0a".repeat(8), "1b".repeat(32));
        assert!(good.parse::<Token>().is_ok());
        for bad in ["", "x", &good[1..], &good[..89], &format!("{good}_"), &good.to_uppercase(), &format!("{good}0")] {
            let refused = bad.parse::<Token>().unwrap_err().to_string();
            assert!(!refused.contains("1b1b"), "{refused}");
        }
    }
}
