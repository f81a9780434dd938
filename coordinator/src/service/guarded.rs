//! A gRPC service that asks who calls: by certificate and token, and whether the role is enough for the method.

use crate::tokens::{Caller, Tokens};
use access::{PACKAGE, Token};
use std::task::{Context, Poll};
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::codegen::Service as TowerService;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};

/// What a token is sent with.
const SCHEME: &str = "Bearer ";

#[derive(Clone)]
pub(super) struct Guarded<S> {
    inner: S,
    /// `None`: on loopback without TLS, where nobody is asked.
    tokens: Option<watch::Receiver<Tokens>>,
}

impl<S> Guarded<S> {
    pub(super) fn new(inner: S, tokens: Option<watch::Receiver<Tokens>>) -> Self {
        Self { inner, tokens }
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
        Box::pin(self.inner.call(request))
    }
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
