//! What an object store can do, proven with a few objects of a name that nothing else has, which
//! are gone afterwards.
//!
//! Documentation and version numbers of stores do not tell: some answer 200 to a conditional PUT
//! whose condition does not hold, and others refuse it. So each ability that lanyard needs is
//! tried, the wrong way too, and what fails is told in a sentence. Callers: `config check --reach`.

use std::{
    fmt::{self, Display},
    time::Duration,
};

use bytes::Bytes;
use uuid::Uuid;

use super::{Far, FarError};

/// The two parts of the probe in parts: S3 takes none below 5 MiB but the last.
const FIRST_PART: u64 = 5 << 20;

/// A try has so long.
const MOST: Duration = Duration::from_secs(60);

/// A signature is refused when the clocks are so many seconds apart (AWS: 15 minutes).
const SKEW_REFUSED: u64 = 15 * 60;

/// So many seconds are worth a word.
const SKEW_TOLD: u64 = 60;

/// One thing that was tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What was tried, in a few words.
    pub what: &'static str,
    /// Why it cannot be relied on, in a sentence.
    pub wrong: Option<String>,
}

impl Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.wrong {
            None => write!(f, "{}: good", self.what),
            Some(wrong) => write!(f, "{}: {wrong}", self.what),
        }
    }
}

/// All that was tried, in order. What needs a thing that failed was not tried.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Reach {
    /// One for each.
    pub findings: Vec<Finding>,
}

impl Reach {
    /// Whether the store can do all that lanyard needs.
    pub fn is_good(&self) -> bool {
        self.findings.iter().all(|finding| finding.wrong.is_none())
    }

    /// Notes how a try ended. Says whether it was good.
    fn tried(&mut self, what: &'static str, ended: Result<(), String>) -> bool {
        self.findings.push(Finding { what, wrong: ended.err() });
        self.findings.last().is_some_and(|finding| finding.wrong.is_none())
    }
}

impl Far {
    /// Tries what lanyard needs. Takes some seconds, and writes some 5 MiB.
    pub async fn probe(&self) -> Reach {
        let folder = format!("probe/{}/", Uuid::new_v4());
        let key = format!("{folder}object");
        let mut reach = Reach::default();
        let put = in_time(self.puts(&key)).await;
        if put.is_err() {
            // It may be there all the same.
            let _ = in_time(self.removes(&key)).await;
        }
        if reach.tried("put", put) {
            reach.tried("get", in_time(self.gets(&key)).await);
            reach.tried("list", in_time(self.lists(&folder, &key)).await);
            reach.tried("put in parts", in_time(self.puts_in_parts(&format!("{folder}parts"))).await);
            reach.tried("put if absent", in_time(self.creates(&key)).await);
            reach.tried("put if unchanged", in_time(self.replaces(&key)).await);
            let removed = in_time(self.removes(&key)).await;
            reach.tried("delete", removed.map_err(|wrong| format!("{wrong}; {} may be left", self.full(&key))));
        }
        reach.tried("clock", self.clocks_agree());
        reach
    }

    async fn puts(&self, key: &str) -> Result<(), String> {
        self.put(key, Bytes::from_static(b"0123456789")).await.map(drop).map_err(words)
    }

    async fn gets(&self, key: &str) -> Result<(), String> {
        let (whole, _) = self.read(key, 100).await.map_err(words)?;
        same(&whole, b"0123456789")?;
        let mut some = Vec::new();
        self.read_range(key, 3..7, |piece| some.extend_from_slice(&piece)).await.map_err(words)?;
        same(&some, b"3456")
    }

    async fn lists(&self, folder: &str, key: &str) -> Result<(), String> {
        let page = self.list(folder, None).await.map_err(words)?;
        match page.objects.iter().find(|(found, _)| found == key) {
            Some((_, 10)) => Ok(()),
            Some((_, size)) => Err(format!("an object of 10 bytes is listed with {size}")),
            None => Err("an object that was just put is not listed".into()),
        }
    }

    async fn puts_in_parts(&self, key: &str) -> Result<(), String> {
        // A session that nobody ends keeps its parts, which cost money.
        let abandoned = self.begin(key).await.map_err(words)?;
        let left = |error| format!("a session cannot be ended: {error}; {} may be left", abandoned.id);
        self.abandon(&abandoned).await.map_err(left)?;
        let session = self.begin(key).await.map_err(words)?;
        let made = self.in_parts(&session).await;
        if made.is_err() {
            // The first error is the one to tell.
            let _ = self.abandon(&session).await;
        }
        let removed = self.remove(key).await.map_err(words);
        made.and(removed)
    }

    async fn in_parts(&self, session: &super::Session) -> Result<(), String> {
        let pieces = [Bytes::from(vec![b'a'; FIRST_PART as usize]), Bytes::from_static(b"b")];
        let mut marks = Vec::new();
        for (number, piece) in pieces.into_iter().enumerate() {
            marks.push(self.part(session, number, piece).await.map_err(words)?);
        }
        let size = FIRST_PART + 1;
        self.complete(session, &marks, size).await.map_err(words)?;
        // As after a death between the completion and its record.
        self.complete(session, &marks, size)
            .await
            .map_err(|error| format!("what is completed cannot be completed again: {error}"))?;
        match self.size(&session.key).await.map_err(words)? {
            Some(there) if there == size => Ok(()),
            other => Err(format!("{size} bytes were put in two parts, and {} are there", other.unwrap_or(0))),
        }
    }

    async fn creates(&self, key: &str) -> Result<(), String> {
        match self.create(key, Bytes::from_static(b"other")).await {
            Err(FarError::Conflict) => Ok(()),
            Ok(_) => Err(ignored("If-None-Match")),
            Err(error) => Err(words(error)),
        }
    }

    async fn replaces(&self, key: &str) -> Result<(), String> {
        let first = self.put(key, Bytes::from_static(b"first")).await.map_err(words)?;
        let second = self.replace(key, Bytes::from_static(b"second"), &first).await.map_err(words)?;
        match self.replace(key, Bytes::from_static(b"third"), &first).await {
            Err(FarError::Conflict) => {}
            Ok(_) => return Err(ignored("If-Match")),
            Err(error) => return Err(words(error)),
        }
        let (bytes, version) = self.read(key, 100).await.map_err(words)?;
        same(&bytes, b"second")?;
        if version == second { Ok(()) } else { Err("a GET tells another ETag than the PUT before it".into()) }
    }

    async fn removes(&self, key: &str) -> Result<(), String> {
        self.remove(key).await.map_err(words)?;
        self.remove(key).await.map_err(|error| format!("what is not there cannot be deleted: {error}"))?;
        match self.size(key).await.map_err(words)? {
            None => Ok(()),
            Some(_) => Err("an object is still there after it was deleted".into()),
        }
    }

    fn clocks_agree(&self) -> Result<(), String> {
        let Some(ahead) = self.clock_ahead() else { return Ok(()) };
        let apart = ahead.unsigned_abs();
        let way = if ahead > 0 { "behind" } else { "ahead of" };
        match apart {
            ..SKEW_TOLD => Ok(()),
            SKEW_TOLD..SKEW_REFUSED => Err(format!(
                "this machine's clock is {apart} s {way} the store's; from {SKEW_REFUSED} s on nothing works"
            )),
            _ => Err(format!("this machine's clock is {apart} s {way} the store's: set it right")),
        }
    }
}

async fn in_time(trial: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let late = || format!("it takes longer than {} s", MOST.as_secs());
    tokio::time::timeout(MOST, trial).await.unwrap_or_else(|_| Err(late()))
}

fn words(error: FarError) -> String {
    match error {
        // Whatever is asked for was there a moment ago.
        FarError::Missing => "what was just put is not there".into(),
        error => error.to_string(),
    }
}

fn same(got: &[u8], expected: &[u8]) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("{} bytes were put, and others are there", expected.len())) }
}

/// Two writers would overwrite each other's records in silence.
fn ignored(header: &str) -> String {
    format!(
        "the store ignores {header} and answers that all is well: records could be lost, so lanyard does not use it"
    )
}
