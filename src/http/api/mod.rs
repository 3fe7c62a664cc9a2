//! The administration's JSON, on the Unix socket only: who may open the socket is the operator (DESIGN.md section 1).
//!
//! | path | GET, HEAD | POST |
//! |---|---|---|
//! | `/api/v1/status` | what runs here, and what is kept | 405 |
//! | `/api/v1/repositories` | the hosted repositories with what they hold | 405 |
//! | `/api/v1/gc` | 405 | collects what nothing needs |
//! | `/api/v1/gc?dry_run=true` | 405 | only says what it would collect |
//! | `/api/v1/gc?now=true` | 405 | waits for no grace: nobody pushes. With `dry_run=true` too |
//!
//! Errors have the registry's form. A query key that is not in the table is 400: a dry run with a slip in its name must not
//! remove anything.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method, StatusCode,
        header::{ALLOW, CACHE_CONTROL, HeaderValue},
    },
    web::Data,
};
use serde::{Deserialize, Serialize};

use crate::{
    http::{
        answer::{access_log::Entry, body::Body, errors::Refusal, reply, reply::Reply},
        services::Services,
    },
    oci::{ErrorCode, RegistryError},
    upkeep::{HostedRepository, Kept, Patience, Scrub, ScrubStatus, Upkeep},
};

/// What the administration needs of the house. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    /// The registry's own face.
    pub services: Services,
    /// The collector.
    pub upkeep: Arc<Upkeep>,
    /// What reads everything again.
    pub scrub: Arc<Scrub>,
    /// What was started.
    pub started: Arc<Started>,
}

/// What was started, where and when.
#[derive(Clone, Debug)]
pub struct Started {
    /// The registry's address.
    pub listening: SocketAddr,
    /// The data folder, absolute.
    pub data_dir: PathBuf,
    /// In seconds since 1970.
    pub at: u64,
}

/// `/api/v1/status`
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// Of lanyard.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Since when it runs, in seconds since 1970.
    pub started: u64,
    /// The registry's address.
    pub listening: String,
    /// The data folder.
    pub data_dir: PathBuf,
    /// False while it drains.
    pub ready: bool,
    /// What is on disk.
    pub kept: Kept,
    /// How reading it again gets on.
    #[serde(default)]
    pub scrub: ScrubStatus,
    /// Downloads under way.
    pub fills: u64,
    /// The registries of the internet.
    pub upstreams: Vec<UpstreamStatus>,
}

/// One upstream in a [`Status`].
#[derive(Debug, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// False while it is left alone after failures.
    pub reachable: bool,
    /// Pulls allowed in the window, where it has said so.
    pub limit: Option<u64>,
    /// Pulls left of them.
    pub remaining: Option<u64>,
}

/// `/api/v1/repositories`
#[derive(Debug, Serialize, Deserialize)]
pub struct Repositories {
    /// Sorted by name.
    pub repositories: Vec<HostedRepository>,
}

/// The one handler of the socket.
pub(crate) async fn serve(request: HttpRequest, admin: Data<Admin>) -> HttpResponse<Body> {
    let mut entry = Entry::new(&request, &admin.services.metrics);
    entry.kind("api");
    let reply = match route(&request, &admin).await {
        Ok(reply) => reply,
        Err(refusal) => refusal.into_reply(request.uri().path()),
    };
    reply.send(request.method(), false, entry)
}

async fn route(request: &HttpRequest, admin: &Admin) -> Result<Reply, Refusal> {
    let (uri, method) = (request.uri(), request.method());
    let reading = matches!(*method, Method::GET | Method::HEAD);
    let query = uri.query().unwrap_or_default();
    match uri.path() {
        "/api/v1/status" if reading => {
            none(query)?;
            Ok(json(&status(admin))?)
        }
        "/api/v1/repositories" if reading => {
            none(query)?;
            Ok(json(&Repositories { repositories: admin.upkeep.repositories().await? })?)
        }
        "/api/v1/gc" if *method == Method::POST => {
            let [dry_run, now] = switches(query, ["dry_run", "now"])?;
            let patience = if now { Patience::None } else { Patience::Grace };
            let upkeep = &admin.upkeep;
            let collection = if dry_run { upkeep.plan(patience).await? } else { upkeep.collect(patience).await? };
            Ok(json(&collection)?)
        }
        "/api/v1/status" | "/api/v1/repositories" => Err(not_allowed("GET, HEAD")),
        "/api/v1/gc" => Err(not_allowed("POST")),
        _ => Err(RegistryError::new(ErrorCode::Unsupported, "there is nothing at this path").with_status(404).into()),
    }
}

fn status(admin: &Admin) -> Status {
    let Started { listening, data_dir, at } = &*admin.started;
    let sample = (admin.services.sample)();
    let upstreams = sample.upstreams.into_iter().map(|upstream| UpstreamStatus {
        name: upstream.name.to_string(),
        reachable: !upstream.circuit_open,
        limit: upstream.rate_limit.map(|(limit, _)| limit),
        remaining: upstream.rate_limit.map(|(_, remaining)| remaining),
    });
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started: *at,
        listening: listening.to_string(),
        data_dir: data_dir.clone(),
        ready: admin.services.is_ready(),
        kept: admin.upkeep.kept(),
        scrub: admin.scrub.status(),
        fills: sample.fills_active,
        upstreams: upstreams.collect(),
    }
}

fn json(value: &impl Serialize) -> Result<Reply, RegistryError> {
    let text = serde_json::to_vec(value).map_err(|error| RegistryError::new(ErrorCode::Unknown, error.to_string()))?;
    let mut reply = Reply::bytes(StatusCode::OK, reply::JSON, text.into());
    reply.header(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(reply)
}

fn none(query: &str) -> Result<(), RegistryError> {
    match url::form_urlencoded::parse(query.as_bytes()).next() {
        Some((key, _)) => Err(bad(format!("the query key {key:?} means nothing here"))),
        None => Ok(()),
    }
}

/// The values of these keys, each of which is said once, as `true` or `false`, or is false.
fn switches<const N: usize>(query: &str, keys: [&str; N]) -> Result<[bool; N], RegistryError> {
    let mut said = [None; N];
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let Some(at) = keys.iter().position(|known| *known == key) else {
            return Err(bad(format!("the query key {key:?} means nothing here")));
        };
        said[at] = match (value.as_ref(), said[at]) {
            ("true", None) => Some(true),
            ("false", None) => Some(false),
            _ => return Err(bad(format!("{key} is said once, and is true or false"))),
        };
    }
    Ok(said.map(|said| said.unwrap_or(false)))
}

fn bad(message: impl Into<String>) -> RegistryError {
    RegistryError::new(ErrorCode::Unsupported, message).with_status(400)
}

fn not_allowed(allow: &'static str) -> Refusal {
    let message = format!("only {allow} is answered here");
    Refusal::from(RegistryError::new(ErrorCode::Unsupported, message))
        .with_header(ALLOW, HeaderValue::from_static(allow))
}
