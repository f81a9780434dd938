use super::*;
use sweeps::ids::TrialId;

fn token(trial: u64) -> Token {
    Token::chief(TrialId(trial), 1)
}

fn cohort(trials: &[u64]) -> Cohort {
    let members = trials.iter().map(|trial| granted(token(*trial))).collect();
    let mut cohort = Cohort::new(members);
    assert_eq!(cohort.started().len(), trials.len());
    cohort
}

fn granted(token: Token) -> Granted {
    let member = link::Member { token, trial: crate::testing::trial(), resume: None, threads: 0, exchange: None };
    Granted { member, resume: None }
}

fn crashed(reason: &str) -> AttemptEnd {
    AttemptEnd::Crashed { reason: reason.to_owned() }
}

#[test]
fn the_last_members_end_waits_for_the_process() {
    let now = Instant::now();
    let mut cohort = cohort(&[7, 8]);
    cohort.ended(token(7), AttemptEnd::Completed, now);
    assert_eq!(cohort.reports(), [(token(7), AttemptEnd::Completed)]);
    cohort.ended(token(8), AttemptEnd::Completed, now);
    assert_eq!(cohort.reports(), []);
    cohort.gone("exit code 0", true);
    assert_eq!(cohort.reports(), [(token(8), AttemptEnd::Completed)]);
    assert_eq!(cohort.reports(), []);
    assert!(cohort.is_over());
}

#[test]
fn both_ending_at_once_still_leaves_one_for_the_process() {
    let now = Instant::now();
    let mut cohort = cohort(&[7, 8]);
    cohort.ended(token(7), AttemptEnd::Completed, now);
    cohort.ended(token(8), AttemptEnd::Completed, now);
    assert_eq!(cohort.reports().len(), 1);
    cohort.gone("exit code 0", true);
    assert_eq!(cohort.reports().len(), 1);
}

#[test]
fn of_several_that_died_together_none_is_blamed() {
    let mut together = cohort(&[1, 2, 3]);
    together.ended(token(3), AttemptEnd::Failed { reason: "loss is NaN".to_owned() }, Instant::now());
    together.gone("exit code 139", false);
    let ends = together.reports();
    assert_eq!(ends.len(), 3);
    for (of, end) in ends {
        match end {
            AttemptEnd::Failed { .. } => assert_eq!(of, token(3), "its own words count"),
            AttemptEnd::CrashedTogether { reason, trials } => {
                assert_eq!((reason.as_str(), trials), ("exit code 139", 2), "those that still ran");
            }
            other => panic!("{other:?}"),
        }
    }
    let mut alone = cohort(&[1]);
    alone.gone("exit code 139", false);
    assert_eq!(alone.reports(), [(token(1), crashed("exit code 139"))]);
}

#[test]
fn an_end_waits_for_the_checkpoints() {
    let now = Instant::now();
    let mut cohort = cohort(&[7]);
    cohort.upload_began(token(7));
    cohort.upload_began(token(7));
    cohort.ended(token(7), AttemptEnd::Completed, now);
    cohort.gone("exit code 0", true);
    assert_eq!(cohort.reports(), []);
    cohort.upload_ended(token(7), Ok(()));
    assert_eq!(cohort.reports(), []);
    assert!(!cohort.is_over());
    cohort.upload_ended(token(7), Ok(()));
    assert_eq!(cohort.reports(), [(token(7), AttemptEnd::Completed)]);
}

#[test]
fn a_completion_whose_checkpoint_is_refused_is_none() {
    let now = Instant::now();
    let mut cohort = cohort(&[7]);
    cohort.upload_began(token(7));
    cohort.ended(token(7), AttemptEnd::Completed, now);
    cohort.gone("exit code 0", true);
    cohort.upload_ended(token(7), Err("no".to_owned()));
    assert_eq!(cohort.reports(), [(token(7), crashed("its last checkpoint could not be stored: no"))]);
}

/// What is reported when the process is gone.
fn verdict(said: Option<AttemptEnd>, why: Option<Why>) -> Vec<AttemptEnd> {
    let now = Instant::now();
    let mut cohort = cohort(&[7]);
    if let Some(why) = why {
        cohort.stop(token(7), why, now);
    }
    if let Some(said) = said {
        cohort.ended(token(7), said, now);
    }
    cohort.gone("exit code 1", false);
    cohort.reports().into_iter().map(|(_, end)| end).collect()
}

#[test]
fn what_was_asked_decides_what_an_end_means() {
    use AttemptEnd::{Completed, Lost, Stopped};
    let pause = || Some(Why::Asked(StopReason::Pause));
    let cancel = || Some(Why::Asked(StopReason::Cancel));
    let drain = || Some(Why::Drain("worker stopped: SIGTERM".to_owned()));
    let lost = || Lost { reason: "worker stopped: SIGTERM".to_owned() };
    assert_eq!(verdict(None, None), [crashed("exit code 1")]);
    assert_eq!(verdict(Some(Stopped), None), [crashed("its trainer stopped without being asked to")]);
    assert_eq!(verdict(Some(Stopped), pause()), [Stopped]);
    assert_eq!(verdict(None, pause()), [Stopped]);
    assert_eq!(verdict(None, cancel()), [Stopped]);
    assert_eq!(verdict(Some(Completed), pause()), [Completed]);
    assert_eq!(verdict(Some(Completed), drain()), [Completed]);
    assert_eq!(verdict(Some(Stopped), drain()), [lost()]);
    assert_eq!(verdict(None, drain()), [lost()]);
    assert_eq!(verdict(Some(Stopped), Some(Why::Asked(StopReason::Superseded))), []);
}

#[test]
fn a_stop_is_told_once_and_a_harder_one_again() {
    let now = Instant::now();
    let mut cohort = cohort(&[7]);
    assert_eq!(cohort.stop(token(9), Why::Asked(StopReason::Pause), now), None);
    assert_eq!(cohort.stop(token(7), Why::Asked(StopReason::Pause), now), Some(StopReason::Pause));
    assert_eq!(cohort.stop(token(7), Why::Asked(StopReason::Pause), now), None);
    assert_eq!(cohort.stop(token(7), Why::Drain("x".to_owned()), now), None);
    assert_eq!(cohort.stop(token(7), Why::Asked(StopReason::Cancel), now), Some(StopReason::Cancel));
    assert_eq!(cohort.stop(token(7), Why::Asked(StopReason::Pause), now), None);
    assert_eq!(cohort.stop(token(7), Why::Asked(StopReason::Superseded), now), Some(StopReason::Superseded));
}

#[test]
fn patience_depends_on_what_was_asked() {
    let now = Instant::now();
    let check = |trials: &[u64], why: Why, expected: (u64, Signal)| {
        let mut cohort = cohort(trials);
        assert_eq!(cohort.signal_at(), None);
        cohort.stop(token(7), why, now);
        let (at, signal) = cohort.signal_at().unwrap();
        assert_eq!((at.duration_since(now).as_secs(), signal), expected);
    };
    check(&[7], Why::Asked(StopReason::Pause), (60, Signal::TERM));
    check(&[7], Why::Asked(StopReason::Cancel), (5, Signal::KILL));
    check(&[7], Why::Drain(String::new()), (15, Signal::TERM));
    check(&[7, 8], Why::Asked(StopReason::Cancel), (60, Signal::TERM));
}

#[test]
fn sigkill_follows_sigterm_and_nothing_follows_that() {
    let now = Instant::now();
    let mut cohort = cohort(&[7]);
    cohort.ended(token(7), AttemptEnd::Completed, now);
    assert_eq!(cohort.signal_at(), Some((now + EXIT_PATIENCE, Signal::TERM)));
    cohort.signalled(Signal::TERM, now);
    assert_eq!(cohort.signal_at(), Some((now + TERM_PATIENCE, Signal::KILL)));
    cohort.signalled(Signal::KILL, now);
    assert_eq!(cohort.signal_at(), None);
}

#[test]
fn a_member_stopped_before_its_trainer_started_is_over() {
    let now = Instant::now();
    let mut cohort = Cohort::new(vec![granted(token(7))]);
    assert_eq!(cohort.stop(token(7), Why::Asked(StopReason::Cancel), now), None);
    assert_eq!(cohort.reports(), [(token(7), AttemptEnd::Stopped)]);
    assert!(cohort.is_over());
}

#[test]
fn a_replica_may_stop_by_itself_a_chief_may_not() {
    let check = |token: Token, expected: AttemptEnd| {
        let mut cohort = Cohort::new(vec![granted(token)]);
        cohort.started();
        cohort.ended(token, AttemptEnd::Stopped, Instant::now());
        cohort.gone("exit code 0", true);
        assert_eq!(cohort.reports(), [(token, expected)]);
    };
    let reason = "its trainer stopped without being asked to".to_owned();
    check(token(7), AttemptEnd::Crashed { reason });
    // Its chief is gone; whoever watches over that decides.
    let replica = Token { replica: 3, ..token(7) };
    check(replica, AttemptEnd::Stopped);
}

fn told(members: Vec<link::Member>) -> Vec<Token> {
    members.into_iter().map(|member| member.token).collect()
}

#[test]
fn one_joins_once_its_checkpoint_is_there() {
    let mut cohort = cohort(&[7]);
    let checkpoint = wire::Checkpoint { id: 5, ..wire::Checkpoint::default() };
    cohort.join(vec![Granted { resume: Some(checkpoint.clone()), ..granted(token(8)) }]);
    assert_eq!(cohort.fetch(), [(token(8), checkpoint)]);
    assert_eq!((cohort.fetch(), told(cohort.joining())), (vec![], vec![]));
    cohort.fetched(token(8), "/x".into());
    let joining = cohort.joining();
    assert_eq!(joining.first().and_then(|member| member.resume.clone()), Some("/x".into()));
    assert_eq!((told(joining), told(cohort.joining())), (vec![token(8)], vec![]));
    // From here on it is one of them.
    cohort.begun(token(8));
    cohort.gone("exit code 139", false);
    assert!(cohort.reports().iter().all(|(_, end)| matches!(end, AttemptEnd::CrashedTogether { trials: 2, .. })));
}

#[test]
fn one_that_the_process_has_not_begun_begins_in_another() {
    let now = Instant::now();
    let mut cohort = cohort(&[7]);
    cohort.join(vec![granted(token(8))]);
    assert_eq!(told(cohort.joining()), [token(8)]);
    cohort.ended(token(7), AttemptEnd::Completed, now);
    assert_eq!(cohort.reports(), [(token(7), AttemptEnd::Completed)], "the slot is not free");
    assert_eq!(cohort.signal_at(), None, "it may still begin");
    cohort.join(vec![granted(token(9))]);
    cohort.gone("exit code 0", true);
    assert!(cohort.reports().is_empty() && !cohort.is_over());
    assert_eq!(told(cohort.started()), [token(8), token(9)]);
    assert_eq!(cohort.signal_at(), None);
    // Here that is a crash: it was told at the start.
    cohort.ended(token(8), AttemptEnd::Completed, now);
    cohort.gone("exit code 0", true);
    assert_eq!(cohort.reports(), [(token(8), AttemptEnd::Completed), (token(9), crashed("exit code 0"))]);
    assert!(cohort.is_over());
}

#[test]
fn nobody_joins_a_process_that_has_nothing_left_to_train() {
    let now = Instant::now();
    let mut cohort = cohort(&[7]);
    cohort.ended(token(7), AttemptEnd::Completed, now);
    cohort.join(vec![granted(token(8))]);
    assert_eq!(told(cohort.joining()), []);
    assert_eq!(cohort.reports(), [(token(7), AttemptEnd::Completed)]);
    assert_eq!(cohort.signal_at(), Some((now + EXIT_PATIENCE, Signal::TERM)));
    cohort.signalled(Signal::TERM, now);
    cohort.gone("killed by signal 15 (SIGTERM)", false);
    assert_eq!(told(cohort.started()), [token(8)]);
    assert_eq!(cohort.signal_at(), None);
}

#[test]
fn one_that_is_stopped_before_it_joined_is_over_at_once() {
    let now = Instant::now();
    let mut cohort = cohort(&[7]);
    cohort.join(vec![granted(token(8)), granted(token(9))]);
    assert_eq!(cohort.stop(token(8), Why::Asked(StopReason::Pause), now), None);
    assert_eq!(cohort.reports(), [(token(8), AttemptEnd::Stopped)]);
    // One that the process was told of is told to stop as well; if it had ended before, that is enough.
    assert_eq!(told(cohort.joining()), [token(9)]);
    assert_eq!(cohort.stop(token(9), Why::Asked(StopReason::Pause), now), Some(StopReason::Pause));
    cohort.ended(token(7), AttemptEnd::Completed, now);
    cohort.gone("exit code 0", true);
    assert_eq!(cohort.reports(), [(token(7), AttemptEnd::Completed), (token(9), AttemptEnd::Stopped)]);
    assert!(cohort.is_over());
}
