//! The plane on real sockets, around a handler that sends files.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::unix::fs::FileExt as _,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use futures_util::stream;
use rustix::fs::{Advice, fadvise};

use crate::{
    http::{
        answer::{access_log::LogEntry, body::ReplyBody, delivery::Delivery, reply::Reply},
        testing::{RawResponse, TestServer},
        transport::{limits::ServerLimits, server::listen},
    },
    metrics::{Metrics, Sample},
    pull::{FileRange, Piece},
};

const SIZE: usize = 21 << 20;

/// The handler's data: a file, and the way its ranges are put into bodies.
struct Shelf {
    file: Arc<File>,
    metrics: Arc<Metrics>,
    runtime: tokio::runtime::Runtime,
}

impl Shelf {
    fn new(bytes: &[u8]) -> Arc<Shelf> {
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Arc::new(Shelf { file: Arc::new(file), metrics: Arc::new(Metrics::new(&[])), runtime })
    }

    /// Bytes of answers that have ended.
    fn counted(&self) -> u64 {
        let text = self.metrics.encode(&Sample::default());
        let lines = text.lines().filter(|line| line.starts_with("lanyard_sent_bytes_total"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    fn range(&self, first: u64, end: u64) -> Piece {
        Piece::File(FileRange::read_by(self.runtime.handle(), Arc::clone(&self.file), first, end))
    }
}

/// `/FIRST-END,FIRST-END,…`: these ranges; a number alone: as many bytes of `x` in between.
async fn files(request: HttpRequest, shelf: web::Data<Arc<Shelf>>) -> HttpResponse<ReplyBody> {
    let (entry, delivery) = (LogEntry::new(&request, &shelf.metrics), Delivery::new(&request));
    let number = |text: &str| text.parse::<u64>().unwrap();
    let mut pieces: Vec<_> = request.uri().path()[1..]
        .split(',')
        .map(|word| match word.split_once('-') {
            Some((first, end)) => shelf.range(number(first), number(end)),
            None => Piece::Bytes(vec![b'x'; number(word) as usize].into()),
        })
        .collect();
    let length = pieces.iter().map(Piece::length).sum();
    let first = pieces.remove(0);
    let rest = stream::iter(pieces.into_iter().map(Ok));
    Reply::stream(StatusCode::OK, "a/b", length, first, Box::pin(rest)).send(request.method(), false, entry, delivery)
}

fn start(shelf: &Arc<Shelf>) -> TestServer {
    start_with(shelf, ServerLimits { workers: 1, ..ServerLimits::default() })
}

fn start_with(shelf: &Arc<Shelf>, limits: ServerLimits) -> TestServer {
    let data = web::Data::new(Arc::clone(shelf));
    TestServer::start(move |listener| listen(vec![(listener, data)], None, limits, files).unwrap())
}

fn content() -> Vec<u8> {
    (0..SIZE / 4).flat_map(|n| (n as u32).wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

/// Ranges in a row, with bytes in between, on one connection, in pipelined requests, cold and warm.
#[test]
fn every_byte_is_sent_in_its_place() {
    let bytes = content();
    let shelf = Shelf::new(&bytes);
    shelf.file.sync_all().unwrap();
    let server = start(&shelf);
    for cold in [true, false, true] {
        if cold {
            fadvise(&*shelf.file, 0, None, Advice::DontNeed).unwrap();
        }
        let mut socket = server.connect();
        let whole = format!("/0-{SIZE}");
        let paths = [&*whole, "/5-9000005,700,1-2,3,8388607-8388609", "/0-1", "/12582911-20971521", &whole];
        for path in paths {
            write!(socket, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\nHEAD {path} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        }
        for path in paths {
            let expected: Vec<u8> = path[1..]
                .split(',')
                .flat_map(|word| match word.split_once('-') {
                    Some((first, end)) => bytes[first.parse().unwrap()..end.parse().unwrap()].to_vec(),
                    None => vec![b'x'; word.parse().unwrap()],
                })
                .collect();
            let answer = RawResponse::read(&mut socket, false);
            assert!(answer.status == 200 && !answer.short && answer.body == expected, "{path}, cold: {cold}");
            let head = RawResponse::read(&mut socket, true);
            assert_eq!(head.header("content-length"), Some(&*expected.len().to_string()));
        }
    }
}

/// D3: a file that was cut short ends the connection short of the promised length.
#[test]
fn a_file_that_is_too_short_is_never_made_up() {
    let shelf = Shelf::new(&[7; 100_000]);
    let server = start(&shelf);
    let answer = server.ask("GET", "/0-200000", "");
    assert_eq!((answer.status, answer.short, answer.body.len()), (200, true, 100_000));
}

/// The bytes that were sent count, also if the client leaves in the middle.
#[test]
fn what_has_left_is_counted() {
    let shelf = Shelf::new(&content());
    let server = start(&shelf);
    let counted = || shelf.counted();
    assert_eq!(server.ask("GET", "/0-1000000", "").body.len(), 1_000_000);
    let mut socket = server.connect();
    write!(socket, "GET /0-{SIZE} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    socket.read_exact(&mut vec![0; 1 << 20]).unwrap();
    drop(socket);
    let began = Instant::now();
    while counted() < 2_000_000 {
        assert!(began.elapsed() < Duration::from_secs(20), "{}", shelf.metrics.encode(&Sample::default()));
        std::thread::yield_now();
    }
    assert!(counted() < 1_000_000 + SIZE as u64);
}

/// A client that takes nothing is disconnected: the answer ends although it was not read.
#[test]
fn a_reader_that_takes_nothing_is_let_go() {
    let shelf = Shelf::new(&content());
    let limits = ServerLimits { workers: 1, stall: Duration::from_millis(300), ..ServerLimits::default() };
    let server = start_with(&shelf, limits);
    let mut socket = server.connect();
    // More than the kernel holds for a peer that does not read.
    write!(socket, "GET /0-{SIZE},0-{SIZE} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let began = Instant::now();
    while shelf.counted() == 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "it is waited for");
        std::thread::yield_now();
    }
    assert!(shelf.counted() < 2 * SIZE as u64);
}

/// D2: a client that takes as fast as it can does not keep another one of the same worker waiting.
#[test]
fn others_have_their_turn() {
    let shelf = Shelf::new(&content());
    let server = start(&shelf);
    std::thread::scope(|scope| {
        let greedy =
            scope.spawn(|| (0..10).map(|_| server.ask("GET", &format!("/0-{SIZE}"), "").body.len()).sum::<usize>());
        let mut asked = 0;
        while !greedy.is_finished() {
            assert_eq!(server.ask("GET", "/0-10", "").body.len(), 10);
            asked += 1;
        }
        assert_eq!(greedy.join().unwrap(), 10 * SIZE);
        assert!(asked > 10, "only {asked} small answers beside ten large ones");
    });
}
