//! An object store of the tests' own, on bare sockets: the XML dialect that S3 and Google Cloud
//! Storage share, with the conditions of both. It checks no signatures. A [`Fault`] makes it one of
//! the stores that an operator may have.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// How a store may be bad.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// Conditions are passed over: a PUT is always done.
    NoConditions,
    /// A listing lacks what was just put.
    EmptyLists,
    /// No multipart: 501.
    NoParts,
    /// A completed session is forgotten, and its object is not there.
    LostParts,
    /// Every answer to a GET ends early.
    CutBodies,
    /// Every GET is answered with other bytes of the same length.
    WrongBytes,
    /// The first so many requests get a 503.
    Unavailable(u64),
    /// DELETE is answered well and does nothing.
    NoDelete,
    /// The store's clock is so many seconds ahead.
    Ahead(u64),
    /// Every request is answered with this status, and with what it had in it.
    Quotes(u16),
}

struct Object {
    bytes: Vec<u8>,
    generation: u64,
}

#[derive(Default)]
struct Kept {
    objects: BTreeMap<String, Object>,
    sessions: BTreeMap<String, BTreeMap<usize, Vec<u8>>>,
    numbers: u64,
}

/// A running store. Its threads end with the test's process.
pub(super) struct Fake {
    pub(super) address: SocketAddr,
    pub(super) requests: Arc<AtomicU64>,
    kept: Arc<Mutex<Kept>>,
}

impl Fake {
    pub(super) fn start(fault: Option<Fault>) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fake = Fake { address: listener.local_addr().unwrap(), requests: Arc::default(), kept: Arc::default() };
        let (kept, requests) = (Arc::clone(&fake.kept), Arc::clone(&fake.requests));
        std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                let (kept, requests) = (Arc::clone(&kept), Arc::clone(&requests));
                std::thread::spawn(move || serve(tcp, fault, &kept, &requests));
            }
        });
        fake
    }

    /// The keys of all objects, and how many sessions are open.
    pub(super) fn left(&self) -> (Vec<String>, usize) {
        let kept = self.kept.lock().unwrap();
        (kept.objects.keys().cloned().collect(), kept.sessions.len())
    }
}

struct Request {
    method: String,
    key: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// A status, headers, and a body.
type Reply = (u16, Vec<(&'static str, String)>, Vec<u8>);

fn serve(tcp: TcpStream, fault: Option<Fault>, kept: &Mutex<Kept>, requests: &AtomicU64) {
    let mut lines = BufReader::new(tcp.try_clone().unwrap());
    let mut tcp = tcp;
    while let Some(request) = read(&mut lines) {
        let number = requests.fetch_add(1, Ordering::SeqCst);
        let (status, headers, body) = match fault {
            Some(Fault::Unavailable(first)) if number < first => {
                (503, Vec::new(), b"<Error><Code>SlowDown</Code><Message>not so fast</Message></Error>".to_vec())
            }
            Some(Fault::Quotes(status)) => {
                let sent = format!("{} {:?} {:?}", request.key, request.query, request.headers);
                (
                    status,
                    Vec::new(),
                    format!("{sent}<Error><Code>X</Code><Message>{sent}</Message></Error>").into_bytes(),
                )
            }
            _ => answer(&request, fault, &mut kept.lock().unwrap()),
        };
        let ahead = if let Some(Fault::Ahead(seconds)) = fault { seconds } else { 0 };
        let date = std::time::SystemTime::now() + std::time::Duration::from_secs(ahead);
        let mut head = format!("HTTP/1.1 {status} X\r\nDate: {}\r\n", httpdate(date));
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if request.method != "HEAD" {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let is_cut = fault == Some(Fault::CutBodies) && request.method == "GET" && request.query.is_empty();
        let body = if is_cut { &body[..body.len() / 2] } else { &body[..] };
        let body = if request.method == "HEAD" { &[][..] } else { body };
        if tcp.write_all(head.as_bytes()).and_then(|()| tcp.write_all(body)).is_err() || is_cut {
            return;
        }
    }
}

fn httpdate(time: std::time::SystemTime) -> String {
    httpdate::fmt_http_date(time)
}

fn read(lines: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    lines.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let url = url::Url::parse(&format!("http://store{target}")).ok()?;
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    lines.read_exact(&mut body).ok()?;
    let path = percent_encoding::percent_decode_str(url.path()).decode_utf8().ok()?.into_owned();
    let key = path.trim_start_matches('/').split_once('/').map_or(String::new(), |(_, key)| key.to_owned());
    let query = url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect();
    Some(Request { method, key, query, headers, body })
}

fn answer(request: &Request, fault: Option<Fault>, kept: &mut Kept) -> Reply {
    let said = |name: &str| request.query.get(name).cloned();
    match (request.method.as_str(), said("uploadId")) {
        ("POST", None) if request.query.contains_key("uploads") => {
            if fault == Some(Fault::NoParts) {
                return refuse(501, "NotImplemented");
            }
            kept.numbers += 1;
            let id = format!("session-{}", kept.numbers);
            kept.sessions.insert(id.clone(), BTreeMap::new());
            let body = format!(
                "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            );
            (200, Vec::new(), body.into_bytes())
        }
        ("PUT", Some(id)) => {
            let Some(parts) = kept.sessions.get_mut(&id) else { return refuse(404, "NoSuchUpload") };
            let number: usize = said("partNumber").unwrap().parse().unwrap();
            parts.insert(number, request.body.clone());
            (200, vec![("ETag", format!("\"part-{number}\""))], Vec::new())
        }
        ("POST", Some(id)) => {
            let Some(parts) = kept.sessions.remove(&id) else { return refuse(404, "NoSuchUpload") };
            let told = String::from_utf8_lossy(&request.body).matches("<PartNumber>").count();
            if told != parts.len() {
                return refuse(400, "InvalidPart");
            }
            let bytes = parts.into_values().flatten().collect();
            if fault != Some(Fault::LostParts) {
                put(kept, &request.key, bytes);
            }
            let body = "<CompleteMultipartUploadResult><ETag>\"whole\"</ETag></CompleteMultipartUploadResult>";
            (200, vec![("x-goog-generation", kept.numbers.to_string())], body.into())
        }
        ("DELETE", Some(id)) => match kept.sessions.remove(&id) {
            Some(_) => (204, Vec::new(), Vec::new()),
            None => refuse(404, "NoSuchUpload"),
        },
        ("PUT", None) => {
            let there = kept.objects.get(&request.key).map_or(0, |object| object.generation);
            let header = |name: &str| request.headers.get(name).map(String::as_str);
            let holds = match (header("if-none-match"), header("if-match"), header("x-goog-if-generation-match")) {
                (Some("*"), ..) => there == 0,
                (_, Some(tag), _) if there == 0 => {
                    return if tag.is_empty() { refuse(400, "X") } else { refuse(404, "NoSuchKey") };
                }
                (_, Some(tag), _) => tag.trim_matches('"') == there.to_string(),
                (.., Some(generation)) => generation == there.to_string(),
                _ => true,
            };
            if !holds && fault != Some(Fault::NoConditions) {
                return refuse(412, "PreconditionFailed");
            }
            let generation = put(kept, &request.key, request.body.clone());
            (
                200,
                vec![("ETag", format!("\"{generation}\"")), ("x-goog-generation", generation.to_string())],
                Vec::new(),
            )
        }
        ("GET", None) if request.key.is_empty() => list(request, fault, kept),
        ("GET" | "HEAD", None) => get(request, fault, kept),
        ("DELETE", None) => {
            if fault != Some(Fault::NoDelete) {
                kept.objects.remove(&request.key);
            }
            (204, Vec::new(), Vec::new())
        }
        _ => refuse(400, "InvalidRequest"),
    }
}

fn put(kept: &mut Kept, key: &str, bytes: Vec<u8>) -> u64 {
    kept.numbers += 1;
    let object = Object { bytes, generation: kept.numbers };
    kept.objects.insert(key.to_owned(), object);
    kept.numbers
}

fn get(request: &Request, fault: Option<Fault>, kept: &Kept) -> Reply {
    let Some(object) = kept.objects.get(&request.key) else { return refuse(404, "NoSuchKey") };
    let mut headers = vec![
        ("ETag", format!("\"{}\"", object.generation)),
        ("x-goog-generation", object.generation.to_string()),
        ("Last-Modified", httpdate(std::time::SystemTime::UNIX_EPOCH)),
    ];
    let whole = object.bytes.len();
    if request.method == "HEAD" {
        headers.push(("Content-Length", whole.to_string()));
        return (200, headers, Vec::new());
    }
    let mut bytes = object.bytes.clone();
    if fault == Some(Fault::WrongBytes) {
        bytes.iter_mut().for_each(|byte| *byte ^= 1);
    }
    let Some(range) = request.headers.get("range") else { return (200, headers, bytes) };
    let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
    if from >= whole {
        return refuse(416, "InvalidRange");
    }
    let to = to.min(whole - 1);
    headers.push(("Content-Range", format!("bytes {from}-{to}/{whole}")));
    (206, headers, bytes[from..=to].to_vec())
}

/// A page of the second version of S3's listing.
fn list(request: &Request, fault: Option<Fault>, kept: &Kept) -> Reply {
    let said = |name: &str| request.query.get(name).cloned().unwrap_or_default();
    let (prefix, after) = (said("prefix"), said("continuation-token"));
    let most = said("max-keys").parse().unwrap_or(1000);
    let found = kept.objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > after);
    let found: Vec<_> = if fault == Some(Fault::EmptyLists) { Vec::new() } else { found.take(most + 1).collect() };
    let (page, more) = found.split_at(found.len().min(most));
    let mut body = String::from("<ListBucketResult>");
    for (key, object) in page {
        body.push_str(&format!(
            "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>\"{}\"</ETag><Size>{}</Size></Contents>",
            object.generation,
            object.bytes.len()
        ));
    }
    if let (false, Some((last, _))) = (more.is_empty(), page.last()) {
        body.push_str(&format!("<NextContinuationToken>{last}</NextContinuationToken>"));
    }
    body.push_str("</ListBucketResult>");
    (200, Vec::new(), body.into_bytes())
}

fn refuse(status: u16, code: &str) -> Reply {
    (status, Vec::new(), format!("<Error><Code>{code}</Code><Message>no</Message></Error>").into_bytes())
}
