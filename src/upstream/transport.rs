//! The way of every request to one upstream, tokens and probes included. It counts and times the
//! request, and its end moves the circuit.
//!
//! When the registry is in doubt, a task of the transport probes it. When the circuit opens, the
//! task probes until a request is answered. `list.rs` stops the task at the end.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use http::{HeaderMap, Method, header};
use parking_lot::Mutex;
use tokio::{runtime::Handle, task::JoinHandle, time::Instant};
use url::Url;

use super::{
    circuit::{Circuit, Health, LATE, ProbeNeed, Ticket, Verdict},
    counters::{RequestKind, UpstreamCounters},
    error::UpstreamError,
    fetcher::{FetchError, Request, Response},
    network::Network,
    retry::RetryBudget,
};
use crate::oci::UpstreamName;

/// The pause before the first probe. It doubles from probe to probe.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between probes.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long a probe waits for its answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The transport of one upstream.
pub(super) struct Transport {
    network: Network,
    circuit: Mutex<Circuit>,
    /// The requests and their results, counted.
    pub(super) counters: UpstreamCounters,
    /// The budget of retries.
    pub(super) retries: RetryBudget,
    name: UpstreamName,
    ping: Url,
    runtime: Handle,
    probe: Mutex<Probe>,
    me: Weak<Transport>,
}

/// The task that probes an upstream in doubt or with an open circuit. The transport owns it.
enum Probe {
    Idle,
    Running(JoinHandle<()>),
    Stopped,
}

impl Transport {
    /// `ping` is the registry's `/v2/`; probes run on `runtime`.
    pub(super) fn new(name: UpstreamName, network: Network, ping: Url, runtime: Handle) -> Arc<Self> {
        Arc::new_cyclic(|me| Transport {
            network,
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

    /// Fails at once if the circuit is open.
    pub(super) fn admit(&self) -> Result<(), UpstreamError> {
        match self.circuit.lock().open() {
            Some(reason) => Err(UpstreamError::CircuitOpen { reason: reason.into() }),
            None => Ok(()),
        }
    }

    /// The upstream's health now.
    pub(super) fn health(&self) -> Health {
        self.circuit.lock().health(Instant::now())
    }

    /// Whether the registry answers; `None`: it is not known, and a probe is under way.
    pub(super) fn answers(&self) -> Option<bool> {
        let (answers, next) = self.circuit.lock().proves(Instant::now());
        self.goes_on(next);
        answers
    }

    /// Sends one request and waits for its head, also while the circuit is open.
    pub(super) async fn send(&self, kind: RequestKind, request: Request) -> Result<Response, UpstreamError> {
        self.counters.requested(kind);
        let begun = Instant::now();
        let watched = !matches!(kind, RequestKind::Blob | RequestKind::Probe);
        let ticket = self.circuit.lock().begin(begun, watched);
        let waiting = PendingHead { transport: self, ticket: Some(ticket), probe: kind == RequestKind::Probe };
        let mut answer = std::pin::pin!(self.network.send(request));
        let result = tokio::select! {
            biased;
            result = &mut answer => result,
            () = tokio::time::sleep(LATE), if watched => {
                let next = self.circuit.lock().waits(ticket, Instant::now());
                self.goes_on(next);
                answer.await
            }
        };
        self.counters.waited(begun.elapsed());
        if result.as_ref().is_ok_and(|r| r.status.as_u16() == 429 || r.status.is_server_error()) || result.is_err() {
            self.counters.erred();
        }
        waiting.end(self.verdict(kind, &result));
        Ok(result?)
    }

    /// What a request's end tells about the registry. If a redirect's target fails, the registry
    /// has answered, by the redirect. A token server at another origin tells nothing about the
    /// registry.
    fn verdict(&self, kind: RequestKind, result: &Result<Response, FetchError>) -> Verdict {
        let elsewhere = if kind == RequestKind::Token { Verdict::Neutral } else { Verdict::Answered };
        match result {
            Ok(response) if response.url.origin() != self.ping.origin() => elsewhere,
            Ok(response) if response.status.is_server_error() => {
                Verdict::Failed(format!("it answered with status {}", response.status.as_u16()))
            }
            Ok(_) => Verdict::Answered,
            Err(FetchError::Forbidden { .. } | FetchError::Stopped) => Verdict::Neutral,
            Err(error) if host_of(error) != Some(self.authority().as_str()) => elsewhere,
            Err(error) => match error {
                FetchError::Connect { .. } => Verdict::Unreachable(error.to_string()),
                FetchError::Timeout { .. } if error.found_no_connection() => Verdict::Unreachable(error.to_string()),
                FetchError::Timeout { .. } => Verdict::Silent(error.to_string()),
                FetchError::Broken { .. } | FetchError::Protocol { .. } => Verdict::Failed(error.to_string()),
                FetchError::Redirect { .. } => Verdict::Answered,
                FetchError::Forbidden { .. } | FetchError::Stopped => Verdict::Neutral,
            },
        }
    }

    /// Whether the host that failed rests. Then it is useless to send the request again at once.
    pub(super) fn is_resting(&self, error: &FetchError) -> bool {
        self.network.is_resting(error)
    }

    /// Host and port of the registry, in the form of errors.
    fn authority(&self) -> String {
        format!(
            "{}:{}",
            self.ping.host_str().unwrap_or_default(),
            self.ping.port_or_known_default().unwrap_or_default()
        )
    }

    /// Ends the probe, for good.
    pub(super) async fn stop(&self) {
        let probe = std::mem::replace(&mut *self.probe.lock(), Probe::Stopped);
        if let Probe::Running(task) = probe {
            task.abort();
            // The task was aborted or had ended. Both are right.
            let _ = task.await;
        }
    }

    /// Starts the probe that the circuit asks for.
    fn goes_on(&self, next: ProbeNeed) {
        let first = match next {
            ProbeNeed::Nothing => return,
            ProbeNeed::Probe => Duration::ZERO,
            ProbeNeed::Opened => {
                tracing::warn!(upstream = %self.name, "upstream fails; it is probed until it answers");
                FIRST_PAUSE
            }
        };
        let mut probe = self.probe.lock();
        match &*probe {
            Probe::Stopped => return,
            // The running probe has not decided yet.
            Probe::Running(earlier) if next == ProbeNeed::Probe && !earlier.is_finished() => return,
            Probe::Running(_) | Probe::Idle => {}
        }
        let task = self.runtime.spawn(probe_until_closed(self.me.clone(), first));
        // The earlier task has closed the circuit and is about to end, or it asks what is already
        // known.
        if let Probe::Running(earlier) = std::mem::replace(&mut *probe, Probe::Running(task)) {
            earlier.abort();
        }
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        if let Probe::Running(task) = &*self.probe.lock() {
            task.abort();
        }
    }
}

/// Asks for `/v2/` without credentials until the circuit is closed: by the probe's answer, or by
/// that of a request under way. A `first` pause of zero means that the registry is in doubt.
async fn probe_until_closed(transport: Weak<Transport>, first: Duration) {
    let (mut pause, mut in_doubt) = (first, first.is_zero());
    loop {
        tokio::time::sleep(pause).await;
        let Some(transport) = transport.upgrade() else { return };
        if transport.admit().is_ok() && !in_doubt {
            return;
        }
        let request = Request {
            method: Method::GET,
            url: transport.ping.clone(),
            headers: HeaderMap::from_iter([user_agent()]),
            head_timeout: PROBE_TIMEOUT,
        };
        match transport.send(RequestKind::Probe, request).await {
            Ok(response) if !response.status.is_server_error() => {
                if !in_doubt {
                    tracing::info!(upstream = %transport.name, "upstream answers again");
                }
                return;
            }
            Ok(_) | Err(_) => (pause, in_doubt) = ((pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE), false),
        }
    }
}

/// The `User-Agent` of lanyard.
pub(super) fn user_agent() -> (header::HeaderName, header::HeaderValue) {
    (header::USER_AGENT, header::HeaderValue::from_static(concat!("lanyard/", env!("CARGO_PKG_VERSION"))))
}

/// The host and port that failed.
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

/// A request whose head has not come yet. It is dropped if the caller stops waiting.
struct PendingHead<'a> {
    transport: &'a Transport,
    ticket: Option<Ticket>,
    probe: bool,
}

impl PendingHead<'_> {
    fn end(mut self, verdict: Verdict) {
        let Some(ticket) = self.ticket.take() else { return };
        let mut circuit = self.transport.circuit.lock();
        if self.probe {
            // The task that sent the probe sends the next ones.
            if circuit.probed(verdict, Instant::now()) == ProbeNeed::Opened {
                tracing::warn!(upstream = %self.transport.name, "upstream fails; it is probed until it answers");
            }
            return;
        }
        let next = circuit.end(ticket, verdict, Instant::now());
        drop(circuit);
        self.transport.goes_on(next);
    }
}

impl Drop for PendingHead<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let next = self.transport.circuit.lock().give_up(ticket, Instant::now());
            self.transport.goes_on(next);
        }
    }
}
