//! A network between agents and coordinator that loses, doubles and delays single calls, and falls silent one way:
//! what a byte relay ([`crate::Proxy`]) cannot do. It takes gRPC as messages of bytes and knows the contract by the
//! names of calls and the numbers of fields alone.

mod plan;
mod raw;
mod relay;

pub use plan::{Fault, Met, table, unmet};

use plan::Plan;
use relay::{Relay, Service};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Endpoint, Server};

/// Listens on loopback. What chance brings happens to calls of agents; to those of people's commands what is asked for.
#[derive(Debug)]
pub struct Calls {
    /// `http://127.0.0.1:PORT`.
    pub address: String,
    plan: Arc<Mutex<Plan>>,
    runtime: Option<Runtime>,
}

impl Calls {
    /// In front of `http://HOST:PORT`, which may be away at times.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn start(target: &str, seed: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let plan = Arc::new(Mutex::new(Plan::new(seed)));
        let target = Endpoint::from_shared(target.to_owned()).unwrap();
        let relay = Relay { target, plan: Arc::clone(&plan) };
        runtime.spawn(async move {
            let listening = TcpListenerStream::new(listener);
            let [workers, sweeps, tokens] = [(); 3].map(|()| relay.clone());
            Server::builder()
                .add_service(Service::<relay::Workers>::of(workers))
                .add_service(Service::<relay::Sweeps>::of(sweeps))
                .add_service(Service::<relay::Tokens>::of(tokens))
                .serve_with_incoming(listening)
                .await
        });
        Self { address, plan, runtime: Some(runtime) }
    }

    /// Nothing goes wrong any more; what is silent ends soon.
    pub fn heal(&self) {
        self.plan().is_calm = true;
    }

    /// A relay by which everything goes well until something is asked for.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn calm(target: &str) -> Self {
        let calls = Self::start(target, 0);
        calls.heal();
        calls
    }

    /// That is to happen to the next call of that name, as `Submit`.
    pub fn ask(&self, call: &str, fault: Fault) {
        self.plan().asked = Some((call.to_owned(), fault));
    }

    /// Whether what was asked for is still to happen.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.plan().asked.is_some()
    }

    /// How often each fault happened to each kind of call or message.
    #[must_use]
    pub fn met(&self) -> Met {
        self.plan().met.clone()
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
