//! Sweep files: read, expanded, priced.

use super::files;
use crate::dice::Dice;
use crate::run::Target;
use crate::spoil::spoil;
use sweeps::network::Network;
use sweeps::spec::FILE_BYTES_MAX;
use sweeps::trial::Trial;

/// What means something in YAML, and in a sweep.
const WORDS: &[&[u8]] = &[
    b"&a ",
    b"*a",
    b"<<: *a",
    b"!!binary ",
    b"? ",
    b"- ",
    b"- - - ",
    b": ",
    b"|\n",
    b">-\n",
    b"\"",
    b"'",
    b"{",
    b"}",
    b"[",
    b"]",
    b"[[[[",
    b"# ",
    b"---\n",
    b"...\n",
    b"%YAML 1.2\n",
    b"\t",
    b"\r",
    b"\0",
    b"\xEF\xBB\xBF",
    b"\xE2\x80\xA8",
    b"\xFF",
    b"~",
    b".nan",
    b"-.inf",
    b"1e999",
    b"0x7fffffffffffffff",
    b"1_000",
    b"null",
    b"yes",
    b"alpha",
    b"resolution",
    b"values: [",
    b"{min: 0, max: 9007199254740991, distribution: int_uniform}",
    b"{min: 1e-300, max: 1e300, distribution: log_uniform}",
    b"method: random\ntrials: 100000\n",
    b"seeds: [0, 1, 2, 3, 18446744073709551615]\n",
    b"training.learning_rate",
    b"../../../etc/passwd",
    b"\\x1b[2J",
    b"\\uD800",
    b"name: ",
];
/// Trials of which the network is looked at.
const PRICED_MAX: usize = 20;

struct SweepFiles {
    good: Vec<Vec<u8>>,
}

pub(super) fn open() -> Box<dyn Target> {
    let mut good = files("sweeps", "yaml");
    // So often that most cases are close to a file that is read.
    good.extend([files("sweeps/tests/specs/good", "yaml"), good.clone()].concat());
    good.extend(files("sweeps/tests/specs/bad", "yaml"));
    Box::new(SweepFiles { good })
}

impl Target for SweepFiles {
    fn make(&self, dice: &mut Dice) -> Vec<u8> {
        let mut text = dice.pick(&self.good).clone();
        if !dice.one_in(20) {
            let other = dice.pick(&self.good);
            spoil(&mut text, other, WORDS, FILE_BYTES_MAX + 10, dice);
        }
        text
    }

    fn take(&mut self, case: &[u8]) -> Result<bool, String> {
        // What is not UTF-8 does not come through gRPC, and is refused where files are read.
        let text = String::from_utf8_lossy(case);
        let sweep = match sweeps::spec::parse("case.yaml", &text) {
            Ok(sweep) => sweep,
            Err(problems) => {
                let said = problems.to_string();
                return if said.is_empty() { Err("it was refused without a word".to_owned()) } else { Ok(false) };
            }
        };
        let trials: Vec<Trial> = sweep.expand().collect();
        if trials.is_empty() || trials.len() > 100_000 {
            return Err(format!("it has {} trials", trials.len()));
        }
        for trial in trials.iter().take(PRICED_MAX) {
            let json = proto::convert::to_json(trial);
            let again = proto::convert::trial(&json).map_err(|bad| format!("a trial does not come back: {bad}"))?;
            if again != *trial {
                return Err(format!("a trial comes back as another: {json}"));
            }
            // Refused is fine: alpha may be too thin for the network.
            if let Ok(network) = Network::new(trial.network, trial.alpha, trial.resolution, trial.data.classes) {
                let _ = network.cost();
            }
        }
        Ok(true)
    }
}
