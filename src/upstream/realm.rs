//! The token servers that lanyard asks (S1). A registry names its token server in its challenge,
//! and lanyard asks it only if it belongs to the registry. Pure.

use url::{Host, Url};

/// Reads a challenge's `realm` and checks that it belongs to the registry at `upstream`. Its host
/// must be the registry's own (any port), stand in `token_hosts` (as `host` or `host:port`), or
/// share the registrable domain of the registry's host (public suffix list). An address or
/// `localhost` shares no domain. A registry that is asked over TLS has its tokens fetched over TLS.
///
/// The error is a sentence for the operator.
pub(super) fn check(realm: &str, upstream: &Url, token_hosts: &[String]) -> Result<Url, String> {
    let mut url = Url::parse(realm).map_err(|_| "its token server's address is not a URL".to_owned())?;
    let (Some(host), Some(own)) = (url.host(), upstream.host()) else {
        return Err("its token server's address names no host".into());
    };
    match (upstream.scheme(), url.scheme()) {
        (_, "https") | ("http", "http") => {}
        (_, scheme) => return Err(format!("its token server {host} must be asked over https, not {scheme}")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("its token server's address at {host} holds credentials"));
    }
    if host == own || share_a_domain(&host, &own) || is_listed(&url, token_hosts) {
        url.set_fragment(None);
        Ok(url)
    } else {
        Err(format!("it names {host} as its token server, which is not its own; `token_hosts` would allow it"))
    }
}

/// Whether `token_hosts` names the host of this URL.
pub(super) fn is_listed(url: &Url, token_hosts: &[String]) -> bool {
    let Some(host) = url.host_str() else { return false };
    let with_port = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
    token_hosts.iter().any(|h| h.eq_ignore_ascii_case(host) || h.eq_ignore_ascii_case(&with_port))
}

/// Whether both are names under one registrable domain.
fn share_a_domain(a: &Host<&str>, b: &Host<&str>) -> bool {
    match (a, b) {
        (Host::Domain(a), Host::Domain(b)) => match (psl::domain_str(a), psl::domain_str(b)) {
            (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allowed(upstream: &str, realm: &str, token_hosts: &[&str]) -> bool {
        let hosts: Vec<String> = token_hosts.iter().map(|h| (*h).to_owned()).collect();
        check(realm, &upstream.parse().unwrap(), &hosts).is_ok()
    }

    #[test]
    fn s1_the_realm_belongs_to_the_upstream() {
        for (upstream, realm) in [
            ("https://registry-1.docker.io", "https://auth.docker.io/token"),
            ("https://ghcr.io", "https://ghcr.io/token"),
            ("https://quay.io", "https://quay.io/v2/auth?x=y"),
            ("https://public.ecr.aws", "https://public.ecr.aws/token/"),
            ("https://nvcr.io", "https://nvcr.io/proxy_auth"),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token"),
            ("http://127.0.0.1:5000", "https://127.0.0.1/token"),
            ("http://localhost:5000", "http://localhost/token"),
            ("https://Registry.Example.co.uk", "https://AUTH.example.co.uk/"),
        ] {
            assert!(allowed(upstream, realm, &[]), "{upstream} {realm}");
        }
        for (upstream, realm) in [
            ("https://registry-1.docker.io", "https://auth.docker.io.example.com/token"),
            ("https://registry-1.docker.io", "https://evil.example/token"),
            ("https://registry-1.docker.io", "http://auth.docker.io/token"),
            ("https://registry-1.docker.io", "https://user:pw@auth.docker.io/token"),
            ("https://registry-1.docker.io", "ftp://auth.docker.io/token"),
            ("https://registry-1.docker.io", "https://169.254.169.254/token"),
            ("https://registry-1.docker.io", "https://localhost/token"),
            ("https://a.co.uk", "https://b.co.uk/token"),
            ("https://a.github.io", "https://b.github.io/token"),
            ("http://127.0.0.1:5000", "http://127.0.0.2:5000/token"),
            ("http://10.0.0.1", "http://10.0.0.2/"),
            ("http://localhost:5000", "http://127.0.0.1:5000/token"),
            ("http://registry.localhost", "http://auth/"),
            ("https://ghcr.io", "/token"),
            ("https://ghcr.io", ""),
            ("https://ghcr.io", "data:text/plain,x"),
        ] {
            assert!(!allowed(upstream, realm, &[]), "{upstream} {realm}");
        }
    }

    #[test]
    fn s1_token_hosts_add_to_it() {
        assert!(allowed("https://a.example", "https://auth.other.example/t", &["AUTH.other.example"]));
        assert!(allowed("https://a.example", "https://auth.other.example:8443/t", &["auth.other.example:8443"]));
        assert!(!allowed("https://a.example", "https://auth.other.example/t", &["other.example"]));
        assert!(!allowed("https://a.example", "http://auth.other.example/t", &["auth.other.example"]));
    }

    proptest! {
        #[test]
        fn never_panics(realm in "\\PC*") {
            let _ = check(&realm, &"https://ghcr.io".parse().unwrap(), &[]);
        }
    }
}
