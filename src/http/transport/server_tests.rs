//! The transport on raw sockets, around a handler that echoes: framing, timeouts, HEAD, cuts.

use std::{
    io::{Read, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{HttpRequest, HttpResponse, http::StatusCode};
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::*;
use crate::{
    http::{
        answer::{access_log::LogEntry, body::ReplyBody, delivery::Delivery, reply::Reply},
        request_body::RequestBody,
        testing::{RawResponse, TestServer},
    },
    metrics::{Metrics, Sample},
    pull::Piece,
};

type Counted = web::Data<Arc<Metrics>>;

/// `/never`: no answer; `/head`: the head of 1000 bytes; `/cut`: half of 200,000; `/endless`: as
/// many as are taken; else an echo.
async fn echo(request: HttpRequest, metrics: Counted, payload: web::Payload) -> HttpResponse<ReplyBody> {
    let (entry, delivery) = (LogEntry::new(&request, &metrics), Delivery::new(&request));
    let mut payload = RequestBody::new(payload, &request);
    let piece = || Bytes::from(vec![b'x'; 50_000]);
    let pieces = |count: usize| stream::iter((0..count).map(move |_| Ok(Piece::Bytes(piece()))));
    let reply = match request.uri().path() {
        "/head" => Reply::head("application/octet-stream", 1000),
        "/cut" => {
            let broken = pieces(1).chain(stream::iter([Err("upstream broke".to_owned())]));
            Reply::stream(StatusCode::OK, "a/b", 200_000, Piece::Bytes(piece()), Box::pin(broken))
        }
        "/early" => Reply::stream(StatusCode::OK, "a/b", 200_000, Piece::Bytes(piece()), Box::pin(pieces(1))),
        "/late" => {
            // Answered only after the connection has been polled again, with the bytes that came
            // meanwhile.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            Reply::bytes(StatusCode::OK, "text/plain", "late".into())
        }
        "/count" => {
            let mut count = 0;
            while let Ok(Some(piece)) = payload.piece().await {
                count += piece.len();
            }
            Reply::bytes(StatusCode::OK, "text/plain", count.to_string().into())
        }
        "/never" => std::future::pending().await,
        "/endless" => Reply::stream(StatusCode::OK, "a/b", 1 << 40, Piece::Bytes(piece()), Box::pin(pieces(1 << 20))),
        path => Reply::bytes(StatusCode::OK, "text/plain", format!("{} {path}", request.method()).into()),
    };
    reply.send(request.method(), false, entry, delivery)
}

fn limits() -> ServerLimits {
    ServerLimits { workers: 1, linger: Duration::from_millis(500), ..ServerLimits::default() }
}

fn start(limits: ServerLimits) -> (TestServer, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new(&[]));
    let data: Counted = web::Data::new(Arc::clone(&metrics));
    (TestServer::start(move |listener| listen(vec![(listener, data)], None, limits, echo).unwrap()), metrics)
}

/// Waits until the metrics have a line.
fn eventually(metrics: &Metrics, line: &str) {
    let began = Instant::now();
    while !metrics.encode(&Sample::default()).lines().any(|l| l == line) {
        assert!(began.elapsed() < Duration::from_secs(20), "never: {line}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn s12_framing_cases() {
    let (server, _) = start(limits());
    let hidden = "GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n";
    let last = "GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    // Refused: 400, the connection closed, and no byte after the head is ever taken for a request.
    for (name, request) in [
        (
            "CL+TE",
            format!(
                "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
            ),
        ),
        (
            "2xCL differ",
            format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\ncontent-length: 40\r\n\r\n{hidden}"),
        ),
        ("2xCL same", format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n{hidden}")),
        ("CL list", format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0, 0\r\n\r\n{hidden}")),
        ("+CL", format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: +0\r\n\r\n{hidden}")),
        ("-CL", format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n{hidden}")),
        ("TE xchunked", format!("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n{hidden}")),
        ("TE gzip, chunked", format!("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n{hidden}")),
        (
            "TE chunked, identity",
            format!("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, identity\r\n\r\n{hidden}"),
        ),
        ("space before colon", format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length : 0\r\n\r\n{hidden}")),
        ("obs-fold", format!("GET / HTTP/1.1\r\nhost: x\r\nx-a: b\r\n c\r\n\r\n{hidden}")),
        ("no host", format!("GET / HTTP/1.1\r\n\r\n{hidden}")),
        ("2 hosts", format!("GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n{hidden}")),
        ("1.0 TE", format!("POST / HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("control byte in a header", format!("GET / HTTP/1.1\r\nhost: x\r\nx-a: b\x01c\r\n\r\n{hidden}")),
        ("NUL in a header", format!("GET / HTTP/1.1\r\nhost: x\r\nx-a: b\0c\r\n\r\n{hidden}")),
        ("bare CR in a header", format!("GET / HTTP/1.1\r\nhost: x\r\nx-a: b\rc\r\n\r\n{hidden}")),
    ] {
        let answer = String::from_utf8(server.until_close(request.as_bytes())).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.0 400 "), "{name}: {answer}");
        assert!(!answer.contains("hidden") && answer.matches("HTTP/1.").count() == 1, "{name}: {answer}");
    }
    // Bodies that no handler reads: answered once, and their bytes are never the next request.
    for (name, body) in [
        ("chunk ext", format!("transfer-encoding: chunked\r\n\r\n4;a=b\r\nabcd\r\n0\r\n\r\n{last}")),
        ("chunked", format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n{last}", hidden.len())),
        ("chunk LF ext", format!("transfer-encoding: chunked\r\n\r\n2;\nxx\r\n4c\r\n{hidden}\r\n0\r\n\r\n")),
        ("chunk 0x", format!("transfer-encoding: chunked\r\n\r\n0x4\r\nabcd\r\n0\r\n\r\n{hidden}")),
        ("chunk huge", format!("transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{hidden}")),
        ("early answer", format!("content-length: {}\r\n\r\n{hidden}", hidden.len())),
        ("early answer, more to come", format!("content-length: 100000\r\n\r\n{hidden}")),
    ] {
        let request = format!("POST /first HTTP/1.1\r\nhost: x\r\n{body}");
        let answer = String::from_utf8(server.until_close(request.as_bytes())).unwrap();
        assert!(!answer.contains("hidden"), "{name}: {answer}");
    }
    // A bare LF ends a line, at every place in the request: one request, one answer.
    let answer = server.until_close(format!("GET /lf HTTP/1.1\nhost: x\n\n{last}").as_bytes());
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.matches("HTTP/1.1 200").count() == 2 && answer.ends_with("GET /last"), "{answer}");
}

#[test]
fn a_tls_hello_is_answered_in_http() {
    let (server, _) = start(limits());
    // The beginning of what a TLS 1.3 client sends: handshake record, ClientHello.
    let mut hello = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.extend((0..506).map(|n| (n * 7 % 256) as u8));
    assert!(server.until_close(&hello).starts_with(b"HTTP/1.1 400 "));
    // The answer must not depend on the rest arriving.
    assert!(server.until_close(&hello[..6]).starts_with(b"HTTP/1.1 400 "));
}

#[test]
fn slow_heads_are_answered_408() {
    let (server, _) = start(ServerLimits { head: Duration::from_millis(300), ..limits() });
    let answer = server.until_close(b"GET /v2/ HTTP/1.1\r\nhost: ");
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_second_head_that_dribbles_is_cut_too() {
    let (head, keep_alive) = (Duration::from_millis(300), Duration::from_millis(700));
    let (server, _) = start(ServerLimits { head, keep_alive, ..limits() });
    let mut socket = server.connect();
    socket.write_all(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert_eq!(RawResponse::read(&mut socket, false).text(), "GET /a");
    let mut dribble = socket.try_clone().unwrap();
    let dribbler = std::thread::spawn(move || {
        while dribble.write_all(b"G").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest);
    assert_eq!(rest, b"");
    drop(socket);
    dribbler.join().unwrap();
}

#[test]
fn slow_readers_are_let_go() {
    let (server, metrics) = start(ServerLimits { stall: Duration::from_millis(500), ..limits() });
    let mut socket = server.connect();
    socket.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    // No byte is read. The body is dropped, which the counter of aborted requests shows.
    eventually(&metrics, "lanyard_requests_aborted_total 1");
    eventually(&metrics, "lanyard_requests_in_flight 0");
}

#[test]
fn a_client_that_leaves_ends_its_request() {
    let (server, metrics) = start(limits());
    let mut socket = server.connect();
    socket.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    socket.read_exact(&mut [0; 1000]).unwrap();
    drop(socket);
    eventually(&metrics, "lanyard_requests_aborted_total 1");

    let mut socket = server.connect();
    socket.write_all(b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    eventually(&metrics, "lanyard_requests_in_flight 1");
    drop(socket);
    eventually(&metrics, "lanyard_requests_aborted_total 2");
    eventually(&metrics, "lanyard_requests_in_flight 0");
}

#[test]
fn head_has_the_length_and_no_body() {
    let (server, _) = start(limits());
    let mut socket = server.connect();
    for (target, length) in [("/head", "1000"), ("/echo", "10")] {
        write!(socket, "HEAD {target} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let answer = RawResponse::read(&mut socket, true);
        assert_eq!((answer.status, answer.header("content-length")), (200, Some(length)));
        assert_eq!(answer.header("transfer-encoding"), None);
    }
    // Pipelined before a GET, where actix-http forgets which of the two was the HEAD.
    socket.write_all(b"HEAD /head HTTP/1.1\r\nhost: x\r\n\r\nGET /b HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert_eq!(RawResponse::read(&mut socket, true).header("content-length"), Some("1000"));
    assert_eq!(RawResponse::read(&mut socket, false).text(), "GET /b");
}

#[test]
fn a_body_that_fails_or_ends_early_is_cut_short() {
    let (server, metrics) = start(limits());
    for target in ["/cut", "/early"] {
        let answer = server.ask("GET", target, "");
        assert_eq!((answer.status, answer.header("content-length")), (200, Some("200000")));
        // The bytes before the failure are delivered: a client can resume from there.
        assert_eq!((answer.short, answer.body.len()), (true, 100_000), "{target}");
    }
    let text = metrics.encode(&Sample::default());
    assert!(text.contains("lanyard_requests_aborted_total 0"), "nobody left: {text}");
}

#[test]
fn downloads_under_way_finish_when_stopping() {
    let (server, _) = start(limits());
    let mut socket = server.connect();
    socket.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    socket.read_exact(&mut [0; 1000]).unwrap();
    drop(server.handle.stop(true));
    // New connections are refused or closed unanswered; this one goes on.
    socket.read_exact(&mut vec![0; 64 << 20]).unwrap();
    drop(socket);
}

#[test]
fn bind_says_what_to_do() {
    let taken = bind("127.0.0.1:0".parse().unwrap(), "--listen").unwrap();
    let address = taken.local_addr().unwrap();
    let message = bind(address, "--listen").unwrap_err().to_string();
    let port = address.port();
    assert_eq!(
        message,
        format!("port {port} on 127.0.0.1 is taken by another program; stop it or choose another with --listen")
    );
    let message = bind("192.0.2.1:0".parse().unwrap(), "mirror_listen").unwrap_err().to_string();
    assert!(message.starts_with("192.0.2.1 is not an address of this machine"), "{message}");
    assert!(message.ends_with(" with mirror_listen"), "{message}");
}

#[test]
fn s12_pipelined_requests_are_answered_in_step() {
    let (server, _) = start(limits());
    let request = |method: &str, target: &str| format!("{method} {target} HTTP/1.1\r\nhost: x\r\n\r\n");
    let all = [("GET", "/late"), ("HEAD", "/head"), ("GET", "/late"), ("GET", "/a"), ("HEAD", "/late"), ("GET", "/b")];
    // At once, and then in pieces that split heads and empty lines.
    let bytes: String = all.iter().cycle().take(60).map(|(method, target)| request(method, target)).collect();
    for size in [bytes.len(), 1, 7, 100, 2047] {
        let mut socket = server.connect();
        let (mut writer, bytes) = (socket.try_clone().unwrap(), bytes.clone());
        let writing =
            std::thread::spawn(move || bytes.as_bytes().chunks(size).for_each(|c| writer.write_all(c).unwrap()));
        for (method, target) in all.iter().cycle().take(60) {
            let answer = RawResponse::read(&mut socket, *method == "HEAD");
            let body = match (*method, *target) {
                ("HEAD", _) => "",
                (_, "/late") => "late",
                (_, "/a") => "GET /a",
                (_, _) => "GET /b",
            };
            assert_eq!((answer.status, answer.text()), (200, body), "{method} {target} by {size}");
        }
        writing.join().unwrap();
    }
}

#[test]
fn a_client_that_leaves_with_requests_held_back_is_noticed() {
    let (server, metrics) = start(limits());
    let mut socket = server.connect();
    socket.write_all("GET /endless HTTP/1.1\r\nhost: x\r\n\r\n".repeat(50).as_bytes()).unwrap();
    socket.read_exact(&mut [0; 100]).unwrap();
    drop(socket);
    eventually(&metrics, "lanyard_requests_aborted_total 1");
    eventually(&metrics, "lanyard_requests_in_flight 0");
}

#[test]
fn request_bodies_come_in_whole() {
    let (server, _) = start(limits());
    // It is full of bytes that look like the end of a head.
    let body = "x\r\n\r\n".repeat(100_000);
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let mut socket = server.connect();
    for (framing, sent) in [
        (format!("content-length: {}", body.len()), &body),
        ("transfer-encoding: chunked".to_owned(), &chunked),
        (format!("content-length: {}\r\nexpect: 100-continue", body.len()), &body),
        ("content-length: 0".to_owned(), &String::new()),
    ] {
        write!(socket, "PUT /count HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n").unwrap();
        if framing.contains("expect") {
            let mut interim = [0; 25];
            socket.read_exact(&mut interim).unwrap();
            assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        socket.write_all(sent.as_bytes()).unwrap();
        let expected = if sent.is_empty() { 0 } else { body.len() };
        assert_eq!(RawResponse::read(&mut socket, false).text(), expected.to_string(), "{framing}");
    }
}
