//! Uploads: in one request, in chunks, out of order, broken off, cancelled, and across restarts.

use sha2::{Digest, Sha512};

use super::{Pusher, registry};
use crate::{
    hub::digest_of,
    lanyard::Lanyard,
    wire::{Answer, Connection, ask, blob, eventually, get, send},
};

const REPO: &str = "team/app";

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 7 + at / 251) as u8).collect()
}

#[test]
fn chunks_follow_each_other_and_others_are_416_with_the_way_on() {
    let lanyard = registry("");
    let client = Pusher(lanyard.port());
    let (all, place) = (bytes(300_000), client.begin(REPO));
    assert!(place.starts_with("/v2/team/app/blobs/uploads/"), "{place}");
    let answer = client.patch(&place, Some(0), &all[..100_000]);
    assert_eq!((answer.status, answer.header("range")), (202, Some("0-99999")));
    let uuid = place.rsplit('/').next();
    assert_eq!((answer.header("location"), answer.header("docker-upload-uuid")), (Some(place.as_str()), uuid));

    for at in [0, 99_999, 200_000] {
        let answer = client.patch(&place, Some(at), &all[200_000..]);
        assert_eq!((answer.status, answer.error_code()), (416, "RANGE_INVALID".to_owned()));
        assert_eq!((answer.header("location"), answer.header("range")), (Some(place.as_str()), Some("0-99999")));
    }
    // The same holds for the closing PUT.
    let digest = digest_of(&all);
    let closing = format!("{place}?digest={digest}");
    let answer = send(lanyard.port(), "PUT", &closing, &[("Content-Range", "200000-299999")], &all[200_000..]);
    assert_eq!((answer.status, answer.header("range")), (416, Some("0-99999")));
    let answer = get(lanyard.port(), &place);
    assert_eq!((answer.status, answer.header("range")), (204, Some("0-99999")));

    // A stream has no Content-Range: it continues at the end.
    assert_eq!(client.patch(&place, None, &all[100_000..200_000]).header("range"), Some("0-199999"));
    let answer = send(lanyard.port(), "PUT", &closing, &[("Content-Range", "200000-299999")], &all[200_000..]);
    assert_eq!((answer.status, answer.header("docker-content-digest")), (201, Some(digest.as_str())), "{answer:?}");
    assert_eq!(answer.header("location"), Some(blob(REPO, &digest).as_str()));
    assert_eq!(get(lanyard.port(), &blob(REPO, &digest)).body, all);
    assert_eq!(get(lanyard.port(), &place).status, 404, "a finished upload is no more");
}

#[test]
fn a_range_that_is_not_what_comes_is_refused() {
    let lanyard = registry("");
    let place = Pusher(lanyard.port()).begin(REPO);
    for (range, status, code) in [
        ("0-9", 400, "SIZE_INVALID"),
        ("9-0", 400, "BLOB_UPLOAD_INVALID"),
        ("a-b", 400, "BLOB_UPLOAD_INVALID"),
        ("0-99999999999999999999", 400, "BLOB_UPLOAD_INVALID"),
    ] {
        let answer = send(lanyard.port(), "PATCH", &place, &[("Content-Range", range)], b"12345");
        assert_eq!((answer.status, answer.error_code().as_str()), (status, code), "{range}");
    }
    assert_eq!(get(lanyard.port(), &place).header("range"), Some("0-0"));
    // When the head does not state the length, the end of the body does. The bytes that came stay,
    // and the upload continues after them.
    let chunked = |method: &str, path: &str, range: &str| {
        let mut connection = Connection::open(lanyard.port());
        connection.request(method, path, &[("Content-Range", range), ("Transfer-Encoding", "chunked")]);
        connection.send(b"5\r\n12345\r\n0\r\n\r\n");
        connection.answer(method).unwrap()
    };
    let refused = |answer: Answer| {
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert_eq!(answer.error_code(), "SIZE_INVALID");
    };
    refused(chunked("PATCH", &place, "0-9"));
    assert_eq!(get(lanyard.port(), &place).header("range"), Some("0-4"));
    let closing = format!("{place}?digest={}", digest_of(b"123451234512345"));
    refused(chunked("PUT", &closing, "5-99"));
    assert_eq!(chunked("PUT", &closing, "10-14").status, 201);
}

#[test]
fn one_request_is_enough_also_for_nothing_and_for_sha512() {
    let lanyard = registry("");
    let client = Pusher(lanyard.port());
    let long: String = Sha512::digest(b"long").iter().map(|byte| format!("{byte:02x}")).collect();
    for (content, digest) in
        [(&b"short"[..], digest_of(b"short")), (b"", digest_of(b"")), (b"long", format!("sha512:{long}"))]
    {
        let path = format!("/v2/{REPO}/blobs/uploads/?digest={digest}");
        let answer = send(lanyard.port(), "POST", &path, &[], content);
        assert_eq!((answer.status, answer.header("docker-content-digest")), (201, Some(digest.as_str())));
        let answer = get(lanyard.port(), &blob(REPO, &digest));
        assert_eq!((answer.status, answer.body.as_slice()), (200, content));
        // The digest is only known at the end.
        assert_eq!(client.close(&client.begin("other"), &digest, content).status, 201);
    }
}

#[test]
fn a_wrong_digest_is_400_and_nothing_is_kept() {
    let lanyard = registry("");
    let (client, digest) = (Pusher(lanyard.port()), digest_of(b"right"));
    let place = client.begin(REPO);
    let post = format!("/v2/{REPO}/blobs/uploads/?digest={digest}");
    for answer in [client.close(&place, &digest, b"wrong"), send(lanyard.port(), "POST", &post, &[], b"wrong")] {
        assert_eq!((answer.status, answer.error_code()), (400, "DIGEST_INVALID".to_owned()));
    }
    assert_eq!(get(lanyard.port(), &place).status, 404);
    assert_eq!(client.head(&blob(REPO, &digest)), 404);
    for (query, status) in [("", 400), ("?digest=sha256:zz", 400), ("?digest=md5:00", 400)] {
        let place = client.begin(REPO);
        assert_eq!(send(lanyard.port(), "PUT", &format!("{place}{query}"), &[], b"").status, status, "{query}");
        assert_eq!(get(lanyard.port(), &place).status, 204, "the upload waits for a better request");
    }
}

#[test]
fn an_upload_is_its_repositorys_and_is_cancelled_once() {
    let lanyard = registry("");
    let client = Pusher(lanyard.port());
    let place = client.begin(REPO);
    let elsewhere = place.replace(REPO, "team/other");
    for method in ["GET", "PATCH", "PUT", "DELETE"] {
        let path = format!("{elsewhere}?digest={}", digest_of(b""));
        let answer = send(lanyard.port(), method, &path, &[], b"");
        assert_eq!((answer.status, answer.error_code()), (404, "BLOB_UPLOAD_UNKNOWN".to_owned()), "{method}");
    }
    assert_eq!((client.delete(&place), client.delete(&place)), (204, 404));
    assert_eq!(get(lanyard.port(), &place).status, 404);
}

/// The bytes before the connection broke are kept, except for the few that arrived with its end.
/// The state of the upload says how many they are.
#[test]
fn a_broken_body_is_gone_on_with() {
    let lanyard = registry("");
    let client = Pusher(lanyard.port());
    let (all, place) = (bytes(9 << 20), client.begin(REPO));
    let kept = || -> usize {
        let answer = get(lanyard.port(), &place);
        answer.header("range").and_then(|range| range.strip_prefix("0-")?.parse::<usize>().ok()).unwrap() + 1
    };
    for framing in [("Content-Length", "8000000"), ("Transfer-Encoding", "chunked")] {
        let before = if kept() == 1 { 0 } else { kept() };
        let mut connection = Connection::open(lanyard.port());
        connection.request("PATCH", &place, &[framing]);
        if framing.1 == "chunked" {
            connection.send(b"7a1200\r\n");
        }
        // Neither body has an end.
        connection.send(&all[before..before + (4 << 20)]);
        drop(connection);
        eventually("most of the received bytes are kept", || kept() > before + (2 << 20));
        assert!(kept() <= before + (4 << 20), "{}", kept());
    }
    let at = kept();
    assert_eq!(client.patch(&place, Some(at), &all[at..]).status, 202);
    assert_eq!(client.close(&place, &digest_of(&all), b"").status, 201);
}

/// A POST with the whole blob cannot be continued: whenever its client leaves, nothing of it stays.
#[test]
fn a_broken_post_leaves_nothing() {
    let lanyard = registry("");
    let all = bytes(3 << 20);
    let path = format!("/v2/{REPO}/blobs/uploads/?digest={}", digest_of(&all));
    for sent in [0, 1, 1000, 100_000, 1 << 20, all.len() - 1] {
        for framing in [("Content-Length", "3145728"), ("Transfer-Encoding", "chunked")] {
            let mut connection = Connection::open(lanyard.port());
            connection.request("POST", &path, &[framing]);
            if framing.1 == "chunked" {
                connection.send(b"300000\r\n");
            }
            connection.send(&all[..sent]);
            drop(connection);
        }
    }
    assert_eq!(send(lanyard.port(), "POST", &path, &[], &all).status, 201);
    let left = || std::fs::read_dir(lanyard.data_dir().join("uploads")).unwrap().count();
    eventually("the uploads are cancelled", || left() == 0);
}

/// The offset after a restart never exceeds the stored bytes, and the hash continues.
#[test]
fn an_upload_goes_on_after_kill_9_and_after_a_stop() {
    let mut lanyard = registry("");
    let client = Pusher(lanyard.port());
    let (all, place) = (bytes(3_000_000), client.begin(REPO));
    assert_eq!(client.patch(&place, Some(0), &all[..1_000_000]).status, 202);
    lanyard.kill9();
    lanyard.restart();
    assert_eq!(get(lanyard.port(), &place).header("range"), Some("0-999999"));
    assert_eq!(client.patch(&place, Some(1_000_000), &all[1_000_000..2_000_000]).status, 202);
    assert!(lanyard.stop().success());
    lanyard.restart();
    assert_eq!(client.patch(&place, Some(2_000_000), &all[2_000_000..]).header("range"), Some("0-2999999"));
    lanyard.kill9();
    lanyard.restart();
    let digest = digest_of(&all);
    assert_eq!(client.close(&place, &digest, b"").status, 201);
    lanyard.kill9();
    lanyard.restart();
    assert_eq!(get(lanyard.port(), &blob(REPO, &digest)).body, all);
}

/// A client that comes back while the broken connection still exists waits for its end.
#[test]
fn two_requests_take_turns() {
    let lanyard = registry("");
    let (client, all) = (Pusher(lanyard.port()), bytes(200_000));
    let place = client.begin(REPO);
    let mut first = Connection::open(lanyard.port());
    first.request("PATCH", &place, &[("Content-Length", "100000")]);
    first.send(&all[..50_000]);
    // The server answers meanwhile. This does not show that the first PATCH already holds the
    // upload, so either may come first.
    eventually("it is taken", || ask(lanyard.port(), "GET", "/readyz", &[]).status == 200);
    let second = std::thread::scope(|scope| {
        let (all, place) = (&all, &place);
        let second = scope.spawn(move || client.patch(place, Some(100_000), &all[100_000..]));
        first.send(&all[50_000..100_000]);
        assert_eq!(first.answer("PATCH").unwrap().status, 202);
        second.join().unwrap()
    });
    // If the second came first, it was out of order, and its answer said so.
    match second.status {
        202 => assert_eq!(second.header("range"), Some("0-199999")),
        416 => assert_eq!(client.patch(&place, Some(100_000), &all[100_000..]).status, 202),
        status => panic!("{status}: {}", second.text()),
    }
    assert_eq!(client.close(&place, &digest_of(&all), b"").status, 201);
}

#[test]
fn s14_a_client_has_64_uploads_and_its_oldest_makes_place_for_the_next() {
    let lanyard = registry("");
    let client = Pusher(lanyard.port());
    let folders = || std::fs::read_dir(lanyard.data_dir().join("uploads")).unwrap().count();
    let places: Vec<_> = (0..164).map(|_| client.begin(REPO)).collect();
    assert_eq!(folders(), 64);
    for place in &places[..100] {
        let late = client.patch(place, None, b"late");
        assert_eq!((late.status, late.error_code()), (404, "BLOB_UPLOAD_UNKNOWN".to_owned()));
    }
    client.blob(REPO, b"there is room for one");
    let path = format!("/v2/{REPO}/blobs/uploads/?digest={}", digest_of(b"at once"));
    assert_eq!(send(lanyard.port(), "POST", &path, &[], b"at once").status, 201);
    for place in &places[101..] {
        assert_eq!(client.delete(place), 204);
    }
    assert_eq!(folders(), 0, "the disk is as it was");
}

/// One owner, two limits of its own, and the same after a restart, when the owners of the uploads
/// are unknown.
#[test]
fn s14_what_is_being_written_stays_and_what_was_left_goes() {
    let mut lanyard = registry("[hosted]\nuploads_per_user = 3\nuploads = 4\n");
    let client = Pusher(lanyard.port());
    let begin = |port: u16| send(port, "POST", &format!("/v2/{REPO}/blobs/uploads/"), &[], b"");
    let places: Vec<_> = (0..3).map(|_| client.begin(REPO)).collect();
    let writing: Vec<_> = places
        .iter()
        .map(|place| {
            let mut writing = Connection::open(lanyard.port());
            writing.request("PATCH", place, &[("Content-Length", "10")]);
            writing.send(b"12345");
            writing
        })
        .collect();
    let open = format!("/proc/{}/fd", lanyard.pid().unwrap());
    eventually("all three are being written", || {
        let links = std::fs::read_dir(&open).unwrap().filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        links.filter(|link| link.ends_with("data") && link.to_string_lossy().contains("/uploads/")).count() == 3
    });
    let fourth = begin(lanyard.port());
    assert_eq!((fourth.status, fourth.error_code()), (429, "TOOMANYREQUESTS".to_owned()));
    assert!(fourth.header("retry-after").is_some());
    let single = format!("/v2/{REPO}/blobs/uploads/?digest={}", digest_of(b"single"));
    assert_eq!(send(lanyard.port(), "POST", &single, &[], b"single").status, 201, "it needs no place");
    for (mut writing, place) in writing.into_iter().zip(&places) {
        writing.send(b"67890");
        assert_eq!(writing.answer("PATCH").unwrap().status, 202);
        assert_eq!(client.close(place, &digest_of(b"1234567890"), b"").status, 201);
    }

    let left: Vec<_> = (0..3).map(|_| client.begin(REPO)).collect();
    lanyard.restart();
    let new: Vec<_> = (0..3).map(|_| client.begin(REPO)).collect();
    let there =
        |places: &[String]| places.iter().filter(|place| ask(lanyard.port(), "GET", place, &[]).status == 204).count();
    assert_eq!((there(&left), there(&new)), (1, 3), "what is nobody's goes first");
}

/// Two addresses of this machine are one owner, so a request from one can push out an upload of the
/// other.
#[test]
fn s14_loopback_addresses_are_one_owner() {
    let lanyard = Lanyard::start("mode = \"offline\"\n[hosted]\nuploads_per_user = 2\n");
    let from = |source: [u8; 4]| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect(&std::net::SocketAddr::from(([127, 0, 0, 1], lanyard.port())).into()).unwrap();
        let path = format!("/v2/{REPO}/blobs/uploads/");
        let mut tcp = std::net::TcpStream::from(socket);
        let host = [("Host", lanyard.host())];
        let text =
            format!("POST {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", host[0].1);
        std::io::Write::write_all(&mut tcp, text.as_bytes()).unwrap();
        assert_eq!(crate::raw::finish(&mut tcp).status, 202);
    };
    for last in 1..20 {
        from([127, 0, 0, last]);
    }
    assert_eq!(std::fs::read_dir(lanyard.data_dir().join("uploads")).unwrap().count(), 2);
}

/// As Go does: no `100 Continue` before the server wants the body; a refusal comes instead, and the
/// connection ends.
#[test]
fn a_refused_push_is_not_told_to_go_on() {
    let lanyard = registry("");
    let uploads = |repo: &str| format!("/v2/{repo}/blobs/uploads/?digest={}", digest_of(b"1234"));
    for (method, path, status) in [
        ("POST", uploads("library/reserved"), 403),
        ("PUT", "/v2/library/reserved/manifests/v1".to_owned(), 403),
        ("PATCH", format!("/v2/{REPO}/blobs/uploads/00000000-0000-4000-8000-000000000000"), 404),
        ("POST", "/livez".to_owned(), 405),
        ("GET", "/v2/".to_owned(), 200),
    ] {
        for framing in [("Content-Length", "4"), ("Transfer-Encoding", "chunked")] {
            let mut tcp = Connection::open(lanyard.port());
            tcp.request(method, &path, &[framing, ("Expect", "100-Continue")]);
            let answer = tcp.answer(method).unwrap();
            assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{method} {path}");
        }
    }
    let mut tcp = Connection::open(lanyard.port());
    for _ in 0..2 {
        tcp.request("POST", &uploads(REPO), &[("content-length", "4"), ("eXPECT", "100-continue")]);
        assert_eq!(tcp.head().unwrap(), (100, vec![]));
        tcp.send(b"1234");
        assert_eq!(tcp.answer("POST").unwrap().status, 201);
    }
}
