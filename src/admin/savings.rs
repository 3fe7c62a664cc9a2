//! The account of savings: bytes that clients of mirrored names were sent, less the bytes that came
//! from upstreams.
//!
//! The counters of an answer and of an upstream's body only grow (`metrics/traffic.rs`,
//! `upstream/counters.rs`). This reads them, adds what is new to the day, and writes the account
//! down every ten minutes and at the stop. So a crash loses ten minutes at most, of both sides. A
//! long answer counts when it ends, and what comes from upstream as it comes.
//!
//! The account holds 400 days of each upstream; what is older is in one sum. Callers: `app` makes
//! it, runs it, and closes it at the stop; `Admin` shows it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::{Metrics, Sample},
    oci::{Outcome, UpstreamName},
    runtime::clock,
    storage::{Flow, SavingsRecord, Storage, StorageError, UpstreamRecord},
};

/// How often the account is written down.
const EVERY: Duration = Duration::from_secs(10 * 60);

/// How many days of an upstream are told apart.
const DAYS: u64 = 400;

const DAY: u64 = 24 * 60 * 60;

/// The account of this process.
pub struct Savings {
    storage: Arc<Storage>,
    metrics: Arc<Metrics>,
    sample: Arc<dyn Fn() -> Sample + Send + Sync>,
    account: Mutex<Account>,
    /// One caller at a time reads the record.
    reading: tokio::sync::Mutex<()>,
}

/// The record with what was counted since.
struct Account {
    record: SavingsRecord,
    /// The earlier processes' account is in it. Until then nothing is written.
    is_read: bool,
    /// The counters as they are in the record.
    counted: HashMap<UpstreamName, Counted>,
    /// When they were read, in seconds since 1970: the day that the next bytes belong to.
    at: u64,
}

#[derive(Clone, Copy, Default)]
struct Counted {
    sent: [u64; Outcome::ALL.len()],
    pulls: u64,
    received: u64,
}

/// `/api/v1/savings`
#[derive(Debug, Serialize, Deserialize)]
pub struct SavingsReport {
    /// All upstreams together.
    #[serde(flatten)]
    pub sum: SavingsSum,
    /// Sorted by name; also those that are no longer configured.
    pub upstreams: Vec<UpstreamSavings>,
}

/// One number for everything.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SavingsSum {
    /// When the account was begun, in seconds since 1970.
    pub since: u64,
    /// Body bytes that clients of mirrored names were sent.
    pub sent: u64,
    /// Body bytes that upstreams sent.
    pub received: u64,
    /// The difference. Below 0 where more came than was asked for.
    pub saved: i64,
    /// Manifests that clients of mirrored names were sent.
    pub pulls: u64,
}

/// One upstream's part.
#[derive(Debug, Serialize, Deserialize)]
pub struct UpstreamSavings {
    /// Its name.
    pub name: String,
    /// As in the sum.
    pub sent: u64,
    /// As in the sum.
    pub received: u64,
    /// As in the sum.
    pub saved: i64,
    /// As in the sum.
    pub pulls: u64,
    /// The last 400 days, each if something passed on it, by their dates in UTC.
    pub days: Vec<DaySavings>,
}

/// One day of an upstream.
#[derive(Debug, Serialize, Deserialize)]
pub struct DaySavings {
    /// As in `2026-03-02`.
    pub day: String,
    /// The numbers.
    #[serde(flatten)]
    pub flow: Flow,
}

impl Savings {
    /// An account of which nothing is read yet. `sample` must not block.
    pub fn new(
        storage: &Arc<Storage>,
        metrics: &Arc<Metrics>,
        sample: &Arc<dyn Fn() -> Sample + Send + Sync>,
    ) -> Arc<Savings> {
        let at = clock::now();
        let record = SavingsRecord { since: at, ..SavingsRecord::default() };
        Arc::new(Savings {
            storage: Arc::clone(storage),
            metrics: Arc::clone(metrics),
            sample: Arc::clone(sample),
            account: Mutex::new(Account { record, is_read: false, counted: HashMap::new(), at }),
            reading: tokio::sync::Mutex::default(),
        })
    }

    /// Writes the account down every ten minutes, and counts at the end of each day, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            self.note().await;
            let midnight = Duration::from_secs(DAY - clock::now() % DAY);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY.min(midnight)) => {}
            }
        }
    }

    /// Counts what is new, and writes the account down.
    pub async fn note(&self) {
        self.read().await;
        let record = {
            let mut account = self.count();
            let is_new = account.record.upstreams.is_empty();
            if !account.is_read || is_new { None } else { Some(account.keep_days().clone()) }
        };
        let Some(record) = record else { return };
        match self.storage.note_savings(record).await {
            Ok(()) => {}
            Err(error @ (StorageError::ReadOnly | StorageError::Closed | StorageError::Lost)) => {
                tracing::debug!(%error, "the account of savings was not written down");
            }
            Err(error) => tracing::warn!(%error, "the account of savings was not written down"),
        }
    }

    /// The account of this moment.
    pub async fn report(&self) -> SavingsReport {
        self.read().await;
        let account = self.count();
        SavingsReport {
            sum: sum(&account.record),
            upstreams: account.record.upstreams.iter().map(savings_of).collect(),
        }
    }

    /// The sum of this moment.
    pub async fn sum(&self) -> SavingsSum {
        self.read().await;
        sum(&self.count().record)
    }

    /// Adds the account of earlier processes, once.
    async fn read(&self) {
        if self.account.lock().is_read {
            return;
        }
        let _one = self.reading.lock().await;
        if self.account.lock().is_read {
            return;
        }
        match self.storage.savings().await {
            Ok(earlier) => {
                let mut account = self.account.lock();
                account.is_read = true;
                account.record = joined(earlier.unwrap_or_default(), &account.record);
            }
            Err(error) => {
                tracing::warn!(%error, "the account of savings cannot be read, and is not written until it can be");
            }
        }
    }

    /// Adds what the counters have more than at the last call.
    fn count(&self) -> parking_lot::MutexGuard<'_, Account> {
        let mut account = self.account.lock();
        let mut now: HashMap<UpstreamName, Counted> = HashMap::new();
        for traffic in self.metrics.traffic() {
            let counted = Counted { sent: traffic.sent, pulls: traffic.pulls, received: 0 };
            now.insert(traffic.name, counted);
        }
        for upstream in (self.sample)().upstreams {
            now.entry(upstream.name).or_default().received = upstream.received;
        }
        account.add(now, clock::now());
        account
    }
}

impl Account {
    fn add(&mut self, counters: HashMap<UpstreamName, Counted>, now: u64) {
        let day = day(self.at);
        self.at = now;
        for (name, counted) in counters {
            let before = self.counted.insert(name.clone(), counted).unwrap_or_default();
            let flow = counted.since(&before);
            if !flow.is_empty() {
                let upstream = self.record.upstreams.entry(name.to_string()).or_default();
                upstream.days.entry(day.clone()).or_default().add(&flow);
            }
        }
    }

    /// Moves the days that are too old into the sum of the earlier ones.
    fn keep_days(&mut self) -> &SavingsRecord {
        let first = day(self.at.saturating_sub(DAYS * DAY));
        for UpstreamRecord { earlier, days } in self.record.upstreams.values_mut() {
            let kept = days.split_off(&first);
            days.values().for_each(|flow| earlier.add(flow));
            *days = kept;
        }
        &self.record
    }
}

impl Counted {
    fn since(&self, before: &Counted) -> Flow {
        let sent = Outcome::ALL.into_iter().filter_map(|outcome| {
            let bytes = self.sent[outcome as usize].saturating_sub(before.sent[outcome as usize]);
            (bytes > 0).then(|| (outcome.as_str().to_owned(), bytes))
        });
        Flow {
            sent: sent.collect(),
            received: self.received.saturating_sub(before.received),
            pulls: self.pulls.saturating_sub(before.pulls),
        }
    }
}

/// The earlier account with what was counted before it was read.
fn joined(mut earlier: SavingsRecord, counted: &SavingsRecord) -> SavingsRecord {
    if earlier.since == 0 {
        earlier.since = counted.since;
    }
    for (name, upstream) in &counted.upstreams {
        let into = earlier.upstreams.entry(name.clone()).or_default();
        upstream.days.iter().for_each(|(day, flow)| into.days.entry(day.clone()).or_default().add(flow));
    }
    earlier
}

fn sum(record: &SavingsRecord) -> SavingsSum {
    let mut all = Flow::default();
    record.upstreams.values().for_each(|upstream| all.add(&whole(upstream)));
    let sent = all.all_sent();
    SavingsSum {
        since: record.since,
        sent,
        received: all.received,
        saved: difference(sent, all.received),
        pulls: all.pulls,
    }
}

fn savings_of((name, record): (&String, &UpstreamRecord)) -> UpstreamSavings {
    let all = whole(record);
    let days = record.days.iter().map(|(day, flow)| DaySavings { day: day.clone(), flow: flow.clone() });
    let sent = all.all_sent();
    UpstreamSavings {
        name: name.clone(),
        sent,
        received: all.received,
        saved: difference(sent, all.received),
        pulls: all.pulls,
        days: days.collect(),
    }
}

fn whole(upstream: &UpstreamRecord) -> Flow {
    upstream.days.values().fold(upstream.earlier.clone(), |mut sum, flow| {
        sum.add(flow);
        sum
    })
}

fn difference(sent: u64, received: u64) -> i64 {
    let signed = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
    signed(sent) - signed(received)
}

/// The day of a time in seconds since 1970, in UTC.
fn day(seconds: u64) -> String {
    // The end of the year 9999, so that the date has ten characters.
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799));
    let mut text = humantime::format_rfc3339_seconds(time).to_string();
    text.truncate("2026-03-02".len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(at: u64) -> Account {
        Account { record: SavingsRecord::default(), is_read: true, counted: HashMap::new(), at }
    }

    fn counters(hit: u64, received: u64) -> HashMap<UpstreamName, Counted> {
        let mut counted = Counted { received, pulls: 1, ..Counted::default() };
        counted.sent[Outcome::Hit as usize] = hit;
        HashMap::from([("docker.io".parse().unwrap(), counted)])
    }

    #[test]
    fn bytes_belong_to_the_day_on_which_they_passed() {
        let (noon, midnight) = (20_000 * DAY + DAY / 2, 20_001 * DAY);
        let mut account = account(noon);
        account.add(counters(100, 40), noon + 60);
        account.add(counters(150, 40), midnight);
        account.add(counters(150, 40), midnight + 60);
        account.add(counters(175, 50), midnight + 120);
        let record = &account.record.upstreams["docker.io"];
        let days: Vec<_> =
            record.days.iter().map(|(day, flow)| (day.as_str(), flow.sent["hit"], flow.received)).collect();
        assert_eq!(days, [("2024-10-04", 150, 40), ("2024-10-05", 25, 10)]);
        let SavingsSum { sent, received, saved, pulls, .. } = sum(&account.record);
        assert_eq!((sent, received, saved, pulls), (175, 50, 125, 1));
    }

    #[test]
    fn the_oldest_days_become_one_sum() {
        let mut account = account(20_000 * DAY);
        for day in 0..500 {
            account.add(counters(10 * (day + 1), 3 * (day + 1)), (20_000 + day + 1) * DAY);
        }
        let before = sum(&account.record);
        account.keep_days();
        let record = &account.record.upstreams["docker.io"];
        assert_eq!((record.days.len() as u64, record.earlier.sent["hit"]), (DAYS, 1000));
        assert_eq!(sum(&account.record), before, "nothing is lost");
        assert_eq!(before.sent, 5000);
    }

    #[test]
    fn more_may_come_than_is_asked_for() {
        let mut account = account(DAY);
        account.add(counters(0, 40), DAY);
        assert_eq!(sum(&account.record).saved, -40);
    }

    #[test]
    fn an_account_that_is_read_late_loses_nothing() {
        let mut earlier = account(DAY);
        earlier.add(counters(100, 40), DAY);
        earlier.record.since = 7;
        let mut counted = account(DAY);
        counted.add(counters(10, 4), 2 * DAY);
        counted.record.since = DAY;
        let SavingsSum { since, sent, received, .. } = sum(&joined(earlier.record, &counted.record));
        assert_eq!((since, sent, received), (7, 110, 44));
    }
}
