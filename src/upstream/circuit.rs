//! A circuit per upstream: it opens when the registry itself fails, and requests then fail at once
//! instead of waiting for a dead host. A probe closes it again (`transport.rs` runs the probe).
//!
//! | state | entered by | left by |
//! |---|---|---|
//! | closed | start; any answer below 500, a probe's included | the two below |
//! | in doubt | 5 failures in a row; a silence of 2 s; `proves` | the probe that is sent at once |
//! | open | 2 requests in a row without a connection; a failed probe | an answer, of a probe too |
//!
//! A doubt is no verdict: the failing or hanging requests may belong to one repository (S30), which
//! then rests by itself (`trouble.rs`). Requests pass until the probe has decided. The probe asks
//! for no repository.
//!
//! Pure: the caller hands in the time and holds the lock.

use std::{
    collections::BTreeSet,
    ops::Bound::{Excluded, Unbounded},
    time::Duration,
};

use tokio::time::Instant;

/// After so many requests in a row without a connection the circuit opens.
const UNREACHABLE_LIMIT: u32 = 2;

/// After so many requests in a row that got a 5xx, a reset or nonsense, the registry is in doubt.
const FAILED_LIMIT: u32 = 5;

/// The least time between two doubts, and so between the probes that they cause.
const BETWEEN_DOUBTS: Duration = Duration::from_secs(1);

/// So long an answer proves that the registry answers.
const PROVEN: Duration = Duration::from_secs(60);

/// A request that waits this long for its head makes its upstream [`Health::Late`] and doubtful.
pub(super) const LATE: Duration = Duration::from_secs(2);

/// How an upstream is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// It answers, as far as lanyard knows.
    Good,
    /// A request has waited for its head for more than 2 s, and no request has been answered since.
    /// A caller with a stale copy does not wait too.
    Late,
    /// It failed. Requests fail at once until a probe is answered.
    Open,
}

/// A request's end, as far as it tells about the upstream's health.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Any answer below 500.
    Answered,
    /// A 5xx, a reset or nonsense, in words.
    Failed(String),
    /// No head in time, in words.
    Silent(String),
    /// No connection, in words.
    Unreachable(String),
    /// It tells nothing about the upstream: lanyard refused to go there, or is stopping.
    Neutral,
}

/// The probe that the caller has to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(super) enum ProbeNeed {
    /// None.
    Nothing,
    /// One now. The caller hands its end to [`Circuit::probed`].
    Probe,
    /// The circuit has just opened: probes from a second later on, until one closes it.
    Opened,
}

/// A request under way. The caller hands it back to [`Circuit::end`] or [`Circuit::give_up`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Ticket(Instant, u64);

/// The state of one upstream; the table above has its states.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    unreachable: u32,
    failed: u32,
    /// The reason, while the circuit is open.
    open: Option<String>,
    waiting: BTreeSet<Ticket>,
    tickets: u64,
    last_answer: Option<Instant>,
    /// The last answer below 500.
    last_good: Option<Instant>,
    last_doubt: Option<Instant>,
}

impl Circuit {
    /// The reason why no request may be sent, while the circuit is open.
    pub(super) fn open(&self) -> Option<&str> {
        self.open.as_deref()
    }

    /// Notes that a request is sent. A request that is not `watched` may wait for a connection
    /// behind long downloads, so its waiting tells nothing about the upstream. Its end does.
    pub(super) fn begin(&mut self, now: Instant, watched: bool) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(now, self.tickets);
        if watched {
            self.waiting.insert(ticket);
        }
        ticket
    }

    /// Notes that a request has ended.
    pub(super) fn end(&mut self, ticket: Ticket, verdict: Verdict, now: Instant) -> ProbeNeed {
        self.waiting.remove(&ticket);
        match verdict {
            Verdict::Answered => {
                self.answered(now);
                ProbeNeed::Nothing
            }
            Verdict::Failed(_) => {
                (self.unreachable, self.failed, self.last_answer) = (0, self.failed + 1, Some(now));
                if self.failed >= FAILED_LIMIT { self.doubt(now) } else { ProbeNeed::Nothing }
            }
            Verdict::Silent(_) => self.doubt(now),
            Verdict::Unreachable(reason) => {
                self.unreachable += 1;
                if self.unreachable >= UNREACHABLE_LIMIT { self.opens(reason) } else { ProbeNeed::Nothing }
            }
            Verdict::Neutral => ProbeNeed::Nothing,
        }
    }

    /// Notes that a probe has ended. It asks for no repository, so its end decides about the
    /// registry.
    pub(super) fn probed(&mut self, verdict: Verdict, now: Instant) -> ProbeNeed {
        match verdict {
            Verdict::Answered => {
                self.answered(now);
                ProbeNeed::Nothing
            }
            Verdict::Failed(reason) | Verdict::Silent(reason) | Verdict::Unreachable(reason) => self.opens(reason),
            Verdict::Neutral => ProbeNeed::Nothing,
        }
    }

    /// Notes that the caller stops waiting for the head. A caller's own short deadline must not
    /// hide a dead upstream.
    pub(super) fn give_up(&mut self, ticket: Ticket, now: Instant) -> ProbeNeed {
        let next = self.waits(ticket, now);
        self.waiting.remove(&ticket);
        next
    }

    /// Notes that a request still waits for its head. If it has waited for [`LATE`] and no request
    /// has been answered meanwhile, the registry is in doubt.
    pub(super) fn waits(&mut self, ticket: Ticket, now: Instant) -> ProbeNeed {
        let silent = self.last_answer.is_none_or(|at| at < ticket.0);
        let late = self.waiting.contains(&ticket) && now.saturating_duration_since(ticket.0) >= LATE;
        if silent && late { self.doubt(now) } else { ProbeNeed::Nothing }
    }

    fn answered(&mut self, now: Instant) {
        (self.unreachable, self.failed, self.open) = (0, 0, None);
        (self.last_answer, self.last_good) = (Some(now), Some(now));
    }

    fn doubt(&mut self, now: Instant) -> ProbeNeed {
        let lately = self.last_doubt.is_some_and(|at| now.saturating_duration_since(at) < BETWEEN_DOUBTS);
        if self.open.is_some() || lately {
            return ProbeNeed::Nothing;
        }
        self.last_doubt = Some(now);
        ProbeNeed::Probe
    }

    fn opens(&mut self, reason: String) -> ProbeNeed {
        if self.open.is_some() {
            return ProbeNeed::Nothing;
        }
        self.open = Some(reason);
        ProbeNeed::Opened
    }

    /// Whether it answers: `Some(true)` if it has within [`PROVEN`], `Some(false)` while it fails.
    /// Otherwise it is not known, and the probe tells.
    pub(super) fn proves(&mut self, now: Instant) -> (Option<bool>, ProbeNeed) {
        if self.health(now) != Health::Good {
            return (Some(false), ProbeNeed::Nothing);
        }
        match self.last_good {
            Some(at) if now.saturating_duration_since(at) < PROVEN => (Some(true), ProbeNeed::Nothing),
            Some(_) | None => (None, self.doubt(now)),
        }
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

    fn step(circuit: &mut Circuit, verdict: Verdict, now: Instant) -> ProbeNeed {
        let ticket = circuit.begin(now, true);
        circuit.end(ticket, verdict, now)
    }
    fn unreachable() -> Verdict {
        Verdict::Unreachable("refused".into())
    }
    fn failed() -> Verdict {
        Verdict::Failed("500".into())
    }
    fn silent() -> Verdict {
        Verdict::Silent("the head".into())
    }

    #[test]
    fn opens_once_after_two_unreachable() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        assert_eq!(step(&mut circuit, unreachable(), now), ProbeNeed::Nothing);
        assert_eq!(circuit.health(now), Health::Good);
        assert_eq!(step(&mut circuit, unreachable(), now), ProbeNeed::Opened);
        assert_eq!((circuit.health(now), circuit.open()), (Health::Open, Some("refused")));
        let again = step(&mut circuit, unreachable(), now);
        assert_eq!(again, ProbeNeed::Nothing, "it opens only once, so there is only one probe");
        assert_eq!(step(&mut circuit, Verdict::Answered, now), ProbeNeed::Nothing);
        assert_eq!((circuit.health(now), circuit.open()), (Health::Good, None));
        for _ in 0..3 {
            assert_eq!(step(&mut circuit, unreachable(), now), ProbeNeed::Nothing);
            assert_eq!(step(&mut circuit, Verdict::Answered, now), ProbeNeed::Nothing);
        }
    }

    #[test]
    fn who_asks_whether_it_answers_causes_a_probe_once_a_minute() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        assert_eq!(circuit.proves(now), (None, ProbeNeed::Probe), "nobody has asked since the start");
        assert_eq!(circuit.proves(now), (None, ProbeNeed::Nothing), "the probe is under way");
        assert_eq!(circuit.probed(Verdict::Answered, now), ProbeNeed::Nothing);
        assert_eq!(circuit.proves(now + PROVEN / 2), (Some(true), ProbeNeed::Nothing));
        assert_eq!(circuit.proves(now + PROVEN), (None, ProbeNeed::Probe));
        assert_eq!(circuit.probed(unreachable(), now + PROVEN), ProbeNeed::Opened);
        assert_eq!(circuit.proves(now + PROVEN), (Some(false), ProbeNeed::Nothing));
    }

    #[test]
    fn five_failures_in_a_row_are_a_doubt_and_the_probe_decides() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        let row = |circuit: &mut Circuit, now| {
            for _ in 0..4 {
                assert_eq!(step(circuit, failed(), now), ProbeNeed::Nothing);
                assert_eq!(step(circuit, Verdict::Neutral, now), ProbeNeed::Nothing);
            }
        };
        row(&mut circuit, now);
        let _ = step(&mut circuit, Verdict::Answered, now);
        row(&mut circuit, now);
        assert_eq!(step(&mut circuit, failed(), now), ProbeNeed::Probe);
        assert_eq!(circuit.health(now), Health::Good, "requests pass until the probe has decided");
        assert_eq!(circuit.probed(Verdict::Answered, now), ProbeNeed::Nothing);
        row(&mut circuit, now);
        assert_eq!(step(&mut circuit, failed(), now), ProbeNeed::Nothing, "a doubt of a moment ago");
        assert_eq!(step(&mut circuit, failed(), now + SECOND), ProbeNeed::Probe);
        for verdict in [failed(), silent(), unreachable()] {
            let mut circuit = Circuit::default();
            assert_eq!(circuit.probed(verdict, now), ProbeNeed::Opened);
            assert_eq!(circuit.health(now), Health::Open);
            assert_eq!(step(&mut circuit, silent(), now), ProbeNeed::Nothing, "the probes go on already");
            assert_eq!(circuit.probed(Verdict::Answered, now), ProbeNeed::Nothing);
            assert_eq!(circuit.health(now), Health::Good);
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
        let _ = circuit.end(second, Verdict::Answered, start + 4 * SECOND);
        assert_eq!(circuit.health(start + 9 * SECOND), Health::Good, "something was answered since");
        let third = circuit.begin(start + 5 * SECOND, true);
        assert_eq!(circuit.health(start + 8 * SECOND), Health::Late);
        let _ = circuit.end(third, Verdict::Neutral, start + 8 * SECOND);
        let _ = circuit.end(first, Verdict::Neutral, start + 8 * SECOND);
        assert_eq!(circuit.health(start + 20 * SECOND), Health::Good);
        let queued = circuit.begin(start + 20 * SECOND, false);
        assert_eq!(circuit.health(start + 60 * SECOND), Health::Good);
        let gone = circuit.give_up(queued, start + 60 * SECOND);
        assert_eq!(gone, ProbeNeed::Nothing, "a request that waited for a connection has seen no silence");
    }

    #[test]
    fn a_silence_is_a_doubt_also_when_the_caller_leaves() {
        let (mut circuit, start) = (Circuit::default(), Instant::now());
        let early = circuit.begin(start, true);
        assert_eq!(circuit.give_up(early, start + SECOND), ProbeNeed::Nothing);
        let (a, b) = (circuit.begin(start, true), circuit.begin(start, true));
        assert_eq!(circuit.waits(a, start + SECOND), ProbeNeed::Nothing);
        assert_eq!(circuit.waits(a, start + LATE), ProbeNeed::Probe, "while it still waits");
        assert_eq!(circuit.give_up(b, start + LATE + SECOND), ProbeNeed::Probe, "when it goes");
        assert_eq!(circuit.end(a, silent(), start + LATE + 2 * SECOND), ProbeNeed::Probe, "when its time is over");
        let answered = circuit.begin(start, true);
        let _ = step(&mut circuit, Verdict::Answered, start + 6 * SECOND);
        assert_eq!(circuit.waits(answered, start + 9 * SECOND), ProbeNeed::Nothing, "others are answered");
    }
}
