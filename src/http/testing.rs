//! For tests: a server on a port of its own, and clients on raw sockets.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread::JoinHandle,
    time::Duration,
};

use actix_web::{
    dev::{Server, ServerHandle},
    rt::System,
};

/// The one patience of these tests: far longer than any step takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that stops when dropped.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl TestServer {
    /// Runs what `make` makes of a listener, on a thread of its own.
    pub(crate) fn start(make: impl FnOnce(TcpListener) -> Server + Send + 'static) -> TestServer {
        let listener = super::bind("127.0.0.1:0".parse().unwrap(), "--listen").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            System::new().block_on(async move {
                let server = make(listener);
                tell.send(server.handle()).unwrap();
                server.await.unwrap();
            });
        });
        TestServer { address, handle: told.recv().unwrap(), thread: Some(thread) }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// Sends bytes and reads until the server closes.
    pub(crate) fn until_close(&self, bytes: &[u8]) -> Vec<u8> {
        let mut socket = self.connect();
        // The server may answer and close before it has read everything.
        let _ = socket.write_all(bytes);
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match socket.read(&mut buffer) {
                Ok(0) => return answer,
                Ok(n) => answer.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return answer,
                Err(error) => panic!("the server neither answers nor closes: {error}"),
            }
        }
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(&self, method: &str, target: &str, headers: &str) -> RawResponse {
        let mut socket = self.connect();
        write!(socket, "{method} {target} HTTP/1.1\r\nhost: x\r\n{headers}\r\n").unwrap();
        RawResponse::read(&mut socket, method == "HEAD")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // The command is sent at once; the future only waits for the end, as the join does.
        drop(self.handle.stop(false));
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.unwrap();
            }
        }
    }
}

/// An answer as it was on the wire.
#[derive(Debug)]
pub(crate) struct RawResponse {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The connection ended before `Content-Length` was reached.
    pub(crate) short: bool,
}

impl RawResponse {
    /// Reads exactly one answer; what follows it stays in the socket.
    pub(crate) fn read(socket: &mut TcpStream, head_only: bool) -> RawResponse {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            assert_eq!(socket.read(&mut byte).unwrap(), 1, "closed within {:?}", String::from_utf8_lossy(&head));
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<_> =
            lines.map(|l| l.split_once(": ").unwrap()).map(|(k, v)| (k.to_lowercase(), v.to_owned())).collect();
        let mut answer = RawResponse { status, headers, body: Vec::new(), short: false };
        if !head_only && status != 304 {
            let length: u64 = answer.header("content-length").unwrap().parse().unwrap();
            let read = socket.take(length).read_to_end(&mut answer.body);
            answer.short = read.is_err() || (answer.body.len() as u64) < length;
        }
        answer
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}
