//! Answers that come through, and answers that are refused: cut short, closed early, 1xx, stale
//! keep-alive (S12).

use super::*;

#[test]
fn the_handle_can_be_shared_and_its_future_sent() {
    fn shared<T: Send + Sync + Clone>() {}
    fn sent<T: Send>(_: T) {}
    shared::<Fetcher>();
    let fetchers = fetchers();
    let url = Url::parse("http://127.0.0.1:1/").unwrap();
    let fetcher = fetchers.fetcher(peer_settings(url.clone())).unwrap();
    sent(fetcher.send(get(url)));
}

#[tokio::test]
async fn a_request_is_sent_plainly_and_its_connection_used_again() {
    let server = Server::answering(ok("hello"));
    let fetchers = fetchers();
    let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
    for _ in 0..3 {
        let response = fetcher.send(get(server.url("/v2/a/manifests/b?x=%20y#z"))).await.unwrap();
        assert_eq!(response.status, 200);
        assert_eq!(response.headers["content-length"], "5");
        let mut body = response.body;
        assert_eq!(read(&mut body).await.unwrap(), b"hello");
    }
    assert_eq!(server.connections(), 1);
    let head = server.heads()[0].to_ascii_lowercase();
    assert!(head.starts_with("get /v2/a/manifests/b?x=%20y http/1.1\r\n"), "{head}");
    for line in [
        format!("host: {}", server.address),
        format!("user-agent: lanyard/{}", env!("CARGO_PKG_VERSION")),
        "accept-encoding: identity".into(),
    ] {
        assert_eq!(head.matches(&format!("\r\n{line}\r\n")).count(), 1, "{line} in {head}");
    }
}

#[tokio::test]
async fn a_head_request_keeps_the_length_and_the_connection() {
    let server = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n");
    let fetchers = fetchers();
    let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
    for _ in 0..2 {
        let mut response = fetcher.send(request(Method::HEAD, server.url("/"))).await.unwrap();
        assert_eq!(response.headers["content-length"], "1234");
        assert_eq!(read(&mut response.body).await.unwrap(), b"");
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_body_that_is_cut_short_is_broken_and_never_complete() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let cut = [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123456789".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n".to_owned(),
        format!("{CHUNKED}5\r\nhello\r\n"),
        format!("{CHUNKED}5\r\nhel"),
        format!("{CHUNKED}5\r\nhello\r\n0\r\n"),
        CHUNKED.to_owned(),
    ];
    for answer in cut {
        let script = answer.clone();
        let server = Server::start(move |_, conn| {
            conn.head();
            conn.send(&script);
        });
        let fetchers = fetchers();
        let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
        let result = fetch(&fetcher, get(server.url("/"))).await;
        assert!(matches!(result, Err(FetchError::Broken { .. })), "{answer:?} gave {result:?}");
    }
}

#[tokio::test]
async fn chunks_come_through_and_their_connection_is_used_again() {
    let server = Server::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    );
    let fetchers = fetchers();
    let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
    for _ in 0..2 {
        assert_eq!(fetch(&fetcher, get(server.url("/"))).await.unwrap(), b"hello world");
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn s12_s15_answers_without_a_clear_end_or_with_an_encoding_are_refused() {
    for answer in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Encoding: gzip\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ] {
        let server = Server::start(move |_, conn| {
            conn.head();
            conn.send(answer);
        });
        let fetchers = fetchers();
        let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
        let result = fetch(&fetcher, get(server.url("/"))).await;
        assert!(matches!(result, Err(FetchError::Protocol { .. })), "{answer:?} gave {result:?}");
    }
}

#[tokio::test]
async fn an_error_without_a_length_tells_its_status_and_does_not_leak_into_the_next_answer() {
    let server = Server::start(|number, conn| {
        while conn.head().is_some() {
            // Without a length, and without `Connection: close`: awc would use the connection
            // again.
            let strange = "HTTP/1.1 503 Busy\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
            conn.send(if number == 0 { strange.to_owned() } else { ok("good") });
        }
    });
    let fetchers = fetchers();
    let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
    let mut response = fetcher.send(get(server.url("/"))).await.unwrap();
    assert_eq!((response.status.as_u16(), read(&mut response.body).await.unwrap().len()), (503, 0));
    assert_eq!(fetch(&fetcher, get(server.url("/"))).await.unwrap(), b"good");
}

#[tokio::test]
async fn s12_a_1xx_for_good_is_an_error_and_the_answers_after_it_stay_with_their_requests() {
    let server = Server::start(|number, conn| {
        while let Some(head) = conn.head() {
            let path = head.split(' ').nth(1).unwrap().to_owned();
            if number == 0 && path == "/1" {
                // lanyard did not ask for another protocol.
                conn.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n");
            }
            conn.send(ok(&path));
        }
    });
    let fetchers = fetchers();
    let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
    let error = fetch(&fetcher, get(server.url("/1"))).await.unwrap_err();
    assert!(matches!(error, FetchError::Protocol { .. }), "{error}");
    for path in ["/2", "/3", "/4"] {
        assert_eq!(fetch(&fetcher, get(server.url(path))).await.unwrap(), path.as_bytes());
    }
    // From then on each request has a connection of its own, and says so.
    assert_eq!(server.connections(), 4);
    assert!(server.heads()[1..].iter().all(|head| head.to_ascii_lowercase().contains("connection: close")));
}

/// Answers a connection's first request, and closes it after reading the second.
fn closing_on_reuse() -> Server {
    Server::start(|_, conn| {
        conn.head();
        conn.send(ok("hello"));
        conn.head();
    })
}

#[tokio::test]
async fn a_stale_connection_is_retried_once_at_once() {
    let server = closing_on_reuse();
    let fetchers = fetchers();
    let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
    for method in [Method::GET, Method::GET, Method::HEAD] {
        let url = server.url("/");
        assert_eq!(fetcher.send(request(method.clone(), url)).await.unwrap().status, 200, "{method}");
        let spent = server.heads().len();
        eventually(|| server.heads().len() == spent).await;
    }
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let server = closing_on_reuse();
    let fetchers = fetchers();
    let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
    fetch(&fetcher, get(server.url("/"))).await.unwrap();
    let error = fetcher.send(request(Method::POST, server.url("/token"))).await.unwrap_err();
    assert!(matches!(error, FetchError::Broken { .. }), "{error}");
    assert_eq!((server.connections(), server.heads().len()), (1, 2));
}

#[tokio::test]
async fn a_fresh_connection_that_closes_is_not_retried() {
    let server = Server::start(|_, conn| drop(conn.head()));
    let fetchers = fetchers();
    let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
    let error = fetch(&fetcher, get(server.url("/"))).await.unwrap_err();
    assert!(matches!(error, FetchError::Broken { .. }), "{error}");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn s18_errors_and_debug_output_hold_no_secrets() {
    let server = Server::start(|_, conn| drop(conn.head()));
    let fetchers = fetchers();
    let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
    let url = format!("http://user:canary@{}/path?signature=canary", server.address);
    let mut request = get(Url::parse(&url).unwrap());
    request.headers.insert("authorization", "Bearer canary".parse().unwrap());
    let debug = format!("{request:?}");
    let error = fetcher.send(request).await.unwrap_err();
    let said = format!("{debug} {error} {error:?}");
    assert!(!said.contains("canary"), "{said}");
    assert!(error.to_string().contains(&server.address.to_string()), "{error}");
    assert!(!server.heads()[0].contains("user:"));
}
