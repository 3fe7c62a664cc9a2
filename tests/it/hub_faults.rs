//! The stand-in misbehaves on the wire as its faults say.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::hub::{Cut, Fault, Gate, Hub, On, Origin, digest_of};
use crate::raw::{Answer, finish, get, request, send};

const PATIENCE: Duration = Duration::from_secs(20);
const SIZE: u64 = 300_000;

/// An open registry with one blob, and the blob's path.
fn one_blob() -> (Hub, String, String) {
    let hub = Hub::builder().open().without_cdn().start();
    let digest = hub.image("a/b", "1").layer(SIZE).publish().layer(0).to_string();
    let path = format!("/v2/a/b/blobs/{digest}");
    (hub, digest, path)
}

/// The answer to one GET of the blob under this fault.
fn under(fault: Fault) -> Answer {
    let (hub, digest, path) = one_blob();
    hub.fault(On::blob(&digest), fault);
    let answer = get(hub.address(), &path, &[]);
    assert_eq!(hub.faults_left(), 0);
    answer
}

#[test]
fn a_body_is_cut_at_the_byte_by_fin_and_by_reset() {
    let (hub, digest, path) = one_blob();
    for bytes in [0, 1, 1000, SIZE - 1, SIZE] {
        for how in [Cut::Fin, Cut::Rst] {
            hub.reset_counts();
            hub.fault(On::blob(&digest), Fault::CutAfter { bytes, how });
            let answer = get(hub.address(), &path, &[]);
            assert_eq!((answer.status, answer.header("content-length")), (200, "300000"));
            assert_eq!((answer.rest.len() as u64, answer.reset), (bytes, how == Cut::Rst), "{bytes} {how:?}");
            assert_eq!(hub.blob_bytes_sent(&digest), bytes);
        }
    }
    assert_eq!(digest_of(&get(hub.address(), &path, &[]).rest), digest);
}

#[test]
fn each_matching_request_spends_one_use() {
    let (hub, digest, path) = one_blob();
    hub.fault(On::blob(&digest).times(2), Fault::status(503));
    hub.fault(On::any_blob().after(1), Fault::status(500));
    hub.fault(On::manifest("1"), Fault::status(404));
    let statuses: Vec<u16> = (0..5).map(|_| get(hub.address(), &path, &[]).status).collect();
    assert_eq!(statuses, [503, 503, 200, 500, 200]);
    assert_eq!(hub.faults_left(), 1);
    hub.fault(On::blob(&digest).always(), Fault::Drop(Cut::Rst));
    assert!((0..3).all(|_| get(hub.address(), &path, &[]).status == 0));
    hub.clear_faults();
    assert_eq!(get(hub.address(), &path, &[]).status, 200);
}

#[test]
fn a_fault_of_a_blob_strikes_at_the_cdn_and_not_at_the_challenge() {
    let hub = Hub::start();
    let digest = hub.put_blob(vec![1; 10]);
    hub.fault(On::blob(&digest), Fault::status(500));
    assert_eq!(get(hub.address(), &format!("/v2/a/b/blobs/{digest}"), &[]).status, 401);
    assert_eq!(hub.faults_left(), 1);
    let hub = Hub::builder().open().start();
    let digest = hub.put_blob(vec![1; 10]);
    let path = format!("/v2/a/b/blobs/{digest}");
    hub.fault(On::blob(&digest).at(Origin::Cdn), Fault::status(500));
    let there = get(hub.address(), &path, &[]).header("location").to_string();
    let (address, at_cdn) = crate::raw::split(&there);
    assert_eq!(get(address, &at_cdn, &[]).status, 500);
    hub.fault(On::redirect_of(&digest), Fault::RedirectTo("http://127.0.0.1:1/x".into()));
    assert_eq!(get(hub.address(), &path, &[]).header("location"), "http://127.0.0.1:1/x");
}

#[test]
fn stalls_and_late_heads_wait_for_their_gate() {
    let (hub, digest, path) = one_blob();
    let gate = Gate::shut();
    hub.fault(On::blob(&digest), Fault::StallAt { bytes: 1234, gate: gate.clone() });
    let mut tcp = send(hub.address(), "GET", &path, &[]);
    assert!(gate.wait_for_arrivals(1, PATIENCE));
    assert_eq!(hub.blob_bytes_sent(&digest), 1234);
    gate.open();
    assert_eq!(digest_of(&finish(&mut tcp).rest), digest);

    let gate = Gate::shut();
    hub.fault(On::blob(&digest), Fault::HoldHead(gate.clone()));
    let mut tcp = send(hub.address(), "GET", &path, &[]);
    assert!(gate.wait_for_arrivals(1, PATIENCE));
    let opened = Instant::now();
    gate.open();
    assert_eq!(finish(&mut tcp).status, 200);
    let records = hub.requests();
    assert!(records[1].arrived < opened && records[1].first_byte.unwrap() >= opened);
}

#[test]
fn a_client_that_leaves_frees_a_stalled_connection() {
    let (hub, digest, path) = one_blob();
    let gate = Gate::shut();
    hub.fault(On::blob(&digest), Fault::StallAt { bytes: 10, gate: gate.clone() });
    hub.fault(On::blob(&digest), Fault::BlackHole);
    for _ in 0..2 {
        drop(send(hub.address(), "GET", &path, &[]));
    }
    assert!(hub.wait_for(PATIENCE, |records| records.iter().filter(|r| r.finished.is_some()).count() == 2));
    let record = hub.requests().into_iter().find(|r| r.fault.as_deref() == Some("BlackHole")).unwrap();
    assert_eq!((record.status, record.bytes_sent), (0, 0));
}

#[test]
fn dropping_the_hub_frees_a_black_hole() {
    let (hub, digest, path) = one_blob();
    hub.fault(On::blob(&digest), Fault::BlackHole);
    let mut tcp = send(hub.address(), "GET", &path, &[]);
    assert!(hub.wait_for(PATIENCE, |records| records.len() == 1));
    drop(hub);
    assert_eq!(finish(&mut tcp).status, 0);
}

#[test]
fn bodies_lie_about_bytes_lengths_and_encodings() {
    let honest = under(Fault::All(vec![]));
    let flipped = under(Fault::FlipByte { at: 70_000 });
    let differing = honest.rest.iter().zip(&flipped.rest).filter(|(a, b)| a != b).count();
    assert_eq!((flipped.rest.len(), differing), (honest.rest.len(), 1));
    let more = under(Fault::LengthOff(10));
    assert_eq!((more.header("content-length"), more.rest.len(), more.reset), ("300010", 300_000, false));
    let less = under(Fault::LengthOff(-10));
    assert_eq!((less.header("content-length"), less.rest.len()), ("299990", 300_000));
    let other = under(Fault::Replace(b"other".to_vec()));
    assert_eq!((other.header("content-length"), &other.rest[..]), ("5", &b"other"[..]));
    assert_eq!(under(Fault::ClaimGzip).header("content-encoding"), "gzip");
    assert_eq!(under(Fault::digest_header(None)).header("docker-content-digest"), "");
    assert_eq!(under(Fault::digest_header(Some("sha256:00"))).header("docker-content-digest"), "sha256:00");
    assert_eq!(under(Fault::content_type(None)).header("content-type"), "");
    assert!(under(Fault::HtmlPage).header("content-type").starts_with("text/html"));
}

#[test]
fn framings_are_as_asked_for() {
    let honest = under(Fault::All(vec![])).rest;
    let until_close = under(Fault::CloseDelimited);
    assert_eq!((until_close.header("content-length"), until_close.header("transfer-encoding")), ("", ""));
    assert_eq!(until_close.rest, honest);
    let chunked = under(Fault::Chunked);
    assert_eq!((chunked.header("content-length"), chunked.header("transfer-encoding")), ("", "chunked"));
    assert!(chunked.rest.starts_with(b"10000\r\n") && chunked.rest.ends_with(b"\r\n0\r\n\r\n"));
    let both = under(Fault::BothLengths);
    assert_eq!((both.header("content-length"), both.header("transfer-encoding")), ("300000", "chunked"));
    assert!(both.rest.ends_with(b"0\r\n\r\n"));
}

#[test]
fn statuses_redirects_and_garbage() {
    let busy = under(Fault::too_many_requests(Some("3")));
    assert_eq!((busy.status, busy.header("retry-after")), (429, "3"));
    assert_eq!(under(Fault::Garbage(b"SSH-2.0-x\r\n".to_vec())).rest, b"SSH-2.0-x\r\n");
    assert_eq!(under(Fault::CutHeadAfter { bytes: 12, how: Cut::Fin }).rest, b"HTTP/1.1 200");
    let (hub, digest, path) = one_blob();
    hub.fault(On::blob(&digest).times(3), Fault::RedirectLoop);
    for _ in 0..3 {
        assert_eq!(get(hub.address(), &path, &[]).header("location"), format!("{}{path}", hub.url()));
    }
}

#[test]
fn informational_answers_come_first_or_alone() {
    let first = under(Fault::Interim(vec![100, 103]));
    assert_eq!(first.status, 100);
    let text = String::from_utf8_lossy(&first.rest[..60]).into_owned();
    assert!(text.starts_with("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n"), "{text}");

    // Alone, on a connection that stays open, so that the next answer is honest.
    let (hub, digest, path) = one_blob();
    hub.fault(On::blob(&digest), Fault::InterimOnly(vec![103]));
    let mut tcp = TcpStream::connect(hub.address()).unwrap();
    tcp.write_all(request("GET", &path, &[], false).as_bytes()).unwrap();
    let mut hints = [0; 28];
    tcp.read_exact(&mut hints).unwrap();
    assert_eq!(&hints, b"HTTP/1.1 103 Early Hints\r\n\r\n");
    tcp.write_all(request("GET", &path, &[], true).as_bytes()).unwrap();
    assert_eq!(finish(&mut tcp).status, 200);
}

#[test]
fn a_kept_connection_is_closed_behind_the_clients_back() {
    let (hub, digest, path) = one_blob();
    hub.fault(On::blob(&digest), Fault::CloseAfter);
    let mut tcp = TcpStream::connect(hub.address()).unwrap();
    tcp.write_all(request("GET", &path, &[], false).as_bytes()).unwrap();
    let answer = finish(&mut tcp);
    assert_eq!((answer.rest.len() as u64, answer.header("connection")), (SIZE, ""));
}

#[test]
fn slow_and_endless_bodies() {
    let (hub, digest, path) = one_blob();
    hub.fault(On::blob(&digest), Fault::Slow { bytes_per_second: 1_000_000 });
    let began = Instant::now();
    assert_eq!(get(hub.address(), &path, &[]).rest.len() as u64, SIZE);
    let took = began.elapsed();
    assert!((Duration::from_millis(280)..Duration::from_secs(3)).contains(&took), "{took:?}");
    hub.fault(On::blob(&digest), Fault::Endless);
    let mut tcp = send(hub.address(), "GET", &path, &[]);
    let mut some = vec![0; 2_000_000];
    tcp.read_exact(&mut some).unwrap();
    drop(tcp);
    assert!(hub.wait_for(PATIENCE, |records| records.iter().all(|record| record.finished.is_some())));
}

#[test]
fn it_goes_down_and_comes_back_on_its_port() {
    let (hub, _, path) = one_blob();
    let mut kept = TcpStream::connect(hub.address()).unwrap();
    for _ in 0..3 {
        hub.go_down();
        let error = TcpStream::connect(hub.address()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        hub.come_back();
        assert_eq!(get(hub.address(), &path, &[]).status, 200);
    }
    assert!(matches!(kept.read(&mut [0]), Ok(0) | Err(_)));
    hub.go_down_at(Origin::Cdn);
    assert!(TcpStream::connect(hub.cdn_address()).is_err() && TcpStream::connect(hub.address()).is_ok());
    hub.come_back_at(Origin::Cdn);
    assert!(TcpStream::connect(hub.cdn_address()).is_ok());
    hub.go_deaf(true);
    let mut tcp = send(hub.address(), "GET", &path, &[]);
    tcp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(tcp.read(&mut [0]).is_err());
    hub.go_deaf(false);
    assert_eq!(get(hub.address(), &path, &[]).status, 200);
}
