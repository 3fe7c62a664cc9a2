//! The server on the administration's Unix socket: bound with everything else at the start, run
//! beside the registry, ended when the registry has drained. The registry runs without it too.

use std::{io, net::SocketAddr, sync::Arc, time::SystemTime};

use actix_web::dev::{Server, ServerHandle};

use crate::{
    admin::{Admin, Savings, StartInfo},
    config::Config,
    http::{self, AdminSocket, ListenerRole, Services, SocketFile},
    retention::{Collector, Evictor, KeptSet, Scrub},
    storage::Storage,
};

/// The parts that only an operator asks.
pub(super) struct AdminParts {
    pub(super) collector: Arc<Collector>,
    pub(super) scrub: Arc<Scrub>,
    pub(super) evictor: Option<Arc<Evictor>>,
    pub(super) kept: Arc<KeptSet>,
    pub(super) storage: Arc<Storage>,
    pub(super) savings: Arc<Savings>,
    /// `cache.max_size` in bytes.
    pub(super) max_size: Option<u64>,
}

/// The socket, taken, and the services that will answer on it.
pub(super) struct AdminServer {
    services: Services,
    socket: Option<AdminSocket>,
}

/// The same while it serves.
pub(super) struct RunningAdminServer(
    Option<(actix_web::rt::task::JoinHandle<io::Result<()>>, ServerHandle, SocketFile)>,
);

impl AdminServer {
    /// Takes the socket's name. A failure is logged.
    pub(super) fn bind(config: &Config, listening: SocketAddr, services: Services, parts: AdminParts) -> AdminServer {
        let AdminParts { collector, scrub, evictor, kept, storage, savings, max_size } = parts;
        let started = StartInfo {
            listening,
            data_dir: std::path::absolute(&config.data_dir).unwrap_or_else(|_| config.data_dir.clone()),
            at: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
        };
        let (ready, sample) = (Arc::clone(&services.ready), Arc::clone(&services.sample));
        let (pull, names) = (Arc::clone(&services.pull), Arc::clone(&services.names));
        let admin = Admin {
            collector,
            scrub,
            evictor,
            mode: config.mode,
            kept,
            max_size,
            storage,
            savings,
            pull,
            names,
            started,
            ready,
            sample,
        };
        let socket = AdminSocket::bind(&config.data_dir)
            .inspect_err(|error| tracing::warn!("`lanyard gc` and `lanyard status` cannot reach this process: {error}"))
            .ok();
        AdminServer {
            services: Services { role: ListenerRole::Admin, admin: Some(Arc::new(admin)), ..services },
            socket,
        }
    }

    /// Serves it, on the actix system of this thread.
    pub(super) fn run(self) -> io::Result<RunningAdminServer> {
        let Some(socket) = self.socket else { return Ok(RunningAdminServer(None)) };
        let (server, handle, file): (Server, _, _) = http::run_admin(socket, self.services)?;
        Ok(RunningAdminServer(Some((actix_web::rt::spawn(server), handle, file))))
    }
}

impl RunningAdminServer {
    /// Removes the socket's name, then finishes the answers under way.
    pub(super) async fn end(self) {
        if let Some((server, handle, file)) = self.0 {
            drop(file);
            handle.stop(true).await;
            // It has logged its own failures; the result that counts is the registry's.
            let _ = server.await;
        }
    }
}
