//! One connection's socket, plain or TLS, and the ways to end it badly.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::{ServerConnection, StreamOwned};
use socket2::SockRef;

/// How a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// An orderly TCP close in the wrong place. Under TLS no close_notify is sent: this is the
    /// truncation attack.
    Fin,
    /// A reset. The bytes written before it have reached the client's kernel.
    Rst,
}

/// A connection from a client.
pub(super) enum Wire {
    /// Bare TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Wire {
    /// The TCP socket below.
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Wire::Plain(tcp) => tcp,
            Wire::Tls(tls) => &tls.sock,
        }
    }

    /// Whether the client has closed or reset its side, even with unread bytes left.
    pub(super) fn abandoned(&self) -> bool {
        let asked = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let mut fds = [PollFd::new(self.tcp(), asked)];
        matches!(poll(&mut fds, Some(&Timespec::default())), Ok(count) if count > 0)
    }

    /// The orderly end: under TLS with close_notify, unless `rude`.
    pub(super) fn close(mut self, rude: bool) {
        if let Wire::Tls(tls) = &mut self
            && !rude
        {
            tls.conn.send_close_notify();
            let _ = tls.flush();
        }
        self.cut(Cut::Fin);
    }

    /// Ends the connection. The caller must hold no other handle of the same socket if it wants a
    /// reset.
    pub(super) fn cut(self, how: Cut) {
        let tcp = self.tcp();
        match how {
            Cut::Fin => {
                // A close with unread input makes the kernel send a reset, so the input is drained
                // first.
                let _ = tcp.shutdown(Shutdown::Write);
                let _ = tcp.set_read_timeout(Some(Duration::from_secs(1)));
                let mut tcp: &TcpStream = tcp;
                let mut sink = [0; 4096];
                while matches!(tcp.read(&mut sink), Ok(count) if count > 0) {}
            }
            Cut::Rst => {
                // A reset throws away bytes that are still queued, so they must all go out first:
                // with this low-water mark the socket counts as writable only when nothing unsent
                // is left.
                let socket = SockRef::from(tcp);
                let _ = socket.set_tcp_notsent_lowat(1);
                let patience = Timespec { tv_sec: 5, tv_nsec: 0 };
                let _ = poll(&mut [PollFd::new(tcp, PollFlags::OUT)], Some(&patience));
                let _ = socket.set_linger(Some(Duration::ZERO));
            }
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(tcp) => tcp.read(buffer),
            Wire::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(tcp) => tcp.write(buffer),
            Wire::Tls(tls) => {
                let count = tls.write(buffer)?;
                tls.flush()?;
                Ok(count)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Wire::Plain(tcp) => tcp.flush(),
            Wire::Tls(tls) => tls.flush(),
        }
    }
}
