//! What an upstream's rate limit leaves: manifest GETs are what Docker Hub counts, so they are spent last, and on content that
//! is not here.
//!
//! - `ratelimit-limit` and `ratelimit-remaining` (`100;w=21600`; the `x-` twins as well) are remembered for their window. When
//!   a tenth or less remains, a [`Spend::Refresh`] GET is refused.
//! - After a 429, requests of that kind fail fast until `Retry-After` has passed. Where it is absent manifests rest 60 s;
//!   blobs and lists do not rest.
//! - HEADs are free; they rest only after a 429 of their own.
//!
//! Pure: both clocks are handed in, and the caller holds the lock.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use tokio::time::Instant;

use super::{counters::Kind, error::UpstreamError};

/// How long manifests rest after a 429 that does not say.
const DEFAULT_REST: Duration = Duration::from_secs(60);

/// The longest rest: a `Retry-After` that is a mistake must not end an upstream for good.
const MAX_REST: Duration = Duration::from_secs(3600);

/// The window of a limit that does not name one (Docker Hub's documented one).
const DEFAULT_WINDOW: Duration = Duration::from_secs(21_600);

/// What a manifest GET is spent on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spend {
    /// Content that is not here: a client fails without it.
    Needed,
    /// A newer version of something that can be served as it is.
    Refresh,
}

/// The rate limit as the upstream last told it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Manifest GETs in a window.
    pub limit: u64,
    /// Those that are left.
    pub remaining: u64,
    /// How long a window is.
    pub window: Duration,
}

/// A 429 that still counts.
#[derive(Clone, Debug)]
struct Rest {
    until: Instant,
    message: String,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Governor {
    budget: Option<(Budget, Instant)>,
    manifests: Option<Rest>,
    heads: Option<Rest>,
    content: Option<Rest>,
}

impl Governor {
    /// Whether a request may be sent; the error is [`UpstreamError::RateLimited`].
    pub(super) fn admit(&self, kind: Kind, spend: Spend, now: Instant) -> Result<(), UpstreamError> {
        if let Some(rest) = self.rest(kind).filter(|rest| rest.until > now) {
            let retry_after = Some(rest.until - now);
            return Err(UpstreamError::RateLimited { retry_after, message: rest.message.clone() });
        }
        if kind != Kind::Manifest || spend == Spend::Needed {
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

    /// An answer came, with these headers.
    pub(super) fn observe(&mut self, headers: &HeaderMap, now: Instant) {
        let read = |names: [&str; 2]| names.iter().find_map(|n| headers.get(*n)?.to_str().ok().and_then(quantity));
        let limit = read(["ratelimit-limit", "x-ratelimit-limit"]);
        let remaining = read(["ratelimit-remaining", "x-ratelimit-remaining"]);
        if let (Some((limit, limit_window)), Some((remaining, window))) = (limit, remaining) {
            let window = window.or(limit_window).unwrap_or(DEFAULT_WINDOW);
            self.budget = Some((Budget { limit, remaining, window }, now));
        }
    }

    /// A request of this kind drew a 429. Returns how long to wait, as far as anybody knows.
    pub(super) fn limited(
        &mut self,
        kind: Kind,
        headers: &HeaderMap,
        message: &str,
        now: Instant,
        wall: SystemTime,
    ) -> Option<Duration> {
        let said = retry_after(headers, wall).map(|d| d.min(MAX_REST));
        let length = match kind {
            Kind::Manifest | Kind::ManifestHead => Some(said.unwrap_or(DEFAULT_REST)),
            Kind::Blob | Kind::BlobHead | Kind::Tags | Kind::Referrers => said,
            Kind::Token | Kind::Probe => None,
        };
        let rest = length.map(|length| Rest { until: now + length, message: message.into() });
        match kind {
            Kind::Manifest => self.manifests = rest,
            Kind::ManifestHead => self.heads = rest,
            Kind::Blob | Kind::BlobHead | Kind::Tags | Kind::Referrers => self.content = rest,
            Kind::Token | Kind::Probe => {}
        }
        length.or(said)
    }

    /// What remains, as the upstream last told it, within its window.
    pub(super) fn budget(&self, now: Instant) -> Option<Budget> {
        self.budget.filter(|(budget, seen)| now.saturating_duration_since(*seen) < budget.window).map(|(b, _)| b)
    }

    fn rest(&self, kind: Kind) -> Option<&Rest> {
        match kind {
            Kind::Manifest => self.manifests.as_ref(),
            Kind::ManifestHead => self.heads.as_ref(),
            Kind::Blob | Kind::BlobHead | Kind::Tags | Kind::Referrers => self.content.as_ref(),
            Kind::Token | Kind::Probe => None,
        }
    }
}

/// `100;w=21600`: a number, and the window in seconds if it is there and not absurd.
fn quantity(text: &str) -> Option<(u64, Option<Duration>)> {
    let mut parts = text.split(';').map(str::trim);
    let number = parts.next()?.parse().ok()?;
    let window = parts.find_map(|p| p.strip_prefix("w=")?.parse().ok()).filter(|s| (1..=31_536_000).contains(s));
    Some((number, window.map(Duration::from_secs)))
}

/// `Retry-After` of an answer that came just now.
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

    #[test]
    fn the_last_tenth_is_for_what_is_not_here() {
        let (mut governor, now) = (Governor::default(), Instant::now());
        governor.observe(&headers(&[("ratelimit-limit", "100;w=3600"), ("ratelimit-remaining", "11;w=3600")]), now);
        assert_eq!(governor.budget(now), Some(Budget { limit: 100, remaining: 11, window: secs(3600) }));
        assert!(governor.admit(Kind::Manifest, Spend::Refresh, now).is_ok());
        governor.observe(&headers(&[("x-ratelimit-limit", "100"), ("x-ratelimit-remaining", "10;w=60")]), now);
        let refused = governor.admit(Kind::Manifest, Spend::Refresh, now + secs(20)).unwrap_err();
        assert!(refused.is_outage());
        assert_eq!(refused.retry_after(), Some(secs(40)));
        assert!(governor.admit(Kind::Manifest, Spend::Needed, now).is_ok());
        assert!(governor.admit(Kind::ManifestHead, Spend::Refresh, now).is_ok());
        assert!(governor.admit(Kind::Manifest, Spend::Refresh, now + secs(60)).is_ok(), "the window has passed");
    }

    #[test]
    fn a_429_gives_rest_to_its_kind() {
        let (mut governor, now, wall) = (Governor::default(), Instant::now(), SystemTime::now());
        let none = HeaderMap::new();
        assert_eq!(governor.limited(Kind::Manifest, &none, "slow down", now, wall), Some(secs(60)));
        let refused = governor.admit(Kind::Manifest, Spend::Needed, now + secs(59)).unwrap_err();
        assert_eq!((refused.message().as_str(), refused.retry_after()), ("slow down", Some(secs(1))));
        assert!(governor.admit(Kind::ManifestHead, Spend::Needed, now).is_ok());
        assert!(governor.admit(Kind::Blob, Spend::Needed, now).is_ok());
        assert!(governor.admit(Kind::Manifest, Spend::Needed, now + secs(60)).is_ok());

        assert_eq!(governor.limited(Kind::Blob, &none, "", now, wall), None);
        assert!(governor.admit(Kind::Blob, Spend::Needed, now).is_ok());
        assert_eq!(governor.limited(Kind::Blob, &headers(&[("retry-after", "7")]), "", now, wall), Some(secs(7)));
        assert!(governor.admit(Kind::Blob, Spend::Needed, now + secs(6)).is_err());

        assert_eq!(governor.limited(Kind::ManifestHead, &none, "", now, wall), Some(secs(60)));
        assert!(governor.admit(Kind::ManifestHead, Spend::Needed, now).is_err());
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
        let long = headers(&[("retry-after", "99999999999999999999")]);
        assert_eq!(governor.limited(Kind::Manifest, &long, "", Instant::now(), wall), Some(MAX_REST));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[ -~]*") {
            let (mut governor, now) = (Governor::default(), Instant::now());
            let map = headers(&[("ratelimit-limit", &text), ("ratelimit-remaining", &text), ("retry-after", &text)]);
            governor.observe(&map, now);
            governor.limited(Kind::Manifest, &map, &text, now, SystemTime::now());
            let _ = governor.admit(Kind::Manifest, Spend::Refresh, now);
        }
    }
}
