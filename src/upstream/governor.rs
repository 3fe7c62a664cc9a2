//! The rate limit of an upstream. Docker Hub counts GETs of manifests, so lanyard spends the last
//! of them only on content that is not here.
//!
//! - `ratelimit-limit` and `ratelimit-remaining` (`100;w=21600`; the `x-` twins as well) are
//!   remembered for their window. When a tenth or less remains, a [`Spend::Refresh`] GET is
//!   refused.
//! - After a 429, requests of that kind in that repository fail fast until `Retry-After` has
//!   passed. Without `Retry-After` manifests rest for 60 s; blobs and lists do not rest. Then one
//!   request is let through, and the others follow if its answer is no 429.
//! - Three repositories got a 429 and no other answer came since: the limit is the upstream's. All
//!   repositories rest, at most 60 s from the last 429 on (S30).
//! - HEADs are free. They rest only after a 429 to a HEAD.
//!
//! Pure: the caller hands in both clocks and holds the lock.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use http::HeaderMap;
use tokio::time::Instant;

use super::{counters::RequestKind, error::UpstreamError};
use crate::oci::RepositoryName;

/// How long manifests rest after a 429 without `Retry-After`.
const DEFAULT_REST: Duration = Duration::from_secs(60);

/// The longest rest. A mistaken `Retry-After` must not end an upstream for good.
const MAX_REST: Duration = Duration::from_secs(3600);

/// The window of a limit that does not name one. Docker Hub documents 6 hours.
const DEFAULT_WINDOW: Duration = Duration::from_secs(21_600);

/// After 429s in so many repositories the limit counts as the upstream's.
const SEVERAL: usize = 3;

/// After a rest one request is let through. If no answer comes for so long, another one follows.
const BETWEEN_TRIALS: Duration = Duration::from_millis(250);

/// The most repositories whose rests are remembered, in each class of requests.
const MOST: usize = 1024;

/// The purpose of a manifest GET.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spend {
    /// Content that is not here. The client fails without it.
    Needed,
    /// A newer version of content that can be served as it is.
    Refresh,
}

/// The rate limit that the upstream told last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// GETs of manifests in a window.
    pub limit: u64,
    /// GETs of manifests that are left in this window.
    pub remaining: u64,
    /// The window's length.
    pub window: Duration,
}

/// A 429 that still forbids requests.
#[derive(Clone, Debug)]
struct LimitRest {
    at: Instant,
    until: Instant,
    message: String,
}

impl LimitRest {
    fn error(&self, until: Instant, now: Instant) -> UpstreamError {
        let retry_after = Some(until.saturating_duration_since(now));
        UpstreamError::RateLimited { retry_after, message: self.message.clone() }
    }
}

/// The rests of one class of requests, by repository.
#[derive(Debug, Default)]
struct LimitRests {
    of: HashMap<RepositoryName, LimitRest>,
    /// The last time that an answer other than a 429 came.
    passed: Option<Instant>,
}

/// A request that drew a 429.
pub(super) struct Limit<'a> {
    pub(super) kind: RequestKind,
    pub(super) repository: &'a RepositoryName,
    /// Upstream's words.
    pub(super) message: &'a str,
}

/// The rate limit and the rests of one upstream.
#[derive(Debug, Default)]
pub(super) struct Governor {
    budget: Option<(Budget, Instant)>,
    manifests: LimitRests,
    heads: LimitRests,
    content: LimitRests,
}

impl LimitRests {
    fn admit(&mut self, repository: &RepositoryName, now: Instant) -> Result<(), UpstreamError> {
        if let Some(rest) = self.of.get_mut(repository) {
            if rest.until > now {
                return Err(rest.error(rest.until, now));
            }
            rest.until = now + BETWEEN_TRIALS;
            return Ok(());
        }
        let since = |rest: &&LimitRest| rest.until > now && self.passed.is_none_or(|passed| rest.at > passed);
        let lately: Vec<&LimitRest> = self.of.values().filter(since).collect();
        let Some(last) = lately.iter().max_by_key(|rest| rest.at).filter(|_| lately.len() >= SEVERAL) else {
            return Ok(());
        };
        let until = last.until.min(last.at + DEFAULT_REST);
        if until > now { Err(last.error(until, now)) } else { Ok(()) }
    }

    fn limited(&mut self, repository: &RepositoryName, rest: LimitRest) {
        if self.of.len() >= MOST && !self.of.contains_key(repository) {
            let first = self.of.iter().min_by_key(|(_, rest)| rest.until).map(|(name, _)| name.clone());
            first.and_then(|first| self.of.remove(&first));
        }
        self.of.insert(repository.clone(), rest);
    }
}

impl Governor {
    /// Refuses a request that must wait, with [`UpstreamError::RateLimited`].
    pub(super) fn admit(
        &mut self,
        kind: RequestKind,
        spend: Spend,
        repository: &RepositoryName,
        now: Instant,
    ) -> Result<(), UpstreamError> {
        if let Some(rests) = self.rests(kind) {
            rests.admit(repository, now)?;
        }
        if kind != RequestKind::Manifest || spend == Spend::Needed {
            return Ok(());
        }
        match self.budget(now) {
            Some(budget) if budget.remaining.saturating_mul(10) <= budget.limit => Err(UpstreamError::RateLimited {
                retry_after: self.budget.map(|(budget, seen)| (seen + budget.window).saturating_duration_since(now)),
                message: format!(
                    "{} of {} pulls remain, and are kept for images that are not here yet",
                    budget.remaining, budget.limit
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Reads the budget from an answer's headers.
    pub(super) fn observe(&mut self, headers: &HeaderMap, now: Instant) {
        let read = |names: [&str; 2]| names.iter().find_map(|n| headers.get(*n)?.to_str().ok().and_then(quantity));
        let limit = read(["ratelimit-limit", "x-ratelimit-limit"]);
        let remaining = read(["ratelimit-remaining", "x-ratelimit-remaining"]);
        if let (Some((limit, limit_window)), Some((remaining, window))) = (limit, remaining) {
            let window = window.or(limit_window).unwrap_or(DEFAULT_WINDOW);
            self.budget = Some((Budget { limit, remaining, window }, now));
        }
    }

    /// Notes that a request got a 429. Returns how long to wait, if it is known.
    pub(super) fn limited(
        &mut self,
        limit: &Limit<'_>,
        headers: &HeaderMap,
        now: Instant,
        wall: SystemTime,
    ) -> Option<Duration> {
        let said = retry_after(headers, wall).map(|d| d.min(MAX_REST));
        let length = match limit.kind {
            RequestKind::Manifest | RequestKind::ManifestHead => Some(said.unwrap_or(DEFAULT_REST)),
            RequestKind::Blob | RequestKind::BlobHead | RequestKind::Tags | RequestKind::Referrers => said,
            RequestKind::Token | RequestKind::Greeting | RequestKind::Probe => None,
        };
        if let (Some(rests), Some(length)) = (self.rests(limit.kind), length) {
            let rest = LimitRest { at: now, until: now + length, message: limit.message.into() };
            rests.limited(limit.repository, rest);
        }
        length.or(said)
    }

    /// Notes that a request got another answer than a 429.
    pub(super) fn passed(&mut self, kind: RequestKind, repository: &RepositoryName, now: Instant) {
        if let Some(rests) = self.rests(kind) {
            rests.of.remove(repository);
            rests.passed = Some(now);
        }
    }

    /// The budget that the upstream told last, within its window.
    pub(super) fn budget(&self, now: Instant) -> Option<Budget> {
        self.budget.filter(|(budget, seen)| now.saturating_duration_since(*seen) < budget.window).map(|(b, _)| b)
    }

    fn rests(&mut self, kind: RequestKind) -> Option<&mut LimitRests> {
        match kind {
            RequestKind::Manifest => Some(&mut self.manifests),
            RequestKind::ManifestHead => Some(&mut self.heads),
            RequestKind::Blob | RequestKind::BlobHead | RequestKind::Tags | RequestKind::Referrers => {
                Some(&mut self.content)
            }
            RequestKind::Token | RequestKind::Greeting | RequestKind::Probe => None,
        }
    }
}

/// `100;w=21600`: a number, and the window in seconds if there is one between 1 s and a year.
fn quantity(text: &str) -> Option<(u64, Option<Duration>)> {
    let mut parts = text.split(';').map(str::trim);
    let number = parts.next()?.parse().ok()?;
    let window = parts.find_map(|p| p.strip_prefix("w=")?.parse().ok()).filter(|s| (1..=31_536_000).contains(s));
    Some((number, window.map(Duration::from_secs)))
}

/// `Retry-After` of an answer that has just come, at most [`MAX_REST`].
pub(super) fn retry_after_now(headers: &HeaderMap) -> Option<Duration> {
    retry_after(headers, SystemTime::now()).map(|d| d.min(MAX_REST))
}

/// `Retry-After`, in seconds or as a date (RFC 9110 section 10.2.3).
fn retry_after(headers: &HeaderMap, wall: SystemTime) -> Option<Duration> {
    let value = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    Some(httpdate::parse_http_date(value).ok()?.duration_since(wall).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_str(v).unwrap())).collect()
    }
    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn name(name: &str) -> RepositoryName {
        name.parse().unwrap()
    }
    fn admit(governor: &mut Governor, kind: RequestKind, repository: &str, now: Instant) -> Result<(), UpstreamError> {
        governor.admit(kind, Spend::Needed, &name(repository), now)
    }
    fn limited(
        governor: &mut Governor,
        kind: RequestKind,
        repository: &str,
        said: Option<&str>,
        now: Instant,
    ) -> Option<Duration> {
        let headers = said.map_or_else(HeaderMap::new, |said| headers(&[("retry-after", said)]));
        let limit = Limit { kind, repository: &name(repository), message: "slow down" };
        governor.limited(&limit, &headers, now, SystemTime::now())
    }

    #[test]
    fn the_last_tenth_is_for_what_is_not_here() {
        let (mut governor, now) = (Governor::default(), Instant::now());
        let refresh = |governor: &mut Governor, kind, now| governor.admit(kind, Spend::Refresh, &name("a"), now);
        governor.observe(&headers(&[("ratelimit-limit", "100;w=3600"), ("ratelimit-remaining", "11;w=3600")]), now);
        assert_eq!(governor.budget(now), Some(Budget { limit: 100, remaining: 11, window: secs(3600) }));
        assert!(refresh(&mut governor, RequestKind::Manifest, now).is_ok());
        governor.observe(&headers(&[("x-ratelimit-limit", "100"), ("x-ratelimit-remaining", "10;w=60")]), now);
        let refused = refresh(&mut governor, RequestKind::Manifest, now + secs(20)).unwrap_err();
        assert!(refused.is_outage());
        assert_eq!(refused.retry_after(), Some(secs(40)));
        assert!(admit(&mut governor, RequestKind::Manifest, "a", now).is_ok());
        assert!(refresh(&mut governor, RequestKind::ManifestHead, now).is_ok());
        assert!(refresh(&mut governor, RequestKind::Manifest, now + secs(60)).is_ok(), "the window has passed");
    }

    #[test]
    fn a_429_gives_rest_to_its_kind() {
        let (mut governor, now) = (Governor::default(), Instant::now());
        assert_eq!(limited(&mut governor, RequestKind::Manifest, "a", None, now), Some(secs(60)));
        let refused = admit(&mut governor, RequestKind::Manifest, "a", now + secs(59)).unwrap_err();
        assert_eq!((refused.message().as_str(), refused.retry_after()), ("slow down", Some(secs(1))));
        assert!(admit(&mut governor, RequestKind::ManifestHead, "a", now).is_ok());
        assert!(admit(&mut governor, RequestKind::Blob, "a", now).is_ok());
        assert!(admit(&mut governor, RequestKind::Manifest, "a", now + secs(60)).is_ok());

        assert_eq!(limited(&mut governor, RequestKind::Blob, "a", None, now), None);
        assert!(admit(&mut governor, RequestKind::Blob, "a", now).is_ok());
        assert_eq!(limited(&mut governor, RequestKind::Blob, "a", Some("7"), now), Some(secs(7)));
        assert!(admit(&mut governor, RequestKind::BlobHead, "a", now + secs(6)).is_err());

        assert_eq!(limited(&mut governor, RequestKind::ManifestHead, "a", None, now), Some(secs(60)));
        assert!(admit(&mut governor, RequestKind::ManifestHead, "a", now).is_err());
    }

    #[test]
    fn after_a_rest_one_goes_first() {
        let (mut governor, now) = (Governor::default(), Instant::now());
        limited(&mut governor, RequestKind::Manifest, "a", Some("1"), now);
        let then = now + secs(1);
        assert!(admit(&mut governor, RequestKind::Manifest, "a", then).is_ok());
        for _ in 0..50 {
            let told = admit(&mut governor, RequestKind::Manifest, "a", then).unwrap_err();
            assert_eq!(told.retry_after(), Some(BETWEEN_TRIALS));
        }
        assert!(
            admit(&mut governor, RequestKind::Manifest, "a", then + BETWEEN_TRIALS).is_ok(),
            "the first may be slow"
        );
        governor.passed(RequestKind::Manifest, &name("a"), then);
        assert!((0..50).all(|_| admit(&mut governor, RequestKind::Manifest, "a", then).is_ok()));
    }

    #[test]
    fn s30_one_or_two_repositories_are_not_the_upstream() {
        let (mut governor, now) = (Governor::default(), Instant::now());
        for (n, repository) in ["a", "b", "c"].into_iter().enumerate() {
            assert!(admit(&mut governor, RequestKind::Manifest, "other", now).is_ok(), "after {n}");
            limited(&mut governor, RequestKind::Manifest, repository, Some("3600"), now + secs(1));
        }
        let wide = admit(&mut governor, RequestKind::Manifest, "other", now + secs(2)).unwrap_err();
        assert_eq!(wide.retry_after(), Some(secs(59)), "not as long as three repositories say");
        assert!(admit(&mut governor, RequestKind::Blob, "other", now + secs(2)).is_ok());
        assert!(admit(&mut governor, RequestKind::Manifest, "other", now + secs(61)).is_ok());
        // One request succeeds, so the limit was that of the three repositories.
        governor.passed(RequestKind::Manifest, &name("other"), now + secs(61));
        assert!(admit(&mut governor, RequestKind::Manifest, "third", now + secs(61)).is_ok());
        assert!(
            admit(&mut governor, RequestKind::Manifest, "a", now + secs(61)).is_err(),
            "who rest as long as they say"
        );
        for n in 0..3000 {
            limited(&mut governor, RequestKind::Manifest, &format!("r{n}"), Some("3600"), now);
        }
        assert!(governor.manifests.of.len() <= MOST);
    }

    #[test]
    fn reads_retry_after_in_both_spellings() {
        let wall = SystemTime::UNIX_EPOCH + secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        let read = |v| retry_after(&headers(&[("retry-after", v)]), wall);
        assert_eq!(read("120"), Some(secs(120)));
        assert_eq!(read("Sun, 06 Nov 1994 08:50:37 GMT"), Some(secs(60)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:00 GMT"), Some(secs(0)), "a date that has passed");
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
        let mut governor = Governor::default();
        let long = limited(&mut governor, RequestKind::Manifest, "a", Some("99999999999999999999"), Instant::now());
        assert_eq!(long, Some(MAX_REST));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[ -~]*") {
            let (mut governor, now) = (Governor::default(), Instant::now());
            let map = headers(&[("ratelimit-limit", &text), ("ratelimit-remaining", &text), ("retry-after", &text)]);
            governor.observe(&map, now);
            let limit = Limit { kind: RequestKind::Manifest, repository: &name("a"), message: &text };
            governor.limited(&limit, &map, now, SystemTime::now());
            let _ = governor.admit(RequestKind::Manifest, Spend::Refresh, &name("a"), now);
        }
    }
}
