//! A gRPC service that asks who calls: by certificate and token, and whether the role is enough for the method.

use crate::tokens::{Caller, Tokens};
use access::{PACKAGE, Token};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::codegen::Service as TowerService;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};

/// How long an answer may take to begin, the request's own way included: whoever sends half of one does not keep a place
/// for ever.
const CALL_MAX: Duration = Duration::from_secs(120);
/// What a token is sent with.
const SCHEME: &str = "Bearer ";

#[derive(Clone)]
pub(super) struct Guarded<S> {
    inner: S,
    /// `None`: on loopback without TLS, where nobody is asked.
    tokens: Option<watch::Receiver<Tokens>>,
    call_max: Duration,
}

impl<S> Guarded<S> {
    pub(super) fn new(inner: S, tokens: Option<watch::Receiver<Tokens>>) -> Self {
        Self { inner, tokens, call_max: CALL_MAX }
    }
}

impl<S: NamedService> NamedService for Guarded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, E> TowerService<Request<Body>> for Guarded<S>
where
    S: TowerService<Request<Body>, Response = Response<Body>, Error = E>,
    S::Future: Send + 'static,
    E: Send + 'static,
{
    type Response = Response<Body>;
    type Error = E;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.tokens.as_ref().map(|tokens| caller(&request, tokens)) {
            None => {}
            Some(Ok(caller)) => drop(request.extensions_mut().insert(caller)),
            Some(Err(status)) => return Box::pin(std::future::ready(Ok(status.into_http()))),
        }
        // A checkpoint takes its time, and each of its pieces has a limit of its own.
        let is_upload = request.uri().path().strip_prefix(PACKAGE) == Some("Workers/Upload");
        let answer = self.inner.call(request);
        if is_upload {
            return Box::pin(answer);
        }
        let call_max = self.call_max;
        Box::pin(async move {
            match tokio::time::timeout(call_max, answer).await {
                Ok(answer) => answer,
                Err(_) => Ok(too_slow(call_max).into_http()),
            }
        })
    }
}

fn too_slow(call_max: Duration) -> Status {
    let seconds = call_max.as_secs();
    Status::deadline_exceeded(format!(
        "there was no answer after {seconds} s: the request did not come whole, or the coordinator has more to do than it can; \
         look whether it was carried out, and ask again"
    ))
}

/// Who calls, if that may be called.
fn caller(request: &Request<Body>, tokens: &watch::Receiver<Tokens>) -> Result<Caller, Status> {
    let Some(shown) = request.headers().get("authorization") else {
        return Err(Status::unauthenticated(
            "this coordinator wants a token, and none was shown; an admin makes one: alpharho tokens create NAME \
             --role ROLE",
        ));
    };
    let token = shown.to_str().ok().and_then(|shown| shown.strip_prefix(SCHEME)).and_then(|text| text.parse().ok());
    let row = token.and_then(|token: Token| tokens.borrow().find(&token).cloned());
    let Some(row) = row else {
        return Err(Status::unauthenticated(
            "the token that was shown is not good here: it was revoked or replaced, or is of another coordinator",
        ));
    };
    let name = &row.name;
    let connection = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
    let certificates = connection.and_then(TlsConnectInfo::peer_certs);
    // The first is its own; what follows leads to the authority, and was checked with the handshake.
    let is_own = certificates.as_deref().and_then(|all| all.first()).is_some_and(|own| access::is_of(own, name));
    if !is_own {
        return Err(Status::unauthenticated(format!(
            "the token that was shown is {name}'s, and the certificate is not; both must be of one name"
        )));
    }
    let path = request.uri().path();
    match access::need(path) {
        Some(need) if !row.role.may(need) => Err(Status::permission_denied(format!(
            "{} takes the role {}, and {name}'s token has the role {}",
            path.strip_prefix(PACKAGE).unwrap_or(path),
            need.word(),
            row.role
        ))),
        // What is not in the contract is not known further in either.
        Some(_) | None => Ok(Caller::new(&row, tokens.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    /// Never answers.
    #[derive(Clone)]
    struct Deaf;

    impl TowerService<Request<Body>> for Deaf {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::future::Pending<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            std::future::pending()
        }
    }

    #[tokio::test]
    async fn a_call_that_is_not_answered_ends_unless_it_brings_a_checkpoint() {
        let mut service = Guarded { call_max: Duration::from_millis(20), ..Guarded::new(Deaf, None) };
        for (method, ends) in [("Sweeps/Submit", true), ("Workers/Session", true), ("Workers/Upload", false)] {
            let request = Request::builder().uri(format!("http://here{PACKAGE}{method}")).body(Body::empty()).unwrap();
            let answer = tokio::time::timeout(Duration::from_millis(200), service.call(request)).await;
            let status = answer.ok().map(|answer| Status::from_header_map(answer.unwrap().headers()).unwrap().code());
            assert_eq!(status, ends.then_some(tonic::Code::DeadlineExceeded), "{method}");
        }
    }
}
