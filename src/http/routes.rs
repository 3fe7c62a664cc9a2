//! Every route, on one page.
//!
//! | path | GET, HEAD | anything else |
//! |---|---|---|
//! | `/`, `/livez`, `/readyz`, `/metrics` | [`health`] | 405 |
//! | `/v2/` | `{}`, at once, whatever upstream does | 405 |
//! | `/v2/_catalog` | [`catalog`] | 405 |
//! | `/v2/NAME/manifests/REFERENCE` | [`manifests`] | PUT [`push_manifests`], DELETE [`delete`] |
//! | `/v2/NAME/blobs/DIGEST` | [`blobs`] | DELETE [`delete`] |
//! | `/v2/NAME/blobs/uploads/` | 405 | POST [`uploads`] |
//! | `/v2/NAME/blobs/uploads/ID` | GET [`uploads`] | PATCH, PUT, DELETE [`uploads`] |
//! | `/v2/NAME/tags/list` | [`tags`] | 405 |
//! | `/v2/NAME/referrers/DIGEST` | [`referrers`] | 405 |
//!
//! `NAME` may have a registry's name in front, and `/v2/` may too. Nothing here is ever answered 401: what a client sends as
//! `Authorization` is meant for somebody else and is not looked at.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method, StatusCode,
        header::{ALLOW, HeaderValue},
    },
    web::{Data, Payload},
};

use super::{
    Face, access_log::Entry, blobs, body::Body, catalog, delete, errors::Refusal, health, intake::Intake, manifests,
    push_manifests, query::Query, referrers, reply, reply::Reply, tags, target::Target, uploads,
};
use crate::{
    names::Spelling,
    oci::{ErrorCode, RegistryError, Repository, RepositoryName},
    push::{MayPull, PushError},
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

    /// The repository that a path and its `ns=` mean to a client that reads.
    pub(super) fn repository(&mut self, spelling: &Spelling) -> Result<Repository, RegistryError> {
        let repository = self.resolve(spelling, self.query.ns.as_deref())?;
        self.entry.about(&repository);
        Ok(repository)
    }

    /// The hosted repository that a request pushes to; an error where the name takes no push.
    pub(super) fn push_target(&mut self, spelling: &Spelling) -> Result<Repository, PushError> {
        let repository = self.face.push.target(spelling, self.query.ns.as_deref())?;
        self.entry.about(&repository);
        Ok(repository)
    }

    /// The hosted repository that a request takes something from.
    pub(super) fn hosted(&mut self, spelling: &Spelling) -> Result<Repository, PushError> {
        let repository = self.face.push.hosted(spelling, self.query.ns.as_deref())?;
        self.entry.about(&repository);
        Ok(repository)
    }

    /// The repository that a name in a query means.
    pub(super) fn named(&self, name: &str) -> Result<Repository, RegistryError> {
        let name = name.parse::<RepositoryName>();
        let name = name.map_err(|error| RegistryError::new(ErrorCode::NameInvalid, error.to_string()))?;
        self.resolve(&Spelling { host: None, name }, None)
    }

    fn resolve(&self, spelling: &Spelling, ns: Option<&str>) -> Result<Repository, RegistryError> {
        self.face.names.resolve(spelling, ns, |name| (self.face.hosted_exists)(name))
    }

    /// Whether this client may pull from a repository that its path does not name: to mount from it, to list it.
    pub(super) fn may_pull(&self) -> MayPull {
        Arc::new(|_| true)
    }

    /// Whose uploads these are, for their number.
    pub(super) fn owner(&self) -> String {
        self.request.peer_addr().map_or_else(String::new, |peer| peer.ip().to_string())
    }
}

/// The one handler: actix-web's router would decode the path.
pub(super) async fn serve(request: HttpRequest, face: Data<Face>, payload: Payload) -> HttpResponse<Body> {
    let mut entry = Entry::new(&request, &face.metrics);
    let path = request.uri().path();
    let reply = match route(&request, &face, &mut entry, Intake::new(payload)).await {
        Ok(reply) => reply,
        Err(refusal) => refusal.into_reply(path),
    };
    let registry = path.split('/').skip(1).take(2).any(|segment| segment == "v2");
    reply.send(request.method(), registry, entry)
}

async fn route(request: &HttpRequest, face: &Face, entry: &mut Entry, body: Intake) -> Result<Reply, Refusal> {
    let uri = request.uri();
    if uri.scheme().is_some() || uri.authority().is_some() {
        let error = RegistryError::new(ErrorCode::Unsupported, "lanyard is no open proxy").with_status(400);
        return Err(error.into());
    }
    let target = Target::parse(uri.path())?;
    entry.kind(target.kind());
    let does = Does::of(&target, request.method()).ok_or_else(|| not_allowed(&target))?;
    let query = Query::parse(uri.query().unwrap_or_default())?;
    let asked = Asked { request, face, query, entry };
    match does {
        Does::Read => read(asked, &target).await,
        Does::Push => push(asked, &target, body).await,
        Does::Delete => take_away(asked, &target).await,
    }
}

/// What a request does with what its path means. Where it is decided who may: here, before anything else happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Does {
    Read,
    Push,
    Delete,
}

impl Does {
    /// `None`: the method is not allowed there.
    fn of(target: &Target, method: &Method) -> Option<Does> {
        let (reads, deletes) = (matches!(*method, Method::GET | Method::HEAD), *method == Method::DELETE);
        match target {
            Target::Uploads(_) => (*method == Method::POST).then_some(Does::Push),
            // Looking at an upload, or cancelling it, is the pusher's business.
            Target::Upload(..) => {
                let known = matches!(*method, Method::GET | Method::PATCH | Method::PUT | Method::DELETE);
                known.then_some(Does::Push)
            }
            _ if reads => Some(Does::Read),
            Target::Manifest(..) if *method == Method::PUT => Some(Does::Push),
            Target::Manifest(..) | Target::Blob(..) if deletes => Some(Does::Delete),
            Target::Manifest(..) | Target::Blob(..) | Target::Tags(_) | Target::Referrers(..) => None,
            Target::Home | Target::Live | Target::Ready | Target::Metrics | Target::Ping(_) | Target::Catalog => None,
        }
    }
}

async fn read(asked: Asked<'_>, target: &Target) -> Result<Reply, Refusal> {
    match target {
        Target::Home => Ok(health::home()),
        Target::Live => Ok(health::live()),
        Target::Ready => Ok(health::ready(asked.face)),
        Target::Metrics => Ok(health::metrics(asked.face)),
        Target::Ping(None) => Ok(Reply::bytes(StatusCode::OK, reply::JSON, "{}".into())),
        Target::Ping(Some(host)) => {
            asked.face.names.upstream(host.as_str())?;
            Ok(Reply::bytes(StatusCode::OK, reply::JSON, "{}".into()))
        }
        Target::Catalog => catalog::list(asked).await,
        Target::Manifest(spelling, reference) => manifests::get(asked, spelling, reference).await,
        Target::Blob(spelling, digest) => blobs::get(asked, spelling, digest).await,
        Target::Tags(spelling) => tags::list(asked, spelling).await,
        Target::Referrers(spelling, subject) => referrers::get(asked, spelling, subject).await,
        Target::Uploads(_) | Target::Upload(..) => Err(not_allowed(target)),
    }
}

async fn push(asked: Asked<'_>, target: &Target, body: Intake) -> Result<Reply, Refusal> {
    match target {
        Target::Manifest(spelling, reference) => push_manifests::put(asked, spelling, reference, body).await,
        Target::Uploads(spelling) => uploads::post(asked, spelling, body).await,
        Target::Upload(spelling, id) => match *asked.request.method() {
            Method::PATCH => uploads::patch(asked, spelling, *id, body).await,
            Method::PUT => uploads::put(asked, spelling, *id, body).await,
            Method::DELETE => uploads::delete(asked, spelling, *id).await,
            _ => uploads::get(asked, spelling, *id).await,
        },
        Target::Blob(..) | Target::Tags(_) | Target::Referrers(..) => Err(not_allowed(target)),
        Target::Home | Target::Live | Target::Ready | Target::Metrics | Target::Ping(_) | Target::Catalog => {
            Err(not_allowed(target))
        }
    }
}

async fn take_away(asked: Asked<'_>, target: &Target) -> Result<Reply, Refusal> {
    match target {
        Target::Manifest(spelling, reference) => delete::manifest(asked, spelling, reference).await,
        Target::Blob(spelling, digest) => delete::blob(asked, spelling, digest).await,
        Target::Uploads(_) | Target::Upload(..) | Target::Tags(_) | Target::Referrers(..) => Err(not_allowed(target)),
        Target::Home | Target::Live | Target::Ready | Target::Metrics | Target::Ping(_) | Target::Catalog => {
            Err(not_allowed(target))
        }
    }
}

fn not_allowed(target: &Target) -> Refusal {
    let allow = match target {
        Target::Manifest(..) => "GET, HEAD, PUT, DELETE",
        Target::Blob(..) => "GET, HEAD, DELETE",
        Target::Uploads(_) => "POST",
        Target::Upload(..) => "GET, PATCH, PUT, DELETE",
        Target::Home | Target::Live | Target::Ready | Target::Metrics | Target::Ping(_) | Target::Catalog => {
            "GET, HEAD"
        }
        Target::Tags(_) | Target::Referrers(..) => "GET, HEAD",
    };
    let message = format!("only {allow} can be done here");
    Refusal::from(RegistryError::new(ErrorCode::Unsupported, message))
        .with_header(ALLOW, HeaderValue::from_static(allow))
}
