//! What a stream can do with a file.

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

/// The most that one `sendfile(2)` is asked for, in bytes.
const SENDFILE: usize = 2 << 20;

/// The most that is read at once for a stream that encrypts, in bytes; rustls takes as much in one go. Both halves of it stay in
/// a processor's second cache.
pub(crate) const READ: usize = 256 << 10;

thread_local! {
    /// Where a worker reads what it encrypts next: one for all its connections, since none keeps anything in it.
    static SPACE: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// A client's stream.
pub(crate) trait SendFile: AsyncRead + AsyncWrite + Unpin {
    /// Whether nobody else can read along.
    const SECURED: bool = false;

    /// Sends bytes of the file from `at` on, at most `most`; how many, or 0 where the file has none there. They should be in the
    /// page cache. [`io::ErrorKind::WouldBlock`]: they are not any more. [`io::ErrorKind::Unsupported`]: not this way, for this
    /// file or this stream.
    fn poll_send(&mut self, cx: &mut Context<'_>, file: &File, at: u64, most: usize) -> Poll<io::Result<usize>>;

    /// Sends bytes; how many. A stream that encrypts takes none while what it took before waits for
    /// the peer.
    fn poll_slice(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(cx, bytes)
    }

    /// Holds back what is written until there is a packet full of it, or lets go of it.
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
        // A socket that refuses sends two packets where one would do.
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
        // Read once more what waits already, and it would be kept twice.
        ready!(poll_sent(self, cx))?;
        SPACE.with_borrow_mut(|space| match kernel::read_resident(file, &mut space[..most.min(READ)], at) {
            Ok(0) => Poll::Ready(Ok(0)),
            Ok(read) => Pin::new(self).poll_write(cx, &space[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Ready(Err(error)),
            // A file system that cannot be asked, or a disk that does not give it.
            Err(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        })
    }

    #[cfg(target_os = "linux")]
    fn cork(&self, on: bool) {
        self.get_ref().0.cork(on);
    }
}

/// Ready when all that was encrypted has been taken by the peer's socket: so a connection holds no
/// more of it than it is given at once.
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
