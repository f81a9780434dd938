//! A coordinator for other machines: certificates, tokens, and what becomes of those who have the wrong ones.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use e2e::{Coordinator, Stage, children, wait_for};
use std::cell::RefCell;
use std::path::Path;
use std::process::Output;

const NAMES: [(&str, &str); 4] = [("alice", "admin"), ("sue", "submit"), ("rita", "read"), ("node7", "worker")];

/// A stage with an authority, names and their tokens; it keeps all that commands print.
struct Fortress {
    stage: Stage,
    printed: RefCell<Vec<u8>>,
}

impl Fortress {
    fn build() -> Self {
        let fortress = Self { stage: Stage::new(), printed: RefCell::default() };
        fortress.ask(&["certs", "init"]);
        fortress.ask(&["certs", "issue", "coordinator", "--host", "fortress.example.org"]);
        for (name, role) in NAMES {
            fortress.ask(&["certs", "issue", name, "--json"]);
            fortress.ask(&["tokens", "create", name, "--role", role]);
        }
        fortress
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let output = self.stage.alpharho(arguments);
        let mut printed = self.printed.borrow_mut();
        printed.extend_from_slice(&output.stdout);
        printed.extend_from_slice(&output.stderr);
        output
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "alpharho {}: {words}", arguments.join(" "));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What it says when it fails, which it must.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "alpharho {} was not refused", arguments.join(" "));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn coordinator(&self) -> Coordinator {
        self.stage.coordinator_on("0.0.0.0:0", &["--credentials", "certs/coordinator"])
    }

    /// The secrets of all names and of the authority.
    fn secrets(&self) -> Vec<(String, String)> {
        let mut secrets = Vec::new();
        for folder in std::fs::read_dir(self.stage.folder().join("certs")).unwrap() {
            let folder = folder.unwrap().path();
            let name = folder.file_name().unwrap().to_string_lossy().into_owned();
            if let Ok(token) = std::fs::read_to_string(folder.join("token")) {
                secrets.push((format!("{name}'s token"), token.trim().rsplit('_').next().unwrap().to_owned()));
            }
            let key = std::fs::read_to_string(folder.join("key.pem")).unwrap();
            let line = key.lines().find(|line| !line.starts_with('-')).unwrap();
            secrets.push((format!("{name}'s key"), line.to_owned()));
        }
        secrets
    }
}

fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn a_sweep_is_trained_across_machines_and_no_secret_is_seen() {
    let fortress = Fortress::build();
    let stage = &fortress.stage;
    let coordinator = fortress.coordinator();
    let port = coordinator.address.rsplit(':').next().unwrap();
    let address = format!("https://localhost:{port}");
    let worker = stage.worker(&address, &["--credentials", "certs/node7"]);

    // By the store's lock file, and by an address.
    let file = stage.sweep("far", "1, 0.5", 3, "script: [{do: sleep, ms: 100}]");
    fortress.ask(&["submit", &file, "--credentials", "certs/sue"]);
    wait_for("a trainer", || (!children(worker.id()).is_empty()).then_some(()));
    let mut seen = Vec::new();
    for process in [coordinator.process.id(), worker.id()].into_iter().chain(children(worker.id())) {
        seen.extend(std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default());
    }
    let told = fortress.ask(&["watch", "far", "--json", "--coordinator", &address, "--credentials", "certs/rita"]);
    assert!(told.contains("sweep_over"), "{told}");
    let status = fortress.ask(&["status", "far", "--json", "--credentials", "certs/rita"]);
    assert_eq!(status.matches("\"state\": \"completed\"").count(), 2, "{status}");
    fortress.ask(&["export", "far", "--out", "results", "--credentials", "certs/rita"]);
    let everything = ["tensorboard", "metrics.parquet", "report"].join(",");
    fortress.ask(&["export", "far", "--out", "more", "--only", &everything, "--credentials", "certs/rita"]);

    // Errors of all kinds, which must not tell more than they should.
    let ca = std::fs::read(stage.folder().join("certs/rita/ca.pem")).unwrap();
    stage.file("bare/ca.pem", ca);
    fortress.ask(&["tokens", "list", "--credentials", "certs/alice"]);
    fortress.refused(&["tokens", "list", "--credentials", "certs/node7"]);
    fortress.refused(&["status", "far", "--credentials", "bare"]);
    fortress.refused(&["status", "nowhere", "--credentials", "certs/rita"]);
    fortress.ask(&["tokens", "rotate", "node7", "--grace-minutes", "5", "--credentials", "certs/alice"]);
    fortress.ask(&["tokens", "rotate", "rita", "--grace-minutes", "0", "--credentials", "certs/alice"]);
    fortress.ask(&["list", "--credentials", "certs/rita"]);
    fortress.ask(&["tokens", "revoke", "node7", "--credentials", "certs/alice"]);
    wait_for("the worker to be told", || worker.written().contains("has ended").then_some(()));
    drop(worker);
    coordinator.stop();

    let mut found = Vec::new();
    files(stage.folder(), &mut found);
    found.retain(|file| !file.starts_with(stage.folder().join("certs")));
    assert!(found.iter().any(|file| file.ends_with("store.db")) && found.len() > 20, "{found:?}");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let mut places: Vec<(String, String)> =
        found.into_iter().map(|file| (file.display().to_string(), text(std::fs::read(&file).unwrap()))).collect();
    places.push(("what was printed".to_owned(), text(fortress.printed.borrow().clone())));
    places.push(("command lines".to_owned(), text(seen)));
    for (whose, secret) in fortress.secrets() {
        assert!(secret.len() >= 64, "{whose}");
        for (place, text) in &places {
            assert!(!text.contains(&secret), "{whose} stands in {place}");
        }
    }
}

#[test]
fn who_has_the_wrong_things_to_show_is_told_what_is_wrong() {
    let fortress = Fortress::build();
    let stage = &fortress.stage;
    let told = fortress.refused(&["coordinator", "--listen", "0.0.0.0:0"]);
    for words in ["refusing to listen", "alpharho certs init", "--credentials certs/coordinator"] {
        assert!(told.contains(words), "{told}");
    }
    let told = fortress.refused(&["coordinator", "--listen", "0.0.0.0:0", "--credentials", "certs/alice"]);
    assert!(told.contains("names no host"), "{told}");

    let coordinator = fortress.coordinator();
    let port = coordinator.address.rsplit(':').next().unwrap().to_owned();
    let file = stage.sweep("wrong", "1", 1, "script: [{do: sleep, ms: 1}]");
    // A name without a token, one with somebody else's, one with a made-up one; another authority.
    for name in ["no-token", "thief", "forger"] {
        fortress.ask(&["certs", "issue", name]);
    }
    let secret = |from: &str, to: &str| {
        std::fs::copy(stage.folder().join(from), stage.folder().join(to)).unwrap();
    };
    secret("certs/alice/token", "certs/thief/token");
    secret("certs/alice/token", "certs/forger/token");
    let forged = format!("alpharho_{}_{}\n", "0".repeat(16), "1".repeat(64));
    std::fs::write(stage.folder().join("certs/forger/token"), forged).unwrap();
    fortress.ask(&["certs", "init", "--certs", "other"]);
    fortress.ask(&["certs", "issue", "alice", "--certs", "other"]);
    secret("certs/alice/token", "other/alice/token");
    let https = format!("https://localhost:{port}");
    let http = format!("http://localhost:{port}");
    let unnamed = format!("https://127.0.0.2:{port}");
    for (words, arguments) in [
        ("wants credentials", vec!["list"]),
        ("wants credentials", vec!["list", "--coordinator", &https]),
        ("begins with https://", vec!["list", "--coordinator", &http]),
        ("does not name this host", vec!["list", "--coordinator", &unnamed, "--credentials", "certs/alice"]),
        ("none was shown", vec!["list", "--credentials", "certs/no-token"]),
        ("alice's, and the certificate is not", vec!["list", "--credentials", "certs/thief"]),
        ("not good here", vec!["list", "--credentials", "certs/forger"]),
        ("another authority", vec!["list", "--credentials", "other/alice"]),
        ("takes the role read", vec!["list", "--credentials", "certs/node7"]),
        ("takes the role submit", vec!["submit", &file, "--credentials", "certs/rita"]),
        ("takes the role admin", vec!["tokens", "revoke", "alice", "--credentials", "certs/sue"]),
        ("is there already", vec!["tokens", "create", "alice", "--role", "admin", "--credentials", "certs/alice"]),
        ("never overwritten", vec!["certs", "issue", "alice"]),
        ("never overwritten", vec!["certs", "init"]),
    ] {
        let told = fortress.refused(&arguments);
        assert!(told.contains(words), "alpharho {}: {told}", arguments.join(" "));
    }
    assert_eq!(fortress.ask(&["list", "--json", "--credentials", "certs/alice"]).trim(), "[]");

    // Workers wait for better times, and say why.
    for (credentials, words) in [("certs/rita", "takes the role worker"), ("other/alice", "another authority")] {
        let worker = stage.worker(&https, &["--credentials", credentials]);
        wait_for(words, || worker.written().contains(words).then_some(()));
    }
}
