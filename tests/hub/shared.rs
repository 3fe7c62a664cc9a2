//! The state that all threads of one stand-in share.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::auth::Door;
use super::content::Content;
use super::faults::Script;
use super::gate::Rate;
use super::quota::Quota;
use super::record::{Journal, Record};

/// Settings that are fixed at the start.
#[derive(Clone)]
pub(super) struct Options {
    pub(super) cdn: bool,
    pub(super) referrers: bool,
    pub(super) link_ttl: Duration,
    pub(super) host: Option<String>,
    pub(super) rude_tls: bool,
    pub(super) print: bool,
}

/// Settings that may change while the stand-in runs.
#[derive(Clone, Copy)]
pub(super) struct Switches {
    pub(super) ranges: bool,
}

/// The addresses of the listeners.
#[derive(Clone, Debug)]
pub(super) struct Urls {
    pub(super) registry: String,
    pub(super) cdn: String,
    pub(super) token: String,
}

/// The state of a stand-in.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) switches: Mutex<Switches>,
    pub(super) urls: Urls,
    pub(super) content: Mutex<Content>,
    pub(super) door: Door,
    pub(super) script: Script,
    pub(super) journal: Journal,
    pub(super) quota: Mutex<Option<Quota>>,
    pub(super) rate: Rate,
    pub(super) connections: Connections,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    pub(super) stopping: AtomicBool,
    /// Connections are accepted and never read from.
    pub(super) deaf: AtomicBool,
    pub(super) born: Instant,
}

impl Shared {
    pub(super) fn options_now(&self) -> Switches {
        *self.switches.lock().unwrap()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Prints a finished request, if the builder asked for it.
    pub(super) fn print(&self, record: Option<Record>) {
        if let Some(record) = record.filter(|_| self.options.print) {
            let query = if record.query.is_empty() { String::new() } else { format!("?{}", record.query) };
            let fault = record.fault.map(|fault| format!(" fault={fault}")).unwrap_or_default();
            println!(
                "{:?} {} {}{query} {} {} bytes{fault}",
                record.origin, record.method, record.path, record.status, record.bytes_sent
            );
        }
    }
}

/// The connections that are open, and how many there have been.
#[derive(Default)]
pub(super) struct Connections {
    open: Mutex<HashMap<u64, TcpStream>>,
    threads: Mutex<usize>,
    all_gone: Condvar,
    next: AtomicU64,
    accepted: AtomicU64,
    most: AtomicU64,
}

impl Connections {
    /// Enters a connection and returns its number.
    pub(super) fn enter(&self, tcp: &TcpStream) -> std::io::Result<u64> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut open = self.open.lock().unwrap();
        open.insert(id, tcp.try_clone()?);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.most.fetch_max(open.len() as u64, Ordering::Relaxed);
        *self.threads.lock().unwrap() += 1;
        Ok(id)
    }

    /// Closes the second handle of a connection, so that closing the first one really closes it.
    pub(super) fn release(&self, id: u64) {
        self.open.lock().unwrap().remove(&id);
    }

    /// Notes that a connection's thread has ended.
    pub(super) fn leave(&self, id: u64) {
        self.release(id);
        *self.threads.lock().unwrap() -= 1;
        self.all_gone.notify_all();
    }

    /// Ends every open connection from this side.
    pub(super) fn end_all(&self) {
        for tcp in self.open.lock().unwrap().values() {
            let _ = tcp.shutdown(Shutdown::Both);
        }
    }

    /// Waits for the connections' threads to end.
    pub(super) fn wait_gone(&self, patience: Duration) {
        let threads = self.threads.lock().unwrap();
        let _ = self.all_gone.wait_timeout_while(threads, patience, |threads| *threads > 0);
    }

    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(super) fn open(&self) -> u64 {
        self.open.lock().unwrap().len() as u64
    }

    pub(super) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    pub(super) fn reset(&self) {
        self.accepted.store(0, Ordering::Relaxed);
        self.most.store(self.open(), Ordering::Relaxed);
    }
}
