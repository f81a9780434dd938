//! Passes calls on, and breaks them as planned.

use super::plan::{Fault, Plan};
use super::raw::{Raw, from_worker, to_worker};
use bytes::Bytes;
use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{BoxFuture, Context, Poll, Service as TowerService, http};
use tonic::metadata::MetadataMap;
use tonic::server::{NamedService, StreamingService};
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status, Streaming};

/// Messages of a call that may wait.
const WAITING_MAX: usize = 64;
/// What is let through arrives within this, before the stream breaks behind it.
const ARRIVES_IN: Duration = Duration::from_millis(30);

/// In front of the real services.
#[derive(Clone, Debug)]
pub(super) struct Relay {
    pub(super) target: Endpoint,
    pub(super) plan: Arc<Mutex<Plan>>,
}

/// One of the services.
#[derive(Clone, Debug)]
pub(super) struct Service<N> {
    relay: Relay,
    name: PhantomData<N>,
}

impl<N> Service<N> {
    pub(super) fn of(relay: Relay) -> Self {
        Self { relay, name: PhantomData }
    }
}

macro_rules! services {
    ($($name:ident)*) => {$(
        #[derive(Clone, Debug)]
        pub(super) struct $name;

        impl NamedService for Service<$name> {
            const NAME: &'static str = concat!("alpharho.v1.", stringify!($name));
        }
    )*};
}

services! { Workers Sweeps Tokens }

impl<N> TowerService<http::Request<Body>> for Service<N> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let call = Call { relay: self.relay.clone(), path };
        Box::pin(async move { Ok(tonic::server::Grpc::new(Raw).streaming(call, request).await) })
    }
}

/// One call: any number of messages either way, as all calls are on the wire.
#[derive(Clone, Debug)]
struct Call {
    relay: Relay,
    path: PathAndQuery,
}

impl StreamingService<Bytes> for Call {
    type Response = Bytes;
    type ResponseStream = ReceiverStream<Result<Bytes, Status>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let fault = self.plan().choose(self.name());
        if fault == Some(Fault::Swallowed) {
            self.met(self.name(), Fault::Swallowed);
            return Box::pin(std::future::pending());
        }
        let (metadata, _, requests) = request.into_parts();
        let (answers, stream) = mpsc::channel(WAITING_MAX);
        tokio::spawn(self.clone().pass_on(fault, metadata, requests, answers));
        Box::pin(async move { Ok(Response::new(ReceiverStream::new(stream))) })
    }
}

type Answers = mpsc::Sender<Result<Bytes, Status>>;

/// The same call at the coordinator. Dropped, it is cancelled.
struct Far {
    /// Dropped, no more requests come.
    requests: Option<mpsc::Sender<Bytes>>,
    answers: mpsc::Receiver<Result<Bytes, Status>>,
}

/// What is wrong with a call from its beginning.
#[derive(Clone, Copy, Default)]
struct Broken {
    /// So many requests are let through, then no more.
    requests_max: Option<u64>,
    answers_max: Option<u64>,
    /// When it breaks, since something was not let through.
    breaks_in: Option<Duration>,
}

impl Call {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.relay.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self) -> &str {
        self.path.path().rsplit('/').next().unwrap_or_default()
    }

    fn met(&self, what: &str, fault: Fault) {
        self.plan().met(what, fault);
    }

    async fn pass_on(self, fault: Option<Fault>, metadata: MetadataMap, requests: Streaming<Bytes>, answers: Answers) {
        let is_session = self.name() == "Session";
        let silence = self.plan().ms(300, 2_000);
        let broken = match fault {
            Some(Fault::LostBefore) => {
                self.met(self.name(), Fault::LostBefore);
                return lose(&answers).await;
            }
            Some(Fault::Delayed) => {
                let delay = self.plan().ms(20, 400);
                sleep(delay).await;
                self.met(self.name(), Fault::Delayed);
                Broken::default()
            }
            Some(Fault::Doubled) if !is_session => return self.twice(metadata, requests, answers).await,
            Some(Fault::LostAfter) => Broken { answers_max: Some(0), ..Broken::default() },
            Some(Fault::SilentIn) => {
                let requests_max = Some(if is_session { self.plan().between(0, 6) } else { 0 });
                Broken { requests_max, breaks_in: Some(silence), ..Broken::default() }
            }
            Some(Fault::SilentOut) => {
                let answers_max = Some(if is_session { self.plan().between(0, 4) } else { 0 });
                Broken { answers_max, breaks_in: Some(silence), ..Broken::default() }
            }
            // Behind the header of an upload, behind the first part of a download.
            Some(Fault::Cut) if self.name() == "Upload" => Broken { requests_max: Some(1), ..Broken::default() },
            Some(Fault::Cut) => Broken { answers_max: Some(1), ..Broken::default() },
            Some(Fault::Doubled | Fault::Swallowed) | None => Broken::default(),
        };
        let far = self.far(&metadata);
        let shadow = (fault == Some(Fault::Doubled)).then(|| self.far(&metadata));
        self.relay(fault, broken, requests, answers, far, shadow).await;
    }

    /// Passes messages on, both ways, until the call ends or breaks. A shadow gets all requests too, and nobody hears
    /// its answers.
    async fn relay(
        &self,
        fault: Option<Fault>,
        broken: Broken,
        mut requests: Streaming<Bytes>,
        answers: Answers,
        mut far: Far,
        mut shadow: Option<Far>,
    ) {
        let is_session = self.name() == "Session";
        let (mut asked, mut answered, mut all_asked) = (0, 0, false);
        let mut breaks_at: Option<Instant> = None;
        // Something was kept back: from now on it is only a question of when the call breaks.
        let keep_back = |breaks_at: &mut Option<Instant>| {
            if breaks_at.is_none() {
                fault.into_iter().for_each(|fault| self.met(self.name(), fault));
                *breaks_at = Some(Instant::now() + broken.breaks_in.unwrap_or(ARRIVES_IN));
            }
        };
        loop {
            tokio::select! {
                request = requests.message(), if !all_asked => {
                    let Ok(request) = request else { return };
                    if broken.requests_max.is_some_and(|max| asked >= max) {
                        all_asked |= request.is_none();
                        keep_back(&mut breaks_at);
                        continue;
                    }
                    let Some(request) = request else {
                        all_asked = true;
                        far.requests = None;
                        continue;
                    };
                    asked += 1;
                    if let Some(shadow) = &shadow && shadow.ask(&request).await && asked == 1 {
                        self.met(self.name(), Fault::Doubled);
                    }
                    let trouble = if is_session { self.plan().choose(from_worker(&request)) } else { None };
                    if self.message(from_worker(&request), trouble, |_| far.ask(&request)).await {
                        drop(far);
                        return lose(&answers).await;
                    }
                }
                answer = far.answers.recv() => {
                    let kept_back = broken.answers_max.is_some_and(|max| answered >= max);
                    if kept_back {
                        keep_back(&mut breaks_at);
                        if matches!(answer, Some(Ok(_))) {
                            continue;
                        }
                        // It is over there, which nobody is told.
                        sleep_until(breaks_at.unwrap_or_else(Instant::now)).await;
                        return lose(&answers).await;
                    }
                    match answer {
                        Some(Ok(answer)) => {
                            answered += 1;
                            let trouble = if is_session { self.plan().choose(to_worker(&answer)) } else { None };
                            let said = |_| async { answers.send(Ok(answer.clone())).await.is_ok() };
                            if self.message(to_worker(&answer), trouble, said).await {
                                drop(far);
                                return lose(&answers).await;
                            }
                        }
                        Some(Err(status)) => {
                            // Nobody may be listening any more.
                            let _ = answers.send(Err(status)).await;
                            return;
                        }
                        None => return,
                    }
                }
                Some(_) = heard(&mut shadow) => {}
                () = sleep_until(breaks_at.unwrap_or_else(Instant::now)), if breaks_at.is_some() => {
                    drop(far);
                    return lose(&answers).await;
                }
                () = answers.closed() => return,
            }
        }
    }

    /// Passes one message of a session on, with what is to happen to it; whether the stream breaks there.
    async fn message<F: Future<Output = bool>>(
        &self,
        kind: &str,
        trouble: Option<Fault>,
        pass: impl Fn(()) -> F,
    ) -> bool {
        let Some(fault) = trouble else {
            pass(()).await;
            return false;
        };
        match fault {
            Fault::LostBefore => {}
            Fault::LostAfter => {
                pass(()).await;
                sleep(ARRIVES_IN).await;
            }
            Fault::Doubled => {
                pass(()).await;
                pass(()).await;
            }
            Fault::Delayed => {
                let delay = self.plan().ms(10, 200);
                sleep(delay).await;
                pass(()).await;
            }
            Fault::SilentIn | Fault::SilentOut | Fault::Cut | Fault::Swallowed => return false,
        }
        self.met(kind, fault);
        matches!(fault, Fault::LostBefore | Fault::LostAfter)
    }

    /// A call that arrives twice, one copy after the other or both at once; the second one's answers are given back.
    async fn twice(&self, metadata: MetadataMap, mut requests: Streaming<Bytes>, answers: Answers) {
        let mut all = Vec::new();
        while let Ok(Some(request)) = requests.message().await {
            all.push(request);
        }
        let at_once = self.plan().between(0, 1) == 0;
        let mut copies = [self.far(&metadata), self.far(&metadata)];
        for (place, copy) in copies.iter_mut().enumerate() {
            for request in &all {
                copy.ask(request).await;
            }
            copy.requests = None;
            if !at_once && place == 0 {
                while copy.answers.recv().await.is_some() {}
            }
        }
        self.met(self.name(), Fault::Doubled);
        let [mut first, mut second] = copies;
        let drained = async { while first.answers.recv().await.is_some() {} };
        let passed_on = async {
            while let Some(answer) = second.answers.recv().await {
                if answers.send(answer).await.is_err() {
                    return;
                }
            }
        };
        tokio::join!(drained, passed_on);
    }

    /// Begins the same call at the coordinator, by a connection of its own.
    fn far(&self, metadata: &MetadataMap) -> Far {
        let (requests, messages) = mpsc::channel(WAITING_MAX);
        let (to, answers) = mpsc::channel(WAITING_MAX);
        let mut request = Request::new(ReceiverStream::new(messages));
        *request.metadata_mut() = metadata.clone();
        let (target, path) = (self.relay.target.clone(), self.path.clone());
        tokio::spawn(async move {
            let passed_on = async {
                let mut grpc = tonic::client::Grpc::new(target.connect_lazy());
                let called = async {
                    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
                    grpc.streaming(request, path, Raw).await
                };
                let mut stream = match called.await {
                    Ok(response) => response.into_inner(),
                    Err(status) => return to.send(Err(status)).await,
                };
                loop {
                    match stream.message().await {
                        Ok(Some(answer)) => to.send(Ok(answer)).await?,
                        Ok(None) => return Ok(()),
                        Err(status) => return to.send(Err(status)).await,
                    }
                }
            };
            tokio::select! {
                _ = passed_on => {}
                () = to.closed() => {}
            }
        });
        Far { requests: Some(requests), answers }
    }
}

impl Far {
    /// False when the call is over.
    async fn ask(&self, request: &Bytes) -> bool {
        match &self.requests {
            Some(requests) => requests.send(request.clone()).await.is_ok(),
            None => false,
        }
    }
}

/// Waits for ever where there is no shadow, or it has said all.
async fn heard(shadow: &mut Option<Far>) -> Option<Result<Bytes, Status>> {
    match shadow {
        Some(shadow) => match shadow.answers.recv().await {
            Some(answer) => Some(answer),
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// As a connection that broke looks from this side.
async fn lose(answers: &Answers) {
    // Nobody may be listening any more.
    let _ = answers.send(Err(Status::unavailable("the connection broke"))).await;
}
