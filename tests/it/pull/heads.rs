//! Some registries refuse HEAD, or answer it late or wrongly, while GET works. Before a tag that is
//! here is answered as gone or in error, one GET by the tag decides (the table of
//! `src/pull/freshness.rs`).

use super::mirror_with;
use crate::{
    hub::{Cut, Fault, Hub, On},
    lanyard::Lanyard,
    wire::{get, manifest},
};

const NOBODYS: &str = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

/// Upstream's answer to HEAD by the tag.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Head {
    /// The true answer.
    True,
    /// The digest of no manifest.
    Nobodys,
    /// No digest, and another length and type.
    Mute,
    Status(u16),
    Page,
    Dropped,
}

/// Upstream's answer to GET, by the tag or by the digest that HEAD named.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Get {
    /// The true answer.
    True,
    /// 404 in the registry's own words.
    Gone,
    /// 404 with a web page.
    GonePage,
    Status(u16),
    Page,
    WrongDigest,
}

impl Head {
    const ALL: [Head; 15] = [
        Head::True,
        Head::Nobodys,
        Head::Mute,
        Head::Page,
        Head::Dropped,
        Head::Status(400),
        Head::Status(401),
        Head::Status(403),
        Head::Status(404),
        Head::Status(405),
        Head::Status(410),
        Head::Status(418),
        Head::Status(428),
        Head::Status(500),
        Head::Status(501),
    ];

    fn fault(self) -> Option<Fault> {
        Some(match self {
            Head::True => return None,
            Head::Nobodys => Fault::digest_header(Some(NOBODYS)),
            Head::Mute => Fault::All(vec![
                Fault::digest_header(None),
                Fault::content_type(Some("text/plain")),
                Fault::LengthOff(7),
            ]),
            Head::Status(status) => Fault::status(status),
            Head::Page => Fault::HtmlPage,
            Head::Dropped => Fault::Drop(Cut::Rst),
        })
    }
}

impl Get {
    const ALL: [Get; 9] = [
        Get::True,
        Get::Gone,
        Get::GonePage,
        Get::Status(400),
        Get::Status(403),
        Get::Status(405),
        Get::Status(500),
        Get::Page,
        Get::WrongDigest,
    ];

    fn fault(self) -> Option<Fault> {
        Some(match self {
            Get::True => return None,
            Get::Gone => Fault::status(404),
            Get::GonePage => Fault::Status { status: 404, headers: Vec::new(), body: "default backend - 404".into() },
            Get::Status(status) => Fault::status(status),
            Get::Page => Fault::HtmlPage,
            Get::WrongDigest => Fault::digest_header(Some(NOBODYS)),
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Row {
    /// The tag was pulled before.
    here: bool,
    /// And moved afterwards.
    moved: bool,
    head: Head,
    by_digest: Get,
    by_tag: Get,
}

impl Row {
    /// The status, the outcome, whether it is the newer image, and the requests: GETs by the tag,
    /// GETs by a digest.
    fn expected(self) -> (u16, &'static str, bool, usize, usize) {
        if !self.here {
            let told = match self.by_tag {
                Get::True => (200, "filled", self.moved),
                Get::Gone | Get::GonePage | Get::Status(403) => (404, "none", false),
                Get::Status(_) | Get::Page | Get::WrongDigest => (502, "none", false),
            };
            return (told.0, told.1, told.2, 1, 0);
        }
        let by_digest = match (self.head, self.moved) {
            (Head::True, false) => return (200, "revalidated", false, 0, 0),
            (Head::True, true) if self.by_digest == Get::True => return (200, "filled", true, 0, 1),
            (Head::True, true) | (Head::Nobodys, _) => 1,
            _ => 0,
        };
        let told = match (self.by_tag, self.moved) {
            (Get::True, true) => (200, "filled", true),
            (Get::True, false) => (200, "revalidated", false),
            (Get::Gone, _) => (404, "none", false),
            (Get::GonePage | Get::Status(_) | Get::Page | Get::WrongDigest, _) => (200, "stale", false),
        };
        (told.0, told.1, told.2, 1, by_digest)
    }

    /// The result, in a repository of its own.
    fn run(self, hub: &Hub, lanyard: &Lanyard, repo: &str) -> (u16, &'static str, bool, usize, usize) {
        let tag = manifest(repo, "latest");
        let old = hub.image(repo, "latest").layer(10).publish();
        if self.here {
            assert_eq!(get(lanyard.port(), &tag).body, old.bytes);
        }
        let new = if self.moved { hub.image(repo, "latest").layer(20).publish() } else { old.clone() };
        for (on, fault) in [
            (On::manifest("latest").head(), self.head.fault()),
            (On::manifest("latest"), self.by_tag.fault()),
            (On::manifest(&new.digest), self.by_digest.fault()),
        ] {
            if let Some(fault) = fault {
                hub.fault(on.in_repo(repo).always(), fault);
            }
        }
        let before = |method: &str, of: &str| {
            hub.count(|r| r.method == method && r.status != 401 && r.path == manifest(repo, of))
        };
        let (tags, digests) = (before("GET", "latest"), before("GET", &new.digest) + before("GET", NOBODYS));
        let answer = get(lanyard.port(), &tag);
        let outcome = ["filled", "revalidated", "stale"].into_iter().find(|word| *word == answer.outcome());
        if answer.status == 200 {
            assert!(answer.body == old.bytes || answer.body == new.bytes, "{self:?}: {}", answer.text());
        }
        // A 5xx is asked again, up to twice.
        let once = |asked: usize, get: Get| if get == Get::Status(500) { asked.min(1) } else { asked };
        (
            answer.status,
            outcome.unwrap_or("none"),
            answer.status == 200 && self.moved && answer.body == new.bytes,
            once(before("GET", "latest") - tags, self.by_tag),
            once(before("GET", &new.digest) + before("GET", NOBODYS) - digests, self.by_digest),
        )
    }
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for head in Head::ALL {
        for by_tag in Get::ALL {
            for moved in [true, false] {
                rows.push(Row { here: true, moved, head, by_digest: Get::True, by_tag });
            }
            if head == Head::True {
                for by_digest in [Get::Gone, Get::Status(403), Get::Status(500), Get::Page] {
                    rows.push(Row { here: true, moved: true, head, by_digest, by_tag });
                }
                rows.push(Row { here: false, moved: false, head, by_digest: Get::True, by_tag });
            }
        }
        rows.push(Row { here: false, moved: false, head, by_digest: Get::Gone, by_tag: Get::True });
    }
    rows
}

#[test]
fn before_a_tag_is_told_gone_or_in_error_one_get_decides() {
    let hub = Hub::builder().open().start();
    let lanyard = mirror_with(&hub, "[cache]\ntag_ttl = \"0s\"");
    let rows = rows();
    assert!(rows.len() > 300);
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(row) = rows.get(n) else { return };
                    // A check that takes longer than two seconds is not waited for: then the row
                    // runs once more.
                    let mut tries = (0..4).map(|again| row.run(&hub, &lanyard, &format!("library/row{n}-{again}")));
                    let mut last = None;
                    let right = tries.any(|told| *last.insert(told) == row.expected());
                    assert!(right, "{row:?}: {last:?} instead of {:?}", row.expected());
                }
            });
        }
    });
}

/// The decision is remembered, so that not every request costs a GET; clients that come at the same
/// time share one.
#[test]
fn the_get_that_decides_is_made_once_for_all() {
    for (fault, status) in [(Get::Gone, 404), (Get::Status(403), 200), (Get::GonePage, 200)] {
        let hub = Hub::builder().open().start();
        let repo = "library/busybox";
        hub.image(repo, "latest").publish();
        let mut lanyard = mirror_with(&hub, "[cache]\ntag_ttl = \"1h\"\nnegative_ttl = \"1h\"");
        get(lanyard.port(), &manifest(repo, "latest"));
        // After a restart every tag is due.
        lanyard.restart();
        hub.fault(On::manifest("latest").head().always(), Fault::status(404));
        hub.fault(On::manifest("latest").always(), fault.fault().unwrap());
        hub.reset_counts();
        let ask = || assert_eq!(get(lanyard.port(), &manifest(repo, "latest")).status, status, "{fault:?}");
        std::thread::scope(|scope| (0..20).for_each(|_| drop(scope.spawn(ask))));
        (0..20).for_each(|_| ask());
        assert_eq!((hub.manifest_heads(), hub.manifest_gets()), (1, 1), "{fault:?}");
    }
}

/// A token server that fails says nothing about a tag that is here.
#[test]
fn a_token_server_in_trouble_serves_the_last_known_tag() {
    let repo = "library/busybox";
    for fault in [
        Fault::status(400),
        Fault::status(404),
        Fault::status(429),
        Fault::status(500),
        Fault::HtmlPage,
        Fault::Replace(b"{}".to_vec()),
        Fault::Replace(b"{\"token\":".to_vec()),
        Fault::RedirectTo("http://127.0.0.1:1/login".into()),
        Fault::RedirectLoop,
        Fault::Drop(Cut::Rst),
    ] {
        let hub = Hub::start();
        let image = hub.image(repo, "latest").publish();
        let lanyard = mirror_with(&hub, "[cache]\ntag_ttl = \"0s\"");
        assert_eq!(get(lanyard.port(), &manifest(repo, "latest")).status, 200);
        hub.fault(On::token().always(), fault.clone());
        hub.revoke_tokens();
        let stale = get(lanyard.port(), &manifest(repo, "latest"));
        assert_eq!((stale.status, stale.outcome(), &stale.body), (200, "stale", &image.bytes), "{fault:?}");
    }
}

/// S5: content that another repository brought is given out when this repository's upstream has it,
/// whatever its HEAD answers.
#[test]
fn a_manifest_of_another_repository_is_asked_for_by_get_where_head_is_refused() {
    let hub = Hub::builder().open().start();
    let lanyard = mirror_with(&hub, "");
    let image = hub.image("library/first", "latest").publish();
    assert_eq!(get(lanyard.port(), &manifest("library/first", "latest")).status, 200);
    for (n, head) in Head::ALL.into_iter().enumerate() {
        for has in [true, false] {
            let repo = format!("library/other{n}{has}");
            if has {
                hub.put_manifest(&repo, "latest", &image.media_type, &image.bytes);
            }
            if let Some(fault) = head.fault() {
                hub.fault(On::manifest(&image.digest).head().in_repo(&repo).always(), fault);
            }
            let answer = get(lanyard.port(), &manifest(&repo, &image.digest));
            assert_eq!(answer.status, if has { 200 } else { 404 }, "{head:?} {has}: {}", answer.text());
        }
    }
}
