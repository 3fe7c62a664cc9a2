//! Redirects (S3), and the addresses that they lead to (S4).

use super::*;

/// A request with credentials.
fn signed(url: Url) -> Request {
    let mut request = get(url);
    request.headers.insert("authorization", "Bearer canary".parse().unwrap());
    request.headers.insert("cookie", "canary".parse().unwrap());
    request.headers.insert("accept", "text/x".parse().unwrap());
    request
}

#[tokio::test]
async fn s3_no_credentials_at_another_port_or_host() {
    let target = Server::answering(ok("blob"));
    for host in ["127.0.0.1", "local.example"] {
        let location = format!("http://{host}:{}/blob?signature=1", target.port());
        let server = Server::answering(to(&location));
        let fetchers = fetchers();
        let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
        let mut response = fetcher.send(signed(server.url("/v2/a/blobs/x"))).await.unwrap();
        assert_eq!(response.url.as_str(), location);
        assert_eq!(read(&mut response.body).await.unwrap(), b"blob");
        assert!(server.heads()[0].contains("canary"));
    }
    assert_eq!(target.heads().len(), 2);
    for head in target.heads() {
        assert!(!head.contains("canary"), "{head}");
        assert!(head.contains("text/x"));
    }
}

#[tokio::test]
async fn credentials_stay_with_a_redirect_to_the_same_origin_and_the_connection_is_kept() {
    let server = Server::start(|_, conn| {
        while let Some(head) = conn.head() {
            conn.send(if head.starts_with("GET /v2/a/b ") { to("../c") } else { ok("here") });
        }
    });
    let fetchers = fetchers();
    let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
    assert_eq!(fetch(&fetcher, signed(server.url("/v2/a/b"))).await.unwrap(), b"here");
    let heads = server.heads();
    assert!(heads[1].starts_with("GET /v2/c ") && heads[1].contains("canary"), "{heads:?}");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn five_redirects_are_followed_and_six_are_not_nor_circles() {
    let server = Server::start(|_, conn| {
        while let Some(head) = conn.head() {
            let left: u32 = head.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
            conn.send(match left {
                0 => ok("end"),
                99 => to("/99"),
                left => to(left - 1),
            });
        }
    });
    let fetchers = fetchers();
    let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
    assert_eq!(fetch(&fetcher, get(server.url("/5"))).await.unwrap(), b"end");
    for path in ["/6", "/99"] {
        let error = fetch(&fetcher, get(server.url(path))).await.unwrap_err();
        assert!(matches!(error, FetchError::Redirect { .. }), "{path}: {error}");
    }
    let error = fetcher.send(request(Method::POST, server.url("/1"))).await.unwrap_err();
    assert!(matches!(error, FetchError::Redirect { .. }), "{error}");
}

#[tokio::test]
async fn the_head_timeout_spans_all_hops() {
    let silent = Server::start(|_, conn| {
        conn.head();
        conn.wait_for_close();
    });
    let server = Server::answering(to(silent.url("/")));
    let fetchers = fetchers();
    let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
    let request = Request { head_timeout: Duration::from_millis(300), ..get(server.url("/")) };
    let error = fetcher.send(request).await.unwrap_err();
    let named = silent.address.to_string();
    assert!(matches!(&error, FetchError::Timeout { host, .. } if *host == named), "{error}");
}

#[tokio::test]
async fn s4_a_built_in_upstream_never_reaches_a_private_address() {
    let server = Server::answering(ok("inside"));
    let fetchers = fetchers();
    for host in ["local.example", "127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"] {
        let url = Url::parse(&format!("http://{host}:{}/", server.port())).unwrap();
        let fetcher = fetchers.fetcher(PeerSettings { built_in_url: true, ..peer_settings(url.clone()) }).unwrap();
        let error = fetcher.send(get(url)).await.unwrap_err();
        assert!(matches!(error, FetchError::Forbidden { .. }), "{host}: {error}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn s4_a_private_upstream_reaches_its_like_but_no_metadata_service() {
    let target = Server::answering(ok("inside"));
    let cases = [
        (format!("http://local.example:{}/", target.port()), true),
        (format!("http://localhost:{}/", target.port()), true),
        ("http://169.254.169.254/latest/meta-data".to_owned(), false),
        ("http://2852039166/latest/meta-data".to_owned(), false),
        ("http://[::ffff:169.254.169.254]/".to_owned(), false),
        ("http://metadata.example/".to_owned(), false),
    ];
    for (location, permitted) in cases {
        let server = Server::answering(to(&location));
        let fetchers = fetchers();
        let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
        let result = fetch(&fetcher, get(server.url("/"))).await;
        match permitted {
            true => assert_eq!(result.unwrap(), b"inside"),
            false => assert!(matches!(result, Err(FetchError::Forbidden { .. })), "{location}: {result:?}"),
        }
    }
}

#[tokio::test]
async fn a_name_that_is_not_known_is_no_connection() {
    let fetchers = fetchers();
    let url = Url::parse("http://nowhere.example/").unwrap();
    let error = fetchers.fetcher(peer_settings(url.clone())).unwrap().send(get(url)).await.unwrap_err();
    assert!(matches!(&error, FetchError::Connect { host, .. } if host == "nowhere.example:80"), "{error}");
}

#[tokio::test]
async fn a_silent_address_is_followed_by_the_next() {
    let server = Server::answering(ok("second"));
    let fetchers = fetchers();
    let url = Url::parse(&format!("http://two.example:{}/", server.port())).unwrap();
    let fetcher = fetchers.fetcher(peer_settings(url.clone())).unwrap();
    assert_eq!(fetch(&fetcher, get(url)).await.unwrap(), b"second");
}

#[tokio::test]
async fn a_closed_port_is_no_connection_and_is_named() {
    // Bound, so that no other process takes it, but not listening.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let fetchers = fetchers();
    let url = Url::parse(&format!("http://127.0.0.1:{port}/")).unwrap();
    let error = fetch(&fetchers.fetcher(peer_settings(url.clone())).unwrap(), get(url)).await.unwrap_err();
    assert!(matches!(&error, FetchError::Connect { host, .. } if *host == format!("127.0.0.1:{port}")), "{error}");
}
