//! Streams of what happened: from the store in pages, then as transactions come.
//!
//! There is one source, the table. A transaction only wakes the watchers; so nothing is told twice, nothing is
//! left out, and a slow watcher costs nothing: it is let go, and goes on from the last event that it has.

use super::answers::Teller;
use super::{Service, cannot_read};
use proto::wire;
use std::time::Duration;
use tonic::Status;

/// Events or lines read at a time.
const PAGE: u32 = 500;
/// Points in one message.
const POINTS: u32 = 5_000;
/// Between looks at the table while transactions come all the time.
const PAUSE: Duration = Duration::from_millis(20);

impl Service {
    /// Until the sweep is over, unless `follow`; or until the reader has gone.
    pub(super) async fn tell_events(self, request: wire::WatchRequest, to: Teller<wire::Event>) -> Result<(), Status> {
        let wire::WatchRequest { sweep, mut after, follow, last, workers } = request;
        if last > 0 {
            after = after.max(self.shared.reader.before_last(&sweep, workers, last).await.map_err(cannot_read)?);
        }
        let mut commits = self.shared.commits.clone();
        loop {
            commits.mark_unchanged();
            // Looked up before the events are: what ended it is among them.
            let over = !follow && self.shared.reader.is_over(&sweep).await.map_err(cannot_read)?;
            loop {
                let events = self.shared.reader.events(&sweep, workers, after, PAGE).await.map_err(cannot_read)?;
                let full = events.len() == PAGE as usize;
                for event in events {
                    after = event.sequence;
                    if !to.tell(event).await {
                        return Ok(());
                    }
                }
                if !full {
                    break;
                }
            }
            if over || !self.wait_for_commit(&mut commits, &to).await {
                return Ok(());
            }
        }
    }

    pub(super) async fn tell_logs(self, request: wire::LogsRequest, to: Teller<wire::LogBatch>) -> Result<(), Status> {
        let wire::LogsRequest { trial, follow } = request;
        let mut commits = self.shared.commits.clone();
        let mut after = 0;
        loop {
            commits.mark_unchanged();
            let over = self.shared.reader.trial_is_over(trial).await.map_err(cannot_read)?.unwrap_or(true);
            loop {
                let (lines, last) = self.shared.reader.logs(trial, after, PAGE).await.map_err(cannot_read)?;
                let full = lines.len() == PAGE as usize;
                after = last;
                if !lines.is_empty() && !to.tell(wire::LogBatch { lines }).await {
                    return Ok(());
                }
                if !full {
                    break;
                }
            }
            if !follow || over || !self.wait_for_commit(&mut commits, &to).await {
                return Ok(());
            }
        }
    }

    pub(super) async fn tell_metrics(
        self,
        trials: Vec<u64>,
        names: Vec<String>,
        to: Teller<wire::MetricsBatch>,
    ) -> Result<(), Status> {
        let names_json = (!names.is_empty()).then(|| proto::convert::to_json(&names));
        let mut batch = wire::MetricsBatch::default();
        for trial in trials {
            let mut after = (String::new(), -1);
            loop {
                let page = self.shared.reader.metrics(trial, names_json.as_deref(), &after, POINTS).await;
                let page = page.map_err(cannot_read)?;
                let full = page.len() == POINTS as usize;
                if let Some(last) = page.last() {
                    after = (last.name.clone(), crate::store::signed(last.step));
                }
                batch.points.extend(page);
                if batch.points.len() >= POINTS as usize && !to.tell(std::mem::take(&mut batch)).await {
                    return Ok(());
                }
                if !full {
                    break;
                }
            }
        }
        if !batch.points.is_empty() {
            // The reader may have gone.
            to.tell(batch).await;
        }
        Ok(())
    }

    /// False if there is nobody to tell any more.
    async fn wait_for_commit<T>(&self, commits: &mut tokio::sync::watch::Receiver<u64>, to: &Teller<T>) -> bool {
        let mut closed = self.shared.closed.clone();
        let go_on = tokio::select! {
            changed = commits.changed() => changed.is_ok(),
            () = to.closed() => false,
            _ = closed.wait_for(|closed| *closed) => false,
        };
        if go_on {
            tokio::time::sleep(PAUSE).await;
        }
        go_on
    }
}
