//! Connections at the door: how many there may be, and for how long one may say nothing.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// After an accept that failed, as when no more files can be opened.
const PAUSE: Duration = Duration::from_millis(100);

/// How much of the door anybody may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of all peers together.
    pub connections_max: usize,
    /// Of one address, unless it is on loopback.
    pub connections_of_peer_max: usize,
    /// A connection on which nothing comes for so long is closed. Ours ask every few seconds for a sign of life, so
    /// this ends those that have not even begun to speak.
    pub silence_max: Duration,
}

/// Lets in who finds room.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    limits: Limits,
    inside: Arc<Mutex<Inside>>,
    pause: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug, Default)]
struct Inside {
    all: usize,
    by_peer: BTreeMap<IpAddr, usize>,
}

impl Door {
    /// Of whoever connects to that listener.
    #[must_use]
    pub fn new(listener: TcpListener, limits: Limits) -> Self {
        Self { listener, limits, inside: Arc::default(), pause: None }
    }

    fn enter(&self, peer: IpAddr) -> Option<Place> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = inside.by_peer.get(&peer).copied().unwrap_or(0);
        let is_full = inside.all >= self.limits.connections_max
            || !peer.is_loopback() && of_peer >= self.limits.connections_of_peer_max;
        if is_full {
            return None;
        }
        inside.all += 1;
        inside.by_peer.insert(peer, of_peer + 1);
        Some(Place { inside: Arc::clone(&self.inside), peer })
    }
}

impl Stream for Door {
    type Item = io::Result<Guest>;

    /// Never ends and never fails: one connection that cannot be taken says nothing of the next.
    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(pause) = &mut this.pause {
                ready!(pause.as_mut().poll(context));
                this.pause = None;
            }
            match ready!(this.listener.poll_accept(context)) {
                Ok((stream, peer)) => match this.enter(peer.ip()) {
                    Some(place) => {
                        // Only slower without it.
                        let _ = stream.set_nodelay(true);
                        return Poll::Ready(Some(Ok(Guest::new(stream, place, this.limits.silence_max))));
                    }
                    None => tracing::debug!(%peer, "a connection too many was closed"),
                },
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken; is the limit of open files too low?");
                    this.pause = Some(Box::pin(sleep(PAUSE)));
                }
            }
        }
    }
}

/// Given back when the connection ends.
#[derive(Debug)]
struct Place {
    inside: Arc<Mutex<Inside>>,
    peer: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.all = inside.all.saturating_sub(1);
        match inside.by_peer.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(inside.by_peer.remove(&self.peer)),
        }
    }
}

/// A connection that must not be silent for too long.
#[derive(Debug)]
pub struct Guest {
    stream: TcpStream,
    _place: Place,
    silence_max: Duration,
    heard_at: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl Guest {
    fn new(stream: TcpStream, place: Place, silence_max: Duration) -> Self {
        let heard_at = Instant::now();
        let alarm = Box::pin(sleep_until(heard_at + silence_max));
        Self { stream, _place: place, silence_max, heard_at, alarm }
    }
}

impl Connected for Guest {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Guest {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            this.heard_at = Instant::now();
            return Poll::Ready(read);
        }
        while this.alarm.as_mut().poll(context).is_ready() {
            let until = this.heard_at + this.silence_max;
            if Instant::now() >= until {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing came for too long")));
            }
            this.alarm.as_mut().reset(until);
        }
        Poll::Pending
    }
}

impl AsyncWrite for Guest {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_stream::StreamExt;

    async fn door(limits: Limits) -> (Door, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Door::new(listener, limits), address)
    }

    const WIDE: Limits =
        Limits { connections_max: 100, connections_of_peer_max: 100, silence_max: Duration::from_secs(3600) };

    #[tokio::test]
    async fn a_connection_too_many_is_closed_and_room_is_given_back() {
        let (mut door, address) = door(Limits { connections_max: 2, ..WIDE }).await;
        let mut callers = Vec::new();
        for _ in 0..3 {
            callers.push(TcpStream::connect(address).await.unwrap());
        }
        let first = door.next().await.unwrap().unwrap();
        let _second = door.next().await.unwrap().unwrap();
        // The third is seen, and closed, while the next is waited for.
        let mut third = callers.pop().unwrap();
        let waiting = tokio::spawn(async move { door.next().await.unwrap().map(drop).map(|()| door) });
        assert!(matches!(third.read(&mut [0; 1]).await, Ok(0) | Err(_)));
        drop(first);
        let _fourth = TcpStream::connect(address).await.unwrap();
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn one_peer_does_not_take_all_the_room_unless_it_is_this_machine() {
        let (door, _) = door(Limits { connections_max: 5, connections_of_peer_max: 2, ..WIDE }).await;
        let enter = |peer: &str| door.enter(peer.parse().unwrap());
        let mut places = vec![enter("10.0.0.1").unwrap(), enter("10.0.0.1").unwrap()];
        assert!(enter("10.0.0.1").is_none());
        places.push(enter("10.0.0.2").unwrap());
        places.push(enter("127.0.0.1").unwrap());
        places.push(enter("127.0.0.1").unwrap());
        assert!(enter("10.0.0.3").is_none());
        places.clear();
        assert!(door.inside.lock().unwrap().by_peer.is_empty());
        assert!(enter("10.0.0.1").is_some());
    }

    #[tokio::test]
    async fn a_silent_connection_is_closed_and_one_that_speaks_is_not() {
        let (mut door, address) = door(Limits { silence_max: Duration::from_millis(200), ..WIDE }).await;
        let mut caller = TcpStream::connect(address).await.unwrap();
        let mut guest = door.next().await.unwrap().unwrap();
        caller.write_all(b"x").await.unwrap();
        assert_eq!(guest.read_u8().await.unwrap(), b'x');
        let silent = guest.read_u8().await.unwrap_err();
        assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
    }
}
