//! Every route, on one page.
//!
//! | path | GET, HEAD | anything else |
//! |---|---|---|
//! | `/`, `/livez`, `/readyz`, `/metrics` | [`health`] | 405 |
//! | `/v2/` | `{}`, at once, whatever upstream does | 405 |
//! | `/v2/_catalog` | hosted repositories: none yet | 405 |
//! | `/v2/NAME/manifests/REFERENCE` | [`manifests`] | 405: this version only pulls |
//! | `/v2/NAME/blobs/DIGEST` | [`blobs`] | 405 |
//! | `/v2/NAME/tags/list` | [`tags`] | 405 |
//! | `/v2/NAME/referrers/DIGEST` | [`referrers`] | 405 |
//! | `/v2/NAME/blobs/uploads/…` | 405 | 405 |
//!
//! `NAME` may have a registry's name in front, and `/v2/` may too. Nothing here is ever answered 401: what a client sends as
//! `Authorization` is meant for somebody else and is not looked at.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method, StatusCode,
        header::{ALLOW, HeaderValue},
    },
    web::Data,
};

use super::{
    Face, access_log::Entry, blobs, body::Body, errors::Refusal, health, manifests, query::Query, referrers, reply,
    reply::Reply, tags, target::Target,
};
use crate::{
    names::Spelling,
    oci::{ErrorCode, RegistryError, Repository},
};

/// A request that has been understood, for the files that answer it.
pub(super) struct Asked<'a> {
    pub(super) request: &'a HttpRequest,
    pub(super) face: &'a Face,
    pub(super) query: Query,
    pub(super) entry: &'a mut Entry,
}

impl Asked<'_> {
    pub(super) fn is_head(&self) -> bool {
        *self.request.method() == Method::HEAD
    }

    /// The repository a path and its `ns=` mean.
    pub(super) fn repository(&mut self, spelling: &Spelling) -> Result<Repository, RegistryError> {
        let exists = |name: &_| (self.face.hosted_exists)(name);
        let repository = self.face.names.resolve(spelling, self.query.ns.as_deref(), exists)?;
        self.entry.about(&repository);
        Ok(repository)
    }
}

/// The one handler: actix-web's router would decode the path.
pub(super) async fn serve(request: HttpRequest, face: Data<Face>) -> HttpResponse<Body> {
    let mut entry = Entry::new(&request, &face.metrics);
    let path = request.uri().path();
    let reply = match route(&request, &face, &mut entry).await {
        Ok(reply) => reply,
        Err(refusal) => refusal.into_reply(path),
    };
    let registry = path.split('/').skip(1).take(2).any(|segment| segment == "v2");
    reply.send(request.method(), registry, entry)
}

async fn route(request: &HttpRequest, face: &Face, entry: &mut Entry) -> Result<Reply, Refusal> {
    let uri = request.uri();
    if uri.scheme().is_some() || uri.authority().is_some() {
        let error = RegistryError::new(ErrorCode::Unsupported, "lanyard is no open proxy").with_status(400);
        return Err(error.into());
    }
    let target = Target::parse(uri.path())?;
    entry.kind(target.kind());
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(not_allowed(&target));
    }
    let query = Query::parse(uri.query().unwrap_or_default())?;
    let asked = Asked { request, face, query, entry };
    match target {
        Target::Home => Ok(health::home()),
        Target::Live => Ok(health::live()),
        Target::Ready => Ok(health::ready(face)),
        Target::Metrics => Ok(health::metrics(face)),
        Target::Ping(None) => Ok(Reply::bytes(StatusCode::OK, reply::JSON, "{}".into())),
        Target::Ping(Some(host)) => {
            face.names.upstream(host.as_str())?;
            Ok(Reply::bytes(StatusCode::OK, reply::JSON, "{}".into()))
        }
        Target::Catalog => Ok(Reply::bytes(StatusCode::OK, reply::JSON, r#"{"repositories":[]}"#.into())),
        Target::Manifest(spelling, reference) => manifests::get(asked, &spelling, &reference).await,
        Target::Blob(spelling, digest) => blobs::get(asked, &spelling, &digest).await,
        Target::Tags(spelling) => tags::list(asked, &spelling).await,
        Target::Referrers(spelling, subject) => referrers::get(asked, &spelling, &subject).await,
        Target::Uploads(_) => Err(not_allowed(&target)),
    }
}

fn not_allowed(target: &Target) -> Refusal {
    let (allow, message) = match target {
        Target::Uploads(_) => ("", "this version only pulls"),
        Target::Manifest(..) | Target::Blob(..) => ("GET, HEAD", "this version only pulls"),
        Target::Home | Target::Live | Target::Ready | Target::Metrics | Target::Ping(_) | Target::Catalog => {
            ("GET, HEAD", "only GET and HEAD are answered here")
        }
        Target::Tags(_) | Target::Referrers(..) => ("GET, HEAD", "only GET and HEAD are answered here"),
    };
    Refusal::from(RegistryError::new(ErrorCode::Unsupported, message))
        .with_header(ALLOW, HeaderValue::from_static(allow))
}
