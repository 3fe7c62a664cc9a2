//! S29: a client that still sends when its last answer is given gets the whole of that answer, and
//! no reset overtakes it.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{Served, Stream, in_flight, reader::Reader, runtime};
use crate::{
    hub::{Fault, Gate, Hub, On},
    pull::mirror,
    push::Pusher,
    wire::eventually,
};

/// More bytes than a client's kernel accepts before the client reads, and fewer than the sending
/// side of this machine accepts.
const LENGTH: usize = 1_500_000;

/// All bytes up to the end, or the error.
async fn rest(mut stream: impl AsyncRead + Unpin) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await?;
    Ok(all)
}

/// A request that is refused before it is read does not cut the answer before it, however many
/// bytes follow.
#[test]
fn s29_what_is_refused_does_not_cut_the_answer_before_it() {
    const PUT: &str = "PUT /v2/team/app/manifests/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let y = |n: usize| "y".repeat(n);
    for secured in [false, true] {
        let (served, digest) =
            Served::start("", secured, |lanyard| Pusher(lanyard.port()).blob("team/app", &vec![b'x'; LENGTH]));
        let get = format!("GET /v2/team/app/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n");
        let runtime = runtime();
        for (name, behind, late) in [
            ("a short head", "x\r\n\r\n".to_owned(), y(10)),
            ("10 KB", format!("x\r\n\r\n{}", y(10_000)), String::new()),
            ("20 KB", format!("x\r\n\r\n{}", y(20_000)), String::new()),
            ("40 KB", format!("x\r\n\r\n{}", y(40_000)), y(10)),
            ("200 KB", format!("x\r\n\r\n{}", y(200_000)), String::new()),
            ("a long head", format!("GET / HTTP/1.1\r\nHost: x\r\nx: {}", y(1_000_000)), String::new()),
            (
                "two lengths",
                format!("PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", y(50_000)),
                String::new(),
            ),
            ("a broken chunk", format!("{PUT}zz\r\n{}", y(200_000)), String::new()),
            ("a chunk broken later", format!("{PUT}4\r\nabcd\r\nzz\r\n{}", y(40_000)), y(10)),
        ] {
            let answers = runtime.block_on(async {
                let (reader, mut writer) = tokio::io::split(served.connect().await);
                let sends = async {
                    let _ = writer.write_all(format!("{get}{behind}").as_bytes()).await;
                    let _ = writer.flush().await;
                    let _ = timeout(Duration::from_millis(100), std::future::pending::<()>()).await;
                    let _ = writer.write_all(late.as_bytes()).await;
                    let _ = writer.flush().await;
                    writer
                };
                let reads = async {
                    // A client that reads slowly has still most of the answer to read when the rest
                    // is refused.
                    let mut reader = Reader::new(reader);
                    let _ = timeout(Duration::from_millis(200), std::future::pending::<()>()).await;
                    let whole = reader.answer("GET").await;
                    (whole, reader.answer("PUT").await)
                };
                tokio::join!(sends, reads).1
            });
            let [whole, refused] = <[_; 2]>::from(answers)
                .map(|answer| answer.unwrap_or_else(|error| panic!("{name}, secured: {secured}: {error}")).unwrap());
            assert_eq!((whole.status, whole.body.len()), (200, LENGTH), "{name}, secured: {secured}");
            assert!([400, 431].contains(&refused.status), "{name}, secured: {secured}: {}", refused.status);
        }
    }
}

#[test]
fn s29_a_late_byte_does_not_cut_the_last_answer() {
    for secured in [false, true] {
        let (served, digest) =
            Served::start("", secured, |lanyard| Pusher(lanyard.port()).blob("team/app", &vec![b'x'; LENGTH]));
        let runtime = runtime();
        let target = format!("/v2/team/app/blobs/{digest}");
        // The late bytes: one byte, a next request, the rest of a body that the server does not
        // read.
        for (name, head, late) in [
            ("a byte", format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), &b"x"[..]),
            (
                "a request",
                format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
                b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            ),
            ("a body", format!("GET {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nxxx"), b"xxxxxxx"),
            (
                "a chunk",
                format!("GET {target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxxx\r\n"),
                b"3\r\nxxx\r\n0\r\n\r\n",
            ),
            ("HTTP/1.0", format!("GET {target} HTTP/1.0\r\nHost: x\r\n\r\n"), b"x"),
        ] {
            let mut client: Box<dyn Stream> = runtime.block_on(async {
                let mut client = served.connect().await;
                client.write_all(head.as_bytes()).await.unwrap();
                client.flush().await.unwrap();
                client
            });
            // The client has read nothing yet; only the kernel has accepted bytes.
            eventually("the answer is given", || in_flight(&served, &runtime) == 1);
            let read = runtime.block_on(async {
                for byte in late {
                    client.write_all(&[*byte]).await.unwrap();
                    client.flush().await.unwrap();
                    // Each byte is a packet of its own.
                    tokio::task::yield_now().await;
                }
                // Shows that an event does not come: a reset would be here after 100 ms.
                assert!(timeout(Duration::from_millis(100), std::future::pending::<()>()).await.is_err());
                let (reader, _writer) = tokio::io::split(client);
                rest(reader).await
            });
            let read = read.unwrap_or_else(|error| panic!("{name}, secured: {secured}: {error}"));
            let answer = runtime.block_on(Reader::new(&read[..]).answer("GET")).unwrap().unwrap();
            assert_eq!((answer.status, answer.body.len()), (200, LENGTH), "{name}, secured: {secured}");
        }
    }
}

/// The whole body comes while its request waits for the upstream, and no handler reads it. Such a
/// connection ended only with the process where a chunked body filled actix-http's buffers.
#[test]
fn s29_a_body_that_comes_before_its_answer_keeps_no_connection() {
    const SIZES: [usize; 9] = [0, 1000, 30_000, 70_000, 130_000, 170_000, 200_000, 400_000, 1_500_000];
    let (hub, gate, runtime) = (Hub::start(), Gate::shut(), runtime());
    hub.image("library/late", "v1").layer(100).publish();
    hub.fault(On::any_manifest(), Fault::HoldHead(gate.clone()));
    let lanyard = mirror(&hub);
    let client = async |length: usize, chunk: Option<usize>| {
        let what = format!("{length} bytes, in chunks of {chunk:?}");
        let body = vec![b'x'; length];
        let (framing, body) = match chunk {
            None => (format!("Content-Length: {length}"), body),
            Some(size) => {
                let pieces = body.chunks(size);
                let chunks =
                    pieces.flat_map(|piece| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
                ("Transfer-Encoding: chunked".to_owned(), chunks.chain(*b"0\r\n\r\n").collect())
            }
        };
        let stream = TcpStream::connect(("127.0.0.1", lanyard.port())).await.unwrap();
        let (reading, mut writing) = tokio::io::split(stream);
        let head = format!("GET /v2/library/late/manifests/v1 HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n");
        writing.write_all(head.as_bytes()).await.unwrap();
        // The server takes no more of a large body than its buffers hold until it answers.
        let wrote = async {
            writing.write_all(&body).await.unwrap();
            writing
        };
        let read = async {
            let mut reader = Reader::new(reading);
            let answer = reader.answer("GET").await.unwrap().unwrap_or_else(|| panic!("{what}: no answer"));
            assert_eq!(answer.status, 200, "{what}");
            if length > 0 {
                assert!(answer.closes(), "{what}");
                assert_eq!(reader.rest().await, b"", "{what}");
            }
        };
        let both = timeout(Duration::from_secs(30), async { tokio::join!(wrote, read) }).await;
        assert!(both.is_ok(), "the connection stays: {what}");
    };
    runtime.block_on(async {
        let chunks = [None, Some(10), Some(1000), Some(100_000)];
        let clients = SIZES.into_iter().flat_map(|length| chunks.map(|chunk| Box::pin(client(length, chunk))));
        let clients = join_all(clients);
        let opens = async {
            // The bodies come in the meantime, as much of them as the server takes.
            assert!(timeout(Duration::from_secs(1), std::future::pending::<()>()).await.is_err());
            gate.open();
        };
        tokio::join!(clients, opens);
    });
}
