//! The first lines on standard output after the start, with warnings of what the configuration
//! probably does not mean.

use std::net::SocketAddr;

use crate::config::{Config, Mode, Problem};

/// The address, the data folder, and the line to paste into the configuration of Docker.
pub(super) fn banner(config: &Config, listening: SocketAddr, mirror: Option<SocketAddr>, advice: &[Problem]) -> String {
    // Docker must not be asked to sign in at its mirror, so the listener that only pulls is better.
    let pulls = mirror.unwrap_or(listening);
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let server = if pulls.ip().is_unspecified() {
        format!("{scheme}://localhost:{}", pulls.port())
    } else {
        format!("{scheme}://{pulls}")
    };
    let mirror = mirror.map_or_else(String::new, |mirror| format!("pulls only on {scheme}://{mirror}\n"));
    let data = std::path::absolute(&config.data_dir).unwrap_or_else(|_| config.data_dir.clone());
    let mode = match config.mode {
        Mode::Auto | Mode::Online => {
            format!("mirroring {} and {} more", config.default_upstream, config.upstreams.len().saturating_sub(1))
        }
        Mode::Offline => "offline: serving stored content, asking no upstream".to_owned(),
    };
    let advice: String = advice.iter().map(|word| format!("warning: {word}\n")).collect();
    format!(
        "lanyard {version} listening on {scheme}://{listening} ({mode})\n\
         {mirror}\
         data in {data}\n\
         Docker: put this into /etc/docker/daemon.json, then `systemctl restart docker`:\n  \
         {{ \"registry-mirrors\": [\"{server}\"] }}\n\
         (from another machine, its address instead of localhost; other clients: `lanyard setup --help`)\n\
         {advice}",
        version = env!("CARGO_PKG_VERSION"),
        data = data.display(),
    )
}
