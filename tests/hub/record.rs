//! The journal: every request that arrived, and how many bytes of each answer were written.

use std::net::SocketAddr;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use super::request::{Request, Target};

/// Which of the stand-in's listeners a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The registry API.
    Registry,
    /// The second origin to which blob requests are redirected.
    Cdn,
    /// The token endpoint, wherever it is.
    Token,
}

/// One request and its answer.
#[derive(Clone, Debug)]
pub struct Record {
    /// Where it arrived.
    pub origin: Origin,
    /// The method as sent.
    pub method: String,
    /// The path as sent, without the query.
    pub path: String,
    /// The query as sent, without the question mark; empty if there was none.
    pub query: String,
    /// The header lines in their order, names as sent.
    pub headers: Vec<(String, String)>,
    /// The client's address.
    pub peer: SocketAddr,
    /// The thing that was asked for.
    pub target: Target,
    /// The status sent, or chosen to be sent; 0 if the fault sends no status.
    pub status: u16,
    /// The name of the fault that was used on this request.
    pub fault: Option<String>,
    /// Body bytes accepted by the kernel, without framing. While the answer is under way this
    /// includes the piece that is being written (at most 64 KiB).
    pub bytes_sent: u64,
    /// When the head had been read.
    pub arrived: Instant,
    /// When the first byte of the body was handed to the kernel.
    pub first_byte: Option<Instant>,
    /// When the answer ended, well or badly.
    pub finished: Option<Instant>,
}

impl Record {
    /// The first header with this name (case does not matter).
    pub fn header(&self, name: &str) -> Option<&str> {
        find_header(&self.headers, name)
    }

    /// Whether this is a GET of `digest` whose answer is meant to be its bytes. The 401 before it
    /// and the redirect to the CDN do not count.
    pub fn is_blob_get(&self, digest: &str) -> bool {
        self.is_any_blob_get() && self.target.blob() == Some(digest)
    }

    /// As [`Record::is_blob_get`], of any blob.
    pub fn is_any_blob_get(&self) -> bool {
        self.method == "GET" && self.target.blob().is_some() && !matches!(self.status, 401 | 307)
    }

    /// Whether this asks for a manifest with `method` and was not merely challenged with 401.
    pub fn is_manifest(&self, method: &str) -> bool {
        self.method == method && matches!(self.target, Target::Manifest { .. }) && self.status != 401
    }
}

/// The first value of a header.
pub(super) fn find_header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// The largest number of these requests that overlapped.
pub(super) fn most_at_once<'a>(records: impl Iterator<Item = &'a Record>) -> usize {
    let now = Instant::now();
    let mut steps = Vec::new();
    for record in records {
        steps.push((record.arrived, 1));
        steps.push((record.finished.unwrap_or(now), -1));
    }
    // At the same instant the end of one request comes before the start of the next.
    steps.sort();
    let mut open = 0;
    let counts = steps.into_iter().map(|(_, step)| {
        open += step;
        open
    });
    counts.max().map_or(0, |most: i64| most as usize)
}

/// A place in the journal. It is invalid once the counts are reset.
#[derive(Clone, Copy)]
pub(super) struct Ticket {
    generation: u64,
    index: usize,
}

/// All records since the start or the last reset.
#[derive(Default)]
pub(super) struct Journal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    generation: u64,
    records: Vec<Record>,
}

impl Journal {
    /// Enters a request. The ticket is for later changes.
    pub(super) fn enter(&self, request: &Request, target: &Target, status: u16, fault: Option<String>) -> Ticket {
        let mut state = self.state.lock().unwrap();
        state.records.push(Record {
            origin: if *target == Target::Token { Origin::Token } else { request.origin },
            method: request.method.clone(),
            path: request.path.clone(),
            query: request.query.clone(),
            headers: request.headers.clone(),
            peer: request.peer,
            target: target.clone(),
            status,
            fault,
            bytes_sent: 0,
            arrived: request.arrived,
            first_byte: None,
            finished: None,
        });
        self.changed.notify_all();
        Ticket { generation: state.generation, index: state.records.len() - 1 }
    }

    /// Changes a record, unless the counts were reset since.
    pub(super) fn update(&self, ticket: Ticket, change: impl FnOnce(&mut Record)) -> Option<Record> {
        let mut state = self.state.lock().unwrap();
        if state.generation != ticket.generation {
            return None;
        }
        let record = &mut state.records[ticket.index];
        change(record);
        let copy = record.finished.is_some().then(|| record.clone());
        self.changed.notify_all();
        copy
    }

    /// Looks at the records without copying them.
    pub(super) fn read<T>(&self, look: impl FnOnce(&[Record]) -> T) -> T {
        look(&self.state.lock().unwrap().records)
    }

    /// Waits until `enough` returns true; false if `patience` ends first.
    pub(super) fn wait(&self, patience: Duration, mut enough: impl FnMut(&[Record]) -> bool) -> bool {
        let state = self.state.lock().unwrap();
        let (state, _) = self.changed.wait_timeout_while(state, patience, |state| !enough(&state.records)).unwrap();
        enough(&state.records)
    }

    /// Forgets everything.
    pub(super) fn reset(&self) {
        let mut state = self.state.lock().unwrap();
        state.generation += 1;
        state.records.clear();
    }
}
