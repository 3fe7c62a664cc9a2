//! One client that pushes, mounts, moves tags, deletes and collects, and keeps a ledger of the
//! answers that it got.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::ledger::{Change, Ledger, blob_is, manifest_is};
use crate::{
    hub::digest_of,
    push::{OCI_IMAGE, image},
    wire::{Answer, blob, manifest, try_send},
};

/// No answer may take longer than this, in any state of the disk.
const HANG: Duration = Duration::from_secs(30);

/// How many steps a scene has.
pub(super) const STEPS: usize = 12;

/// Why a request failed: the server is gone, or answers that it cannot do it. Any other reason is a
/// failure of the test.
#[derive(Debug)]
pub(super) struct Lost(pub(super) String);

/// An upload that was begun, and the client's knowledge of it.
struct Open {
    place: String,
    repo: String,
    content: Vec<u8>,
    /// The offset that was acknowledged last, in bytes.
    acknowledged: u64,
    /// Whether the closing PUT was sent.
    ending: bool,
}

/// A client, which has repositories of its own. See the module.
pub(super) struct Client {
    port: u16,
    name: String,
    /// The socket for collections; `None`: the client asks for none.
    socket: Option<PathBuf>,
    open: Option<Open>,
    /// Whether an upload that was begun and has no byte yet may be lost, as after a power cut.
    pub(super) forgetful: bool,
    pub(super) ledger: Ledger,
    /// The purpose of the last request.
    pub(super) doing: &'static str,
    /// How many requests were acknowledged.
    pub(super) acknowledged: usize,
}

impl Client {
    pub(super) fn new(port: u16, name: &str, socket: Option<PathBuf>) -> Client {
        Client {
            port,
            name: name.to_owned(),
            socket,
            open: None,
            forgetful: false,
            ledger: Ledger::default(),
            doing: "nothing",
            acknowledged: 0,
        }
    }

    /// Everything that a team does with its registry, with contents that no client has pushed
    /// before.
    pub(super) fn scene(&mut self, seed: usize) -> Result<(), Lost> {
        (0..STEPS).try_for_each(|number| self.step(seed, number))
    }

    /// One step of the scene.
    pub(super) fn step(&mut self, seed: usize, number: usize) -> Result<(), Lost> {
        let (a, b, name) = (format!("{}/a", self.name), format!("{}/b", self.name), self.name.clone());
        let text = |what: &str| format!("{name} {seed} {what} ");
        let size = [3_000, 40_000, 350_000, 900_000][seed % 4];
        let layer = text("layer").repeat(size / 16).into_bytes();
        let config = format!("{{\"c\":\"{}\"}}", text("config")).into_bytes();
        let small = text("small").into_bytes();
        let of = |layer: &[u8]| image(&digest_of(&config), &[&digest_of(layer)]).to_string().into_bytes();
        match number {
            0 => self.chunked(&a, &layer),
            1 => self.whole(&a, &config),
            2 => self.manifest(&a, "v1", &["v2"], &of(&layer)),
            3 => self.mount(&b, &layer),
            4 => self.whole(&b, &config),
            5 => self.manifest(&b, "v1", &[], &of(&layer)),
            6 => self.whole(&a, &small),
            7 => self.manifest(&a, "v1", &[], &of(&small)),
            8 => self.delete_tag(&a, "v2"),
            9 => self.delete_manifest(&a, &of(&layer)),
            10 => self.delete_blob(&a, &layer),
            _ => self.collect(),
        }
    }

    /// After a death: continues the open upload, and checks every answer that it got. Returns the
    /// number of contents that are there.
    pub(super) fn audit(&mut self, when: &str) -> usize {
        self.resume(when);
        self.ledger.audit(self.port, when)
    }

    fn chunked(&mut self, repo: &str, content: &[u8]) -> Result<(), Lost> {
        self.doing = "upload";
        let begun = self.ask("POST", &format!("/v2/{repo}/blobs/uploads/"), &[], b"", vec![])?;
        let place = begun.header("location").unwrap().to_owned();
        self.open = Some(Open {
            place: place.clone(),
            repo: repo.to_owned(),
            content: content.to_vec(),
            acknowledged: 0,
            ending: false,
        });
        let (first, rest) = content.split_at(content.len() / 3);
        let (second, third) = rest.split_at(rest.len() / 2);
        for chunk in [first, second] {
            let patched = self.ask("PATCH", &place, &[], chunk, vec![])?;
            let open = self.open.as_mut().unwrap();
            open.acknowledged = offset(&patched);
        }
        self.finish(third)
    }

    /// The closing PUT of the open upload.
    fn finish(&mut self, rest: &[u8]) -> Result<(), Lost> {
        let open = self.open.as_mut().unwrap();
        open.ending = true;
        let change = blob_is(&open.repo, &open.content);
        let path = format!("{}?digest={}", open.place, digest_of(&open.content));
        self.ask("PUT", &path, &[], rest, vec![change])?;
        self.open = None;
        Ok(())
    }

    /// An upload continues at the offset that the server states. That offset is never before the
    /// last one that it acknowledged, and never behind the last byte that was sent.
    fn resume(&mut self, when: &str) {
        let Some(open) = &self.open else { return };
        let (place, least, length) = (open.place.clone(), open.acknowledged, open.content.len() as u64);
        let answer = crate::wire::get(self.port, &place);
        if answer.status == 404 {
            assert!(open.ending || self.forgetful && least == 0, "{when}: the upload is lost");
            self.open = None;
            return;
        }
        assert_eq!(answer.status, 204, "{when}: {}", answer.text());
        let at = offset(&answer);
        assert!(
            at >= least && at <= length,
            "{when}: the upload is at {at}, and {least} of {length} were acknowledged"
        );
        let rest = open.content[usize::try_from(at).unwrap()..].to_vec();
        self.finish(&rest).unwrap_or_else(|lost| panic!("{when}: the upload does not go on: {}", lost.0));
    }

    fn whole(&mut self, repo: &str, content: &[u8]) -> Result<(), Lost> {
        self.doing = "push";
        let path = format!("/v2/{repo}/blobs/uploads/?digest={}", digest_of(content));
        self.ask("POST", &path, &[], content, vec![blob_is(repo, content)]).map(drop)
    }

    fn mount(&mut self, repo: &str, content: &[u8]) -> Result<(), Lost> {
        self.doing = "mount";
        let path = format!("/v2/{repo}/blobs/uploads/?mount={}&from={}/a", digest_of(content), self.name);
        let answer = self.ask("POST", &path, &[], b"", vec![blob_is(repo, content)])?;
        assert_eq!(answer.status, 201, "what was pushed can be mounted");
        Ok(())
    }

    fn manifest(&mut self, repo: &str, tag: &str, more: &[&str], bytes: &[u8]) -> Result<(), Lost> {
        self.doing = "tag";
        let digest = digest_of(bytes);
        let mut changes: Vec<_> = more.iter().chain([&tag]).map(|tag| manifest_is(repo, tag, bytes)).collect();
        changes.push(manifest_is(repo, &digest, bytes));
        let query: String = more.iter().map(|tag| format!("&tag={tag}")).collect();
        let path = match more {
            [] => manifest(repo, tag),
            _ => format!("{}?tag={tag}{query}", manifest(repo, &digest)),
        };
        self.ask("PUT", &path, &[("Content-Type", OCI_IMAGE)], bytes, changes).map(drop)
    }

    fn delete_tag(&mut self, repo: &str, tag: &str) -> Result<(), Lost> {
        self.doing = "delete";
        let path = manifest(repo, tag);
        self.ask("DELETE", &path, &[], b"", vec![(path.clone(), None)]).map(drop)
    }

    fn delete_manifest(&mut self, repo: &str, bytes: &[u8]) -> Result<(), Lost> {
        self.doing = "delete";
        let path = manifest(repo, &digest_of(bytes));
        let tags = self.ledger.tags_naming(repo, bytes);
        let changes = tags.into_iter().chain([path.clone()]).map(|path| (path, None)).collect();
        self.ask("DELETE", &path, &[], b"", changes).map(drop)
    }

    fn delete_blob(&mut self, repo: &str, bytes: &[u8]) -> Result<(), Lost> {
        self.doing = "delete";
        let path = blob(repo, &digest_of(bytes));
        self.ask("DELETE", &path, &[], b"", vec![(path.clone(), None)]).map(drop)
    }

    /// A collection without a grace.
    fn collect(&mut self) -> Result<(), Lost> {
        let Some(socket) = &self.socket else { return Ok(()) };
        self.doing = "gc";
        let (surely, perhaps) = self.ledger.collection();
        self.ledger.begins(&surely);
        self.ledger.begins(&perhaps);
        let collected = UnixStream::connect(socket).and_then(|mut stream| {
            stream
                .write_all(b"POST /api/v1/gc HTTP/1.1\r\nHost: l\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        });
        match collected {
            Ok(text) if text.starts_with("HTTP/1.1 200") => {
                self.ledger.ends(surely);
                self.acknowledged += 1;
                Ok(())
            }
            Ok(text) if text.is_empty() => Err(Lost("no answer to a collection".to_owned())),
            Ok(text) => panic!("{text}"),
            Err(error) => Err(Lost(error.to_string())),
        }
    }

    /// One request that makes these changes.
    fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        changes: Vec<Change>,
    ) -> Result<Answer, Lost> {
        self.ledger.begins(&changes);
        let began = Instant::now();
        let answer: io::Result<Answer> = try_send(self.port, method, path, headers, body);
        assert!(began.elapsed() < HANG, "{method} {path} took {:?}", began.elapsed());
        match answer {
            Ok(answer) if (200..300).contains(&answer.status) => {
                self.ledger.ends(changes);
                self.acknowledged += 1;
                Ok(answer)
            }
            Ok(answer) if answer.status >= 500 => {
                // An upload for which the disk has no space has ended.
                if answer.status == 507 {
                    self.open = None;
                }
                Err(Lost(format!("{} {}", answer.status, answer.text())))
            }
            Ok(answer) => panic!("{}: {method} {path}: {} {}", self.doing, answer.status, answer.text()),
            Err(error) => Err(Lost(error.to_string())),
        }
    }
}

/// Where an upload continues, from its `Range: 0-LAST`. An empty upload says `0-0`; no chunk of
/// this client is as short as that.
fn offset(answer: &Answer) -> u64 {
    let last = answer.header("range").and_then(|range| range.strip_prefix("0-")).expect("a range");
    match last.parse().unwrap() {
        0 => 0,
        last => last + 1_u64,
    }
}
