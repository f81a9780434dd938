//! Tries one target; started by `cargo xtask fuzz`.
//!
//! `fuzz list`, or `fuzz TARGET SEED FROM SECONDS CASES FOLDER`: a line of JSON now and then, and one at the end.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what is wrong here is to be seen at once")]

use fuzz::run::{Report, Wish, run};
use fuzz::targets::DOORS;
use std::time::Duration;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["list"] => DOORS.iter().for_each(|door| println!("{}", door.name)),
        [target, seed, from, seconds, cases, folder] => {
            let door = DOORS.iter().find(|door| door.name == target).unwrap_or_else(|| panic!("no target {target}"));
            let wish = Wish {
                seed: seed.parse().unwrap(),
                from: from.parse().unwrap(),
                time: Duration::from_secs_f64(seconds.parse().unwrap()),
                cases_max: cases.parse().unwrap(),
                folder: folder.into(),
            };
            let say = |report: &Report| println!("{}", serde_json::to_string(report).unwrap());
            say(&run(door, &wish, say).unwrap());
        }
        _ => panic!("fuzz TARGET SEED FROM SECONDS CASES FOLDER"),
    }
}
