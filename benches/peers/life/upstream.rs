//! The upstream of all servers: an nginx that serves blobs as a registry does, and writes down how
//! many bytes it sent.

use std::{fs, path::PathBuf};

use super::blobs::Blobs;
use crate::servers::{Kind, Server, run_nginx};

/// The repository that has the blobs.
pub(crate) const REPOSITORY: &str = "bench/image";

/// See the module.
pub(crate) struct Upstream {
    server: Server,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Upstream {
    /// Serves the blobs; with a rate in bytes per second and connection.
    pub(crate) fn start(blobs: &Blobs, rate: Option<u64>, cpus: &str) -> Upstream {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("sent");
        let rate = rate.map_or(String::new(), |rate| format!("limit_rate {rate};"));
        let make = |own: &std::path::Path, port| {
            let http = format!(
                "log_format sent '$body_bytes_sent'; \
                 server {{ listen 127.0.0.1:{port} backlog=4096; access_log {} sent; {rate} \
                 location = /v2/ {{ return 200; }} \
                 location ~ ^/v2/{REPOSITORY}/blobs/sha256:([0-9a-f]+)$ {{ alias {}/sha256-$1; }} }}",
                log.display(),
                blobs.folder().display(),
            );
            run_nginx(own, &http)
        };
        let server = Server::of(Kind::Nginx, make, cpus).listening();
        Upstream { server, log, _folder: folder }
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.port
    }

    /// The bytes of all bodies that it has sent.
    pub(crate) fn sent(&self) -> u64 {
        let text = fs::read_to_string(&self.log).unwrap();
        text.lines().map(|line| line.parse::<u64>().unwrap()).sum()
    }
}
