//! Measured by hand: `cargo test --release --lib throughput -- --ignored --nocapture`.

use super::*;

#[tokio::test]
#[ignore = "moves a gigabyte; for a release build"]
async fn a_gigabyte_from_loopback() {
    const PIECE: usize = 1 << 20;
    let server = Server::start(|_, conn| {
        conn.head();
        conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1024 * PIECE));
        let piece = vec![7; PIECE];
        while conn.send(&piece) {}
    });
    let fetchers = fetchers();
    let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
    let begun = std::time::Instant::now();
    let mut body = fetcher.send(get(server.url("/v2/a/blobs/b"))).await.unwrap().body;
    let (mut bytes, mut chunks) = (0, 0u32);
    while let Some(chunk) = body.chunk().await {
        bytes += chunk.unwrap().len();
        chunks += 1;
    }
    assert_eq!(bytes, 1024 * PIECE);
    let seconds = begun.elapsed().as_secs_f64();
    println!("{:.0} MiB/s in pieces of {:.0} KiB", 1024.0 / seconds, bytes as f64 / 1024.0 / f64::from(chunks));
}
