//! Lengths that are unknown, change or lie (F2, S24), and answers that are no blob.

use std::time::Duration;

use super::{mirror, mirror_with};
use crate::{
    hub::{Cut, DOCKER_MANIFEST, Fault, Gate, Hub, On, digest_of},
    lanyard::Lanyard,
    wire::{Answer, blob, eventually, get, head, manifest},
};

pub(super) const REPO: &str = "library/busybox";
pub(super) const SIZE: usize = 300_000;

pub(super) fn content(seed: usize) -> Vec<u8> {
    (0..SIZE).map(|at| ((at * 31 + seed * 7) % 251) as u8).collect()
}

/// Puts a manifest that names a blob with this size, and gives its digest.
pub(super) fn name(hub: &Hub, digest: &str, size: u64) -> String {
    let config = hub.put_blob(b"{}".to_vec());
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{DOCKER_MANIFEST}","config":{{"mediaType":"c","digest":"{config}","size":2}},
        "layers":[{{"mediaType":"l","digest":"{digest}","size":{size}}}]}}"#
    );
    hub.put_untagged(REPO, DOCKER_MANIFEST, text.as_bytes())
}

/// Makes lanyard know the size of a blob by its manifest.
fn learn(hub: &Hub, lanyard: &Lanyard, digest: &str) {
    let manifest_digest = name(hub, digest, SIZE as u64);
    assert_eq!(get(lanyard.port(), &manifest(REPO, &manifest_digest)).status, 200);
}

pub(super) fn quiet(lanyard: &Lanyard) {
    eventually("no download is under way", || {
        get(lanyard.port(), "/metrics").text().lines().any(|line| line == "lanyard_fills_active 0")
    });
}

pub(super) fn assert_not_wrong(answer: &Answer, digest: &str, what: &str) {
    let whole = answer.status == 200 && answer.looks_complete();
    assert!(!whole || digest_of(&answer.body) == digest, "{what}: a complete and wrong answer");
}

/// An answer to a GET that states a length, has a body of its own, and is cut.
fn told(body: Vec<u8>, off: i64, cut: Option<u64>) -> Fault {
    let mut all = vec![Fault::Replace(body), Fault::LengthOff(off)];
    all.extend(cut.map(|bytes| Fault::CutAfter { bytes, how: Cut::Fin }));
    Fault::All(all)
}

fn untold(body: Vec<u8>, cut: Option<u64>) -> Fault {
    let mut all = vec![Fault::Replace(body), Fault::Chunked];
    all.extend(cut.map(|bytes| Fault::CutAfter { bytes, how: Cut::Fin }));
    Fault::All(all)
}

fn ok(headers: &[(&str, &str)]) -> Fault {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Fault::Status { status: 200, headers, body: String::new() }
}

/// Lies about a blob's length that may be told in answer to one GET of a client, one after the
/// other.
fn lies() -> Vec<(&'static str, Vec<Fault>)> {
    let (size, wrong) = (SIZE as u64, vec![b'w'; SIZE]);
    let longer = || vec![b'w'; SIZE + 5000];
    let whole = |body: Vec<u8>| Fault::All(vec![ok(&[]), Fault::Replace(body)]);
    vec![
        (
            "no length and enough wrong bytes, then a length",
            vec![untold(longer(), Some(size + 100)), whole(wrong.clone())],
        ),
        ("the same, and exactly enough", vec![untold(longer(), Some(size)), whole(wrong.clone())]),
        ("no length and wrong bytes, then the truth", vec![untold(longer(), Some(size / 2))]),
        ("no length and right bytes, then another length", vec![untold(content(1), Some(1000)), whole(longer())]),
        ("too long and broken off", vec![told(content(1), 1000, Some(200_000))]),
        ("too long, and all of it right", vec![told(content(1), 1000, Some(size))]),
        ("too short and broken off", vec![told(content(1), -1000, Some(200_000))]),
        ("too short, and then the truth", vec![told(content(1), -1000, None)]),
        ("wrong bytes of a wrong length", vec![told(longer(), -2000, Some(200_000))]),
        (
            "another part than was asked for",
            vec![
                told(content(1), 0, Some(100_000)),
                Fault::All(vec![Fault::Header("Content-Range", Some(format!("bytes 5-{}/{size}", size - 1)))]),
            ],
        ),
        (
            "a part of another length",
            vec![
                told(content(1), 0, Some(100_000)),
                Fault::Header("Content-Range", Some(format!("bytes 100000-{}/{}", size - 1, size + 9))),
            ],
        ),
        (
            "a part of no length",
            vec![
                told(content(1), 0, Some(100_000)),
                Fault::Header("Content-Range", Some(format!("bytes 100000-{}/*", size - 1))),
            ],
        ),
        ("nothing follows", vec![told(content(1), 0, Some(100_000)), Fault::status(416)]),
        ("nothing follows what is not the blob", vec![untold(longer(), Some(size - 1)), Fault::status(416)]),
        ("all of it again, and wrong", vec![told(content(1), 0, Some(100_000)), whole(wrong)]),
        ("all of it again, and longer", vec![told(content(1), 0, Some(100_000)), whole(longer())]),
        ("nothing, in the middle", vec![told(content(1), 0, Some(100_000)), ok(&[])]),
        ("a page, in the middle", vec![told(content(1), 0, Some(100_000)), Fault::HtmlPage]),
    ]
}

/// S24: no lie comes through as a whole answer, and none outlives the answer that told it:
/// afterwards an honest upstream is believed at once, also after a restart.
#[test]
fn f2_a_lie_about_a_length_is_told_once() {
    std::thread::scope(|scope| {
        for (what, faults) in lies() {
            scope.spawn(move || {
                for (named, restarted, gives_up) in [(true, false, true), (false, true, true), (false, false, false)] {
                    let what = format!("{what} (named {named}, restarted {restarted}, gives up {gives_up})");
                    told_once(&what, &faults, named, restarted, gives_up);
                }
            });
        }
    });
}

fn told_once(what: &str, faults: &[Fault], named: bool, restarted: bool, gives_up: bool) {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let body = content(1);
    let digest = hub.put_blob(body.clone());
    let mut lanyard = mirror_with(&hub, "[cache]\nnegative_ttl = \"0s\"");
    if named {
        learn(&hub, &lanyard, &digest);
    }
    faults.iter().for_each(|fault| hub.fault(On::blob(&digest), fault.clone()));
    if gives_up {
        // From then on upstream answers 404, so the part is stored with the statements about it.
        hub.fault(On::blob(&digest).always(), Fault::status(404));
    }
    let lied = get(lanyard.port(), &blob(REPO, &digest));
    assert_not_wrong(&lied, &digest, what);
    hub.clear_faults();
    quiet(&lanyard);
    if restarted {
        lanyard.restart();
    }
    let mut honest = get(lanyard.port(), &blob(REPO, &digest));
    if named && what.starts_with("no length and wrong bytes") {
        // The length was not wrong: the leftover costs one download, and no more.
        assert_not_wrong(&honest, &digest, what);
        quiet(&lanyard);
        honest = get(lanyard.port(), &blob(REPO, &digest));
    }
    assert_eq!((honest.status, honest.looks_complete()), (200, true), "{what}: {}", honest.body.len());
    assert!(honest.body == body, "{what}");
}

/// A lie of one source in mid-download does not end the download that another source began, and the
/// length that was told stays.
#[test]
fn f2_what_was_told_stays() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let lanyard = mirror(&hub);
    for (n, lie) in
        [Fault::HtmlPage, ok(&[]), told(vec![b'w'; SIZE], 9, None), Fault::status(416)].into_iter().enumerate()
    {
        let digest = hub.put_blob(content(n + 10));
        hub.fault(On::blob(&digest), Fault::CutAfter { bytes: 100_000, how: Cut::Fin });
        hub.fault(On::blob(&digest), lie.clone());
        let answer = get(lanyard.port(), &blob(REPO, &digest));
        assert_eq!((answer.status, digest_of(&answer.body)), (200, digest), "{lie:?}");
    }
}

/// Answers with status 200 that are no blob. The client is told before the first byte, by GET and
/// by HEAD, so that it can turn to another registry.
#[test]
fn s24_what_is_no_blob_is_told_before_the_first_byte() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let page = b"<html>Log in</html>!".to_vec();
    let typed = |content_type: &str, body: Vec<u8>| {
        Fault::All(vec![ok(&[("Content-Type", content_type)]), Fault::Replace(body)])
    };
    let answers = [
        ("nothing", ok(&[]), true),
        ("nothing, in chunks", Fault::All(vec![ok(&[]), Fault::Chunked]), false),
        ("a login page", Fault::HtmlPage, true),
        ("twenty bytes of a page", typed("text/html", page.clone()), true),
        ("a page in chunks", Fault::All(vec![Fault::HtmlPage, Fault::Chunked]), true),
        ("XHTML", typed("application/xhtml+xml; charset=utf-8", page.clone()), true),
        ("twenty bytes that call themselves a blob", typed("application/octet-stream", page), false),
    ];
    for full in [false, true] {
        let lanyard = mirror_with(&hub, if full { "[cache]\nmax_size = \"1 KiB\"" } else { "" });
        for named in [true, false] {
            for (n, (what, answer, by_head)) in answers.iter().enumerate() {
                if !named && *what == "twenty bytes that call themselves a blob" {
                    // These cannot be recognised before they have come; they end short.
                    continue;
                }
                let what = format!("{what} (named {named}, full {full})");
                let digest = hub.put_blob(content(100 + n + if named { 50 } else { 0 } + if full { 500 } else { 0 }));
                if named {
                    learn(&hub, &lanyard, &digest);
                }
                hub.fault(On::blob(&digest).any_method().always(), answer.clone());
                let got = get(lanyard.port(), &blob(REPO, &digest));
                assert_eq!(got.status, 502, "{what}: {}", got.text());
                if *by_head {
                    let size = head(lanyard.port(), &blob(REPO, &digest));
                    let length = size.header("content-length").unwrap_or_default().to_owned();
                    let fits = size.status == 502 || (named && size.status == 200 && length == SIZE.to_string());
                    assert!(fits, "{what}: HEAD gave {} {length}", size.status);
                }
                hub.clear_faults();
                quiet(&lanyard);
                let honest = get(lanyard.port(), &blob(REPO, &digest));
                assert_eq!((honest.status, digest_of(&honest.body)), (200, digest), "{what}");
            }
        }
    }
}

/// Only the digest of no bytes is empty.
#[test]
fn s24_nothing_is_empty() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let nothing = hub.put_blob(Vec::new());
    for faults in [vec![], vec![Fault::Chunked]] {
        let lanyard = mirror(&hub);
        faults.iter().for_each(|fault| hub.fault(On::blob(&nothing), fault.clone()));
        for answer in [head(lanyard.port(), &blob(REPO, &nothing)), get(lanyard.port(), &blob(REPO, &nothing))] {
            assert_eq!((answer.status, answer.header("content-length"), answer.body.len()), (200, Some("0"), 0));
        }
    }
    let lanyard = mirror(&hub);
    hub.fault(On::blob(&nothing).always(), Fault::Replace(b"something".to_vec()));
    assert_ne!(get(lanyard.port(), &blob(REPO, &nothing)).status, 200);
}

/// The length in upstream's HEAD, and the length that the client is told. The GET has the true
/// length in any case.
#[test]
fn a_heads_length_is_the_manifests_or_a_true_one() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let answers = [
        ("0", ok(&[])),
        ("none", Fault::All(vec![ok(&[]), Fault::Chunked])),
        ("neither", Fault::All(vec![ok(&[]), Fault::CloseDelimited])),
        ("405", Fault::status(405)),
        ("a page", Fault::HtmlPage),
        ("another", told(vec![0; 20], 0, None)),
    ];
    for (n, (what, answer)) in answers.iter().enumerate() {
        for (named, ranges) in [(true, true), (false, true), (false, false)] {
            if !named && *what == "another" {
                // A plausible lie: it cannot be recognised before the bytes have come.
                continue;
            }
            let what = format!("{what} (named {named}, ranges {ranges})");
            let digest = hub.put_blob(content(1000 + n * 10 + usize::from(named) + 2 * usize::from(ranges)));
            let lanyard = mirror(&hub);
            if named {
                learn(&hub, &lanyard, &digest);
            }
            hub.fault(On::blob(&digest).head().always(), answer.clone());
            if !ranges {
                // GET does not state a length either.
                hub.fault(
                    On::blob(&digest).always(),
                    Fault::All(vec![Fault::Chunked, Fault::Header("Content-Range", None)]),
                );
                hub.set_ranges(false);
            }
            for _ in 0..2 {
                let told = head(lanyard.port(), &blob(REPO, &digest));
                let length = told.header("content-length").map(str::to_owned);
                assert_eq!((told.status, length), (200, Some(SIZE.to_string())), "{what}");
            }
            if named || ranges {
                assert_eq!(
                    hub.requests().iter().filter(|r| r.bytes_sent > 1000 && r.is_blob_get(&digest)).count(),
                    0,
                    "{what}"
                );
            }
            let got = get(lanyard.port(), &blob(REPO, &digest));
            assert_eq!((got.status, digest_of(&got.body)), (200, digest), "{what}");
            hub.clear_faults();
            hub.set_ranges(true);
        }
    }
}

/// A size that a HEAD stated once is not remembered as if it were proven.
#[test]
fn a_heads_lie_is_not_remembered() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let digest = hub.put_blob(content(5));
    let mut lanyard = mirror(&hub);
    hub.fault(On::blob(&digest).head(), told(vec![0; 20], 0, None));
    assert_eq!(head(lanyard.port(), &blob(REPO, &digest)).header("content-length"), Some("20"));
    lanyard.restart();
    let told = head(lanyard.port(), &blob(REPO, &digest));
    assert_eq!((told.status, told.header("content-length")), (200, Some("300000")));
    let got = get(lanyard.port(), &blob(REPO, &digest));
    assert_eq!((got.status, digest_of(&got.body)), (200, digest));
}

/// A digest that fails only at the end, with many followers: none of them has the last byte.
#[test]
fn f2_followers_of_a_lie_have_no_last_byte() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let lanyard = mirror(&hub);
    let digest = hub.put_blob(content(7));
    let gate = Gate::shut();
    let mut wrong = content(7);
    wrong[SIZE - 1] ^= 1;
    let stall = Fault::StallAt { bytes: SIZE as u64 / 2, gate: gate.clone() };
    hub.fault(On::blob(&digest), Fault::All(vec![Fault::Replace(wrong), stall]));
    hub.fault(On::blob(&digest).always(), Fault::status(404));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..20).map(|_| scope.spawn(|| get(lanyard.port(), &blob(REPO, &digest)))).collect();
        assert!(gate.wait_for_arrivals(1, Duration::from_secs(60)));
        gate.open();
        for client in clients {
            let answer = client.join().unwrap();
            assert!(answer.status != 200 || answer.body.len() < SIZE, "the last byte came");
        }
    });
}
