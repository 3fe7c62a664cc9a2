//! S28: answers that clients do not read, and requests that come slowly, cost bounded memory,
//! together.

use std::{fs, sync::Arc};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{
    Served, Stream, ask, descriptors, in_flight,
    reader::{Answer, Reader},
    runtime,
};
use crate::{hub::digest_of, lanyard::Lanyard, push::Pusher, wire::eventually};

/// How many clients read nothing; `LANYARD_UNREAD=600` is the long form.
fn unreading() -> usize {
    std::env::var("LANYARD_UNREAD").ok().and_then(|number| number.parse().ok()).unwrap_or(200)
}

/// The process's resident memory, in MiB.
fn resident(lanyard: &Lanyard) -> u64 {
    memory(lanyard, "VmRSS:")
}

fn memory(lanyard: &Lanyard, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", lanyard.pid().unwrap())).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

/// S28: the memory that a crowd cost is given back within a few seconds of its end, down to `most`
/// MiB.
fn is_given_back(lanyard: &Lanyard, most: u64) {
    let right_after = resident(lanyard);
    eventually("the memory is given back", || resident(lanyard) < most);
    println!("{right_after} MiB right after, {} then", resident(lanyard));
}

/// Pushes `count` different manifests of almost 4 MB. Returns their paths.
fn large_manifests(lanyard: &Lanyard, count: usize) -> Vec<String> {
    let pusher = Pusher(lanyard.port());
    let config = pusher.blob("team/app", b"{}");
    let push = |number| {
        let manifest = json!({ "schemaVersion": 2, "mediaType": crate::push::OCI_IMAGE,
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2 },
            "layers": [], "annotations": { "number": number, "filler": "x".repeat(4_100_000) } });
        let bytes = manifest.to_string();
        let digest = digest_of(bytes.as_bytes());
        let answer = pusher.manifest("team/app", &digest, crate::push::OCI_IMAGE, bytes.as_bytes());
        assert_eq!(answer.status, 201, "{}", answer.text());
        format!("/v2/team/app/manifests/{digest}")
    };
    (0..count).map(|number| push(number.to_string())).collect()
}

fn unread(secured: bool, manifests: usize) {
    let number = unreading();
    if !descriptors(3 * number as u64) {
        return;
    }
    let (served, paths) = Served::start("", secured, |lanyard| large_manifests(lanyard, manifests));
    let runtime = runtime();
    let before = resident(&served.lanyard);
    let clients: Vec<Box<dyn Stream>> = runtime.block_on(async {
        let mut clients = Vec::new();
        for path in paths.iter().cycle().take(number) {
            let mut client = served.connect().await;
            client.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
            client.flush().await.unwrap();
            clients.push(client);
        }
        clients
    });
    eventually("all have their answers under way", || in_flight(&served, &runtime) >= number);
    let held = resident(&served.lanyard);
    drop(clients);
    eventually("they are gone", || in_flight(&served, &runtime) <= 1);
    println!("{manifests} manifests, secured: {secured}: {before} MiB before, {held} with {number} that do not read");
    assert!(held < 256, "{held} MiB, {before} before");
    is_given_back(&served.lanyard, 64);
}

#[test]
fn s28_a_manifest_that_nobody_reads_is_there_once() {
    unread(false, 1);
}

#[test]
fn s28_a_manifest_that_nobody_reads_is_there_once_over_tls() {
    unread(true, 1);
}

#[test]
fn s28_many_manifests_that_nobody_reads_stay_on_disk() {
    unread(false, 60);
}

/// An upstream whose every list goes on without an end, in pages of almost 4 MiB.
async fn endless_lists() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                for page in 0.. {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = tcp.read_u8().await else { return };
                        head.push(byte);
                    }
                    let tags: Vec<_> = (0..900_000).map(|n| format!("\"{}\"", n % 10)).collect();
                    let body = format!(r#"{{"tags":[{},"{}"]}}"#, tags.join(","), "x".repeat(page % 100));
                    let path =
                        String::from_utf8_lossy(&head).split(' ').nth(1).unwrap().split('?').next().unwrap().to_owned();
                    let length = body.len();
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
                         Link: <{path}?last={page}>; rel=\"next\"\r\n\r\n"
                    );
                    if tcp.write_all(head.as_bytes()).await.is_err() || tcp.write_all(body.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[test]
fn s28_lists_without_end_cost_bounded_memory_together() {
    let runtime = runtime();
    let port = runtime.block_on(endless_lists());
    let upstreams: Vec<_> = (0..2)
        .map(|n| format!("[[upstream]]\nname = \"hostile{n}.example\"\nurl = \"http://127.0.0.1:{port}\"\n"))
        .collect();
    let lanyard = Lanyard::start(&upstreams.concat());
    let before = resident(&lanyard);
    let served = Served { lanyard, tls: None, _files: tempfile::tempdir().unwrap() };
    runtime.block_on(async {
        let paths: Vec<_> = (0..8).map(|n| format!("/v2/hostile{}.example/a/r{n}/tags/list", n % 2)).collect();
        let asked = paths.iter().map(|path| ask(&served, "GET", path));
        for answer in futures_util::future::join_all(asked).await {
            let answer = answer.unwrap();
            // Cut at its bound, or too slow for this machine.
            assert!(matches!(answer.status, 502 | 504), "{}", String::from_utf8_lossy(&answer.body));
        }
    });
    let most = memory(&served.lanyard, "VmHWM:");
    println!("{before} MiB before, {most} at most");
    assert!(most < 256, "{most} MiB, {before} before");
    is_given_back(&served.lanyard, 56);
}

/// Sends all of a manifest but its last byte, as far as the server accepts it.
async fn send_slowly(writer: &mut (impl AsyncWrite + Unpin), tag: usize, body: &[u8]) {
    let head = format!(
        "PUT /v2/team/app/manifests/slow-{tag} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
        crate::push::OCI_IMAGE,
        body.len()
    );
    let mut sent = writer.write_all(head.as_bytes()).await;
    for piece in body[..body.len() - 1].chunks(32 << 10) {
        if sent.is_err() {
            return;
        }
        sent = writer.write_all(piece).await;
        tokio::task::yield_now().await;
    }
    let _ = writer.flush().await;
}

/// S28: the bytes that are gathered of requests are bounded together. A request that finds no space
/// is told to come again, and an ordinary push is not affected.
fn slow_pushes(secured: bool) {
    let number = unreading();
    if !descriptors(3 * number as u64) {
        return;
    }
    let (served, body) = Served::start("", secured, |lanyard| {
        let config = Pusher(lanyard.port()).blob("team/app", b"{}");
        json!({ "schemaVersion": 2, "mediaType": crate::push::OCI_IMAGE,
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2 },
            "layers": [], "annotations": { "filler": "x".repeat(4_100_000) } })
        .to_string()
        .into_bytes()
    });
    let runtime = runtime();
    let before = resident(&served.lanyard);
    let body = Arc::new(body);
    let (writers, answers) = runtime.block_on(async {
        let (mut writers, mut answers) = (tokio::task::JoinSet::new(), tokio::task::JoinSet::new());
        for tag in 0..number {
            let (body, (reader, mut writer)) = (Arc::clone(&body), tokio::io::split(served.connect().await));
            answers.spawn(async move { Reader::new(reader).answer("PUT").await.ok().flatten() });
            writers.spawn(async move {
                send_slowly(&mut writer, tag, &body).await;
                writer
            });
        }
        (writers.join_all().await, answers)
    });
    eventually("the others are refused", || in_flight(&served, &runtime) <= 9);
    let most = memory(&served.lanyard, "VmHWM:");
    assert!(most < 256, "{most} MiB, {before} before");
    let small = body_of(&body, 100);
    let put = |tag: &str, body: &[u8]| runtime.block_on(put(&served, tag, body)).unwrap().status;
    assert_eq!(put("small", &small), 201, "beside those that are held");
    let answers = runtime.block_on(async {
        for mut writer in writers {
            let _ = writer.write_all(b"}").await;
            let _ = writer.flush().await;
        }
        answers.join_all().await
    });
    let told = |status| answers.iter().flatten().filter(|answer| answer.status == status).count();
    // A client that is still sending may see the end of its connection before the answer.
    let (taken, refused) = (told(201), told(429));
    assert!(taken == 8 && refused > number / 2, "{taken} taken, {refused} refused of {number}");
    for answer in answers.iter().flatten().filter(|answer| answer.status != 201) {
        assert_eq!(answer.status, 429, "{answer:?}");
        assert!(answer.header("retry-after").is_some_and(|wait| wait.parse::<u64>().is_ok()), "{answer:?}");
    }
    assert_eq!(put("after", &body), 201, "a large one, when the others are gone");
    eventually("they are gone", || in_flight(&served, &runtime) <= 1);
    println!("secured: {secured}: {before} MiB before, {most} at most with {number} that come slowly");
    is_given_back(&served.lanyard, 80);
}

/// The same manifest with a filler of this length.
fn body_of(body: &[u8], filler: usize) -> Vec<u8> {
    let mut manifest: serde_json::Value = serde_json::from_slice(body).unwrap();
    manifest["annotations"]["filler"] = "x".repeat(filler).into();
    manifest.to_string().into_bytes()
}

async fn put(served: &Served, tag: &str, body: &[u8]) -> Result<Answer, String> {
    let mut stream = served.try_connect().await.map_err(|error| error.to_string())?;
    let head = format!(
        "PUT /v2/team/app/manifests/{tag} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
        crate::push::OCI_IMAGE,
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await.map_err(|error| error.to_string())?;
    stream.flush().await.map_err(|error| error.to_string())?;
    Reader::new(stream).answer("PUT").await?.ok_or_else(|| "no answer".to_owned())
}

#[test]
fn s28_large_manifests_that_come_slowly_are_bounded_together() {
    slow_pushes(false);
}

#[test]
fn s28_large_manifests_that_come_slowly_are_bounded_together_over_tls() {
    slow_pushes(true);
}
