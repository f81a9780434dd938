//! Which images of one folder or file are validated with.

use sha2::{Digest, Sha256};

/// Whether an image is in the validation set: its name's SHA-256, read as a number in [0, 1), lies under
/// `fraction`. So the choice needs no list, is the same on every worker, and stays when images are added.
pub(super) fn is_validation(name: &str, fraction: f64) -> bool {
    let digest = Sha256::digest(name.as_bytes());
    let mut head = [0_u8; 8];
    head.copy_from_slice(&digest[..8]);
    (u64::from_be_bytes(head) >> 11) as f64 / ((1_u64 << 53) as f64) < fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_split_is_known() {
        // From `sha256sum`: ba7816bf.., e3b0c442.., ca978112.. over 2^32.
        for (name, share) in [("abc", 0.7284), ("", 0.8894), ("a", 0.7914)] {
            assert!(is_validation(name, share + 0.0001), "{name}");
            assert!(!is_validation(name, share - 0.0001), "{name}");
        }
        let count = (0..10_000).filter(|index| is_validation(&format!("cats/{index}.jpg"), 0.25)).count();
        assert!((2_370..2_630).contains(&count), "{count}");
    }
}
