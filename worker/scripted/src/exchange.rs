//! Replicas that exchange nothing: a chief that listens, and others that hold a connection to it. Enough to test
//! who is introduced to whom and what follows when one of them dies.

use crate::orders::Stops;
use crate::voice::Voice;
use anyhow::Context;
use proto::link::{Exchange, ExchangeRole, Said};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use sweeps::ids::Token;
use sweeps::scheduler::AttemptEnd;

/// How long a replica tries to reach its chief.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How long a chief waits for a stranger's secret.
const SECRET_PATIENCE: Duration = Duration::from_secs(2);
/// How often a replica looks whether it is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What a chief says when all is done.
const DONE: u8 = b'd';

/// Why it does not exchange anything with other hosts.
pub(crate) const NO_TLS: &str = "the scripted trainer speaks no TLS, and the secret of its replicas must not go to other \
                                 hosts in the clear; listen on loopback, or start workers with --gradients-unencrypted";

/// Whether what is said must be encrypted.
pub(crate) fn wants_tls(exchange: &Exchange) -> bool {
    let (ExchangeRole::Chief { listen: address } | ExchangeRole::Replica { chief: address }) = &exchange.role;
    exchange.credentials_at(address).is_some()
}

/// The chief's side.
pub(crate) struct Chief {
    connected: Arc<AtomicU32>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    /// Those that took part in the epoch so far.
    most: u32,
}

impl Chief {
    /// Listens, and says so.
    pub(crate) fn listen(token: Token, listen: &str, secret: &str, voice: &Voice) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
        let address = listener.local_addr()?.to_string();
        let chief = Self { connected: Arc::default(), streams: Arc::default(), most: 0 };
        let (connected, streams, secret) =
            (Arc::clone(&chief.connected), Arc::clone(&chief.streams), secret.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (connected, streams, secret) = (Arc::clone(&connected), Arc::clone(&streams), secret.clone());
                std::thread::spawn(move || {
                    if let Err(error) = hold(stream, &secret, &connected, &streams) {
                        eprintln!("a replica was not let in: {error:#}");
                    }
                });
            }
        });
        voice.say(&Said::Listening { token, address })?;
        Ok(chief)
    }

    /// Replicas that are connected now.
    pub(crate) fn connected(&mut self) -> u32 {
        let connected = self.connected.load(Ordering::SeqCst);
        self.most = self.most.max(connected);
        connected
    }

    /// The most replicas at once since asked last, the chief included.
    pub(crate) fn take_most(&mut self) -> u32 {
        let now = self.connected();
        1 + std::mem::replace(&mut self.most, now)
    }

    /// Tells all replicas that nothing is left to do.
    pub(crate) fn done(&self) {
        for stream in self.streams.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            // One that is gone needs no telling.
            let _ = stream.write_all(&[DONE]);
        }
    }
}

/// Lets a replica in that knows the secret, until it goes.
fn hold(stream: TcpStream, secret: &str, connected: &AtomicU32, streams: &Mutex<Vec<TcpStream>>) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(SECRET_PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.by_ref().take(1024).read_line(&mut line)?;
    anyhow::ensure!(line.trim_end() == secret, "its secret is wrong");
    stream.set_read_timeout(None)?;
    streams.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
    connected.fetch_add(1, Ordering::SeqCst);
    // Nothing more is said: this returns when it goes.
    let result = reader.read(&mut [0]);
    connected.fetch_sub(1, Ordering::SeqCst);
    result.map(drop).or_else(|error| match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error.into()),
    })
}

/// A replica's whole life.
pub(crate) fn replicate(token: Token, exchange: &Exchange, stops: &Stops, voice: &Voice) -> anyhow::Result<AttemptEnd> {
    let ExchangeRole::Replica { chief } = &exchange.role else { anyhow::bail!("this member is the chief") };
    let gone = |why: &str| {
        voice.say(&Said::Log { token: Some(token), text: format!("the chief at {chief} {why}") })?;
        anyhow::Ok(AttemptEnd::Stopped)
    };
    let tried_since = Instant::now();
    let mut stream = loop {
        match TcpStream::connect(chief) {
            Ok(stream) => break stream,
            Err(error) if tried_since.elapsed() > CONNECT_PATIENCE => return gone(&format!("is not reached: {error}")),
            Err(_) if stops.sleep(token, LOOK_EVERY) => return Ok(AttemptEnd::Stopped),
            Err(_) => {}
        }
    };
    stream.set_read_timeout(Some(LOOK_EVERY))?;
    if stream.write_all(format!("{}\n", exchange.secret).as_bytes()).is_err() {
        return gone("has gone away");
    }
    let mut byte = [0];
    loop {
        if stops.of(token).is_some() {
            return Ok(AttemptEnd::Stopped);
        }
        match stream.read(&mut byte) {
            Ok(1) if byte == [DONE] => return Ok(AttemptEnd::Completed),
            Ok(_) => return gone("has gone away"),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return gone("has gone away"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sweeps::ids::TrialId;
    use sweeps::scheduler::StopReason;

    /// A chief, and the address that it listens on.
    fn chief(secret: &str) -> (Chief, String) {
        // Its word is heard by the agent only; here a port is asked for before.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let chief = Chief::listen(Token::chief(TrialId(1), 1), &port.to_string(), secret, &Voice::new()).unwrap();
        (chief, port.to_string())
    }

    fn wait(chief: &mut Chief, connected: u32) {
        let since = Instant::now();
        while chief.connected() != connected {
            assert!(since.elapsed() < Duration::from_secs(20), "{} are connected, not {connected}", chief.connected());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn replica(number: u32, secret: &str, chief: &str, stops: &Stops) -> std::thread::JoinHandle<AttemptEnd> {
        let token = Token::replica(TrialId(1), 1, number);
        let role = ExchangeRole::Replica { chief: chief.to_owned() };
        let (exchange, stops) = (Exchange { secret: secret.to_owned(), credentials: None, role }, stops.clone());
        std::thread::spawn(move || replicate(token, &exchange, &stops, &Voice::new()).unwrap())
    }

    #[test]
    fn replicas_stay_until_all_is_done_they_are_stopped_or_their_secret_is_wrong() {
        let (mut chief, address) = chief("s3cret");
        let stops = Stops::default();
        let (one, two) = (replica(1, "s3cret", &address, &stops), replica(2, "s3cret", &address, &stops));
        wait(&mut chief, 2);
        assert_eq!(replica(3, "guessed", &address, &stops).join().unwrap(), AttemptEnd::Stopped);
        stops.ask(Token::replica(TrialId(1), 1, 2), StopReason::Superseded);
        assert_eq!(two.join().unwrap(), AttemptEnd::Stopped);
        wait(&mut chief, 1);
        assert_eq!((chief.take_most(), chief.take_most()), (3, 2));
        chief.done();
        assert_eq!(one.join().unwrap(), AttemptEnd::Completed);
    }

    #[test]
    fn nothing_goes_in_the_clear_where_it_should_not() {
        for (address, credentials, expected) in
            [("10.0.0.5:7", Some("node7"), true), ("127.0.0.1:7", Some("node7"), false), ("10.0.0.5:7", None, false)]
        {
            let role = ExchangeRole::Replica { chief: address.to_owned() };
            let exchange = Exchange { secret: String::new(), credentials: credentials.map(Into::into), role };
            assert_eq!(wants_tls(&exchange), expected, "{address} {credentials:?}");
        }
    }
}
