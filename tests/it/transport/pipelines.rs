//! S29: answers stay in step in every pipeline.
//!
//! Random requests of all kinds, with bodies of all framings, read or refused early, go out in
//! pieces that split them anywhere. First each kind is asked alone. In a pipeline it must get the
//! same answer, one answer after the other. A connection may end only after an answer that says so,
//! and only with a reason.
//!
//! `LANYARD_PIPELINES=10000` is the long form; `LANYARD_SEED` repeats the seed of a run that
//! failed.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::json;
use tokio::io::{AsyncWriteExt as _, split};

use super::{
    Served, Stream,
    reader::{Answer, Reader},
    runtime,
};
use crate::{hub::digest_of, push::Pusher};

/// How long a pipeline may take. The whole time passes only when a connection hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many pipelines run at once.
const AT_ONCE: usize = 8;

/// A request without its body's framing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Ask {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    /// The body, if the server reads it.
    body: Option<Vec<u8>>,
}

/// The framing of a body.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Framing {
    None,
    Zero,
    Length,
    Chunked,
}

/// One request of a pipeline.
struct Sent {
    ask: Ask,
    framing: Framing,
    expects: bool,
    /// The client says that it is the last one, in HTTP/1.1 or by speaking HTTP/1.0.
    last: bool,
    old: bool,
    bytes: Vec<u8>,
}

/// Every kind of request for the content of `team/app`.
fn kinds(pusher: Pusher) -> Vec<Ask> {
    let ask = |method, path: &str| Ask { method, path: path.to_owned(), headers: vec![], body: None };
    let layer: Vec<u8> = (0..150_000_u32).map(|n| (n / 7) as u8).collect();
    let image = pusher.image("team/app", "v1", &layer);
    let (layer, config) = (digest_of(&layer), pusher.blob("team/app", b"{}"));
    let single = b"one request\r\n\r\nGET /hidden HTTP/1.1\r\nhost: x\r\n\r\n".repeat(4000);
    let manifest = json!({ "schemaVersion": 2, "mediaType": crate::push::OCI_IMAGE,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2 },
        "layers": [], "annotations": { "filler": "x".repeat(70_000) } });
    let manifest = manifest.to_string().into_bytes();
    assert_eq!(pusher.manifest("team/app", "v2", crate::push::OCI_IMAGE, &manifest).status, 201);
    let (blob, tag) = (format!("/v2/team/app/blobs/{layer}"), "/v2/team/app/manifests/v1");
    let absent = format!("/v2/team/app/blobs/{}", digest_of(b"absent"));
    let uploads = "/v2/team/app/blobs/uploads/";
    let upload = format!("{uploads}00000000-0000-4000-8000-000000000000");
    let mut kinds = Vec::new();
    for method in ["GET", "HEAD"] {
        for path in
            ["/livez", "/v2/", "/nope", "/v2/team/app/tags/list", tag, &blob, &absent, "/v2/team/app/manifests/none"]
        {
            kinds.push(ask(method, path));
        }
        kinds.push(Ask { headers: vec![("range", "bytes=10-140000".to_owned())], ..ask(method, &blob) });
        kinds.push(Ask { headers: vec![("range", "bytes=999999-".to_owned())], ..ask(method, &blob) });
        kinds.push(Ask { headers: vec![("if-none-match", format!("\"{image}\""))], ..ask(method, tag) });
    }
    for (method, path) in [
        ("POST", "/livez"),
        ("POST", "/v2/library/reserved/blobs/uploads/"),
        ("PUT", "/v2/library/reserved/manifests/v1"),
        ("PATCH", &upload),
        ("PUT", &upload),
        ("DELETE", &upload),
        ("DELETE", &absent),
        ("DELETE", "/v2/team/app/manifests/none"),
        ("PUT", "/nope"),
        ("OPTIONS", "/v2/"),
        ("POST", "/token"),
    ] {
        kinds.push(ask(method, path));
    }
    kinds.push(ask("POST", &format!("{uploads}?mount={layer}&from=team/app")));
    let typed = vec![("content-type", crate::push::OCI_IMAGE.to_owned())];
    let put =
        |body: Vec<u8>| Ask { headers: typed.clone(), body: Some(body), ..ask("PUT", "/v2/team/app/manifests/v2") };
    kinds.push(put(manifest));
    kinds.push(put(b"{\r\n\r\nHEAD / HTTP/1.1\r\n\r\n".to_vec()));
    for (digest, body) in [
        (digest_of(&single), single.clone()),
        (digest_of(b"small"), b"small".to_vec()),
        (digest_of(b"x"), b"y".to_vec()),
    ] {
        kinds.push(Ask { body: Some(body), ..ask("POST", &format!("{uploads}?digest={digest}")) });
    }
    kinds
}

/// A body that the server does not read, full of bytes that look like requests.
fn unread(random: &mut StdRng) -> Vec<u8> {
    let lines: [&[u8]; 5] =
        [b"GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"HEAD / HTTP/1.1\r\n\r\n", b"abc"];
    let longest = *[10, 300, 20_000, 200_000].choose(random).unwrap();
    let (mut body, length) = (Vec::new(), random.random_range(1..=longest));
    while body.len() < length {
        body.extend_from_slice(lines.choose(random).unwrap());
    }
    body.truncate(length);
    body
}

fn chunked(random: &mut StdRng, body: &[u8], into: &mut Vec<u8>) {
    let mut rest = body;
    while !rest.is_empty() {
        let (piece, others) = rest.split_at(random.random_range(1..=rest.len().min(60_000)));
        let extension = [";a=b", ";name=\"v;\"", "", "", " ", "\t;x"].choose(random).unwrap();
        into.extend_from_slice(format!("{:x}{extension}\r\n", piece.len()).as_bytes());
        into.extend_from_slice(piece);
        into.extend_from_slice(b"\r\n");
        rest = others;
    }
    into.extend_from_slice(
        ["0\r\n\r\n", "0;last\r\n\r\n", "0\r\nTrailer: x\r\nX-Y: z\r\n\r\n"].choose(random).unwrap().as_bytes(),
    );
}

impl Sent {
    fn random(ask: Ask, host: &str, random: &mut StdRng) -> Sent {
        let framing = match &ask.body {
            Some(_) => *[Framing::Length, Framing::Length, Framing::Chunked].choose(random).unwrap(),
            None => *[Framing::None, Framing::None, Framing::None, Framing::Zero, Framing::Length, Framing::Chunked]
                .choose(random)
                .unwrap(),
        };
        let old = framing != Framing::Chunked && random.random_ratio(1, 40);
        let last = old || random.random_ratio(1, 40);
        let expects = random.random_ratio(1, 10);
        Sent::of(ask, framing, host, (old, last, expects), random)
    }

    fn of(
        ask: Ask,
        framing: Framing,
        host: &str,
        (old, last, expects): (bool, bool, bool),
        random: &mut StdRng,
    ) -> Sent {
        let mut head = format!("{} {} HTTP/1.{}\r\nHost: {host}\r\n", ask.method, ask.path, u8::from(!old));
        for (name, value) in &ask.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if last && !old {
            head.push_str("connection: close\r\n");
        }
        if expects {
            head.push_str("Expect: 100-continue\r\n");
        }
        let body = ask.body.clone().unwrap_or_else(|| unread(random));
        match framing {
            Framing::None if old && ask.method == "POST" => head.push_str("content-length: 0\r\n"),
            Framing::None => {}
            Framing::Zero => head.push_str("Content-Length: 0\r\n"),
            Framing::Length => head.push_str(&format!("Content-Length: {}\r\n", body.len())),
            Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
        }
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(b"\r\n");
        match framing {
            Framing::None | Framing::Zero => {}
            Framing::Length => bytes.extend_from_slice(&body),
            Framing::Chunked => chunked(random, &body, &mut bytes),
        }
        Sent { ask, framing, expects, last, old, bytes }
    }

    /// Whether the connection may end after its answer.
    fn may_close(&self) -> bool {
        let unread = self.ask.body.is_none() && matches!(self.framing, Framing::Length | Framing::Chunked);
        self.last || unread
    }
}

/// The answer to each kind when it is asked alone.
async fn reference(served: &Served, kinds: &[Ask], host: &str) -> HashMap<Ask, Answer> {
    let mut random = StdRng::seed_from_u64(0);
    let mut answers = HashMap::new();
    for ask in kinds {
        let framing = if ask.body.is_some() { Framing::Length } else { Framing::None };
        let sent = Sent::of(ask.clone(), framing, host, (false, true, false), &mut random);
        let (reading, mut writing) = split(served.connect().await);
        writing.write_all(&sent.bytes).await.unwrap();
        let mut reader = Reader::new(reading);
        let answer = reader.answer(ask.method).await.unwrap().expect("an answer");
        assert_eq!(reader.rest().await, b"", "{ask:?}");
        answers.insert(ask.clone(), answer);
    }
    answers
}

/// Sends one pipeline and reads its answers. An error says which answer is out of step.
async fn pipeline(
    stream: Box<dyn Stream>,
    pipeline: &[Sent],
    reference: &HashMap<Ask, Answer>,
    random: &mut StdRng,
) -> Result<usize, String> {
    let bytes = pipeline.iter().map(|sent| sent.bytes.as_slice()).collect::<Vec<_>>().concat();
    let mut splits: Vec<_> = (0..random.random_range(0..6)).map(|_| random.random_range(0..bytes.len())).collect();
    splits.sort_unstable();
    splits.push(bytes.len());
    let (reading, mut writing) = split(stream);
    let write = async {
        let mut at = 0;
        for end in splits {
            // The server may have ended the connection.
            if writing.write_all(&bytes[at..end]).await.is_err() || writing.flush().await.is_err() {
                break;
            }
            at = end;
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        writing
    };
    let read = async {
        let mut reader = Reader::new(reading);
        for (at, sent) in pipeline.iter().enumerate() {
            let told = |what: String| {
                format!("answer {at} to {} {} ({:?}): {what}", sent.ask.method, sent.ask.path, sent.framing)
            };
            let mut answer = reader.answer(sent.ask.method).await.map_err(told)?;
            if answer.as_ref().is_some_and(|answer| answer.status == 100) && sent.expects && !sent.old {
                answer = reader.answer(sent.ask.method).await.map_err(told)?;
            }
            let answer = answer.ok_or_else(|| told("the connection has ended without a word".to_owned()))?;
            let expected = &reference[&sent.ask];
            let length = |answer: &Answer| answer.header("content-length").map(str::to_owned);
            if (answer.status, length(&answer)) != (expected.status, length(expected)) || answer.body != expected.body {
                return Err(told(format!(
                    "{} {:?} instead of {} {:?}",
                    answer.status,
                    length(&answer),
                    expected.status,
                    length(expected)
                )));
            }
            if answer.closes() || sent.old {
                return if sent.may_close() {
                    Ok((at + 1, reader))
                } else {
                    Err(told("there is no reason to close".to_owned()))
                };
            }
            if sent.last {
                return Err(told("it does not say that it closes".to_owned()));
            }
        }
        Ok((pipeline.len(), reader))
    };
    let (mut writing, read) = tokio::join!(write, read);
    let (answered, mut reader) = read?;
    let _ = writing.shutdown().await;
    let rest = reader.rest().await;
    if rest.is_empty() {
        Ok(answered)
    } else {
        Err(format!("behind the last answer: {:?}", String::from_utf8_lossy(&rest)))
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

async fn fuzz(served: Served, kinds: Vec<Ask>, count: usize, seed: u64) {
    let served = Arc::new(served);
    let host = served.lanyard.host();
    let reference = Arc::new(reference(&served, &kinds, &host).await);
    let (kinds, next, answers) = (Arc::new(kinds), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (served, kinds, reference) = (Arc::clone(&served), Arc::clone(&kinds), Arc::clone(&reference));
            let (next, answers, host) = (Arc::clone(&next), Arc::clone(&answers), host.clone());
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    let mut random = StdRng::seed_from_u64(seed.wrapping_add(number as u64));
                    let length = random.random_range(1..=12);
                    let random_sent =
                        |random: &mut StdRng| Sent::random(kinds.choose(random).unwrap().clone(), &host, random);
                    let sent: Vec<_> = (0..length).map(|_| random_sent(&mut random)).collect();
                    let stream = served.connect().await;
                    let ended = tokio::time::timeout(PATIENCE, pipeline(stream, &sent, &reference, &mut random)).await;
                    match ended.unwrap_or_else(|_| Err("it hangs".to_owned())) {
                        Ok(answered) => answers.fetch_add(answered, Ordering::Relaxed),
                        Err(what) => panic!("LANYARD_SEED={seed}, pipeline {number}: {what}"),
                    };
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    println!("{count} pipelines, {} answers in step, LANYARD_SEED={seed}", answers.load(Ordering::Relaxed));
}

/// The number of pipelines, and the first seed.
fn size() -> (usize, u64) {
    let count = number("LANYARD_PIPELINES").map_or(600, |count| count as usize);
    (count, number("LANYARD_SEED").unwrap_or_else(|| rand::rng().random_range(0..1 << 32)))
}

fn run(secured: bool, share: usize) {
    let (served, kinds) = Served::start("", secured, |lanyard| kinds(Pusher(lanyard.port())));
    let (count, seed) = size();
    runtime().block_on(fuzz(served, kinds, count / share, seed));
}

#[test]
fn s29_answers_stay_in_step() {
    run(false, 1);
}

#[test]
fn s29_answers_stay_in_step_over_tls() {
    run(true, 4);
}
