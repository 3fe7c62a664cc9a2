//! The lists that an upstream keeps: a repository's tags, and the referrers of a digest.
//!
//! Both come in pages. A list is complete or an error, never cut short.

use std::{borrow::Cow, fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, header};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use url::Url;

use super::{
    call::{Call, Success},
    counters::RequestKind,
    error::UpstreamError,
    fetcher::FetchError,
    governor::Spend,
    registry::Registry,
    words,
};
use crate::oci::{Digest, MAX_MANIFEST_BYTES, OCI_INDEX, Reference, RepositoryName, Tags};

/// The largest page, in bytes.
const MAX_PAGE: usize = 4 << 20;

/// The most pages of one list.
const MAX_PAGES: usize = 1000;

/// The requested number of tags in a page. Registries may send fewer. Some refuse the number, and
/// are asked without it.
const TAGS_A_PAGE: &str = "n=1000";

/// How long a whole list may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads one page of tags into a list while parsing. Text that is no tag is left out without a
/// copy.
struct TagPageSeed<'a>(&'a mut Tags);

impl<'de> DeserializeSeed<'de> for TagPageSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, page: D) -> Result<(), D::Error> {
        page.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TagPageSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tags")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut page: A) -> Result<(), A::Error> {
        while let Some(key) = page.next_key::<Cow<'de, str>>()? {
            if key == "tags" {
                page.next_value_seed(TagListSeed(self.0))?;
            } else {
                page.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Reads the tags of one page; `null` counts as none.
struct TagListSeed<'a>(&'a mut Tags);

impl<'de> DeserializeSeed<'de> for TagListSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, list: D) -> Result<(), D::Error> {
        list.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TagListSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tags")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(text) = list.next_element::<Cow<'de, str>>()? {
            if let Ok(tag) = text.parse() {
                self.0.push(&tag).map_err(A::Error::custom)?;
            }
        }
        Ok(())
    }
}

/// A page of referrers: an OCI index.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReferrersPage {
    #[serde(default)]
    media_type: Value,
    /// `null` where there are none.
    manifests: Option<Vec<Value>>,
}

impl ReferrersPage {
    /// Reads the answer as a page, if it is one. A registry without the API may answer with a web
    /// page, an error, an empty object or another manifest. The first page must state its type.
    fn of(answer: &Success, first: bool) -> Option<ReferrersPage> {
        // An object without `manifests` is no list, whatever type it states.
        let fields: serde_json::Map<String, Value> = serde_json::from_slice(&answer.bytes).ok()?;
        let listed = fields.contains_key("manifests") && !fields.contains_key("errors");
        let page: ReferrersPage = serde_json::from_value(Value::Object(fields)).ok()?;
        let called = match &page.media_type {
            Value::Null => None,
            Value::String(called) => Some(called.as_str()),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => return None,
        };
        let sent = words::media_type(&answer.headers);
        let telling = sent.as_deref().filter(|sent| words::is_telling(sent));
        let types = [called, telling];
        let told = types.iter().any(Option::is_some) || !first;
        let index = types.into_iter().flatten().all(|told| told == OCI_INDEX);
        (listed && told && index).then_some(page)
    }
}

/// The result of asking the referrers API.
enum Api {
    /// The whole list: an OCI index.
    Listed(Bytes),
    /// The registry has no such API, in words.
    Absent(String),
}

impl Registry {
    /// All tags of a repository, in the order of their bytes. Text that is no tag is left out.
    pub async fn tags(&self, repository: &RepositoryName) -> Result<Tags, UpstreamError> {
        self.in_time(self.all_tags(repository)).await
    }

    /// The OCI index of a digest's referrers (distribution-spec, "Listing Referrers"), all pages
    /// joined, at most 4 MiB.
    ///
    /// Only a 200 with an OCI index proves that the registry has the API. After any other answer
    /// lanyard asks for the referrers tag. The index is empty if the API says so, or if there is no
    /// API and the registry itself says that the tag does not exist. A client reads an empty list
    /// as "no signatures", so no other answer makes an empty list.
    pub async fn referrers(&self, repository: &RepositoryName, digest: &Digest) -> Result<Bytes, UpstreamError> {
        match self.in_time(self.all_referrers(repository, digest)).await? {
            Api::Listed(index) => Ok(index),
            Api::Absent(instead) => self.referrers_tag(repository, digest, &instead).await,
        }
    }

    async fn in_time<T>(&self, list: impl Future<Output = Result<T, UpstreamError>>) -> Result<T, UpstreamError> {
        let host = || self.config().url.host_str().unwrap_or_default().to_owned();
        let late = || FetchError::Timeout { host: host(), what: "all pages of a list" };
        tokio::time::timeout(PATIENCE, list).await.unwrap_or_else(|_| Err(late().into()))
    }

    async fn all_tags(&self, repository: &RepositoryName) -> Result<Tags, UpstreamError> {
        let mut url = self.url(&format!("{repository}/tags/list"));
        url.set_query(Some(TAGS_A_PAGE));
        let mut tags = Tags::default();
        for page in 0..MAX_PAGES {
            let answer = match self.page(RequestKind::Tags, &url, repository, None).await {
                Err(UpstreamError::Failed { status: 400..500, .. }) if page == 0 => {
                    url.set_query(None);
                    self.page(RequestKind::Tags, &url, repository, None).await?
                }
                answer => answer?,
            };
            let mut page = serde_json::Deserializer::from_slice(&answer.bytes);
            TagPageSeed(&mut tags)
                .deserialize(&mut page)
                .and_then(|()| page.end())
                .map_err(|error| UpstreamError::untrue(format!("the answer is not a list of tags: {error}")))?;
            match next(&answer.headers, &url)? {
                Some(next) => url = next,
                None => {
                    tags.sort();
                    return Ok(tags);
                }
            }
        }
        Err(UpstreamError::untrue(format!("the list of tags has more than {MAX_PAGES} pages")))
    }

    async fn all_referrers(&self, repository: &RepositoryName, digest: &Digest) -> Result<Api, UpstreamError> {
        let mut url = self.url(&format!("{repository}/referrers/{digest}"));
        let (mut all, mut size) = (Vec::new(), 0);
        for page in 0..MAX_PAGES {
            let answer = match self.page(RequestKind::Referrers, &url, repository, Some(OCI_INDEX)).await {
                Err(error) if page == 0 && means_no_api(&error) => return Ok(Api::Absent(error.message())),
                answer => answer?,
            };
            let no_list = "the answer is not a list of referrers";
            let listed = match ReferrersPage::of(&answer, page == 0) {
                Some(listed) => listed,
                None if page == 0 => return Ok(Api::Absent(no_list.to_owned())),
                None => return Err(UpstreamError::untrue(no_list)),
            };
            size += answer.bytes.len();
            if size > MAX_MANIFEST_BYTES {
                return Err(UpstreamError::untrue("the list of referrers is larger than 4 MiB"));
            }
            let whole = page == 0 && listed.manifests.is_some();
            all.extend(listed.manifests.into_iter().flatten());
            match next(&answer.headers, &url)? {
                Some(next) => url = next,
                // One page goes on to the client as it is.
                None if whole => return Ok(Api::Listed(answer.bytes)),
                None => return Ok(Api::Listed(index_of(all))),
            }
        }
        Err(UpstreamError::untrue(format!("the list of referrers has more than {MAX_PAGES} pages")))
    }

    /// The index behind the tag `sha256-HEX` (distribution-spec, "Referrers Tag Schema").
    async fn referrers_tag(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        instead: &str,
    ) -> Result<Bytes, UpstreamError> {
        let mut hex = digest.hex();
        hex.truncate(64);
        let tag = format!("{}-{hex}", digest.algorithm().as_str());
        let tag = tag.parse().map_err(|_| UpstreamError::untrue("the digest makes no tag"))?;
        match self.manifest(repository, &Reference::Tag(tag), Spend::Needed).await {
            Ok(manifest) if manifest.media_type == OCI_INDEX => Ok(manifest.bytes),
            Ok(_) => Err(UpstreamError::untrue("the referrers tag is not an OCI index")),
            Err(UpstreamError::NotFound { told: true, .. }) => Ok(index_of(Vec::new())),
            Err(UpstreamError::NotFound { told: false, message }) => Err(UpstreamError::untrue(format!(
                "there is neither a list of referrers ({instead}) nor a clear answer about their tag ({message})"
            ))),
            Err(error) => Err(error),
        }
    }

    async fn page(
        &self,
        kind: RequestKind,
        url: &Url,
        repository: &RepositoryName,
        accept: Option<&'static str>,
    ) -> Result<Success, UpstreamError> {
        let (url, accept) = (url.clone(), accept.or(Some("application/json")));
        let call = Call { kind, url, repository, accept, range: None, spend: Spend::Needed, whole: Some(MAX_PAGE) };
        self.call(&call).await
    }
}

/// Whether this error means that the registry has no referrers API. A registry in trouble may have
/// one.
fn means_no_api(error: &UpstreamError) -> bool {
    match error {
        UpstreamError::NotFound { .. }
        | UpstreamError::Denied { .. }
        | UpstreamError::Failed { status: ..=499 | 501, .. }
        | UpstreamError::RangeNotSatisfiable
        | UpstreamError::Unreachable(FetchError::Redirect { .. }) => true,
        UpstreamError::Failed { .. }
        // The answer is too long or encoded: it may be a list.
        | UpstreamError::Untrue { .. }
        | UpstreamError::Unreachable(_)
        | UpstreamError::RateLimited { .. }
        | UpstreamError::CircuitOpen { .. }
        | UpstreamError::Blocked
        | UpstreamError::Offline => false,
    }
}

fn index_of(manifests: Vec<Value>) -> Bytes {
    let index = serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests });
    index.to_string().into()
}

/// The next page (RFC 8288, `rel="next"`): the same list with the link's query. The link's host is
/// ignored, because registries behind proxies name wrong hosts. So a link never leads lanyard and
/// its credentials elsewhere.
fn next(headers: &HeaderMap, page: &Url) -> Result<Option<Url>, UpstreamError> {
    let lines = headers.get_all(header::LINK).iter().filter_map(|line| line.to_str().ok());
    let Some(target) = lines.flat_map(|line| line.split(',')).find_map(next_target) else { return Ok(None) };
    let nonsense = || UpstreamError::untrue("the list's link to its next page leads elsewhere");
    let link = page.join(target).map_err(|_| nonsense())?;
    let same_list = |url: &Url| url.path().rsplit('/').take(2).map(str::to_owned).collect::<Vec<_>>();
    let mut next = page.clone();
    next.set_query(link.query());
    if same_list(&link) != same_list(page) || next == *page {
        return Err(nonsense());
    }
    Ok(Some(next))
}

/// `<target>; rel="next"`.
fn next_target(link: &str) -> Option<&str> {
    let (target, params) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = |param: &str| {
        let (name, value) = param.split_once('=').unwrap_or_default();
        name.trim().eq_ignore_ascii_case("rel") && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
    };
    params.split(';').any(is_next).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn follow(link: &str) -> Result<Option<String>, ()> {
        let page: Url = "https://registry.example/pre/v2/library/x/tags/list?n=1000".parse().unwrap();
        let headers = HeaderMap::from_iter([(header::LINK, HeaderValue::from_str(link).unwrap())]);
        next(&headers, &page).map(|next| next.map(|url| url.to_string())).map_err(|_| ())
    }

    #[test]
    fn the_next_page_is_of_the_same_list() {
        let expected = Ok(Some("https://registry.example/pre/v2/library/x/tags/list?n=10&last=b".to_owned()));
        for link in [
            r#"</v2/library/x/tags/list?n=10&last=b>; rel="next""#,
            r#"<http://internal:5000/v2/library/x/tags/list?n=10&last=b>;rel=NEXT"#,
            r#"<x>; rel="prev", <?n=10&last=b>; title=x; rel="next""#,
        ] {
            assert_eq!(follow(link), expected, "{link}");
        }
        assert_eq!(follow(r#"<x>; rel="prev""#), Ok(None));
        assert_eq!(follow("nonsense"), Ok(None));
        assert_eq!(follow(r#"<https://evil.example/steal?x=y>; rel="next""#), Err(()));
        assert_eq!(follow(r#"</v2/library/x/tags/list?n=1000>; rel="next""#), Err(()), "a loop");
    }

    proptest! {
        #[test]
        fn never_leaves_the_list(link in "[ -~]*", target in "[ -=?-~]*") {
            for link in [link, format!("<{target}>; rel=next")] {
                if let Ok(Some(url)) = follow(&link) {
                    prop_assert!(url.starts_with("https://registry.example/pre/v2/library/x/tags/list"));
                }
            }
        }
    }
}
