//! The Unix socket of the administration, `lanyard.sock` in the data folder.
//!
//! Its permissions are its authentication: 0600 from the moment it exists, so that only root and
//! the user lanyard runs as can open it. The stop removes it. A start replaces one that a crash
//! left behind, which is safe because the data folder has one holder.

use std::{
    fs, io,
    os::{
        fd::AsFd,
        unix::{fs::FileTypeExt, net::UnixListener},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use actix_http::HttpService;
use actix_service::{IntoServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::{
    App, FromRequest, Handler, Responder,
    dev::{AppConfig, Server, ServerHandle},
    rt::net::UnixStream,
    web,
};
use rustix::{
    fs::{Mode, fchmod},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with},
};

use crate::admin::SOCKET;

/// The kernel's queue of connections: for people and scripts, not for a farm.
const BACKLOG: i32 = 64;

/// How long the answers under way may take after a stop.
const DRAIN: Duration = Duration::from_secs(5);

/// Why there is no administration. The registry runs without it.
#[derive(Debug, thiserror::Error)]
pub enum AdminSocketError {
    /// The path is longer than the kernel's 107 bytes.
    #[error(
        "the path {} is {} bytes long, and a socket's may have 107: give data_dir a shorter path to use `lanyard gc` and \
         `lanyard status`",
        .0.display(), .0.as_os_str().len()
    )]
    TooLong(PathBuf),
    /// Another file has the name.
    #[error("{} is in the way of the administration's socket: move it elsewhere", .0.display())]
    Taken(PathBuf),
    /// The machine refused.
    #[error("no administration's socket at {}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// The listening socket.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// The socket's name in the data folder; removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl AdminSocket {
    /// Takes the socket's name in `data_dir`. The caller holds the folder's lock.
    pub fn bind(data_dir: &Path) -> Result<AdminSocket, AdminSocketError> {
        let path = data_dir.join(SOCKET);
        let failed = |source: io::Error| AdminSocketError::Io { path: path.clone(), source };
        let address = SocketAddrUnix::new(&path).map_err(|_| AdminSocketError::TooLong(path.clone()))?;
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.file_type().is_socket() => fs::remove_file(&path).map_err(failed)?,
            Ok(_) => return Err(AdminSocketError::Taken(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let bound = || -> rustix::io::Result<_> {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            // On Linux the file gets the mode of its descriptor, so it is never open to others.
            fchmod(socket.as_fd(), Mode::RUSR | Mode::WUSR)?;
            rustix::net::bind(&socket, &address)?;
            rustix::fs::chmod(&path, Mode::RUSR | Mode::WUSR)?;
            rustix::net::listen(&socket, BACKLOG)?;
            Ok(socket)
        };
        let listener = bound().map_err(|error| failed(error.into()))?.into();
        Ok(AdminSocket { listener, file: SocketFile(path) })
    }

    /// Serves it until the handle stops it. The caller keeps the file for as long as clients are to
    /// find the socket.
    ///
    /// # Errors
    /// The socket cannot be served.
    pub(crate) fn listen<T, F, Args>(
        self,
        data: web::Data<T>,
        handler: F,
    ) -> io::Result<(Server, ServerHandle, SocketFile)>
    where
        T: Send + Sync + 'static,
        F: Handler<Args> + Send,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let AdminSocket { listener, file } = self;
        let server = Server::build()
            .workers(1)
            .shutdown_timeout(DRAIN.as_secs())
            .disable_signals()
            .listen_uds("administration", listener, move || {
                let app = App::new()
                    .app_data(data.clone())
                    .default_service(web::to(handler.clone()))
                    .into_factory()
                    .map_err(|error: actix_web::Error| error.error_response());
                // A client that has left is noticed at once, also while nothing is sent to it.
                let http =
                    HttpService::build().h1_allow_half_closed(false).h1(map_config(app, |_| AppConfig::default()));
                fn_service(|io: UnixStream| async move { Ok((io, None)) }).and_then(http)
            })?
            .run();
        let handle = server.handle();
        Ok((server, handle, file))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The next start replaces a socket that is left behind.
        let _ = fs::remove_file(&self.0);
    }
}
