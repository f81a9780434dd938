//! Starts the steps of a command one after the other, says how long each took, and adds up what the test runner says.

use std::env;
use std::fmt;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde::de::DeserializeOwned;

/// Steps that were done, with their durations.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<(&'static str, Duration)>,
}

impl Steps {
    /// Runs a step of our own.
    pub(crate) fn step<T>(&mut self, name: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("\n== {name}");
        let start = Instant::now();
        let result = work();
        self.done.push((name, start.elapsed()));
        result
    }

    /// Runs a program, its output shown as it comes; a failure is an error that names the command.
    pub(crate) fn run(&mut self, name: &'static str, command: &mut Command) -> Result<()> {
        self.step(name, || {
            println!("$ {}", line_of(command));
            let status = command.stdin(Stdio::null()).status();
            let status = status.with_context(|| format!("cannot start {:?}", command.get_program()))?;
            ensure!(status.success(), "{name} failed ({status}): {}", line_of(command));
            Ok(())
        })
    }

    /// Runs a test runner, its output shown as it comes, and returns what it counted and whether it ended well.
    pub(crate) fn run_tests(&mut self, name: &'static str, command: &mut Command) -> Result<(Counts, bool)> {
        self.step(name, || {
            println!("$ {}", line_of(command));
            if io::stdout().is_terminal() && env::var_os("CARGO_TERM_COLOR").is_none() {
                command.env("CARGO_TERM_COLOR", "always");
            }
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
            let (stdout, stderr) =
                (child.stdout.take().context("no stdout")?, child.stderr.take().context("no stderr")?);
            let other = thread::spawn(move || show(stdout, io::stdout()));
            let mut counts = show(stderr, io::stderr())?;
            counts.add(other.join().map_err(|_| anyhow!("the thread that shows the output panicked"))??);
            Ok((counts, child.wait()?.success()))
        })
    }

    /// A line for each step.
    pub(crate) fn print_durations(&self) {
        println!("\nsteps:");
        for (name, duration) in &self.done {
            println!("  {name:<14} {:>7.1} s", duration.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|(_, duration)| *duration).sum();
        println!("  {:<14} {:>7.1} s", "in all", total.as_secs_f64());
    }
}

/// What a program prints last, read as JSON; what it says of its troubles is shown.
pub(crate) fn answer<T: DeserializeOwned>(command: &mut Command) -> Result<T> {
    let program = command.get_program().display().to_string();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    answer_of(child.with_context(|| format!("cannot start {program}"))?, &program)
}

/// The same of one that runs, its standard output kept.
pub(crate) fn answer_of<T: DeserializeOwned>(child: Child, program: &str) -> Result<T> {
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{program} ended with {}; its messages above say why", output.status);
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().rfind(|line| line.starts_with('{'));
    let line = line.with_context(|| format!("{program} printed no result"))?;
    serde_json::from_str(line).with_context(|| format!("{program} printed {line}"))
}

/// Every line of JSON that a program prints; what it says of its troubles is shown.
pub(crate) fn answers<T: DeserializeOwned>(command: &mut Command) -> Result<Vec<T>> {
    let program = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {program}"))?;
    ensure!(output.status.success(), "{program} ended with {}; its messages above say why", output.status);
    let text = String::from_utf8(output.stdout)?;
    let objects = text.lines().filter(|line| line.starts_with('{'));
    objects.map(|line| serde_json::from_str(line).with_context(|| format!("{program} printed {line}"))).collect()
}

fn line_of(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let mut line = program.rsplit('/').next().unwrap_or_default().to_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// Copies lines as they come and adds up the summaries among them.
fn show(from: impl Read, mut to: impl Write) -> Result<Counts> {
    let mut reader = BufReader::new(from);
    let mut counts = Counts::default();
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        to.flush()?;
        counts.add(Counts::in_line(&String::from_utf8_lossy(&line)));
        line.clear();
    }
    Ok(counts)
}

/// How many tests ended how, as the runners themselves say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// The counts of a summary line of `cargo test` or nextest; zeros for any other line.
    fn in_line(line: &str) -> Self {
        let line = without_colours(line);
        let line = line.trim_start();
        let mut counts = Self::default();
        if !line.starts_with("test result: ") && !line.starts_with("Summary [") {
            return counts;
        }
        let words: Vec<&str> =
            line.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            let Ok(number) = pair[0].parse::<u64>() else { continue };
            match pair[1] {
                "passed" => counts.passed += number,
                // "2 timed out", "1 exec failed"
                "failed" | "timed" | "exec" => counts.failed += number,
                "skipped" | "ignored" => counts.skipped += number,
                _ => {}
            }
        }
        counts
    }
}

/// A line without the terminal's colour codes.
fn without_colours(line: &str) -> String {
    let mut plain = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_both_runners_are_read() {
        let check = |line: &str, passed: u64, failed: u64, skipped: u64| {
            assert_eq!(Counts::in_line(line), Counts { passed, failed, skipped }, "{line}");
        };
        check("     Summary [   0.035s] 17 tests run: 17 passed, 2 skipped", 17, 0, 2);
        check("     Summary [  10.035s] 9/17 tests run: 4 passed (1 slow), 3 failed, 2 timed out, 0 skipped", 4, 5, 0);
        check("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 5 filtered out; finished in 0.01s", 3, 0, 1);
        check("test result: \x1b[31mFAILED\x1b[0m. 3 passed; 2 failed; 0 ignored; 0 measured", 3, 2, 0);
        check(
            "\x1b[32;1m     Summary\x1b[0m [   0.1s] \x1b[1m5\x1b[0m tests run: \x1b[1m5\x1b[0m \x1b[32mpassed\x1b[0m, 0 skipped",
            5,
            0,
            0,
        );
        check("a program that says: 12 passed", 0, 0, 0);
        check("running 3 tests", 0, 0, 0);
    }

    #[test]
    fn output_is_shown_whole_and_counted() {
        let text = "test a ... ok\ntest result: ok. 1 passed; 0 failed; 0 ignored\nno newline at the end";
        let mut shown = Vec::new();
        let counts = show(text.as_bytes(), &mut shown).unwrap();
        assert_eq!(String::from_utf8(shown).unwrap(), text);
        assert_eq!(counts.to_string(), "1 passed, 0 failed, 0 skipped");
    }

    #[test]
    fn a_failed_step_names_its_command() {
        let mut steps = Steps::default();
        let error = steps.run("lint", Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "lint failed (exit status: 3): sh -c exit 3");
        let error = steps.run("lint", &mut Command::new("no-such-program")).unwrap_err();
        assert!(error.to_string().contains("cannot start \"no-such-program\""), "{error}");
    }
}
