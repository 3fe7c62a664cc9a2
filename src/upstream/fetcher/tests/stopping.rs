//! The stop: running jobs may finish, the others get an error, and none hangs.

use std::sync::mpsc;

use super::*;

#[tokio::test]
async fn what_runs_may_finish_and_nothing_new_begins() {
    let (go, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let server = Server::start(move |_, conn| {
        conn.head();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na");
        gate.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        conn.send("b");
    });
    let fetchers = fetchers();
    let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
    let mut response = fetcher.send(get(server.url("/"))).await.unwrap();
    let stop = tokio::task::spawn_blocking(move || fetchers.stop(PATIENCE));
    eventually(|| fetcher.queues_are_closed()).await;
    assert!(matches!(fetcher.send(get(server.url("/"))).await, Err(FetchError::Stopped)));
    go.send(()).unwrap();
    assert_eq!(read(&mut response.body).await.unwrap(), b"ab");
    stop.await.unwrap();
}

#[tokio::test]
async fn b1_what_does_not_finish_in_time_ends_with_stopped() {
    let server = Server::start(|_, conn| {
        let head = conn.head().unwrap();
        if head.starts_with("GET /begun") {
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
        }
        conn.wait_for_close();
    });
    let fetchers = fetchers();
    let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
    let mut begun = fetcher.send(get(server.url("/begun"))).await.unwrap();
    let silent = tokio::spawn({
        let (fetcher, request) = (fetcher.clone(), get(server.url("/silent")));
        async move { fetcher.send(request).await.map(drop) }
    });
    eventually(|| server.heads().len() == 2).await;
    tokio::task::spawn_blocking(move || fetchers.stop(Duration::ZERO)).await.unwrap();
    assert!(matches!(read(&mut begun.body).await, Err(FetchError::Stopped)));
    assert!(matches!(silent.await.unwrap(), Err(FetchError::Stopped)));
    assert!(matches!(fetcher.send(get(server.url("/"))).await, Err(FetchError::Stopped)));
}
