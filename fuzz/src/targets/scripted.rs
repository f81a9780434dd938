//! Checkpoints of the scripted trainer.

use crate::dice::Dice;
use crate::run::Target;
use crate::spoil::spoil;
use scripted::checkpoint::Checkpoint;
use tempfile::TempDir;

const KEY: &str = "0123456789abcdef0123456789abcdef";
const BYTES_MAX: usize = 64 << 10;
const WORDS: &[&[u8]] =
    &[b"null", b"1e999", b"-1", b"4294967296", b"[[[[[[[[", b"{\"a\":", b"\\u0000", b"\\uD800", b"\xFF", b"true"];

struct Scripted {
    folder: TempDir,
    good: Vec<Vec<u8>>,
}

#[expect(clippy::expect_used, reason = "without a folder there is nothing to try")]
pub(super) fn open() -> Box<dyn Target> {
    let folder = tempfile::tempdir().expect("a folder");
    let good = [None, Some(0.5)].map(|best| {
        let checkpoint = Checkpoint { scripted: true, key: KEY.to_owned(), epoch: 3, slept_ms: 500, best };
        proto::convert::to_json(&checkpoint).into_bytes()
    });
    Box::new(Scripted { folder, good: good.to_vec() })
}

impl Target for Scripted {
    fn make(&self, dice: &mut Dice) -> Vec<u8> {
        let mut file = dice.pick(&self.good).clone();
        if !dice.one_in(10) {
            let other = dice.pick(&self.good);
            spoil(&mut file, other, WORDS, BYTES_MAX, dice);
        }
        file
    }

    fn take(&mut self, case: &[u8]) -> Result<bool, String> {
        let path = self.folder.path().join("case.json");
        std::fs::write(&path, case).map_err(|error| error.to_string())?;
        match Checkpoint::load(&path, KEY) {
            Ok(checkpoint) if checkpoint.key != KEY => Err("a checkpoint of another trial was taken".to_owned()),
            Ok(checkpoint) if checkpoint.best.is_some_and(|best| !best.is_finite()) => {
                Err("a value that is not finite was taken".to_owned())
            }
            Ok(_) => Ok(true),
            Err(error) if format!("{error:#}").is_empty() => Err("it was refused without a word".to_owned()),
            Err(_) => Ok(false),
        }
    }
}
