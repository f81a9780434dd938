//! What the replicas of an attempt show each other. Made from the store's key, so it survives a restart without
//! being kept, and of no use for any other attempt.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use sweeps::ids::Token;

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;

/// The store's key. Never printed.
#[derive(Clone)]
pub(crate) struct ExchangeKey([u8; KEY_BYTES]);

impl ExchangeKey {
    pub(crate) fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// HMAC-SHA256 of trial and attempt: 64 hexadecimal digits, alike for all replicas of the attempt.
    pub(crate) fn secret(&self, token: Token) -> Option<String> {
        // A key of any length will do; the type only cannot say so.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(b"alpharho exchange of gradients 1");
        mac.update(&token.trial.0.to_be_bytes());
        mac.update(&token.attempt.to_be_bytes());
        Some(hex::encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for ExchangeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExchangeKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sweeps::ids::TrialId;

    #[test]
    fn a_secret_is_of_one_attempt_of_one_store_and_alike_for_its_replicas() {
        let secret = |key: u8, trial, attempt, replica| {
            ExchangeKey::new([key; KEY_BYTES]).secret(Token::replica(TrialId(trial), attempt, replica)).unwrap()
        };
        let one = secret(7, 1, 2, 0);
        // printf 'alpharho exchange of gradients 1\0\0\0\0\0\0\0\1\0\0\0\2' |
        //   openssl dgst -sha256 -mac hmac -macopt hexkey:0707..07
        assert_eq!(one, RECORDED);
        assert_eq!(one, secret(7, 1, 2, 3));
        for other in [secret(8, 1, 2, 0), secret(7, 2, 2, 0), secret(7, 1, 3, 0)] {
            assert_ne!(one, other);
        }
        assert_eq!(format!("{:?}", ExchangeKey::new([7; KEY_BYTES])), "ExchangeKey");
    }

    const RECORDED: &str = "28743c86cfc573b8c73e9fbe91890d8826fa3c995801d2133fc0dfae56a4cb82";
}
