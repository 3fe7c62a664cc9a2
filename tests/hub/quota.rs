//! The pull rate limit: counted on GETs of manifests, stated in headers, and 429 when it is used
//! up.

use super::reply::Reply;

/// Docker Hub's body of the 429.
pub(super) const TOO_MANY: &str = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"}]}"#;

/// A rate limit.
#[derive(Clone, Debug)]
pub struct Quota {
    /// Manifests per window.
    pub limit: u32,
    /// The window in seconds.
    pub window: u32,
    /// Manifests that are left in the window.
    pub remaining: u32,
    /// The Retry-After of the 429, if it has one.
    pub retry_after: Option<String>,
}

impl Quota {
    /// Spends one if `counted`; returns the 429 if none is left.
    pub(super) fn spend(&mut self, counted: bool) -> Option<Reply> {
        if self.remaining > 0 {
            self.remaining -= u32::from(counted);
            return None;
        }
        counted.then(|| {
            let reply = Reply::new(429, "application/json", TOO_MANY.as_bytes());
            match &self.retry_after {
                Some(value) => reply.with("Retry-After", value.clone()),
                None => reply,
            }
        })
    }

    /// States the limit in an answer's headers.
    pub(super) fn tell(&self, reply: &mut Reply) {
        reply.set_header("ratelimit-limit", Some(&format!("{};w={}", self.limit, self.window)));
        reply.set_header("ratelimit-remaining", Some(&format!("{};w={}", self.remaining, self.window)));
        reply.set_header("docker-ratelimit-source", Some("192.0.2.7"));
    }
}
