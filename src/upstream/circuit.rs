//! A circuit per upstream: after a few failures in a row it opens, and requests fail at once instead of queueing behind a
//! dead host. A probe closes it again (`wire.rs` runs the probe).
//!
//! | state | entered by | left by |
//! |---|---|---|
//! | closed | start; any answer below 500, a probe's included | 2 requests in a row unreachable, or 5 in a row failed |
//! | open | the above | the above |
//!
//! Pure: the time is handed in, and the caller holds the lock.

use std::{
    collections::BTreeSet,
    ops::Bound::{Excluded, Unbounded},
    time::Duration,
};

use tokio::time::Instant;

/// So many requests in a row that found nobody, and the circuit opens.
const UNREACHABLE_LIMIT: u32 = 2;

/// So many requests in a row that drew a 5xx, a reset or nonsense, and the circuit opens.
const FAILED_LIMIT: u32 = 5;

/// A request that has waited this long for its head makes its upstream [`Health::Late`].
pub(super) const LATE: Duration = Duration::from_secs(2);

/// How an upstream is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// It answers, as far as anybody knows.
    Good,
    /// A request has been waiting for its head for more than 2 s, and nothing has been answered since it was sent: whoever has
    /// something stale to serve does not wait too.
    Late,
    /// It failed; requests fail at once until a probe is answered.
    Open,
}

/// What became of a request, as far as its upstream's health goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Any answer below 500.
    Answered,
    /// A 5xx, a reset, nonsense. In words.
    Failed(String),
    /// No connection, or no head in time. In words.
    Unreachable(String),
    /// Says nothing about the upstream: lanyard would not go there, or is stopping.
    Neutral,
}

/// A request under way. Handed back to [`Circuit::end`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Ticket(Instant, u64);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    unreachable: u32,
    failed: u32,
    /// The reason, while it is open.
    open: Option<String>,
    waiting: BTreeSet<Ticket>,
    tickets: u64,
    last_answer: Option<Instant>,
}

impl Circuit {
    /// The reason why nothing may be sent, while it is open.
    pub(super) fn open(&self) -> Option<&str> {
        self.open.as_deref()
    }

    /// A request is sent. One that is not `watched` may wait for a connection behind long downloads, so its waiting says
    /// nothing about the upstream; its end does.
    pub(super) fn begin(&mut self, now: Instant, watched: bool) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(now, self.tickets);
        if watched {
            self.waiting.insert(ticket);
        }
        ticket
    }

    /// A request has ended. True when this opened the circuit: the caller starts the probe.
    pub(super) fn end(&mut self, ticket: Ticket, verdict: Verdict, now: Instant) -> bool {
        self.waiting.remove(&ticket);
        let reason = match verdict {
            Verdict::Answered => {
                (self.unreachable, self.failed, self.open, self.last_answer) = (0, 0, None, Some(now));
                return false;
            }
            Verdict::Failed(reason) => {
                (self.unreachable, self.failed, self.last_answer) = (0, self.failed + 1, Some(now));
                reason
            }
            Verdict::Unreachable(reason) => {
                self.unreachable += 1;
                reason
            }
            Verdict::Neutral => return false,
        };
        let opens = self.open.is_none() && (self.unreachable >= UNREACHABLE_LIMIT || self.failed >= FAILED_LIMIT);
        if opens {
            self.open = Some(reason);
        }
        opens
    }

    /// Whoever waited for the head has gone. Someone who goes after [`LATE`] with nothing answered meanwhile has as good as
    /// seen a timeout: a caller's own short deadline must not hide a dead upstream.
    pub(super) fn give_up(&mut self, ticket: Ticket, now: Instant) -> bool {
        let silent = self.last_answer.is_none_or(|at| at < ticket.0);
        let watched = self.waiting.contains(&ticket);
        let verdict = if watched && silent && now.saturating_duration_since(ticket.0) >= LATE {
            Verdict::Unreachable("it did not answer in time".into())
        } else {
            Verdict::Neutral
        };
        self.end(ticket, verdict, now)
    }

    /// How the upstream is doing.
    pub(super) fn health(&self, now: Instant) -> Health {
        if self.open.is_some() {
            return Health::Open;
        }
        // The oldest request that was sent after the last answer came.
        let unanswered = match self.last_answer {
            Some(at) => self.waiting.range((Excluded(Ticket(at, u64::MAX)), Unbounded)).next(),
            None => self.waiting.first(),
        };
        match unanswered {
            Some(ticket) if now.saturating_duration_since(ticket.0) > LATE => Health::Late,
            _ => Health::Good,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn step(circuit: &mut Circuit, verdict: Verdict, now: Instant) -> bool {
        let ticket = circuit.begin(now, true);
        circuit.end(ticket, verdict, now)
    }
    fn unreachable() -> Verdict {
        Verdict::Unreachable("refused".into())
    }
    fn failed() -> Verdict {
        Verdict::Failed("500".into())
    }

    #[test]
    fn opens_once_after_two_unreachable() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        assert!(!step(&mut circuit, unreachable(), now));
        assert_eq!(circuit.health(now), Health::Good);
        assert!(step(&mut circuit, unreachable(), now));
        assert_eq!((circuit.health(now), circuit.open()), (Health::Open, Some("refused")));
        assert!(!step(&mut circuit, unreachable(), now), "it opens only once, so there is only one probe");
        assert!(!step(&mut circuit, Verdict::Answered, now));
        assert_eq!((circuit.health(now), circuit.open()), (Health::Good, None));
    }

    #[test]
    fn opens_after_five_failures_in_a_row_only() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        for _ in 0..4 {
            assert!(!step(&mut circuit, failed(), now));
        }
        step(&mut circuit, Verdict::Answered, now);
        for _ in 0..4 {
            assert!(!step(&mut circuit, failed(), now));
            assert!(!step(&mut circuit, Verdict::Neutral, now));
        }
        assert!(step(&mut circuit, failed(), now));
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        for _ in 0..3 {
            assert!(!step(&mut circuit, unreachable(), now));
            assert!(!step(&mut circuit, Verdict::Answered, now));
        }
    }

    #[test]
    fn late_is_a_silence_that_lasts() {
        let (mut circuit, start) = (Circuit::default(), Instant::now());
        let first = circuit.begin(start, true);
        assert_eq!(circuit.health(start + LATE), Health::Good);
        assert_eq!(circuit.health(start + LATE + SECOND), Health::Late);
        let second = circuit.begin(start + 3 * SECOND, true);
        assert_eq!(circuit.health(start + 4 * SECOND), Health::Late);
        circuit.end(second, Verdict::Answered, start + 4 * SECOND);
        assert_eq!(circuit.health(start + 9 * SECOND), Health::Good, "something was answered since");
        let third = circuit.begin(start + 5 * SECOND, true);
        assert_eq!(circuit.health(start + 8 * SECOND), Health::Late);
        circuit.end(third, Verdict::Neutral, start + 8 * SECOND);
        circuit.end(first, Verdict::Neutral, start + 8 * SECOND);
        assert_eq!(circuit.health(start + 20 * SECOND), Health::Good);
        let queued = circuit.begin(start + 20 * SECOND, false);
        assert_eq!(circuit.health(start + 60 * SECOND), Health::Good);
        assert!(!circuit.give_up(queued, start + 60 * SECOND));
        assert!(!step(&mut circuit, unreachable(), start), "whoever gave up while queued has seen no timeout");
    }

    #[test]
    fn who_gives_up_late_has_seen_a_timeout() {
        let (mut circuit, start) = (Circuit::default(), Instant::now());
        let early = circuit.begin(start, true);
        assert!(!circuit.give_up(early, start + SECOND));
        let (a, b) = (circuit.begin(start, true), circuit.begin(start, true));
        assert!(!circuit.give_up(a, start + LATE));
        assert!(circuit.give_up(b, start + LATE));
        assert_eq!(circuit.health(start + LATE), Health::Open);
    }
}
