//! The upkeep and its administration as the app has them: what is started together, and how each ends.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use actix_web::dev::{Server, ServerHandle};
use tokio::{
    runtime::{Handle, Runtime},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::allocator;
use crate::{
    config::Config,
    http::{Admin, AdminSocket, Services, SocketFile, Started},
    runtime::BlockingPool,
    upkeep::{self, Scrub, Upkeep},
};

/// The tasks that go on by themselves, and the word that ends them.
pub(super) struct Keeping {
    tasks: [JoinHandle<()>; 3],
    stop: CancellationToken,
}

impl Keeping {
    /// Starts all.
    pub(super) fn start(upkeep: &Arc<Upkeep>, scrub: &Arc<Scrub>, background: &Handle) -> Keeping {
        let stop = CancellationToken::new();
        let collector = background.spawn(Arc::clone(upkeep).run(upkeep::EVERY, stop.clone()));
        let scrub = background.spawn(Arc::clone(scrub).run(stop.clone()));
        let allocator = background.spawn(allocator::tend(BlockingPool::new(background.clone(), 1), stop.clone()));
        Keeping { tasks: [collector, scrub, allocator], stop }
    }

    /// Ends each after the bite it is at.
    pub(super) fn end(self, background: &Runtime, patience: Duration) {
        self.stop.cancel();
        let what = ["the collection of unneeded content", "the scrub", "the care of free memory"];
        for (task, what) in self.tasks.into_iter().zip(what) {
            let ended = background.block_on(async { tokio::time::timeout(patience, task).await });
            if !matches!(ended, Ok(Ok(()))) {
                tracing::warn!("{what} did not end in order");
            }
        }
    }
}

/// What is administered, and where. The registry runs without a socket too.
pub(super) struct Administration {
    admin: Admin,
    socket: Option<AdminSocket>,
}

/// The same while it is served.
pub(super) struct Administered(Option<(actix_web::rt::task::JoinHandle<io::Result<()>>, ServerHandle, SocketFile)>);

impl Administration {
    /// Takes the socket's name. Where that fails the log says so.
    pub(super) fn bind(
        config: &Config,
        listening: SocketAddr,
        face: Services,
        upkeep: Arc<Upkeep>,
        scrub: Arc<Scrub>,
    ) -> Administration {
        let started = Arc::new(Started {
            listening,
            data_dir: absolute(&config.data_dir),
            at: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
        });
        let socket = AdminSocket::bind(&config.data_dir)
            .inspect_err(|error| tracing::warn!("`lanyard gc` and `lanyard status` cannot reach this process: {error}"))
            .ok();
        Administration { admin: Admin { services: face, upkeep, scrub, started }, socket }
    }

    /// Serves it, on the actix system of this thread.
    pub(super) fn run(self) -> io::Result<Administered> {
        let Some(socket) = self.socket else { return Ok(Administered(None)) };
        let (server, handle, file): (Server, _, _) = socket.run(self.admin)?;
        Ok(Administered(Some((actix_web::rt::spawn(server), handle, file))))
    }
}

impl Administered {
    /// Nobody finds the socket any more, and answers under way are finished.
    pub(super) async fn end(self) {
        if let Some((server, handle, file)) = self.0 {
            drop(file);
            handle.stop(true).await;
            // It has said what there was to say; the registry's own end is what counts.
            let _ = server.await;
        }
    }
}

pub(super) fn absolute(path: &std::path::Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
