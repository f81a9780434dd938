//! Streams of answers: filled by a task, bounded, and ended when nobody reads them.

use crate::tokens::{Caller, ended};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

/// Answers that may wait for their reader.
const WAITING_MAX: usize = 4;
/// What a stream of answers is made of.
#[derive(Debug)]
pub(crate) struct Answers<T> {
    waiting: mpsc::Receiver<Result<T, Status>>,
    was_slow: Arc<AtomicBool>,
}

/// The way to whoever reads.
#[derive(Debug)]
pub(super) struct Teller<T> {
    to: mpsc::Sender<Result<T, Status>>,
    was_slow: Arc<AtomicBool>,
    /// How long a reader may leave answers waiting; then he is let go. Whoever watches goes on from the last event that
    /// he has.
    reader_max: Duration,
}

impl<T> Teller<T> {
    /// Tells one thing, when there is room. False if nobody reads any more, or not for a while.
    pub(super) async fn tell(&self, answer: T) -> bool {
        match tokio::time::timeout(self.reader_max, self.to.send(Ok(answer))).await {
            Ok(sent) => sent.is_ok(),
            Err(_) => {
                self.was_slow.store(true, Ordering::Relaxed);
                false
            }
        }
    }

    /// Until nobody reads any more.
    pub(super) async fn closed(&self) {
        self.to.closed().await;
    }
}

impl<T> Stream for Answers<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.waiting.poll_recv(context) {
            Poll::Ready(None) if self.was_slow.swap(false, Ordering::Relaxed) => Poll::Ready(Some(Err(too_slow()))),
            polled => polled,
        }
    }
}

/// As of a connection that broke: whoever reads on asks again.
fn too_slow() -> Status {
    Status::unavailable("nothing was read for too long, so that this ends here; ask again for what is missing")
}

/// A stream filled by a task, which ends when its reader has gone or does not read, or his token is not good any more.
pub(super) fn answers<T: Send + 'static, F>(
    reader_max: Duration,
    caller: Option<Caller>,
    fill: impl FnOnce(Teller<T>) -> F,
) -> Answers<T>
where
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let (to, waiting) = mpsc::channel(WAITING_MAX);
    let was_slow: Arc<AtomicBool> = Arc::default();
    let filling = fill(Teller { to: to.clone(), was_slow: Arc::clone(&was_slow), reader_max });
    tokio::spawn(async move {
        let filled = tokio::select! {
            filled = filling => filled,
            status = ended(caller) => Err(status),
        };
        if let Err(status) = filled {
            // Who does not read it is gone, or will be told that he was slow.
            let _ = tokio::time::timeout(reader_max, to.send(Err(status))).await;
        }
    });
    Answers { waiting, was_slow }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_stream::StreamExt;

    async fn count_up(to: Teller<u32>) -> Result<(), Status> {
        for number in 0..100 {
            if !to.tell(number).await {
                break;
            }
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_is_let_go_and_told_so() {
        let mut slow = answers(Duration::from_millis(20), None, count_up);
        // The task has given up once nothing can be sent any more.
        while !slow.waiting.is_closed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for number in 0..4 {
            assert_eq!(slow.next().await.unwrap().unwrap(), number);
        }
        let status = slow.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unavailable);
        assert!(slow.next().await.is_none());

        let read: Vec<_> = answers(Duration::from_secs(60), None, count_up).collect().await;
        assert!(read.len() == 100 && read.iter().all(Result::is_ok));
    }
}
