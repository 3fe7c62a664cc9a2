//! Every request to one upstream goes through its [`Wire`], tokens and probes included: it is counted, timed, and its outcome
//! moves the circuit. When the circuit opens, the wire's own task probes the upstream until something answers.

use std::{
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use http::{HeaderMap, Method, header};
use tokio::{runtime::Handle, task::JoinHandle, time::Instant};
use url::Url;

use super::{
    circuit::{Circuit, Health, Ticket, Verdict},
    counters::{Kind, UpstreamCounters},
    error::UpstreamError,
    fetcher::{FetchError, Request, Response},
    lock,
    retry::RetryBudget,
    transport::Transport,
};
use crate::oci::UpstreamName;

/// The pause before the first probe; it doubles from probe to probe.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between probes.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long a probe waits for its answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Wire {
    transport: Transport,
    circuit: Mutex<Circuit>,
    /// What was asked, and what came of it.
    pub(super) counters: UpstreamCounters,
    /// What retries may still be made.
    pub(super) retries: RetryBudget,
    name: UpstreamName,
    ping: Url,
    runtime: Handle,
    probe: Mutex<Probe>,
    me: Weak<Wire>,
}

/// The task that asks an upstream with an open circuit whether it is back. Its owner is the wire.
enum Probe {
    Idle,
    Running(JoinHandle<()>),
    Stopped,
}

impl Wire {
    /// `ping` is the registry's `/v2/`; probes run on `runtime`.
    pub(super) fn new(name: UpstreamName, transport: Transport, ping: Url, runtime: Handle) -> Arc<Self> {
        Arc::new_cyclic(|me| Wire {
            transport,
            circuit: Mutex::default(),
            counters: UpstreamCounters::default(),
            retries: RetryBudget::default(),
            name,
            ping,
            runtime,
            probe: Mutex::new(Probe::Idle),
            me: me.clone(),
        })
    }

    /// Fails at once while the circuit is open.
    pub(super) fn admit(&self) -> Result<(), UpstreamError> {
        match lock(&self.circuit).open() {
            Some(reason) => Err(UpstreamError::CircuitOpen { reason: reason.into() }),
            None => Ok(()),
        }
    }

    /// How the upstream is doing.
    pub(super) fn health(&self) -> Health {
        lock(&self.circuit).health(Instant::now())
    }

    /// Sends one request and waits for its head, whatever the circuit says.
    pub(super) async fn send(&self, kind: Kind, request: Request) -> Result<Response, UpstreamError> {
        self.counters.requested(kind);
        let begun = Instant::now();
        let ticket = lock(&self.circuit).begin(begun, kind != Kind::Blob);
        let waiting = Waiting { wire: self, ticket: Some(ticket) };
        let result = self.transport.send(request).await;
        self.counters.waited(begun.elapsed());
        if result.as_ref().is_ok_and(|r| r.status.as_u16() == 429 || r.status.is_server_error()) || result.is_err() {
            self.counters.erred();
        }
        waiting.end(self.verdict(kind, &result));
        Ok(result?)
    }

    /// What a request's end says about the upstream. A content network that fails at blobs is not the registry: it would
    /// close the way to manifests that are well.
    fn verdict(&self, kind: Kind, result: &Result<Response, FetchError>) -> Verdict {
        let blob = matches!(kind, Kind::Blob | Kind::BlobHead);
        match result {
            Ok(response) if blob && response.url.origin() != self.ping.origin() => Verdict::Answered,
            Ok(response) if response.status.is_server_error() => {
                Verdict::Failed(format!("it answered with status {}", response.status.as_u16()))
            }
            Ok(_) => Verdict::Answered,
            Err(error) if blob && host_of(error) != Some(self.authority().as_str()) => Verdict::Neutral,
            Err(error) => match error {
                FetchError::Connect { .. } | FetchError::Timeout { .. } => Verdict::Unreachable(error.to_string()),
                FetchError::Broken { .. } | FetchError::Protocol { .. } => Verdict::Failed(error.to_string()),
                FetchError::Redirect { .. } | FetchError::Forbidden { .. } | FetchError::Stopped => Verdict::Neutral,
            },
        }
    }

    /// Host and port of the registry, as errors name it.
    fn authority(&self) -> String {
        format!(
            "{}:{}",
            self.ping.host_str().unwrap_or_default(),
            self.ping.port_or_known_default().unwrap_or_default()
        )
    }

    /// Ends the probe, for good.
    pub(super) async fn stop(&self) {
        let probe = std::mem::replace(&mut *lock(&self.probe), Probe::Stopped);
        if let Probe::Running(task) = probe {
            task.abort();
            // Aborted, or it was done: both are what is wanted.
            let _ = task.await;
        }
    }

    fn start_probe(&self) {
        let mut probe = lock(&self.probe);
        if matches!(*probe, Probe::Stopped) {
            return;
        }
        let task = self.runtime.spawn(probe_until_closed(self.me.clone()));
        // An earlier probe has closed the circuit and is about to end.
        if let Probe::Running(earlier) = std::mem::replace(&mut *probe, Probe::Running(task)) {
            earlier.abort();
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Probe::Running(task) = &*lock(&self.probe) {
            task.abort();
        }
    }
}

/// Asks for `/v2/`, without credentials, until something has closed the circuit: the probe's answer, or that to a request
/// which was already under way.
async fn probe_until_closed(wire: Weak<Wire>) {
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        let Some(wire) = wire.upgrade() else { return };
        if wire.admit().is_ok() {
            return;
        }
        let request = Request {
            method: Method::GET,
            url: wire.ping.clone(),
            headers: HeaderMap::from_iter([user_agent()]),
            head_timeout: PROBE_TIMEOUT,
        };
        match wire.send(Kind::Probe, request).await {
            Ok(response) if !response.status.is_server_error() => {
                tracing::info!(upstream = %wire.name, "upstream answers again");
                return;
            }
            Ok(_) | Err(_) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

/// How lanyard introduces itself.
pub(super) fn user_agent() -> (header::HeaderName, header::HeaderValue) {
    (header::USER_AGENT, header::HeaderValue::from_static(concat!("lanyard/", env!("CARGO_PKG_VERSION"))))
}

/// The host and port to blame for a failure.
fn host_of(error: &FetchError) -> Option<&str> {
    match error {
        FetchError::Connect { host, .. }
        | FetchError::Timeout { host, .. }
        | FetchError::Broken { host, .. }
        | FetchError::Protocol { host, .. }
        | FetchError::Redirect { host, .. }
        | FetchError::Forbidden { host } => Some(host),
        FetchError::Stopped => None,
    }
}

/// A request whose head has not come yet. Dropped when nobody waits for it any more.
struct Waiting<'a> {
    wire: &'a Wire,
    ticket: Option<Ticket>,
}

impl Waiting<'_> {
    fn end(mut self, verdict: Verdict) {
        if let Some(ticket) = self.ticket.take() {
            let opened = lock(&self.wire.circuit).end(ticket, verdict, Instant::now());
            self.opened(opened);
        }
    }

    fn opened(&self, opened: bool) {
        if opened {
            tracing::warn!(upstream = %self.wire.name, "upstream fails; it is probed until it answers");
            self.wire.start_probe();
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let opened = lock(&self.wire.circuit).give_up(ticket, Instant::now());
            self.opened(opened);
        }
    }
}
