//! A gRPC service whose calls are counted: by method and code, and how long their answers took to begin. What it says of
//! a refusal is cut where it is too long for a header.

use crate::metrics::Metrics;
use http_body::{Body as HttpBody, Frame};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tonic::Code;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response};
use tonic::codegen::{BoxFuture, Bytes, Service as TowerService};
use tonic::server::NamedService;

/// The package of the contract, which all paths begin with.
const PACKAGE: &str = "/alpharho.v1.";
/// What a refusal says, as it travels: other sides take 16 KiB of headers, and break the connection for more.
const REASON_BYTES_MAX: usize = 8 << 10;
const REASON: &str = "grpc-message";
/// A part of an answer that is longer is large.
const LARGE_BYTES: usize = 256;
/// What somebody asked for that is not in the contract: one name for all, however many are tried.
const UNKNOWN: &str = "unknown";

#[derive(Clone)]
pub(super) struct Counted<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S> Counted<S> {
    pub(super) fn new(inner: S, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }
}

impl<S: NamedService> NamedService for Counted<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, E> TowerService<Request<Body>> for Counted<S>
where
    S: TowerService<Request<Body>, Response = Response<Body>, Error = E>,
    S::Future: Send + 'static,
    E: 'static,
{
    type Response = Response<Body>;
    type Error = E;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let method = path.strip_prefix(PACKAGE).unwrap_or(UNKNOWN).to_owned();
        let metrics = Arc::clone(&self.metrics);
        let begun = Instant::now();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut answer = answer.await?;
            shorten(answer.headers_mut());
            let known_code = code_of(answer.headers());
            let method = if known_code == Some(Code::Unimplemented) { UNKNOWN.to_owned() } else { method };
            metrics.grpc_seconds.with_label_values(&[&method]).observe(begun.elapsed().as_secs_f64());
            let call = Call { method, metrics, code: known_code };
            Ok(answer.map(|body| Body::new(CountedBody { body, call, large: Bytes::new() })))
        })
    }
}

/// Counted when it is dropped: by then its code is known, or whoever asked has gone.
struct Call {
    method: String,
    metrics: Arc<Metrics>,
    code: Option<Code>,
}

impl Drop for Call {
    fn drop(&mut self) {
        let code = self.code.map_or_else(|| "Cancelled".to_owned(), word);
        self.metrics.grpc_requests.with_label_values(&[&self.method, &code]).inc();
    }
}

fn word(code: Code) -> String {
    if code == Code::Ok { "OK".to_owned() } else { format!("{code:?}") }
}

/// Cuts the reason of a refusal between two characters.
fn shorten(headers: &mut HeaderMap) {
    let Some(reason) = headers.get(REASON).map(|reason| reason.as_bytes()) else { return };
    if reason.len() <= REASON_BYTES_MAX {
        return;
    }
    // Characters may be written as `%E2%80%A6`, a byte each.
    let is_within = |at: usize| {
        let is_escaped = reason[at - 1] == b'%' || reason[at - 2] == b'%';
        is_escaped || matches!(reason[at..], [b'%', b'8' | b'9' | b'A' | b'B', ..])
    };
    let cut = (2..=REASON_BYTES_MAX).rev().find(|at| !is_within(*at)).unwrap_or(0);
    let shorter = [&reason[..cut], b"%20.."].concat();
    if let Ok(shorter) = HeaderValue::from_bytes(&shorter) {
        headers.insert(REASON, shorter);
    }
}

fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()))
}

struct CountedBody {
    body: Body,
    call: Call,
    /// The last part, if it was large, until the next one is there. tonic writes all parts of an answer into one buffer,
    /// which stays as large as the largest for as long as the call: but not while a part of it is kept elsewhere. The
    /// leases of 10,000 workers took 25 MB so, each of which is sent once in hours.
    large: Bytes,
}

impl fmt::Debug for CountedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountedBody").field("method", &self.call.method).finish_non_exhaustive()
    }
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let this = self.get_mut();
        let mut polled = Pin::new(&mut this.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &mut polled
            && let Some(trailers) = frame.trailers_mut()
        {
            shorten(trailers);
        }
        if let Poll::Ready(Some(frame)) = &polled {
            let part = frame.as_ref().ok().and_then(Frame::data_ref);
            this.large = part.filter(|part| part.len() > LARGE_BYTES).cloned().unwrap_or_default();
            match frame {
                Ok(frame) => this.call.code = frame.trailers_ref().and_then(code_of).or(this.call.code),
                Err(status) => this.call.code = Some(status.code()),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::future::{Ready, ready};
    use telemetry::Registry;

    /// Answers with these headers and these frames.
    #[derive(Clone)]
    struct Fake {
        status: Option<&'static str>,
        frames: Vec<&'static str>,
        trailer: Option<&'static str>,
    }

    fn with_status(status: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(status) = status {
            headers.insert("grpc-status", status.parse().unwrap());
        }
        headers
    }

    struct Frames(VecDeque<Frame<Bytes>>);

    impl HttpBody for Frames {
        type Data = Bytes;
        type Error = tonic::Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    impl TowerService<Request<Body>> for Fake {
        type Response = Response<Body>;
        type Error = std::convert::Infallible;
        type Future = Ready<Result<Response<Body>, std::convert::Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            let frames = self.frames.iter().map(|data| Frame::data(Bytes::from_static(data.as_bytes())));
            let trailers = self.trailer.map(|status| Frame::trailers(with_status(Some(status))));
            let mut response = Response::new(Body::new(Frames(frames.chain(trailers).collect())));
            *response.headers_mut() = with_status(self.status);
            ready(Ok(response))
        }
    }

    /// The calls counted, once the answer was read so far.
    async fn counted(path: &str, inner: Fake, frames_read: usize) -> String {
        let metrics = Arc::new(Metrics::new().unwrap());
        let mut service = Counted::new(inner, Arc::clone(&metrics));
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let mut body = service.call(request).await.unwrap().into_body();
        for _ in 0..frames_read {
            let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            assert!(frame.is_none_or(|frame| frame.is_ok()));
        }
        drop(body);
        let registry: &Registry = metrics.registry();
        let text = registry.text();
        let calls: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("alpharho_grpc_requests_total")).collect();
        assert!(text.contains("alpharho_grpc_response_seconds_count{"), "{text}");
        calls.join("|")
    }

    #[test]
    fn a_reason_that_is_too_long_is_cut_between_two_characters() {
        for (letter, count) in
            [("a", 20_000), ("é", 5_000), ("…", 5_000), ("a…", 4_000), (" ", 9_000), ("a", 10), ("…", 10)]
        {
            let reason = letter.repeat(count);
            let mut headers = HeaderMap::new();
            tonic::Status::not_found(&reason).add_header(&mut headers).unwrap();
            shorten(&mut headers);
            assert!(headers[REASON].len() <= REASON_BYTES_MAX + 5, "{letter} {count}");
            let read = tonic::Status::from_header_map(&headers).unwrap();
            let said = read.message().strip_suffix(" ..").unwrap_or(read.message());
            assert!(reason.starts_with(said) && (said.len() > 900 || said == reason), "{letter} {count}: {said}");
        }
    }

    #[tokio::test]
    async fn calls_are_counted_by_what_became_of_them() {
        let status = "http://here/alpharho.v1.Sweeps/Status";
        let fine = Fake { status: None, frames: vec!["a", "b"], trailer: Some("0") };
        for (path, inner, frames_read, expected) in [
            (status, fine.clone(), 4, "{code=\"OK\",method=\"Sweeps/Status\"} 1"),
            // Who asked went away before the end.
            (status, fine.clone(), 1, "{code=\"Cancelled\",method=\"Sweeps/Status\"} 1"),
            (
                status,
                Fake { trailer: Some("14"), ..fine.clone() },
                4,
                "{code=\"Unavailable\",method=\"Sweeps/Status\"} 1",
            ),
            // Refused before there was anything to read.
            (
                status,
                Fake { status: Some("5"), frames: Vec::new(), trailer: None },
                0,
                "{code=\"NotFound\",method=\"Sweeps/Status\"} 1",
            ),
            // Names that are made up do not become labels.
            (
                "http://here/alpharho.v1.Sweeps/Nonsense",
                Fake { status: Some("12"), frames: Vec::new(), trailer: None },
                0,
                "{code=\"Unimplemented\",method=\"unknown\"} 1",
            ),
        ] {
            assert_eq!(counted(path, inner, frames_read).await, expected, "{path}");
        }
    }
}
