//! Notices a client that goes to Docker Hub, or ghcr.io, behind its mirror's back.
//!
//! Every client hides a failing mirror: it asks the registry itself and exits 0. In a
//! [`Cell`](super::cell::Cell) the registries' names therefore resolve to an address of this watch,
//! which counts connections and closes them. A test asserts the count, never the client's exit code
//! alone.

use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// The names that a client resolves when it wants Docker Hub or ghcr.io itself.
const NAMES: &str = "registry-1.docker.io auth.docker.io index.docker.io docker.io hub.docker.com \
                     production.cloudflare.docker.com production.cloudfront.docker.com ghcr.io";

/// A listener on port 443 of an address of its own.
pub(crate) struct HubWatch {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HubWatch {
    /// Starts to watch. Panics when port 443 cannot be bound on any loopback address.
    pub(crate) fn start() -> Self {
        HubWatch::with((0..100).find_map(|_| bind()).expect("port 443 of some loopback address is free"))
    }

    /// Starts to watch on this address of the machine, for a client that is on another.
    pub(crate) fn start_on(address: Ipv4Addr) -> Self {
        HubWatch::with(TcpListener::bind((address, 443)).expect("port 443 of an address of the test's own is free"))
    }

    fn with(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("a bound listener has an address");
        let (asked, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (asked, stop) = (asked.clone(), stop.clone());
            move || {
                for connection in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    asked.fetch_add(1, Ordering::SeqCst);
                    if let Ok(connection) = connection {
                        let _ = connection.shutdown(Shutdown::Both);
                    }
                }
            }
        });
        HubWatch { address, asked, stop, thread: Some(thread) }
    }

    /// How many connections the registries would have seen from the client itself.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// The hosts file in which every one of the names leads here.
    pub(crate) fn hosts_file(&self) -> String {
        format!("127.0.0.1 localhost\n{} {NAMES}\n", self.address.ip())
    }
}

/// A fresh loopback address for each watch, so that clients which run side by side are told apart.
fn bind() -> Option<TcpListener> {
    let [b, c, d] = rand::random::<[u8; 3]>();
    TcpListener::bind((Ipv4Addr::new(127, b.max(1), c, d.clamp(1, 254)), 443)).ok()
}

impl Drop for HubWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // The thread sits in accept(); a connection wakes it. If even that fails, the thread stays
        // until the process ends.
        if TcpStream::connect(self.address).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}
