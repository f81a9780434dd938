//! Facts to records: what a store does with them, as a function.

use super::{Fact, SweepRecord, TrialRecord};
use crate::ids::TrialId;
use std::collections::BTreeMap;

/// The records that follow from all facts ever told, in order: what [`super::Scheduler::restore`] takes. The
/// same facts told twice give the same records. Facts of attempts only tell history; the trial's own row says
/// where it stands.
#[must_use]
pub fn fold<'a>(facts: impl IntoIterator<Item = &'a Fact>) -> Vec<SweepRecord> {
    let mut sweeps: Vec<SweepRecord> = Vec::new();
    let mut place_of: BTreeMap<String, usize> = BTreeMap::new();
    let mut trials: BTreeMap<TrialId, &TrialRecord> = BTreeMap::new();
    for fact in facts {
        match fact {
            Fact::SweepKnown { sweep, limits } => match place_of.get(sweep) {
                Some(&place) => sweeps[place].limits = limits.clone(),
                None => {
                    place_of.insert(sweep.clone(), sweeps.len());
                    let (sweep, limits) = (sweep.clone(), limits.clone());
                    sweeps.push(SweepRecord { sweep, limits, asked: None, paused: false, trials: Vec::new() });
                }
            },
            Fact::SweepLimited { sweep, asked } => {
                if let Some(&place) = place_of.get(sweep) {
                    sweeps[place].asked = *asked;
                }
            }
            Fact::SweepPaused { sweep, paused } => {
                if let Some(&place) = place_of.get(sweep) {
                    sweeps[place].paused = *paused;
                }
            }
            Fact::SweepCleared { sweep } => {
                trials.retain(|_, record| record.sweep != *sweep);
                if let Some(&place) = place_of.get(sweep) {
                    sweeps[place].paused = false;
                    sweeps[place].asked = None;
                }
            }
            Fact::Trial(record) => {
                trials.insert(record.trial.id, record);
            }
            Fact::AttemptStarted { .. }
            | Fact::AttemptEnded { .. }
            | Fact::ReplicaJoined { .. }
            | Fact::ReplicaLeft { .. } => {}
        }
    }
    for record in trials.into_values() {
        if let Some(&place) = place_of.get(&record.sweep) {
            sweeps[place].trials.push(record.clone());
        }
    }
    sweeps
}
