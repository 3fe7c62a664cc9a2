//! The ways by which a stream sends a file. The plane calls them; one implementation for each
//! stream.

use std::{
    cell::RefCell,
    fs::File,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::rt::net::TcpStream;
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, Interest};

use super::kernel;

/// The most bytes for one `sendfile(2)`.
const SENDFILE: usize = 2 << 20;

/// The most bytes that are read at once for a stream that encrypts; rustls takes as many in one go.
/// Plain text and cipher text together stay in a processor's second cache.
pub(crate) const READ: usize = 256 << 10;

thread_local! {
    /// Where a worker reads the bytes it encrypts next: one buffer for all its connections, because
    /// none keeps anything in it.
    static SPACE: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// A client's stream.
pub(crate) trait SendFile: AsyncRead + AsyncWrite + Unpin {
    /// Whether the stream is encrypted.
    const SECURED: bool = false;

    /// Sends at most `most` bytes of the file from `at` on. They should be in the page cache.
    /// Returns their number; 0 if the file has none there.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`]: the bytes are not in the page cache any more.
    /// [`io::ErrorKind::Unsupported`]: this file or this stream cannot be sent so. Else the
    /// connection's.
    fn poll_send(&mut self, cx: &mut Context<'_>, file: &File, at: u64, most: usize) -> Poll<io::Result<usize>>;

    /// Sends bytes, and returns their number. A stream that encrypts takes none while bytes it took
    /// before wait for the peer.
    fn poll_slice(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(cx, bytes)
    }

    /// Holds written bytes back until a packet is full, or lets them go.
    fn cork(&self, on: bool) {
        let _ = on;
    }
}

#[cfg(target_os = "linux")]
impl SendFile for TcpStream {
    fn poll_send(&mut self, cx: &mut Context<'_>, file: &File, at: u64, most: usize) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_write_ready(cx))?;
            let sent = self.try_io(Interest::WRITABLE, || {
                let mut offset = at;
                Ok(rustix::fs::sendfile(&*self, file, Some(&mut offset), most.min(SENDFILE))?)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
                    return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
                }
                sent => return Poll::Ready(sent),
            }
        }
    }

    fn cork(&self, on: bool) {
        // Without it a socket sends two packets instead of one.
        let _ = rustix::net::sockopt::set_tcp_cork(self, on);
    }
}

impl SendFile for TlsStream<TcpStream> {
    const SECURED: bool = true;

    fn poll_slice(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(poll_sent(self, cx))?;
        Pin::new(self).poll_write(cx, bytes)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, file: &File, at: u64, most: usize) -> Poll<io::Result<usize>> {
        // Bytes that are read while earlier ones wait would be held twice.
        ready!(poll_sent(self, cx))?;
        SPACE.with_borrow_mut(|space| match kernel::read_resident(file, &mut space[..most.min(READ)], at) {
            Ok(0) => Poll::Ready(Ok(0)),
            Ok(read) => Pin::new(self).poll_write(cx, &space[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Ready(Err(error)),
            // A file system that does not know the call, or a disk that fails.
            Err(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        })
    }

    #[cfg(target_os = "linux")]
    fn cork(&self, on: bool) {
        self.get_ref().0.cork(on);
    }
}

/// Ready when the peer's socket has taken all that was encrypted, so that a connection never holds
/// more of it than it gets at once.
fn poll_sent(stream: &mut TlsStream<TcpStream>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    if stream.get_ref().1.wants_write() { Pin::new(stream).poll_flush(cx) } else { Poll::Ready(Ok(())) }
}

#[cfg(not(target_os = "linux"))]
impl SendFile for TcpStream {
    fn poll_send(&mut self, _: &mut Context<'_>, _: &File, _: u64, _: usize) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

#[cfg(test)]
impl SendFile for tokio::io::DuplexStream {
    fn poll_send(&mut self, _: &mut Context<'_>, _: &File, _: u64, _: usize) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
}
