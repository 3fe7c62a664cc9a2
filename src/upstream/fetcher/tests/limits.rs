//! Time, memory and connections: the cost of a slow upstream, a slow reader, and many requests.

use std::sync::mpsc;

use futures_util::FutureExt as _;

use super::*;

const BLOB: &str = "/v2/a/blobs/sha256:x";

#[tokio::test]
async fn a_body_that_stalls_or_trickles_is_given_up() {
    for trickle in [false, true] {
        let server = Server::start(move |_, conn| {
            conn.head();
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx");
            while trickle && conn.send("x") {
                thread::sleep(Duration::from_millis(20));
            }
            conn.wait_for_close();
        });
        let mut settings = settings();
        settings.timeouts.idle = Duration::from_millis(400);
        settings.timeouts.least_rate = 100_000;
        let fetchers = Fetchers::start_with(1, settings).unwrap();
        let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
        let error = fetch(&fetcher, get(server.url("/"))).await.unwrap_err();
        assert!(matches!(error, FetchError::Timeout { .. }), "{trickle}: {error}");
    }
}

#[tokio::test]
async fn a_dropped_body_or_future_closes_the_connection() {
    let (closed, closings) = mpsc::channel();
    let server = Server::start(move |_, conn| {
        let head = conn.head().unwrap();
        if head.starts_with("GET /answered") {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx");
        }
        closed.send(conn.wait_for_close()).unwrap();
    });
    // So long that these limits do not close the connection.
    let mut settings = settings();
    settings.timeouts.idle = 10 * PATIENCE;
    let patient = |path| Request { head_timeout: 10 * PATIENCE, ..get(server.url(path)) };
    let fetchers = Fetchers::start_with(1, settings).unwrap();
    let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
    let mut response = fetcher.send(patient("/answered")).await.unwrap();
    assert!(response.body.chunk().await.unwrap().is_ok());
    drop(response);
    assert!(closings.recv_timeout(2 * PATIENCE).unwrap());

    let waiting = tokio::spawn({
        let (fetcher, request) = (fetcher.clone(), patient("/silent"));
        async move { fetcher.send(request).await.map(drop) }
    });
    eventually(|| server.heads().len() == 2).await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert!(closings.recv_timeout(2 * PATIENCE).unwrap());
}

#[tokio::test]
async fn idle_connections_are_let_go() {
    let (closed, closings) = mpsc::channel();
    let server = Server::start(move |_, conn| {
        conn.head();
        conn.send(ok("x"));
        closed.send(conn.wait_for_close()).unwrap();
    });
    let mut settings = settings();
    settings.timeouts.reuse = Duration::from_millis(300);
    let fetchers = Fetchers::start_with(1, settings).unwrap();
    let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
    fetch(&fetcher, get(server.url("/"))).await.unwrap();
    assert!(closings.recv_timeout(2 * PATIENCE).unwrap());
}

#[tokio::test]
async fn a_head_that_does_not_come_is_given_up() {
    let server = Server::start(|_, conn| {
        conn.head();
        conn.send("HTTP/1.1 200 OK\r\nContent-Le");
        conn.wait_for_close();
    });
    let fetchers = fetchers();
    let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
    let request = Request { head_timeout: Duration::from_millis(200), ..get(server.url("/")) };
    let error = fetcher.send(request).await.unwrap_err();
    assert!(matches!(error, FetchError::Timeout { what: "the head of its answer", .. }), "{error}");
}

#[tokio::test]
async fn b2_a_reader_that_pauses_makes_the_connection_pause() {
    const WHOLE: usize = 256 << 20;
    let (stuck, at) = mpsc::channel();
    let server = Server::wrapped(
        |tcp| {
            tcp.set_write_timeout(Some(Duration::from_millis(700))).unwrap();
            Some(Box::new(tcp))
        },
        move |_, conn| {
            conn.head();
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {WHOLE}\r\n\r\n"));
            let (piece, mut written) = (vec![0; 64 << 10], 0);
            while let Ok(more) = conn.stream.write(&piece) {
                written += more;
            }
            stuck.send(written).unwrap();
        },
    );
    let fetchers = fetchers();
    let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
    let response = fetcher.send(get(server.url(BLOB))).await.unwrap();
    let written = tokio::task::spawn_blocking(move || at.recv_timeout(PATIENCE).unwrap()).await.unwrap();
    // One MiB of ours. The kernel holds the rest for a socket.
    assert!(written < 32 << 20, "{written} bytes were taken from the upstream");
    let mut body = response.body;
    let mut held = 0;
    while let Ok(Some(Ok(chunk))) = tokio::time::timeout(Duration::ZERO, body.chunk()).await {
        held += chunk.len();
        if held > 4 << 20 {
            break;
        }
    }
    assert!(held > 0);
}

#[tokio::test]
async fn blobs_take_turns_and_short_requests_pass_them() {
    let server = Server::start(|_, conn| {
        while let Some(head) = conn.head() {
            if head.contains("/blobs/") {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx");
                conn.wait_for_close();
                return;
            }
            conn.send(ok("short"));
        }
    });
    let fetchers = fetchers();
    // Of four connections, three are for blobs.
    let fetcher = fetchers.fetcher(PeerSettings { connections: 4, ..peer_settings(server.url("")) }).unwrap();
    let mut blobs = Vec::new();
    for _ in 0..3 {
        blobs.push(fetcher.send(get(server.url(BLOB))).await.unwrap());
    }
    let fourth = fetcher.send(get(server.url(BLOB)));
    tokio::pin!(fourth);
    assert!(fourth.as_mut().now_or_never().is_none());
    for _ in 0..10 {
        assert_eq!(fetch(&fetcher, get(server.url("/v2/a/manifests/b"))).await.unwrap(), b"short");
        assert_eq!(fetcher.send(request(Method::HEAD, server.url("/v2/a/manifests/b"))).await.unwrap().status, 200);
    }
    assert!(fourth.as_mut().now_or_never().is_none());
    assert_eq!(server.heads().iter().filter(|head| head.contains("/blobs/")).count(), 3);
    blobs.pop();
    fourth.await.unwrap();
}

#[tokio::test]
async fn even_a_single_connection_leaves_short_requests_their_way() {
    let server = Server::start(|_, conn| {
        while let Some(head) = conn.head() {
            conn.send(if head.contains("/blobs/") {
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".into()
            } else {
                ok("x")
            });
        }
    });
    let fetchers = fetchers();
    let fetcher = fetchers.fetcher(PeerSettings { connections: 1, ..peer_settings(server.url("")) }).unwrap();
    let _blob = fetcher.send(get(server.url(BLOB))).await.unwrap();
    assert_eq!(fetch(&fetcher, get(server.url("/v2/a/manifests/b"))).await.unwrap(), b"x");
    assert!(fetcher.send(get(server.url(BLOB))).now_or_never().is_none());
}

#[tokio::test]
async fn many_at_once_share_the_permits_and_all_arrive() {
    let server = Server::answering(ok("short"));
    let fetchers = Fetchers::start_with(3, settings()).unwrap();
    let fetcher = fetchers.fetcher(PeerSettings { connections: 5, ..peer_settings(server.url("")) }).unwrap();
    let all = (0..200).map(|_| fetch(&fetcher, get(server.url(BLOB))));
    for body in futures_util::future::join_all(all).await {
        assert_eq!(body.unwrap(), b"short");
    }
    assert!(server.connections() <= 3 * 5, "{}", server.connections());
}
