//! `?digest-algorithm=` (distribution-spec, end-4c): a client states the algorithm of an upload's
//! digest when it begins the upload.

use sha2::{Digest, Sha512};

use super::{Pusher, registry};
use crate::{
    hub::digest_of,
    wire::{Answer, ask, blob, get, send},
};

const REPO: &str = "team/app";

fn sha512_of(bytes: &[u8]) -> String {
    format!("sha512:{}", Sha512::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn begin(port: u16, query: &str) -> Answer {
    send(port, "POST", &format!("/v2/{REPO}/blobs/uploads/{query}"), &[], b"")
}

/// The location of an upload that was begun with this algorithm.
fn place(port: u16, algorithm: &str) -> String {
    let answer = begin(port, &format!("?digest-algorithm={algorithm}"));
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.header("location").unwrap().to_owned()
}

#[test]
fn an_upload_is_hashed_as_was_said() {
    let lanyard = registry("");
    let client = Pusher(lanyard.port());
    let bytes: Vec<u8> = (0..700_000).map(|at| (at * 7 + at / 251) as u8).collect();
    for (algorithm, digest) in [("sha256", digest_of(&bytes)), ("sha512", sha512_of(&bytes))] {
        // In one request, and in chunks, with a request for the upload's state in between.
        assert_eq!(client.close(&place(lanyard.port(), algorithm), &digest, &bytes).status, 201);
        let place = place(lanyard.port(), algorithm);
        let answer = client.patch(&place, Some(0), &bytes[..300_000]);
        assert_eq!((answer.status, answer.header("location")), (202, Some(place.as_str())));
        assert_eq!(get(lanyard.port(), &place).header("range"), Some("0-299999"));
        assert_eq!(client.patch(&place, Some(300_000), &bytes[300_000..]).status, 202);
        let answer = client.close(&place, &digest, b"");
        assert_eq!((answer.status, answer.header("docker-content-digest")), (201, Some(digest.as_str())));
        let answer = get(lanyard.port(), &blob(REPO, &digest));
        assert_eq!((answer.status, answer.body == bytes), (200, true));
        // Bytes that do not have the digest are refused as ever.
        let place = self::place(lanyard.port(), algorithm);
        let answer = client.close(&place, &digest, &bytes[1..]);
        assert_eq!((answer.status, answer.error_code()), (400, "DIGEST_INVALID".to_owned()));
        assert_eq!(get(lanyard.port(), &place).status, 404, "and nothing is kept");
    }
}

#[test]
fn an_unknown_algorithm_is_400_and_nothing_is_begun() {
    let lanyard = registry("");
    let (short, long) = (digest_of(b"x"), sha512_of(b"x"));
    for algorithm in ["", "md5", "sha384", "SHA512", "sha512%20", "sha-512", "blake3", "%00", "sha512,sha256"] {
        let answer = begin(lanyard.port(), &format!("?digest-algorithm={algorithm}"));
        assert_eq!((answer.status, answer.error_code()), (400, "DIGEST_INVALID".to_owned()), "{algorithm}");
    }
    // A digest in the same request must be of the stated algorithm, or is refused before a byte is
    // stored.
    for (key, algorithm, digest) in [
        ("digest", "sha512", &short),
        ("digest", "sha256", &long),
        ("mount", "sha512", &short),
        ("mount", "sha256", &long),
    ] {
        let path = format!("/v2/{REPO}/blobs/uploads/?digest-algorithm={algorithm}&{key}={digest}");
        let answer = send(lanyard.port(), "POST", &path, &[], b"x");
        assert_eq!((answer.status, answer.error_code()), (400, "DIGEST_INVALID".to_owned()), "{key}, {algorithm}");
    }
    let uploads = std::fs::read_dir(lanyard.data_dir().join("uploads")).map_or(0, Iterator::count);
    assert_eq!(uploads, 0);
    for (algorithm, digest) in [("sha256", &short), ("sha512", &long)] {
        let path = format!("/v2/{REPO}/blobs/uploads/?digest={digest}&digest-algorithm={algorithm}");
        assert_eq!(send(lanyard.port(), "POST", &path, &[], b"x").status, 201);
        assert_eq!(get(lanyard.port(), &blob(REPO, digest)).body, b"x");
        // A mount that is not possible becomes an upload of that algorithm.
        let other = if algorithm == "sha256" { sha512_of(b"y") } else { digest_of(b"y") };
        let mine = if algorithm == "sha256" { digest_of(b"y") } else { sha512_of(b"y") };
        let answer = begin(lanyard.port(), &format!("?mount={mine}&from=team/b&digest-algorithm={algorithm}"));
        let place = answer.header("location").unwrap();
        assert_eq!((answer.status, Pusher(lanyard.port()).close(place, &other, b"y").status), (202, 400));
        assert_eq!(ask(lanyard.port(), "DELETE", place, &[]).status, 204);
    }
}

/// The closing PUT must have the stated algorithm, and is refused before its body is read; the
/// upload stays as it is.
#[test]
fn a_digest_of_another_algorithm_is_400_and_the_upload_goes_on() {
    let lanyard = registry("");
    let client = Pusher(lanyard.port());
    let (short, long) = (digest_of(b"12345"), sha512_of(b"12345"));
    for (algorithm, right, wrong) in [("sha512", &long, &short), ("sha256", &short, &long)] {
        let place = place(lanyard.port(), algorithm);
        assert_eq!(client.patch(&place, Some(0), b"123").status, 202);
        let answer = client.close(&place, wrong, b"45");
        assert_eq!((answer.status, answer.error_code()), (400, "DIGEST_INVALID".to_owned()), "{algorithm}");
        assert!(answer.text().contains(&format!("digest-algorithm={algorithm}")), "{}", answer.text());
        let answer = get(lanyard.port(), &place);
        assert_eq!((answer.status, answer.header("range")), (204, Some("0-2")), "nothing of it was taken in");
        assert_eq!(client.close(&place, right, b"45").status, 201);
    }
    // Without a stated algorithm the digest may be of any.
    for digest in [&short, &long] {
        assert_eq!(client.close(&client.begin("team/other"), digest, b"12345").status, 201);
    }
}

/// The stated algorithm is stored with the upload.
#[test]
fn an_algorithm_outlives_a_restart() {
    for kill in [false, true] {
        let mut lanyard = registry("");
        let client = Pusher(lanyard.port());
        let bytes: Vec<u8> = (0..400_000).map(|at| (at * 5 + at / 253) as u8).collect();
        let place = place(lanyard.port(), "sha512");
        assert_eq!(client.patch(&place, Some(0), &bytes[..250_000]).status, 202);
        if kill {
            lanyard.kill9();
        }
        lanyard.restart();
        let answer = get(lanyard.port(), &place);
        assert_eq!((answer.status, answer.header("range")), (204, Some("0-249999")));
        assert_eq!(client.close(&place, &digest_of(&bytes), &bytes[250_000..]).status, 400);
        let digest = sha512_of(&bytes);
        assert_eq!(client.close(&place, &digest, &bytes[250_000..]).status, 201);
        assert!(get(lanyard.port(), &blob(REPO, &digest)).body == bytes);
    }
}
