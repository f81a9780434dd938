//! The agent against a coordinator that does as the test says.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fake;

use agent::{Leave, Left};
use fake::{Heard, Scene, Swallowed, checkpoint, report_of, token, trial_json};
use proto::wire::report::Body as ReportBody;
use proto::wire::worker_message::Body as Said;
use std::time::Duration;
use sweeps::scheduler::AttemptEnd;

fn crash_reason(end: &AttemptEnd) -> &str {
    match end {
        AttemptEnd::Crashed { reason } => reason,
        other => panic!("{other:?}"),
    }
}

/// `started`, `epoch 2`, `upload 2 best`, ..
fn words(heard: &[Heard]) -> Vec<String> {
    heard
        .iter()
        .map(|heard| match (heard, report_of(heard)) {
            (Heard::Uploaded { epoch, best, .. }, _) => format!("upload {epoch}{}", if *best { " best" } else { "" }),
            (_, Some(ReportBody::Started(_))) => "started".to_owned(),
            (_, Some(ReportBody::Points(_))) => "points".to_owned(),
            (_, Some(ReportBody::Progress(progress))) => format!("{} of epoch {}", progress.share, progress.epoch),
            (_, Some(ReportBody::EpochFinished(epoch))) => format!("epoch {}", epoch.epoch),
            (_, Some(ReportBody::Ended(ended))) => ended.end_json.clone(),
            (_, Some(ReportBody::Listening(listening))) => format!("listening {}", listening.address),
            (_, Some(ReportBody::Log(log))) => log.lines.join("|"),
            (Heard::Said { body, .. }, None) => match body {
                Said::Register(_) => "register".to_owned(),
                Said::Draining(_) => "draining".to_owned(),
                Said::Goodbye(_) => "goodbye".to_owned(),
                other => format!("{other:?}"),
            },
        })
        .collect()
}

#[tokio::test]
async fn completion_is_reported_when_its_checkpoint_is_stored() {
    let mut scene = Scene::new("epoch 1; checkpoint 1 true; ended completed").await;
    scene.state.lock().unwrap().uploads_refused = 2;
    scene.grant(7, |_| {}).await;
    let (end, before) = scene.end().await;
    assert_eq!(end, AttemptEnd::Completed);
    assert_eq!(words(&before), ["started", "epoch 1", "upload 1 best"]);
    // The slot is free for the next.
    scene.grant(7, |member| member.token.as_mut().unwrap().attempt = 2).await;
    scene.until("the next lease", |heard| matches!(report_of(heard), Some(ReportBody::Started(_)))).await;
}

#[tokio::test]
async fn checkpoints_overtaken_while_the_coordinator_is_away_are_not_sent() {
    let script = "for n in 1 2 3 4 5; do epoch $n; checkpoint $n $([ $n = 2 ] && echo true || echo false); done; ended completed";
    let mut scene = Scene::new(script).await;
    scene.state.lock().unwrap().uploads_refused = 3;
    scene.grant(7, |_| {}).await;
    let (end, before) = scene.end().await;
    assert_eq!(end, AttemptEnd::Completed);
    let uploads: Vec<String> = words(&before).into_iter().filter(|word| word.starts_with("upload")).collect();
    assert_eq!(uploads, ["upload 2 best", "upload 5"]);
}

#[tokio::test]
async fn a_dead_trainer_is_reported_with_its_last_words() {
    let mut scene = Scene::new("epoch 1; echo 'terminate called' >&2; echo 'out of memory' >&2; exit 3").await;
    scene.grant(7, |_| {}).await;
    let (end, before) = scene.end().await;
    assert_eq!(crash_reason(&end), "its trainer died: exit code 3; its last words: terminate called | out of memory");
    assert_eq!(words(&before), ["started", "epoch 1"]);
}

#[tokio::test]
async fn a_silent_trainer_is_killed() {
    let mut scene = Scene::with("sleep 1000", |config| config.silence = Duration::from_millis(300)).await;
    scene.grant(7, |_| {}).await;
    let (end, _) = scene.end().await;
    assert!(crash_reason(&end).starts_with("its trainer said nothing for 0"), "{end:?}");
}

#[tokio::test]
async fn pause_is_passed_on_and_answered_after_the_checkpoint() {
    let mut scene =
        Scene::new("epoch 1; read -r stop; echo \"got $stop\" >&2; checkpoint 1 false; ended stopped").await;
    scene.grant(7, |_| {}).await;
    scene.until("an epoch", |heard| matches!(report_of(heard), Some(ReportBody::EpochFinished(_)))).await;
    scene.stop(7, "pause").await;
    let (end, before) = scene.end().await;
    assert_eq!(end, AttemptEnd::Stopped);
    assert_eq!(words(&before), ["upload 1"]);
}

#[tokio::test]
async fn cancel_ends_a_trainer_that_does_not_listen() {
    let mut scene = Scene::new("epoch 1; checkpoint 1 false; trap '' TERM; while true; do sleep 0.1; done").await;
    scene.grant(7, |_| {}).await;
    scene.until("an epoch", |heard| matches!(report_of(heard), Some(ReportBody::EpochFinished(_)))).await;
    scene.stop(7, "cancel").await;
    assert_eq!(scene.end().await.0, AttemptEnd::Stopped);
}

#[tokio::test]
async fn after_a_broken_stream_it_says_what_it_holds_and_says_again_what_was_not_acknowledged() {
    let mut scene = Scene::new("epoch 1; epoch 2; read -r stop; ended completed").await;
    scene.state.lock().unwrap().silent = true;
    scene.grant(7, |_| {}).await;
    let is_second_epoch =
        |heard: &Heard| matches!(report_of(heard), Some(ReportBody::EpochFinished(e)) if e.epoch == 2);
    scene.until("the second epoch", is_second_epoch).await;
    {
        let mut state = scene.state.lock().unwrap();
        state.silent = false;
        state.to_worker = None;
    }
    let again = scene.until("the second epoch again", is_second_epoch).await;
    assert_eq!(words(&again), ["register", "started", "epoch 1", "epoch 2"]);
    let sequences: Vec<(u32, u64)> = again
        .iter()
        .filter_map(|heard| match heard {
            Heard::Said { session, sequence, .. } => Some((*session, *sequence)),
            Heard::Uploaded { .. } => None,
        })
        .collect();
    assert_eq!(sequences[0], (2, 1));
    assert!(sequences.windows(2).all(|pair| pair[0].1 < pair[1].1), "{sequences:?}");
    let Heard::Said { body: Said::Register(register), .. } = &again[0] else { panic!("{again:?}") };
    assert_eq!(register.holding, [proto::wire::Held { slot: 0, token: Some(token(7)) }]);
    // The same trainer trains on.
    scene.stop(7, "pause").await;
    let (end, before) = scene.end().await;
    assert_eq!((end, words(&before)), (AttemptEnd::Completed, vec![]));
}

/// On a connection that lives, and answers pings.
#[tokio::test]
async fn calls_that_are_never_answered_are_given_up_and_made_again() {
    let script = r#"resume=$(echo "$start" | sed 's/.*"resume":"\([^"]*\)".*/\1/'); cat "$resume" >&2
        epoch 1; checkpoint 1 true; ended completed"#;
    let mut scene = Scene::with(script, |config| config.patience = Duration::from_millis(50)).await;
    let bytes = b"the weights so far";
    {
        let mut state = scene.state.lock().unwrap();
        state.checkpoints.insert(5, bytes.to_vec());
        state.swallowed = Swallowed { uploads: 2, downloads: 2, downloads_half: 1 };
    }
    scene.grant(7, |member| member.resume = Some(checkpoint(5, bytes))).await;
    let (end, before) = scene.end().await;
    assert_eq!(end, AttemptEnd::Completed);
    assert_eq!(words(&before), ["started", "epoch 1", "upload 1 best"]);
    let Swallowed { uploads, downloads, downloads_half } = scene.state.lock().unwrap().swallowed;
    assert_eq!((uploads, downloads, downloads_half), (0, 0, 0), "all of them were swallowed");
}

/// Its stream is open, and nothing comes any more.
#[tokio::test]
async fn a_session_that_is_silent_for_a_lease_is_given_up_for_another() {
    let script = "epoch 1; read -r stop; ended completed";
    let mut scene = Scene::with(script, |config| config.patience = Duration::from_millis(50)).await;
    scene.grant(7, |_| {}).await;
    scene.until("an epoch", |heard| words(std::slice::from_ref(heard)) == ["epoch 1"]).await;
    scene.state.lock().unwrap().silent = true;
    let is_again = |heard: &Heard| matches!(heard, Heard::Said { session: 2, body: Said::Register(_), .. });
    let mut seen = scene.until("another session", is_again).await;
    let Some(Heard::Said { body: Said::Register(register), .. }) = seen.pop() else { panic!("{seen:?}") };
    assert_eq!(register.holding, [proto::wire::Held { slot: 0, token: Some(token(7)) }]);
    scene.state.lock().unwrap().silent = false;
    // The same trainer trains on.
    scene.stop(7, "pause").await;
    assert_eq!(scene.end().await.0, AttemptEnd::Completed);
}

#[tokio::test]
async fn a_checkpoint_is_sent_behind_the_report_of_its_epoch() {
    let mut scene = Scene::new("epoch 1; checkpoint 1 true; epoch 2; checkpoint 2 true; ended completed").await;
    scene.state.lock().unwrap().silent = true;
    scene.grant(7, |_| {}).await;
    let is_second_epoch =
        |heard: &Heard| matches!(report_of(heard), Some(ReportBody::EpochFinished(e)) if e.epoch == 2);
    let seen = scene.until("the second epoch", is_second_epoch).await;
    assert_eq!(words(&seen), ["started", "epoch 1", "epoch 2"], "nothing is acknowledged");
    {
        let mut state = scene.state.lock().unwrap();
        state.silent = false;
        state.to_worker = None;
    }
    let (end, before) = scene.end().await;
    assert_eq!(end, AttemptEnd::Completed);
    assert_eq!(words(&before), ["register", "started", "epoch 1", "epoch 2", "upload 2 best"]);
}

#[tokio::test]
async fn a_superseded_trial_goes_quietly_and_makes_room() {
    let mut scene = Scene::new("epoch 1; read -r stop; exit 1").await;
    scene.grant(7, |_| {}).await;
    scene.until("an epoch", |heard| matches!(report_of(heard), Some(ReportBody::EpochFinished(_)))).await;
    scene.stop(7, "superseded").await;
    scene.grant(7, |member| member.token.as_mut().unwrap().attempt = 2).await;
    let seen = scene.until("an epoch of attempt 2", |heard| words(std::slice::from_ref(heard)) == ["epoch 1"]).await;
    assert_eq!(words(&seen), ["started", "epoch 1"]);
    let Some(Heard::Said { body: Said::Report(report), .. }) = seen.last() else { panic!("{seen:?}") };
    assert_eq!(report.token.unwrap().attempt, 2);
}

#[tokio::test]
async fn a_slot_leased_anew_gives_up_what_it_had() {
    let mut scene = Scene::new("epoch 1; sleep 1000").await;
    scene.grant(7, |_| {}).await;
    scene.until("an epoch", |heard| matches!(report_of(heard), Some(ReportBody::EpochFinished(_)))).await;
    scene.grant(8, |member| member.trial_json = trial_json(false)).await;
    let (end, before) = scene.end().await;
    assert_eq!(crash_reason(&end), "there is no libtorch here");
    assert_eq!(words(&before), [""; 0]);
}

#[tokio::test]
async fn a_checkpoint_is_fetched_before_the_trainer_starts() {
    let script = r#"resume=$(echo "$start" | sed 's/.*"resume":"\([^"]*\)".*/\1/'); cat "$resume" >&2; exit 3"#;
    let mut scene = Scene::new(script).await;
    let bytes = b"the weights so far";
    scene.state.lock().unwrap().checkpoints.insert(5, bytes.to_vec());
    scene.grant(7, |member| member.resume = Some(checkpoint(5, bytes))).await;
    let (end, _) = scene.end().await;
    assert_eq!(crash_reason(&end), "its trainer died: exit code 3; its last words: the weights so far");
}

#[tokio::test]
async fn a_trial_whose_checkpoint_is_damaged_or_gone_is_given_back_without_blame() {
    let mut scene = Scene::new("epoch 1").await;
    scene.state.lock().unwrap().checkpoints.insert(5, b"the weights".to_vec());
    scene.grant(7, |member| member.resume = Some(checkpoint(5, b"the weights so far"))).await;
    let (end, before) = scene.end().await;
    let reason = |end: &AttemptEnd| match end {
        AttemptEnd::Lost { reason } => reason.clone(),
        other => panic!("{other:?}"),
    };
    assert!(reason(&end).starts_with("checkpoint 5 (epoch 1) is damaged: 11 bytes with SHA-256 "), "{end:?}");
    assert_eq!(words(&before), [""; 0], "nothing was started");
    scene.grant(8, |member| member.resume = Some(checkpoint(6, b"x"))).await;
    let (end, _) = scene.end().await;
    assert!(reason(&end).contains("there is no checkpoint 6"), "{end:?}");
}

/// A trainer that begins whoever joins, and ends both.
const JOINED: &str = r#"epoch 1
read -r join
first=$token
token=$(echo "$join" | sed 's/.*"token":\({[^}]*}\).*/\1/')
resume=$(echo "$join" | sed 's/.*"resume":"\([^"]*\)".*/\1/')
say '{"said":"started","token":'"$token"',"device":"cpu","threads":1,"instruction_set":"none","libtorch":"none","resumed_epoch":1}'
say '{"said":"log","token":'"$token"',"text":"'"$(cat "$resume")"'"}'
epoch 2
read -r stop
ended completed
token=$first
ended completed"#;

#[tokio::test]
async fn one_that_joins_is_told_to_the_trainer_once_its_checkpoint_is_there() {
    let mut scene = Scene::new(JOINED).await;
    let bytes = b"the weights so far";
    scene.state.lock().unwrap().checkpoints.insert(5, bytes.to_vec());
    scene.grant(7, |_| {}).await;
    scene.until("an epoch", |heard| words(std::slice::from_ref(heard)) == ["epoch 1"]).await;
    // Told twice it joins once.
    for _ in 0..2 {
        scene.join(8, |member| member.resume = Some(checkpoint(5, bytes))).await;
    }
    let is_log = |heard: &Heard| matches!(report_of(heard), Some(ReportBody::Log(_)));
    let seen = scene.until("its words", is_log).await;
    assert_eq!(words(&seen).last().map(String::as_str), Some("the weights so far"));
    // Whoever asks is told of both.
    scene.state.lock().unwrap().to_worker = None;
    let is_register = |heard: &Heard| matches!(heard, Heard::Said { session: 2, body: Said::Register(_), .. });
    let seen = scene.until("another session", is_register).await;
    let Some(Heard::Said { body: Said::Register(register), .. }) = seen.last() else { panic!("{seen:?}") };
    let held = [7, 8].map(|trial| proto::wire::Held { slot: 0, token: Some(token(trial)) });
    assert_eq!(register.holding, held);
    scene.stop(7, "pause").await;
    assert_eq!(scene.end().await.0, AttemptEnd::Completed);
    assert_eq!(scene.end().await.0, AttemptEnd::Completed);
}

#[tokio::test]
async fn one_that_comes_too_late_to_join_begins_in_another_trainer() {
    // It never reads that another joins.
    let mut scene = Scene::new("epoch 1; sleep 0.5; ended completed; sleep 0.3").await;
    scene.grant(7, |_| {}).await;
    scene.until("an epoch", |heard| words(std::slice::from_ref(heard)) == ["epoch 1"]).await;
    scene.join(8, |_| {}).await;
    let (end, _) = scene.end().await;
    assert_eq!(end, AttemptEnd::Completed);
    // The trainer is there, but trains nothing any more.
    scene.join(9, |_| {}).await;
    let seen = scene.until("the next", |heard| words(std::slice::from_ref(heard)) == ["epoch 1"]).await;
    assert_eq!(words(&seen), ["started", "epoch 1"]);
    let Some(Heard::Said { body: Said::Report(report), .. }) = seen.last() else { panic!("{seen:?}") };
    // Both begin in it; the script sees the last one alone.
    assert_eq!(report.token, Some(token(9)));
}

#[tokio::test]
async fn one_that_joins_a_slot_that_is_free_by_now_begins_there() {
    let mut scene = Scene::new("epoch 1; ended completed").await;
    scene.join(7, |_| {}).await;
    let (end, before) = scene.end().await;
    assert_eq!((end, words(&before)), (AttemptEnd::Completed, vec!["started".to_owned(), "epoch 1".to_owned()]));
}

#[tokio::test]
async fn asked_to_leave_it_saves_gives_back_and_says_goodbye() {
    let mut scene = Scene::new("epoch 1; read -r stop; checkpoint 1 false; ended stopped").await;
    scene.grant(7, |_| {}).await;
    scene.until("an epoch", |heard| matches!(report_of(heard), Some(ReportBody::EpochFinished(_)))).await;
    scene.leave.send(Leave::Signal("SIGTERM")).await.unwrap();
    let is_goodbye = |heard: &Heard| matches!(heard, Heard::Said { body: Said::Goodbye(_), .. });
    let seen = scene.until("the goodbye", is_goodbye).await;
    let lost = r#"{"end":"lost","reason":"worker stopped: SIGTERM"}"#;
    assert_eq!(words(&seen), ["draining", "upload 1", lost, "goodbye"]);
    assert_eq!(scene.agent.await.unwrap(), Left::Clean);
}

#[tokio::test]
async fn drained_it_finishes_what_it_holds_takes_no_more_and_leaves() {
    let mut scene = Scene::new("epoch 1; read -r go_on; checkpoint 1 true; ended completed").await;
    scene.grant(7, |_| {}).await;
    scene.until("an epoch", |heard| matches!(report_of(heard), Some(ReportBody::EpochFinished(_)))).await;
    scene.tell(proto::wire::coordinator_message::Body::LeaveWhenDone(proto::wire::LeaveWhenDone {})).await;
    // By a coordinator that does not know it yet.
    scene.grant(8, |_| {}).await;
    let (end, _) = scene.end().await;
    assert_eq!(end, AttemptEnd::Stopped, "trial 8 is given back without blame");
    // Any line lets the trainer go on: what it trains is not stopped.
    scene.stop(7, "pause").await;
    let is_goodbye = |heard: &Heard| matches!(heard, Heard::Said { body: Said::Goodbye(_), .. });
    let seen = scene.until("the goodbye", is_goodbye).await;
    assert_eq!(words(&seen), ["upload 1 best", r#"{"end":"completed"}"#, "draining", "goodbye"]);
    assert_eq!(scene.agent.await.unwrap(), Left::Clean);
}

#[tokio::test]
async fn with_nothing_to_do_it_leaves_if_told_so() {
    let idle = |config: &mut agent::Config| config.leave_when_idle = Some(Duration::from_millis(200));
    let mut scene = Scene::with("epoch 1; ended completed", idle).await;
    scene.grant(7, |_| {}).await;
    assert_eq!(scene.end().await.0, AttemptEnd::Completed);
    scene.until("the goodbye", |heard| matches!(heard, Heard::Said { body: Said::Goodbye(_), .. })).await;
    assert_eq!(scene.agent.await.unwrap(), Left::Clean);
}

#[tokio::test]
async fn what_libraries_print_and_values_that_make_no_sense_become_log_lines() {
    let script = r#"
        echo 'a library says hello'
        say '{"said":"points","token":'"$token"',"points":[{"name":"step_loss","step":1,"value":0.5},{"name":"luck","step":1,"value":1}]}'
        ended completed"#;
    let mut scene = Scene::new(script).await;
    scene.grant(7, |_| {}).await;
    let is_log = |heard: &Heard| matches!(report_of(heard), Some(ReportBody::Log(_)));
    let seen = scene.until("the log", is_log).await;
    assert_eq!(
        words(&seen),
        [
            "started",
            "points",
            "a library says hello|a measured value is left out: points: no metric is called \"luck\""
        ]
    );
    let Some(ReportBody::Points(points)) = report_of(&seen[1]) else { panic!("{seen:?}") };
    assert_eq!(points.points.len(), 1);
    assert_eq!(scene.end().await.0, AttemptEnd::Completed);
}

#[tokio::test]
async fn an_address_that_is_none_is_refused() {
    let (_, leave) = tokio::sync::mpsc::channel(1);
    let config = agent::Config {
        gradients_listen: "127.0.0.1:0".to_owned(),
        gradients_credentials: None,
        coordinator: "not an address".to_owned(),
        credentials: None,
        worker: sweeps::ids::WorkerId(1),
        host: "test".to_owned(),
        slots: vec![],
        data: proto::link::DataPlaces::default(),
        folder: "/nowhere".into(),
        trainers: agent::trainers::Trainers { real: Err(String::new()), scripted: Err(String::new()) },
        silence: Duration::from_secs(1),
        patience: Duration::from_secs(1),
        metrics: agent::metrics::Metrics::new().unwrap(),
        leave_when_idle: None,
    };
    let error = agent::run(config, leave).await.unwrap_err().to_string();
    assert!(error.contains("\"not an address\" is no address of a coordinator"), "{error}");
}
