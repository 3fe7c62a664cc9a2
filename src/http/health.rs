//! The pages outside the registry API: health, metrics, and a page for people who open the address
//! in a browser. None of them needs a right, waits, or reads the disk.

use actix_web::http::{StatusCode, header::CACHE_CONTROL, header::HeaderValue};

use crate::{
    http::{answer::reply::Reply, services::Services},
    metrics,
};

const TEXT: &str = "text/plain; charset=utf-8";

const HOME: &str = "\
lanyard, a pull-through caching container registry.

This is where machines pull container images from; there is nothing to click on. To send Docker's pulls here, put

  { \"registry-mirrors\": [\"http://THIS-ADDRESS\"] }

into /etc/docker/daemon.json, with this page's own address, and restart Docker. `lanyard setup` prints the same for
containerd, Podman, BuildKit and Kubernetes.

  /livez, /readyz  health
  /metrics         counters for Prometheus
";

/// `/`
pub(crate) fn home() -> Reply {
    Reply::bytes(StatusCode::OK, TEXT, HOME.into())
}

/// `/livez`: this thread answers.
pub(crate) fn live() -> Reply {
    uncached(Reply::bytes(StatusCode::OK, TEXT, "ok\n".into()))
}

/// `/readyz`: whether to send clients here. 503 before everything is open and while draining.
pub(crate) fn ready(services: &Services) -> Reply {
    uncached(if services.is_ready() {
        Reply::bytes(StatusCode::OK, TEXT, "ready\n".into())
    } else {
        Reply::bytes(StatusCode::SERVICE_UNAVAILABLE, TEXT, "not ready\n".into())
    })
}

/// `/metrics`
pub(crate) fn metrics(services: &Services) -> Reply {
    let text = services.metrics.encode(&(services.sample)());
    uncached(Reply::bytes(StatusCode::OK, metrics::CONTENT_TYPE, text.into()))
}

fn uncached(mut reply: Reply) -> Reply {
    reply.header(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
