//! The query of a registry request. Unknown keys are ignored, as clients and proxies add their own.
//! Parsed once for each request, in `routes.rs`; pure.

use crate::oci::{Algorithm, Digest, DigestError, ErrorCode, RegistryError, Tag};

/// The largest page of a list (S9).
pub(crate) const MAX_PAGE: u64 = 1000;
/// The most tags that one push may set; the specification asks for ten.
const MAX_TAGS: usize = 64;

/// The keys lanyard knows, percent-decoded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Query {
    /// `ns=`: the registry the client thinks it talks to.
    pub(crate) ns: Option<String>,
    /// `n=`: the number of entries of a list, at most [`MAX_PAGE`]; absent: all.
    pub(crate) n: Option<u64>,
    /// `last=`: list the entries that sort after this.
    pub(crate) last: Option<String>,
    /// `artifactType=`: the filter of the referrers list.
    pub(crate) artifact_type: Option<String>,
    /// `from=`: the repository to mount from.
    pub(crate) from: Option<String>,
    digest: Option<String>,
    digest_algorithm: Option<String>,
    mount: Option<String>,
    tags: Vec<String>,
}

impl Query {
    /// Reads a raw query, without its question mark. Of a key that is there twice the first counts.
    ///
    /// # Errors
    /// NAME_INVALID for a second `ns`, because two readers could see two registries; 400 for an `n`
    /// that is no natural number.
    pub(crate) fn parse(raw: &str) -> Result<Query, RegistryError> {
        let mut query = Query::default();
        for (key, value) in url::form_urlencoded::parse(raw.as_bytes()) {
            let slot = match key.as_ref() {
                "ns" if query.ns.is_some() => {
                    return Err(RegistryError::new(ErrorCode::NameInvalid, "ns is given more than once"));
                }
                "ns" => &mut query.ns,
                "last" => &mut query.last,
                "artifactType" => &mut query.artifact_type,
                "from" => &mut query.from,
                "digest" => &mut query.digest,
                "digest-algorithm" => &mut query.digest_algorithm,
                "mount" => &mut query.mount,
                "tag" => {
                    query.tags.push(value.into_owned());
                    continue;
                }
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

    /// `digest=`: the digest that an upload must have. DIGEST_INVALID if it is malformed.
    pub(crate) fn digest(&self) -> Result<Option<Digest>, RegistryError> {
        digest(self.digest.as_deref())
    }

    /// `digest-algorithm=`: the algorithm of an upload's digest. DIGEST_INVALID if lanyard does not
    /// have it, or if a digest in the same query is of another.
    pub(crate) fn digest_algorithm(&self) -> Result<Option<Algorithm>, RegistryError> {
        let invalid = |message| RegistryError::new(ErrorCode::DigestInvalid, message);
        let Some(text) = self.digest_algorithm.as_deref() else { return Ok(None) };
        let algorithm = text.parse().map_err(|error: DigestError| invalid(error.to_string()))?;
        for digest in [self.digest()?, self.mount()?].into_iter().flatten() {
            if digest.algorithm() != algorithm {
                return Err(invalid(format!("{digest} is not of the digest-algorithm {}", algorithm.as_str())));
            }
        }
        Ok(Some(algorithm))
    }

    /// `mount=`: the blob to mount. DIGEST_INVALID if it is malformed.
    pub(crate) fn mount(&self) -> Result<Option<Digest>, RegistryError> {
        digest(self.mount.as_deref())
    }

    /// `tag=`, any number of times: more tags for a manifest. 414 beyond [`MAX_TAGS`].
    pub(crate) fn tags(&self) -> Result<Vec<Tag>, RegistryError> {
        if self.tags.len() > MAX_TAGS {
            let message = format!("one push sets at most {MAX_TAGS} tags");
            return Err(RegistryError::new(ErrorCode::ManifestInvalid, message).with_status(414));
        }
        let invalid =
            |error: crate::oci::ReferenceError| RegistryError::new(ErrorCode::ManifestInvalid, error.to_string());
        self.tags.iter().map(|tag| tag.parse().map_err(invalid)).collect()
    }

    /// The query with only the known keys, for the access log: others may carry a secret (S18).
    pub(crate) fn known(raw: &str) -> String {
        let known = |part: &&str| {
            let key = part.split('=').next().unwrap_or_default();
            matches!(
                key,
                "ns" | "n" | "last" | "artifactType" | "digest" | "digest-algorithm" | "mount" | "from" | "tag"
            )
        };
        raw.split('&').filter(known).collect::<Vec<_>>().join("&")
    }
}

fn digest(text: Option<&str>) -> Result<Option<Digest>, RegistryError> {
    let invalid = |error: crate::oci::DigestError| RegistryError::new(ErrorCode::DigestInvalid, error.to_string());
    text.map(|text| text.parse().map_err(invalid)).transpose()
}

fn page(text: &str) -> Result<u64, RegistryError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        let message = "n is not a natural number";
        return Err(RegistryError::new(ErrorCode::Unsupported, message).with_status(400));
    }
    // A number beyond 2^64 is beyond the largest page too.
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
