//! Tunnels through proxies, and the targets that cannot be reached through them (S4).

use super::*;

/// A proxy that takes every tunnel to `target`.
fn proxy_to(target: SocketAddr) -> Server {
    Server::start(move |_, conn| {
        if conn.head().is_none() {
            return;
        }
        let mut upstream = TcpStream::connect(target).unwrap();
        conn.send("HTTP/1.1 200 Connection established\r\n\r\n");
        // One request and one answer: enough for these tests, without another thread.
        if let Some(head) = conn.head() {
            upstream.write_all(head.as_bytes()).unwrap();
            let mut answer = [0; 4096];
            let read = upstream.read(&mut answer).unwrap();
            conn.send(&answer[..read]);
        }
        conn.wait_for_close();
    })
}

#[tokio::test]
async fn http_targets_are_tunnelled_with_the_proxys_credentials() {
    let target = Server::answering(ok("through"));
    let proxy = proxy_to(target.address);
    let fetchers = fetchers();
    // The table lacks the name: only the proxy can resolve it.
    let url = Url::parse("http://far.example:5000/v2/").unwrap();
    let config = Url::parse(&format!("http://user:pass@{}", proxy.address)).unwrap();
    let fetcher = fetchers.fetcher(PeerSettings { proxy: Some(config), ..peer_settings(url.clone()) }).unwrap();
    let mut request = get(url);
    request.headers.insert("proxy-authorization", "canary".parse().unwrap());
    assert_eq!(fetch(&fetcher, request).await.unwrap(), b"through");
    let connect = &proxy.heads()[0];
    assert!(connect.starts_with("CONNECT far.example:5000 HTTP/1.1\r\nHost: far.example:5000\r\n"), "{connect}");
    assert!(connect.contains("\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n"), "{connect}");
    assert!(!target.heads()[0].to_ascii_lowercase().contains("proxy-authorization"));
}

#[tokio::test]
async fn the_environments_proxy_is_used_where_no_proxy_does_not_object() {
    let target = Server::answering(ok("through"));
    let proxy = proxy_to(target.address);
    let address = proxy.address.to_string();
    let environment = Environment::from_variables(|name| match name {
        "http_proxy" => Some(address.clone()),
        "NO_PROXY" => Some("local.example".into()),
        _ => None,
    });
    let fetchers = Fetchers::start_with(1, FetcherSettings { environment, ..settings() }).unwrap();
    let direct = Url::parse(&format!("http://local.example:{}/", target.port())).unwrap();
    for (url, tunnels) in [(direct, 0), (target.url("/"), 0), (Url::parse("http://far.example/").unwrap(), 1)] {
        let fetcher = fetchers.fetcher(peer_settings(url.clone())).unwrap();
        assert_eq!(fetch(&fetcher, get(url)).await.unwrap(), b"through");
        assert_eq!(proxy.connections(), tunnels);
    }
}

#[tokio::test]
async fn s4_a_public_upstream_leads_to_no_private_address_even_through_a_proxy() {
    for location in
        ["http://127.0.0.1:1/", "http://10.0.0.1/", "http://169.254.169.254/", "http://localhost/", "http://[::1]/"]
    {
        let target = Server::answering(to(location));
        let proxy = proxy_to(target.address);
        let fetchers = fetchers();
        let url = Url::parse("http://far.example/").unwrap();
        let fetcher =
            fetchers.fetcher(PeerSettings { proxy: Some(proxy.url("")), ..peer_settings(url.clone()) }).unwrap();
        let error = fetch(&fetcher, get(url)).await.unwrap_err();
        assert!(matches!(error, FetchError::Forbidden { .. }), "{location}: {error}");
        assert_eq!(proxy.connections(), 1);
    }
}

#[tokio::test]
async fn s18_a_proxy_that_refuses_is_named_without_its_password() {
    let proxy = Server::answering("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n");
    let fetchers = fetchers();
    let url = Url::parse("https://far.example/").unwrap();
    let config = Url::parse(&format!("http://user:canary@{}", proxy.address)).unwrap();
    let fetcher = fetchers.fetcher(PeerSettings { proxy: Some(config), ..peer_settings(url.clone()) }).unwrap();
    let error = fetch(&fetcher, get(url.clone())).await.unwrap_err().to_string();
    assert!(error.contains("far.example:443") && error.contains("credentials"), "{error}");
    assert!(error.contains(&proxy.address.to_string()) && !error.contains("canary"), "{error}");
    let socks = Some(Url::parse("socks5://user:canary@127.0.0.1:1").unwrap());
    let error = fetchers.fetcher(PeerSettings { proxy: socks, ..peer_settings(url) }).err().unwrap();
    assert!(matches!(error, FetcherError::Proxy) && !error.to_string().contains("canary"));
}

#[tokio::test]
async fn a_silent_proxy_is_a_connection_that_takes_too_long() {
    let proxy = Server::start(|_, conn| assert!(conn.wait_for_close()));
    let mut settings = settings();
    settings.timeouts.connect = Duration::from_millis(200);
    let fetchers = Fetchers::start_with(1, settings).unwrap();
    let url = Url::parse("https://far.example/").unwrap();
    let fetcher = fetchers.fetcher(PeerSettings { proxy: Some(proxy.url("")), ..peer_settings(url.clone()) }).unwrap();
    let error = fetch(&fetcher, get(url)).await.unwrap_err();
    assert!(matches!(error, FetchError::Timeout { what: "the connection", .. }), "{error}");
}
