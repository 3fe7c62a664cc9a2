//! The honest answer to every request.

use std::time::{Duration, Instant};

use serde_json::json;

use super::body::{Body, seed_of};
use super::content::{DOCKER_LIST, Manifest, OCI_INDEX};
use super::record::Origin;
use super::reply::Reply;
use super::request::{Request, Target};
use super::shared::Shared;

/// Docker Hub's page of tags when the client names no size.
const TAGS_PAGE: usize = 100;

/// The honest answer.
pub(super) fn answer(shared: &Shared, request: &Request, target: &Target) -> Reply {
    match request.origin {
        Origin::Cdn => return from_cdn(shared, request, target),
        Origin::Registry | Origin::Token => {}
    }
    if *target == Target::Token {
        return shared.door.token(request, &shared.content.lock().unwrap());
    }
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Reply::error(405, "UNSUPPORTED", "the stand-in can only be pulled from");
    }
    let mut reply = match shared.door.check(request, target, &shared.urls.token) {
        Ok(()) => from_registry(shared, request, target),
        Err(challenge) => *challenge,
    };
    reply.set_header("Docker-Distribution-Api-Version", Some("registry/2.0"));
    reply
}

fn from_registry(shared: &Shared, request: &Request, target: &Target) -> Reply {
    match target {
        Target::Ping => Reply::json(200, &json!({})),
        Target::Manifest { repo, reference } => manifest(shared, request, repo, reference),
        Target::Blob { digest, .. } => blob(shared, request, digest),
        Target::Tags { repo } => tags(shared, request, repo),
        Target::Referrers { repo, digest } => referrers(shared, request, repo, digest),
        Target::Token | Target::Unknown => Reply::error(404, "NOT_FOUND", "no such page"),
    }
}

fn manifest(shared: &Shared, request: &Request, repo: &str, reference: &str) -> Reply {
    let quota = &mut *shared.quota.lock().unwrap();
    if let Some(quota) = quota
        && let Some(refusal) = quota.spend(request.method == "GET")
    {
        return refusal;
    }
    let content = shared.content.lock().unwrap();
    let Some(mut found) = content.manifest(repo, reference) else {
        return Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown");
    };
    if !accepts(request, &found)
        && let Some(child) = content.default_platform(repo, &found)
    {
        found = child;
    }
    let mut reply = Reply::new(200, &found.media_type, &*found.bytes)
        .with("Docker-Content-Digest", &*found.digest)
        .with("Etag", format!("\"{}\"", found.digest));
    if let Some(quota) = quota {
        quota.tell(&mut reply);
    }
    reply
}

/// Whether the client can read the manifest; an index alone has an alternative.
fn accepts(request: &Request, manifest: &Manifest) -> bool {
    if ![DOCKER_LIST, OCI_INDEX].contains(&manifest.media_type.as_str()) {
        return true;
    }
    let mut lines = request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("accept")).peekable();
    lines.peek().is_none()
        || lines.flat_map(|(_, line)| line.split(',')).any(|accepted| {
            let accepted = accepted.split(';').next().unwrap_or_default().trim();
            accepted == "*/*" || accepted == manifest.media_type
        })
}

fn blob(shared: &Shared, request: &Request, digest: &str) -> Reply {
    let Some(body) = shared.content.lock().unwrap().blob(digest) else {
        return Reply::error(404, "BLOB_UNKNOWN", "blob unknown to registry");
    };
    // As at Docker Hub, HEAD is answered by the registry itself.
    if !shared.options.cdn || request.method == "HEAD" {
        return bytes(shared, request, digest, body).with("Docker-Content-Digest", digest);
    }
    let hex = digest.trim_start_matches("sha256:");
    let path = format!("/registry-v2/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
    let expires = shared.clock() + shared.options.link_ttl.as_millis() as u64;
    let signature = sign(&path, expires);
    let url = format!("{}{path}?expires={expires}&signature={signature}&version=2", shared.urls.cdn);
    Reply::redirect(307, &url).with("Docker-Content-Digest", digest)
}

fn sign(path: &str, expires: u64) -> String {
    format!("{:016x}", seed_of(&format!("{path} {expires} the stand-in's secret")))
}

/// The CDN: no credentials, a valid signature, and bytes.
fn from_cdn(shared: &Shared, request: &Request, target: &Target) -> Reply {
    if request.header("authorization").is_some() {
        return Reply::new(
            400,
            "application/xml",
            b"<Error><Code>InvalidArgument</Code><Message>Only one auth mechanism allowed</Message></Error>".to_vec(),
        );
    }
    let refusal = |why: &str| {
        Reply::new(403, "application/xml", format!("<Error><Code>AccessDenied</Code>{why}</Error>").into_bytes())
    };
    let expires = request.query_one("expires").and_then(|value| value.parse().ok()).unwrap_or(0);
    if request.query_one("signature") != Some(sign(&request.path, expires)) {
        return refusal("signature does not match");
    }
    if expires <= shared.clock() {
        return refusal("request has expired");
    }
    let Some(digest) = target.blob() else { return refusal("no such key") };
    match shared.content.lock().unwrap().blob(digest) {
        Some(body) => bytes(shared, request, digest, body),
        None => refusal("no such key"),
    }
}

/// A blob's bytes, or the part of them that was asked for.
fn bytes(shared: &Shared, request: &Request, digest: &str, body: Body) -> Reply {
    let etag = format!("\"{digest}\"");
    let len = body.len();
    let mut reply = Reply::new(200, "application/octet-stream", body).with("Etag", etag.clone());
    if !shared.options_now().ranges {
        return reply;
    }
    reply.set_header("Accept-Ranges", Some("bytes"));
    let unchanged = request.header("if-range").is_none_or(|value| value == etag);
    let Some(range) = request.header("range").filter(|_| unchanged && request.method == "GET") else { return reply };
    match part(range, len) {
        Ok(Some((start, end))) => {
            reply.status = 206;
            reply.part = (start, end);
            reply.with("Content-Range", format!("bytes {start}-{}/{len}", end - 1))
        }
        Ok(None) => reply,
        Err(()) => Reply::new(416, "text/plain", Vec::new()).with("Content-Range", format!("bytes */{len}")),
    }
}

/// One range as start and end; `None` for a header that is to be ignored.
fn part(range: &str, len: u64) -> Result<Option<(u64, u64)>, ()> {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Ok(None);
    };
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), _) if first >= len => Err(()),
        (Ok(first), Ok(last)) if first <= last => Ok(Some((first, (last + 1).min(len)))),
        (Ok(first), Err(_)) if last.is_empty() => Ok(Some((first, len))),
        (Err(_), Ok(count)) if first.is_empty() && count > 0 => Ok(Some((len.saturating_sub(count), len))),
        _ => Ok(None),
    }
}

fn tags(shared: &Shared, request: &Request, repo: &str) -> Reply {
    let size = request.query_one("n").and_then(|n| n.parse().ok()).unwrap_or(TAGS_PAGE);
    let last = request.query_one("last").unwrap_or_default();
    let Some(mut tags) = shared.content.lock().unwrap().tags_after(repo, &last) else {
        return Reply::error(404, "NAME_UNKNOWN", "repository name not known to registry");
    };
    let more = tags.len() > size;
    tags.truncate(size);
    let reply = Reply::json(200, &json!({"name": repo, "tags": tags}));
    match tags.last() {
        Some(last) if more => reply.with("Link", format!("</v2/{repo}/tags/list?last={last}&n={size}>; rel=\"next\"")),
        _ => reply,
    }
}

fn referrers(shared: &Shared, request: &Request, repo: &str, digest: &str) -> Reply {
    if !shared.options.referrers {
        return Reply::error(404, "NOT_FOUND", "this registry has no referrers");
    }
    let wanted = request.query_one("artifactType");
    let found = shared.content.lock().unwrap().referrers(repo, digest, wanted.as_deref());
    let mut reply = Reply::json(200, &json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found}));
    reply.set_header("Content-Type", Some(OCI_INDEX));
    if wanted.is_some() {
        reply.set_header("OCI-Filters-Applied", Some("artifactType"));
    }
    reply
}

impl Shared {
    /// Milliseconds since the start: the clock by which signed links expire.
    fn clock(&self) -> u64 {
        Instant::now().duration_since(self.born).max(Duration::from_millis(1)).as_millis() as u64
    }
}
