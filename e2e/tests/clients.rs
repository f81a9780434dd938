//! People's commands over a network that breaks their calls: each ends, says so, and may be given again.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use e2e::Stage;
use e2e::calls::{Calls, Fault};
use std::process::Output;

const FAULTS: [Fault; 4] = [Fault::LostBefore, Fault::LostAfter, Fault::Cut, Fault::Swallowed];

struct Scene {
    stage: Stage,
    calls: Calls,
}

impl Scene {
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.stage.command("alpharho");
        command.args(arguments).args(["--coordinator", &self.calls.address, "--timeout", "1"]);
        command.output().unwrap()
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "alpharho {}: {words}", arguments.join(" "));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The call breaks within that command, which must end, fail, and say something that helps.
    fn broken(&self, arguments: &[&str], call: &str, fault: Fault) {
        self.calls.ask(call, fault);
        let output = self.run(arguments);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        let what = format!("alpharho {}, {call} {}: {words}", arguments.join(" "), fault.of_a_call());
        assert!(!self.calls.is_asked(), "it was not called: {what}");
        assert_eq!(output.status.code(), Some(1), "{what}");
        let wanted = if fault == Fault::Swallowed { "did not answer in time" } else { "the connection broke" };
        assert!(words.contains(wanted) && words.contains("hint: "), "{what}");
    }
}

#[test]
fn commands_whose_calls_break_end_and_may_be_given_again() {
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    let calls = Calls::calm(&coordinator.address);
    let scene = Scene { stage, calls };
    let file = scene.stage.sweep("s", "1, 0.5", 1, "script: [{do: sleep, ms: 1}]");
    let commands: [(&[&str], &str); 9] = [
        (&["submit", &file], "Submit"),
        (&["list"], "List"),
        (&["status", "s"], "Status"),
        (&["explain", "s", "1"], "Explain"),
        (&["pause", "s", "--trial", "1"], "Control"),
        (&["limit", "s", "3"], "Limit"),
        (&["workers"], "Workers"),
        (&["logs", "s", "1"], "Logs"),
        (&["export", "s", "--out", "results", "--only", "grid"], "Metrics"),
    ];
    for (arguments, call) in commands {
        // Of what nothing is told yet nothing can be cut.
        let is_empty = matches!(call, "Logs" | "Metrics");
        for fault in FAULTS.into_iter().filter(|fault| !(is_empty && *fault == Fault::Cut)) {
            scene.broken(arguments, call, fault);
        }
        // What was done twice is as what was done once.
        scene.ask(arguments);
    }
    assert_eq!(scene.stage.states("s"), [("paused".to_owned(), 0), ("pending".to_owned(), 0)]);
    let watcher = scene.stage.watch("s");
    watcher.until("the limit", |event| event.kind == "sweep_limited");
    let told = watcher.told();
    let new: Vec<u64> = told.iter().filter(|e| e.kind == "sweep_submitted").map(|e| e.number("trials_new")).collect();
    assert_eq!(new, [2, 0, 0], "submitted again it adds nothing");
    let others: Vec<&str> = told.iter().skip(new.len()).map(|event| event.kind.as_str()).collect();
    assert_eq!(others, ["trial_changed", "sweep_limited"], "each happened once");
}

#[test]
fn a_token_whose_answer_was_lost_is_not_lost() {
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    let calls = Calls::calm(&coordinator.address);
    let scene = Scene { stage, calls };
    let files = || {
        let files = std::fs::read_dir(scene.stage.folder()).unwrap();
        let mut names: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name.ends_with(".new"));
        names
    };
    for fault in FAULTS {
        let name = format!("node-{}", fault.of_a_call().replace(' ', "-"));
        let create = ["tokens", "create", &name, "--role", "worker", "--out", "token"];
        scene.broken(&create, "Put", fault);
        let kept = files();
        assert_eq!(kept.len(), 1, "{name}");
        let id = kept[0].trim_start_matches('.').trim_end_matches(".new");
        scene.broken(&["tokens", "list"], "List", fault);
        let is_made = scene.ask(&["tokens", "list"]).contains(id);
        assert_eq!(is_made, matches!(fault, Fault::LostAfter | Fault::Cut), "{name}");
        std::fs::remove_file(scene.stage.folder().join(&kept[0])).unwrap();
        if is_made {
            scene.broken(&["tokens", "revoke", &name], "Revoke", Fault::LostBefore);
            scene.ask(&["tokens", "revoke", &name]);
        }
    }
    // A refusal leaves nothing.
    scene.ask(&["tokens", "create", "rita", "--role", "read", "--out", "token"]);
    let again = scene.run(&["tokens", "create", "rita", "--role", "read", "--out", "other"]);
    assert!(!again.status.success());
    assert_eq!(files(), [""; 0]);
}
