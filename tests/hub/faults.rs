//! The script: which requests are answered badly, how, and how often.

use std::fmt;
use std::sync::{Arc, Mutex};

use super::body::Body;
use super::gate::{Gate, Rate};
use super::record::Origin;
use super::reply::{After, Framing, Reply};
use super::request::{Request, Target};
use super::wire::Cut;

/// One way to answer badly. Byte positions count from the start of the body of this answer (a 206
/// starts at its own 0).
#[derive(Clone, Debug)]
pub enum Fault {
    /// Close the connection after this many bytes of the body.
    CutAfter { bytes: u64, how: Cut },
    /// Close the connection after this many bytes of the head.
    CutHeadAfter { bytes: usize, how: Cut },
    /// Close the connection without any answer.
    Drop(Cut),
    /// Never answer; keep the connection until the client leaves.
    BlackHole,
    /// Answer only when the gate opens.
    HoldHead(Gate),
    /// Stop after this many bytes of the body until the gate opens.
    StallAt { bytes: u64, gate: Gate },
    /// Send the body at this pace.
    Slow { bytes_per_second: u64 },
    /// Change the byte at this place; the length stays right.
    FlipByte { at: u64 },
    /// Send this body instead, with a true length and the honest headers.
    Replace(Vec<u8>),
    /// Announce a length that is off by this much; the whole body is sent. When the length is too
    /// large, the connection is closed by FIN; when it is too small, the connection stays open with
    /// the rest of the body in it.
    LengthOff(i64),
    /// Send these informational answers first (100, 103).
    Interim(Vec<u16>),
    /// Send these informational answers and nothing else; the connection stays open.
    InterimOnly(Vec<u16>),
    /// Answer with this instead.
    Status { status: u16, headers: Vec<(String, String)>, body: String },
    /// No length and no chunks: the close ends the body.
    CloseDelimited,
    /// Send the body in chunks.
    Chunked,
    /// Announce a length and chunks (the body is chunked).
    BothLengths,
    /// Claim `Content-Encoding: gzip` for a body that is not compressed.
    ClaimGzip,
    /// Redirect to the very same URL, for as long as the fault lasts.
    RedirectLoop,
    /// Redirect there.
    RedirectTo(String),
    /// Send these bytes instead of an answer, then close.
    Garbage(Vec<u8>),
    /// Set a header, or take it away.
    Header(&'static str, Option<String>),
    /// A login page with status 200.
    HtmlPage,
    /// A chunked body that never ends.
    Endless,
    /// Answer well, then close the connection that the client thinks is kept.
    CloseAfter,
    /// All of these together.
    All(Vec<Fault>),
}

impl Fault {
    /// A plain status with a body in the specification's JSON.
    pub fn status(status: u16) -> Fault {
        let body = r#"{"errors":[{"code":"UNKNOWN","message":"scripted"}]}"#.to_string();
        Fault::Status { status, headers: vec![("Content-Type".into(), "application/json".into())], body }
    }

    /// Too many requests, with Docker Hub's body and perhaps a Retry-After in seconds or as a date.
    pub fn too_many_requests(retry_after: Option<&str>) -> Fault {
        let mut headers = vec![("Content-Type".to_string(), "application/json".to_string())];
        headers.extend(retry_after.map(|value| ("Retry-After".to_string(), value.to_string())));
        Fault::Status { status: 429, headers, body: super::quota::TOO_MANY.into() }
    }

    /// A Docker-Content-Digest that is wrong (`Some`) or missing (`None`).
    pub fn digest_header(digest: Option<&str>) -> Fault {
        Fault::Header("Docker-Content-Digest", digest.map(str::to_string))
    }

    /// A Content-Type that is wrong (`Some`) or missing (`None`).
    pub fn content_type(value: Option<&str>) -> Fault {
        Fault::Header("Content-Type", value.map(str::to_string))
    }

    /// Bends an honest answer. `url` is the request's own, for redirects to itself.
    pub(super) fn bend(&self, reply: &mut Reply, url: &str) {
        match self {
            Fault::CutAfter { bytes, how } => reply.cut = Some((*bytes, *how)),
            Fault::CutHeadAfter { bytes, how } => reply.cut_head = Some((*bytes, *how)),
            Fault::Drop(how) => reply.drop = Some(*how),
            Fault::BlackHole => reply.silent = true,
            Fault::HoldHead(gate) => reply.hold.push(gate.clone()),
            Fault::StallAt { bytes, gate } => reply.stalls.push((*bytes, gate.clone())),
            Fault::Slow { bytes_per_second } => reply.rate = Some(Rate::of(*bytes_per_second)),
            Fault::FlipByte { at } => reply.flips.push(*at),
            Fault::Replace(bytes) => reply.set_body(bytes.clone()),
            Fault::LengthOff(by) => reply.framing = Framing::LengthOff(*by),
            Fault::Interim(codes) => reply.interim.clone_from(codes),
            Fault::InterimOnly(codes) => {
                reply.interim.clone_from(codes);
                reply.interim_only = true;
            }
            Fault::Status { status, headers, body } => {
                *reply = Reply::new(*status, "text/plain", body.clone().into_bytes());
                for (name, value) in headers {
                    reply.set_header(name, Some(value));
                }
            }
            Fault::CloseDelimited => reply.framing = Framing::UntilClose,
            Fault::Chunked => reply.framing = Framing::Chunked,
            Fault::BothLengths => reply.framing = Framing::Both,
            Fault::ClaimGzip => reply.set_header("Content-Encoding", Some("gzip")),
            Fault::RedirectLoop => *reply = Reply::redirect(307, url),
            Fault::RedirectTo(target) => *reply = Reply::redirect(307, target),
            Fault::Garbage(bytes) => reply.raw = Some(bytes.clone()),
            Fault::Header(name, value) => reply.set_header(name, value.as_deref()),
            Fault::HtmlPage => {
                let page = b"<!doctype html><html><body>Please log in to the guest network</body></html>";
                *reply = Reply::new(200, "text/html; charset=utf-8", page.to_vec());
            }
            Fault::Endless => {
                reply.body = Body::Noise { seed: 1, len: u64::MAX };
                reply.part = (0, u64::MAX);
                reply.framing = Framing::Chunked;
            }
            Fault::CloseAfter => reply.after = After::CloseUnannounced,
            Fault::All(faults) => faults.iter().for_each(|fault| fault.bend(reply, url)),
        }
    }

    /// The name in the records.
    fn name(&self) -> String {
        let text = format!("{self:?}");
        text.split([' ', '(']).next().unwrap_or_default().to_string()
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Gate")
    }
}

type Test = Arc<dyn Fn(&Request, &Target) -> bool + Send + Sync>;

/// Which requests a fault is for, and how many of them. Without more words: GET only, once, and
/// only requests whose answer would be the content. The 401 that asks for a token and the 307 that
/// leads to the CDN do not use a fault up, so `On::blob(d)` strikes where the bytes are sent, with
/// and without a CDN.
#[derive(Clone)]
pub struct On {
    test: Test,
    method: Option<&'static str>,
    skip: usize,
    times: Option<usize>,
    challenges: bool,
    redirects: Redirects,
}

#[derive(Clone, Copy)]
enum Redirects {
    Exclude,
    Only,
    Any,
}

impl On {
    /// Any request that satisfies `test`.
    pub fn when(test: impl Fn(&Request, &Target) -> bool + Send + Sync + 'static) -> On {
        On {
            test: Arc::new(test),
            method: Some("GET"),
            skip: 0,
            times: Some(1),
            challenges: false,
            redirects: Redirects::Exclude,
        }
    }

    /// Anything at all, at any listener, with any method.
    pub fn anything() -> On {
        On { redirects: Redirects::Any, ..On::when(|_, _| true).any_method() }
    }

    /// The request that is answered with this blob's bytes.
    pub fn blob(digest: &str) -> On {
        let digest = digest.to_string();
        On::when(move |_, target| target.blob() == Some(&digest))
    }

    /// The request that is answered with any blob's bytes.
    pub fn any_blob() -> On {
        On::when(|_, target| target.blob().is_some())
    }

    /// The request that is answered with the redirect of this blob to the CDN.
    pub fn redirect_of(digest: &str) -> On {
        On { redirects: Redirects::Only, ..On::blob(digest) }
    }

    /// GET of a manifest by this tag or digest.
    pub fn manifest(reference: &str) -> On {
        let wanted = reference.to_string();
        On::when(move |_, target| matches!(target, Target::Manifest { reference, .. } if *reference == wanted))
    }

    /// GET of any manifest.
    pub fn any_manifest() -> On {
        On::when(|_, target| matches!(target, Target::Manifest { .. }))
    }

    /// A token request, GET or POST.
    pub fn token() -> On {
        On::when(|_, target| *target == Target::Token).any_method().challenges()
    }

    /// GET `/v2/`.
    pub fn ping() -> On {
        On::when(|_, target| *target == Target::Ping)
    }

    /// GET of a list of tags.
    pub fn tags() -> On {
        On::when(|_, target| matches!(target, Target::Tags { .. }))
    }

    /// GET of a list of referrers.
    pub fn referrers() -> On {
        On::when(|_, target| matches!(target, Target::Referrers { .. }))
    }

    /// Only at this listener.
    pub fn at(self, origin: Origin) -> On {
        let inner = self.test.clone();
        On { test: Arc::new(move |request, target| request.origin == origin && inner(request, target)), ..self }
    }

    /// Only in this repository.
    pub fn in_repo(self, repo: &str) -> On {
        let (inner, repo) = (self.test.clone(), repo.to_string());
        On { test: Arc::new(move |request, target| target.repo() == Some(&repo) && inner(request, target)), ..self }
    }

    /// HEAD instead of GET.
    pub fn head(self) -> On {
        On { method: Some("HEAD"), ..self }
    }

    /// With any method.
    pub fn any_method(self) -> On {
        On { method: None, ..self }
    }

    /// Also requests that would only be challenged with 401.
    pub fn challenges(self) -> On {
        On { challenges: true, ..self }
    }

    /// Leave the first `count` matching requests alone; requests that an older fault strikes do not
    /// count.
    pub fn after(self, count: usize) -> On {
        On { skip: count, ..self }
    }

    /// Strike this many matching requests, at least one.
    pub fn times(self, count: usize) -> On {
        assert!(count > 0, "a fault that never strikes");
        On { times: Some(count), ..self }
    }

    /// Strike every matching request until the faults are cleared.
    pub fn always(self) -> On {
        On { times: None, ..self }
    }

    fn matches(&self, request: &Request, target: &Target, honest: u16) -> bool {
        let redirect = match self.redirects {
            Redirects::Exclude => honest != 307,
            Redirects::Only => honest == 307,
            Redirects::Any => true,
        };
        self.method.is_none_or(|method| request.method == method)
            && (self.challenges || honest != 401)
            && redirect
            && (self.test)(request, target)
    }
}

/// The faults that have uses left, oldest first.
#[derive(Default)]
pub(super) struct Script(Mutex<Vec<(On, Fault)>>);

impl Script {
    /// Adds to the end of the script.
    pub(super) fn add(&self, on: On, fault: Fault) {
        self.0.lock().unwrap().push((on, fault));
    }

    /// Forgets all faults.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// How many faults have uses left.
    pub(super) fn left(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Bends `reply` by the first fault that matches, and spends one use of it. Returns the fault's
    /// name.
    pub(super) fn strike(&self, request: &Request, target: &Target, reply: &mut Reply, url: &str) -> Option<String> {
        let mut script = self.0.lock().unwrap();
        let at = script.iter_mut().position(|(on, _)| {
            let hit = on.matches(request, target, reply.status);
            let spared = hit && on.skip > 0;
            if spared {
                on.skip -= 1;
            }
            hit && !spared
        })?;
        let (on, fault) = &mut script[at];
        let fault = fault.clone();
        if let Some(times) = &mut on.times {
            *times -= 1;
            if *times == 0 {
                script.remove(at);
            }
        }
        fault.bend(reply, url);
        Some(fault.name())
    }
}
