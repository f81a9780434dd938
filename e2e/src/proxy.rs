//! A network between two processes that can be cut, and that can fall silent in one direction.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// From whom bytes come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From those who connect.
    In,
    /// From the one who is connected to.
    Out,
}

/// Listens on loopback and passes everything on.
#[derive(Debug)]
pub struct Proxy {
    /// `http://127.0.0.1:PORT`.
    pub address: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: String,
    open: Mutex<Vec<TcpStream>>,
    /// Until when nothing passes, by [`Way`].
    silent_until: [Mutex<Instant>; 2],
    closing: AtomicBool,
}

impl Proxy {
    /// In front of `http://HOST:PORT`, which may be away at times.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            target: target.trim_start_matches("http://").to_owned(),
            open: Mutex::default(),
            silent_until: [Mutex::new(Instant::now()), Mutex::new(Instant::now())],
            closing: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Self { address, shared }
    }

    /// Ends all connections; returns how many there were. New ones are taken.
    #[must_use]
    pub fn cut(&self) -> usize {
        let cut: Vec<TcpStream> = std::mem::take(&mut self.shared.open());
        for stream in &cut {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
        cut.len() / 2
    }

    /// Nothing passes that way for so long; then everything that has waited does.
    pub fn silence(&self, way: Way, how_long: Duration) {
        *self.shared.silent_until(way) = Instant::now() + how_long;
    }

    /// Everything passes again.
    pub fn heal(&self) {
        for way in [Way::In, Way::Out] {
            *self.shared.silent_until(way) = Instant::now();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.heal();
        let _ = self.cut();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address.trim_start_matches("http://"));
    }
}

impl Shared {
    fn open(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn silent_until(&self, way: Way) -> std::sync::MutexGuard<'_, Instant> {
        let place = match way {
            Way::In => 0,
            Way::Out => 1,
        };
        self.silent_until[place].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while_silent(&self, way: Way) {
        while Instant::now() < *self.silent_until(way) {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for near in listener.incoming().flatten() {
        if shared.closing.load(Ordering::SeqCst) {
            return;
        }
        // Nobody there: whoever connected finds the connection closed.
        let Ok(far) = TcpStream::connect(&shared.target) else { continue };
        let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) else { continue };
        let mut open = shared.open();
        open.retain(|stream| stream.peer_addr().is_ok());
        open.extend([near.try_clone(), far.try_clone()].into_iter().flatten());
        drop(open);
        for (from, to, way) in [(near, far, Way::In), (far_too, near_too, Way::Out)] {
            let shared = Arc::clone(shared);
            thread::spawn(move || pass_on(from, to, way, &shared));
        }
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, way: Way, shared: &Shared) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        shared.wait_while_silent(way);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody who sends back what is sent.
    fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut bytes = [0; 16];
                    while let Ok(count @ 1..) = stream.read(&mut bytes) {
                        stream.write_all(&bytes[..count]).unwrap();
                    }
                });
            }
        });
        address
    }

    #[test]
    fn it_passes_on_falls_silent_and_cuts() {
        let proxy = Proxy::start(&echo());
        let connect = || TcpStream::connect(proxy.address.trim_start_matches("http://")).unwrap();
        let mut stream = connect();
        let mut answer = [0; 2];
        stream.write_all(b"ab").unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"ab");
        let begun = Instant::now();
        proxy.silence(Way::Out, Duration::from_millis(100));
        stream.write_all(b"cd").unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"cd");
        assert!(begun.elapsed() >= Duration::from_millis(100), "it was not silent");
        assert_eq!(proxy.cut(), 1);
        assert!(matches!(stream.read(&mut answer), Ok(0) | Err(_)));
        let mut stream = connect();
        stream.write_all(b"ef").unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"ef");
    }
}
