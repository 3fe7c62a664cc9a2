//! The timeouts of a connection, on a paused clock.

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;
use crate::http::transport::{
    connection_state::ActiveRequest,
    framing::{BodyFraming, RequestFraming},
};

const NO_BODY: RequestFraming = RequestFraming { framing: BodyFraming::Length(0), last: false };
const PATIENCE: ConnectionTimeouts = ConnectionTimeouts {
    stall: Duration::from_secs(60),
    rate: 10 << 10,
    idle: Duration::from_secs(105),
    linger: Duration::from_secs(5),
};

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_let_go_after_the_stall() {
    let (ours, _theirs) = duplex(1 << 10);
    let mut connection = Connection::new(ours, PATIENCE, None);
    let began = Instant::now();
    let error = connection.write_all(&[0; 64 << 10]).await.unwrap_err();
    assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, 60));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_too_slowly_is_let_go_and_one_that_keeps_the_rate_is_not() {
    for (piece, survives) in [(1 << 10, false), (32 << 10, true)] {
        let (ours, mut theirs) = duplex(1 << 10);
        let reader = tokio::spawn(async move {
            let mut buffer = vec![0; piece];
            while theirs.read_exact(&mut buffer).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let mut connection = Connection::new(ours, PATIENCE, None);
        let result = connection.write_all(&vec![0; 4 << 20]).await;
        assert_eq!(result.is_ok(), survives, "{piece} bytes a second");
        drop(connection);
        reader.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_source_costs_the_reader_nothing() {
    let (ours, mut theirs) = duplex(1 << 10);
    let reader = tokio::spawn(async move { theirs.read_to_end(&mut Vec::new()).await.unwrap() });
    let mut connection = Connection::new(ours, PATIENCE, None);
    for _ in 0..300 {
        connection.write_all(&[0; 4 << 10]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    drop(connection);
    assert_eq!(reader.await.unwrap(), 300 * (4 << 10));
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_requests_is_let_go_and_a_busy_one_is_not() {
    let (ours, mut theirs) = duplex(1 << 10);
    let mut connection = Connection::new(ours, PATIENCE, None);
    let busy = ActiveRequest::new(&connection.state(), NO_BODY, false);
    let waits = tokio::time::timeout(Duration::from_secs(1000), connection.read_u8()).await;
    assert!(waits.is_err(), "a request in progress may take its time");
    drop(busy);
    // A head that comes a byte at a time is no request.
    let dribble = tokio::spawn(async move {
        while theirs.write_u8(b'G').await.is_ok() {
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    });
    let began = Instant::now();
    let error = loop {
        if let Err(error) = connection.read_u8().await {
            break error;
        }
    };
    assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, 105));
    drop(connection);
    dribble.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_answered_at_once_keep_a_connection() {
    let (ours, mut theirs) = duplex(1 << 10);
    let mut connection = Connection::new(ours, PATIENCE, None);
    let client = tokio::spawn(async move {
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_secs(10)).await;
            theirs.write_u8(b'x').await.unwrap();
        }
        theirs
    });
    for _ in 0..100 {
        connection.read_u8().await.unwrap();
        drop(ActiveRequest::new(&connection.state(), NO_BODY, false));
    }
    let began = Instant::now();
    let error = connection.read_u8().await.unwrap_err();
    assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, 105));
    drop(client.await.unwrap());
}
