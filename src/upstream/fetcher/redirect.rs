//! Where a redirect leads, and what is left behind (S3): credentials never leave the first origin,
//! and https never becomes http. Pure.

use http::{HeaderMap, Method, StatusCode, header};
use url::Url;

use super::{
    error::{FetchError, authority},
    request::Request,
};

/// The most redirects that one request follows.
const MOST_HOPS: usize = 5;

/// One request on its way through redirects.
pub(super) struct Chain {
    /// GET and HEAD keep their method. Other methods are not redirected.
    pub(super) method: Method,
    /// The headers that this hop sends.
    pub(super) headers: HeaderMap,
    /// Every URL so far. The last one is the current one.
    visited: Vec<Url>,
}

impl Chain {
    /// The first hop.
    pub(super) fn new(request: Request) -> Self {
        let Request { method, mut url, mut headers, head_timeout: _ } = request;
        clean(&mut url);
        // The fetcher itself sets framing and connection headers. A proxy's password is no header
        // of a request.
        for name in [header::HOST, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::TE] {
            headers.remove(name);
        }
        for name in [header::EXPECT, header::UPGRADE, header::PROXY_AUTHORIZATION] {
            headers.remove(name);
        }
        Chain { method, headers, visited: vec![url] }
    }

    /// The URL to ask now.
    pub(super) fn url(&self) -> &Url {
        // There is always one: the list begins with one and only grows.
        &self.visited[self.visited.len() - 1]
    }

    /// Host and port of the current URL, in the form of errors.
    pub(super) fn host(&self) -> String {
        authority(self.url())
    }

    /// Whether an answer with this status leads to another hop.
    pub(super) fn is_redirect(status: StatusCode) -> bool {
        matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
    }

    /// Takes the next hop.
    pub(super) fn follow(&mut self, headers: &HeaderMap) -> Result<(), FetchError> {
        let refused = |reason: &str| Err(FetchError::Redirect { host: self.host(), reason: reason.to_owned() });
        if self.method != Method::GET && self.method != Method::HEAD {
            return refused("only GET and HEAD are redirected");
        }
        if self.visited.len() > MOST_HOPS {
            return refused("too many redirects");
        }
        let Some(location) = headers.get(header::LOCATION) else {
            return refused("there is no Location");
        };
        // RFC 9110 section 10.2.2: relative to the URL that was asked.
        let Some(mut next) = location.to_str().ok().and_then(|location| self.url().join(location).ok()) else {
            return refused("the Location is not a URL");
        };
        clean(&mut next);
        match (self.url().scheme(), next.scheme()) {
            (_, "https") | ("http", "http") => {}
            (_, "http") => return refused("from https to http"),
            (_, _) => return refused("to neither https nor http"),
        }
        if self.visited.contains(&next) {
            return refused("in a circle");
        }
        if self.visited[0].origin() != next.origin() {
            // They stay away for good: another server may have sent the chain back.
            for name in [header::AUTHORIZATION, header::COOKIE] {
                self.headers.remove(name);
            }
        }
        self.visited.push(next);
        Ok(())
    }
}

/// Fragment and userinfo are never sent.
fn clean(url: &mut Url) {
    url.set_fragment(None);
    // Both fail only on URLs without a host, which have no userinfo either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn chain(url: &str) -> Chain {
        let mut headers = HeaderMap::new();
        for name in [header::AUTHORIZATION, header::COOKIE, header::ACCEPT, header::PROXY_AUTHORIZATION] {
            headers.insert(name, "canary".parse().unwrap());
        }
        let (url, head_timeout) = (Url::parse(url).unwrap(), Duration::from_secs(1));
        Chain::new(Request { method: Method::GET, url, headers, head_timeout })
    }

    fn follow(chain: &mut Chain, location: &str) -> Result<(), FetchError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, location.parse().unwrap());
        chain.follow(&headers)
    }

    #[test]
    fn a_relative_location_is_relative_to_what_was_asked() {
        for (location, expected) in [
            ("blobs/x", "https://r.example/v2/a/blobs/x"),
            ("?q=1", "https://r.example/v2/a/b?q=1"),
            ("/c", "https://r.example/c"),
            ("../d", "https://r.example/v2/d"),
            ("//s.example/e#f", "https://s.example/e"),
            ("https://user:password@s.example/", "https://s.example/"),
        ] {
            let mut chain = chain("https://r.example/v2/a/b");
            follow(&mut chain, location).unwrap();
            assert_eq!(chain.url().as_str(), expected);
        }
    }

    #[test]
    fn s3_credentials_stay_at_their_origin() {
        for (location, kept) in [
            ("/other", true),
            ("https://r.example:443/other", true),
            ("https://s.example/", false),
            ("https://r.example:8443/", false),
            ("https://r.example.evil.example/", false),
        ] {
            let mut chain = chain("https://r.example/v2/");
            follow(&mut chain, location).unwrap();
            let has = |name| chain.headers.contains_key(name);
            assert_eq!((has(header::AUTHORIZATION), has(header::COOKIE)), (kept, kept), "{location}");
            assert!(has(header::ACCEPT) && !has(header::PROXY_AUTHORIZATION));
        }
        let mut upgraded = chain("http://r.example/v2/");
        follow(&mut upgraded, "https://r.example/v2/").unwrap();
        assert!(!upgraded.headers.contains_key(header::AUTHORIZATION));
    }

    #[test]
    fn s3_credentials_do_not_come_back() {
        let mut chain = chain("https://r.example/v2/");
        follow(&mut chain, "https://s.example/").unwrap();
        follow(&mut chain, "https://r.example/back").unwrap();
        assert!(!chain.headers.contains_key(header::AUTHORIZATION));
    }

    #[test]
    fn s3_downgrades_circles_and_long_chains_are_refused() {
        let refused =
            |chain: &mut Chain, location: &str| matches!(follow(chain, location), Err(FetchError::Redirect { .. }));
        assert!(refused(&mut chain("https://r.example/"), "http://r.example/"));
        assert!(refused(&mut chain("https://r.example/"), "http://s.example/"));
        assert!(refused(&mut chain("https://r.example/"), "file:///etc/passwd"));
        assert!(refused(&mut chain("https://r.example/"), "https://"));
        assert!(refused(&mut chain("https://r.example/a"), "/a"));
        let mut mixed = chain("http://r.example/");
        follow(&mut mixed, "https://s.example/").unwrap();
        assert!(refused(&mut mixed, "http://r.example/b"));
        let mut long = chain("https://r.example/0");
        for hop in 1..=5 {
            follow(&mut long, &format!("/{hop}")).unwrap();
        }
        assert!(refused(&mut long, "/6"));
        assert!(chain("https://r.example/").follow(&HeaderMap::new()).is_err());
        let mut post = chain("https://r.example/token");
        post.method = Method::POST;
        assert!(refused(&mut post, "/elsewhere"));
    }
}
