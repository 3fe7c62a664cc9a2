//! What a request's query says. Unknown keys are harmless, as clients and proxies add their own.

use crate::oci::{ErrorCode, RegistryError};

/// The largest page of a list (S9).
pub(super) const MAX_PAGE: u64 = 1000;

/// The keys lanyard knows, percent-decoded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Query {
    /// `ns=`: the registry the client thinks it talks to.
    pub(super) ns: Option<String>,
    /// `n=`: how many entries of a list, at most [`MAX_PAGE`]; absent: all.
    pub(super) n: Option<u64>,
    /// `last=`: list what sorts after this.
    pub(super) last: Option<String>,
    /// `artifactType=`: the filter of the referrers list.
    pub(super) artifact_type: Option<String>,
}

impl Query {
    /// Reads a raw query, without its question mark. `ns` twice would let two readers see two registries, so it is
    /// NAME_INVALID; an `n` that is no natural number is 400; of other keys the first counts.
    pub(super) fn parse(raw: &str) -> Result<Query, RegistryError> {
        let mut query = Query::default();
        for (key, value) in url::form_urlencoded::parse(raw.as_bytes()) {
            let slot = match key.as_ref() {
                "ns" if query.ns.is_some() => {
                    return Err(RegistryError::new(ErrorCode::NameInvalid, "ns is given more than once"));
                }
                "ns" => &mut query.ns,
                "last" => &mut query.last,
                "artifactType" => &mut query.artifact_type,
                "n" => {
                    query.n = query.n.or(Some(page(&value)?));
                    continue;
                }
                _ => continue,
            };
            slot.get_or_insert_with(|| value.into_owned());
        }
        Ok(query)
    }

    /// The query again with only the known keys, for the access log; what others carry may be a secret (S18).
    pub(super) fn known(raw: &str) -> String {
        let known = |part: &&str| {
            let key = part.split('=').next().unwrap_or_default();
            matches!(key, "ns" | "n" | "last" | "artifactType" | "digest" | "mount" | "from")
        };
        raw.split('&').filter(known).collect::<Vec<_>>().join("&")
    }
}

fn page(text: &str) -> Result<u64, RegistryError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        let message = "n is not a natural number";
        return Err(RegistryError::new(ErrorCode::Unsupported, message).with_status(400));
    }
    // Past 2^64 it is past the largest page too.
    Ok(text.parse().unwrap_or(MAX_PAGE).min(MAX_PAGE))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_the_known_keys() {
        let query = Query::parse("ns=localhost%3A5001&n=5&last=v1&artifactType=a%2Fb&account=x&ns2=y").unwrap();
        assert_eq!(query.ns.as_deref(), Some("localhost:5001"));
        assert_eq!((query.n, query.last.as_deref()), (Some(5), Some("v1")));
        assert_eq!(query.artifact_type.as_deref(), Some("a/b"));
        assert_eq!(Query::parse("").unwrap(), Query::default());
        assert_eq!(Query::parse("ns=a&ns=a").unwrap_err().code, ErrorCode::NameInvalid);
    }

    #[test]
    fn s9_n_is_clamped_or_refused() {
        let n = |raw: &str| Query::parse(raw).map(|q| q.n).map_err(|e| e.status);
        assert_eq!(n("n=1000000000000000000"), Ok(Some(1000)));
        assert_eq!(n("n=99999999999999999999999999"), Ok(Some(1000)));
        assert_eq!(n("n=0"), Ok(Some(0)));
        for bad in ["n=-1", "n=x", "n=", "n=1e3", "n=%2B1", "n=1.0", "n= 1"] {
            assert_eq!(n(bad), Err(400), "{bad}");
        }
    }

    #[test]
    fn s18_only_known_keys_reach_the_log() {
        assert_eq!(Query::known("ns=docker.io&token=canary&n=1&%6es=x"), "ns=docker.io&n=1");
        assert_eq!(Query::known("token=canary"), "");
    }

    proptest! {
        #[test]
        fn never_panics(raw in "[ -~]{0,40}") {
            let _ = Query::parse(&raw);
            let _ = Query::known(&raw);
        }
    }
}
