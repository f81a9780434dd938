//! `GET /metrics`: numbers for whoever scrapes them. Read-only, without a password: for loopback, or where somebody has
//! said that everybody may read them.

use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Prometheus' text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Connections at a time; more wait.
const CONNECTIONS_MAX: usize = 16;
/// How long a request's head may take.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// How long a whole connection may stay, so that idle ones do not take all places.
const CONNECTION_MAX: Duration = Duration::from_secs(600);
/// After the socket refused to accept, as it does when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Whether metrics may be served there: on loopback, or where that was said to be meant.
///
/// # Errors
/// With what to do.
pub fn check_public(address: SocketAddr, is_meant: bool) -> Result<(), NotPublic> {
    if address.ip().is_loopback() || is_meant { Ok(()) } else { Err(NotPublic { address }) }
}

/// An address at which others would read metrics without being asked for anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotPublic {
    /// Where it was to be.
    pub address: SocketAddr,
}

impl fmt::Display for NotPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "--metrics-listen {} is not on loopback: whoever reaches it can read names of sweeps and hosts, and counts; \
             add --metrics-public if that is meant, or listen on 127.0.0.1 and let a scraper on this machine pass them on",
            self.address
        )
    }
}

impl std::error::Error for NotPublic {}

/// Answers `GET /metrics` with what `text` gives, until `shutdown` is ready.
pub async fn serve<F, T>(listener: TcpListener, text: F, shutdown: impl Future<Output = ()>)
where
    F: Fn() -> T + Clone + Send + 'static,
    T: Future<Output = String> + Send,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = tokio::select! {
            () = &mut shutdown => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection for metrics was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let text = text.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request, text()));
            let mut server = http1::Builder::new();
            let connection = server
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_MAX)
                .serve_connection(TokioIo::new(stream), service);
            // Broken or too slow: the other side tries again.
            let _ = tokio::time::timeout(CONNECTION_MAX, connection).await;
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// What `text` gives is only asked for where it is wanted.
async fn answer(
    request: Request<Incoming>,
    text: impl Future<Output = String>,
) -> Result<Response<String>, Infallible> {
    let mut response = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => Response::new(text.await),
        (&Method::GET | &Method::HEAD, _) => with_status(StatusCode::NOT_FOUND, "metrics are at /metrics\n"),
        _ => {
            let mut response = with_status(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
    };
    let format = if response.status() == StatusCode::OK { TEXT_FORMAT } else { "text/plain; charset=utf-8" };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format));
    Ok(response)
}

fn with_status(status: StatusCode, words: &str) -> Response<String> {
    let mut response = Response::new(words.to_owned());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn off_loopback_they_are_served_only_where_that_is_meant() {
        for (address, is_meant, expected) in [
            ("127.0.0.1:9463", false, true),
            ("[::1]:9463", false, true),
            ("0.0.0.0:9463", false, false),
            ("10.0.0.5:9463", false, false),
            ("[::]:9463", false, false),
            ("10.0.0.5:9463", true, true),
        ] {
            let checked = check_public(address.parse().unwrap(), is_meant);
            assert_eq!(checked.is_ok(), expected, "{address}");
            let told = checked.map_or_else(|not| not.to_string(), |()| "--metrics-public".to_owned());
            assert!(told.contains("--metrics-public"), "{told}");
        }
    }

    #[tokio::test]
    async fn metrics_are_served_and_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let text = || async { "answers_total 42\n".to_owned() };
        let server = tokio::spawn(serve(listener, text, async {
            let _ = stopped.await;
        }));
        for (request, expected) in [
            ("GET /metrics HTTP/1.1", "HTTP/1.1 200 OK|answers_total 42"),
            ("GET /metrics?x=1 HTTP/1.1", "HTTP/1.1 200 OK|answers_total 42"),
            ("HEAD /metrics HTTP/1.1", "HTTP/1.1 200 OK|"),
            ("GET / HTTP/1.1", "HTTP/1.1 404 Not Found|metrics are at /metrics"),
            ("POST /metrics HTTP/1.1", "HTTP/1.1 405 Method Not Allowed|only GET is answered"),
            ("nonsense", "HTTP/1.1 400 Bad Request|"),
        ] {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let head = format!("{request}\r\nHost: here\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let found = format!("{}|{}", head.lines().next().unwrap(), body.trim_end());
            assert_eq!(found, expected, "{request}");
            let is_text = head.to_lowercase().contains("content-type: text/plain; version=0.0.4");
            assert_eq!(is_text, expected.contains("200"), "{head}");
        }
        stop.send(()).unwrap();
        server.await.unwrap();
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
}
