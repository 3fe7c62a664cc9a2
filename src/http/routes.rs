//! Every route of every listener, on one page.
//!
//! | path | GET, HEAD | other methods |
//! |---|---|---|
//! | `/`, `/livez`, `/readyz`, `/metrics` | [`health`] | 405 |
//! | `/v2/` | `{}` at once, without upstream; a challenge where there are users | 405 |
//! | `/v2/token`, `/token` | GET [`token`] | POST [`token`] |
//! | `/v2/_catalog` | [`catalog`] | 405 |
//! | `/v2/NAME/manifests/REFERENCE` | [`manifests`] | PUT [`push_manifests`], DELETE [`delete`] |
//! | `/v2/NAME/blobs/DIGEST` | [`blobs`] | DELETE [`delete`] |
//! | `/v2/NAME/blobs/uploads/` | 405 | POST [`uploads`] |
//! | `/v2/NAME/blobs/uploads/ID` | GET [`uploads`] | PATCH, PUT, DELETE [`uploads`] |
//! | `/v2/NAME/tags/list` | [`tags`] | 405 |
//! | `/v2/NAME/referrers/DIGEST` | [`referrers`] | 405 |
//! | `/api/v1/{status,repositories,savings}` | [`api`], on the administration's socket | 405 |
//! | `/api/v1/{images,lock,pins}` | [`api`], on the same socket | 405 |
//! | `/api/v1/digests/D` | [`api`], on the same socket | 405 |
//! | `/api/v1/pins/IMAGE` | 405 | PUT, DELETE [`api`], on the same socket |
//! | `/api/v1/{gc,trim,pull,rm}` | 405 | POST [`api`], on the same socket |
//!
//! `NAME` may have a registry's name in front, and so may `/v2/`. [`needs`] says what each route
//! needs; [`authorizer::admit`] checks that the client has it before anything else is done. A token
//! is valid for the repository of the path only. The `from=` of a mount goes by what the user may
//! pull, and so does the list of the catalogue ([`RequestContext::may_pull`]).

use std::{pin::pin, task::Poll, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method, StatusCode,
        header::{ALLOW, HeaderName, HeaderValue, UPGRADE},
    },
    web::{Data, Payload},
};
use tokio::time::{Instant, timeout_at};

use crate::{
    access::Action,
    http::{
        answer::{
            access_log::LogEntry, body::ReplyBody, delivery::Delivery, errors, errors::HttpError, reply, reply::Reply,
        },
        api, authorizer, health,
        needs::{Needs, needs},
        query::Query,
        request::{RequestContext, resolve},
        request_body::RequestBody,
        services::{ListenerRole, Services},
        target::{self, Target},
        v2::{blobs, catalog, delete, manifests, push_manifests, referrers, tags, token, uploads},
    },
    oci::{ErrorCode, RegistryError},
};

/// Tells a client that its `ns=` was understood (distribution-spec, "Registry Proxying").
const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");

/// The one handler of all listeners; actix-web's own router would decode the path. `patience`
/// bounds the time from a pull's head to the head of its answer.
pub(crate) async fn serve(
    request: HttpRequest,
    services: Data<Services>,
    body: Payload,
    patience: Duration,
) -> HttpResponse<ReplyBody> {
    let path = request.uri().path();
    let mut exchange = Exchange {
        request: &request,
        services: &services,
        entry: LogEntry::new(&request, &services.metrics),
        delivery: Delivery::new(&request),
        scope: None,
    };
    if services.role == ListenerRole::Admin {
        exchange.entry.kind("api");
    }
    let routed = route(&mut exchange, body, patience).await;
    let Exchange { entry, mut delivery, scope, .. } = exchange;
    let mut reply = match routed {
        Ok(reply) => reply,
        Err(error) => error.into_reply(path),
    };
    if let Some(ns) = scope {
        reply.text(NAMESPACE, &ns);
    }
    let below_v2 = path.starts_with("/v2/") || path.split('/').skip(1).take(2).any(|segment| segment == "v2");
    let registry = below_v2 && services.role != ListenerRole::Admin;
    if !reply.fits_in_memory(&mut delivery, request.method()) {
        reply = errors::too_much_in_memory().into_reply(path);
    }
    reply.send(request.method(), registry, entry, delivery)
}

/// A request on its way to its answer.
struct Exchange<'a> {
    request: &'a HttpRequest,
    services: &'a Services,
    entry: LogEntry,
    delivery: Delivery,
    /// The value of `ns=`, if it named the registry that was meant.
    scope: Option<String>,
}

/// Routes a request: what its path means, what that needs, whether the client has it, the answer.
async fn route(exchange: &mut Exchange<'_>, body: Payload, patience: Duration) -> Result<Reply, HttpError> {
    let Exchange { request, services, entry, delivery, scope } = exchange;
    let uri = request.uri();
    if uri.scheme().is_some() || uri.authority().is_some() {
        let error = RegistryError::new(ErrorCode::Unsupported, "lanyard is not an open proxy").with_status(400);
        return Err(error.into());
    }
    // A websocket's body has no end: bytes that follow on the connection would be taken for it
    // (S29).
    let websocket = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket");
    if request.headers().get_all(UPGRADE).any(websocket) {
        let error = RegistryError::new(ErrorCode::Unsupported, "lanyard does not speak websocket").with_status(400);
        return Err(error.into());
    }
    let target = meant(uri.path(), services.role)?;
    entry.kind(target.kind());
    let Some(needs) = needs(&target, request.method()).filter(|needs| services.answers(*needs)) else {
        return Err(not_allowed(&target, services.role));
    };
    if let (Target::Admin(page), Some(admin)) = (&target, &services.admin) {
        // On the heap: 2,656 bytes that no other route needs.
        let (query, body) = (uri.query().unwrap_or_default(), RequestBody::new(body, request));
        return Box::pin(api::answer(admin, page, request.method(), query, body)).await;
    }
    let query = Query::parse(uri.query().unwrap_or_default())?;
    let place = match (needs, target.spelling()) {
        (Needs::Right(action), Some(spelling)) => {
            let repository = resolve(services, spelling, query.ns.as_deref(), action, target.blob())?;
            entry.about(&repository);
            scope.clone_from(&query.ns);
            Some((spelling, repository))
        }
        (Needs::Right(_) | Needs::Nothing | Needs::Greeting | Needs::List | Needs::Admin, _) => None,
    };
    let principal = authorizer::admit(request, services, &target, needs, place.as_ref()).await?;
    entry.by(principal.user());
    let repository = place.map(|(_, repository)| repository);
    let context = RequestContext {
        request,
        services,
        query,
        entry,
        delivery,
        principal,
        body: RequestBody::new(body, request),
        repository,
    };
    let deadline = Instant::from_std(context.entry.began()) + patience;
    let answer = answer(context, target);
    // Work that waits for upstream continues without the request, and the next request joins it.
    let waits = matches!(needs, Needs::Right(Action::Pull));
    let mut answer = pin!(answer);
    if !waits {
        return answer.await;
    }
    // An answer that is ready at once needs no timer.
    match futures_util::poll!(answer.as_mut()) {
        Poll::Ready(answered) => answered,
        Poll::Pending => match timeout_at(deadline, answer).await {
            Ok(answered) => answered,
            Err(_) => Err(late(patience)),
        },
    }
}

/// What the path means to a listener of this role. The administration's pages exist on its socket
/// only, and its socket has no other page.
fn meant(path: &str, role: ListenerRole) -> Result<Target, RegistryError> {
    match (role, Target::parse(path)) {
        (ListenerRole::Admin, Ok(page @ Target::Admin(_))) => Ok(page),
        (ListenerRole::Admin, _) | (ListenerRole::Full | ListenerRole::PullOnly, Ok(Target::Admin(_))) => {
            Err(target::nowhere())
        }
        (ListenerRole::Full | ListenerRole::PullOnly, target) => target,
    }
}

/// 504. A client that waits longer for a head gives this mirror up and starts again (containerd
///      after 30 s).
fn late(patience: Duration) -> HttpError {
    let message = format!(
        "upstream has not answered within {} s; lanyard goes on asking, and the next try joins it",
        patience.as_secs_f64()
    );
    let mut error = RegistryError::new(ErrorCode::Unavailable, message).with_status(504);
    error.retry_after = Some(Duration::from_secs(1));
    error.into()
}

/// Answers the two most frequent routes. The others go to the heap: 6,896 bytes that a pull does
/// not need.
async fn answer(context: RequestContext<'_>, target: Target) -> Result<Reply, HttpError> {
    let reads = matches!(*context.request.method(), Method::GET | Method::HEAD);
    match target {
        Target::Manifest(spelling, reference) if reads => manifests::get(context, &spelling, &reference).await,
        Target::Blob(spelling, digest) if reads => blobs::get(context, &spelling, &digest).await,
        target => Box::pin(answer_others(context, target)).await,
    }
}

async fn answer_others(context: RequestContext<'_>, target: Target) -> Result<Reply, HttpError> {
    // The table in `needs.rs` has refused all other methods.
    let method = context.request.method().clone();
    match target {
        Target::Home => Ok(health::home()),
        Target::Live => Ok(health::live()),
        Target::Ready => Ok(health::ready(context.services)),
        Target::Metrics => Ok(health::metrics(context.services)),
        Target::Ping(None) => Ok(Reply::bytes(StatusCode::OK, reply::JSON, "{}".into())),
        Target::Ping(Some(host)) => {
            context.services.names.upstream(host.as_str())?;
            Ok(Reply::bytes(StatusCode::OK, reply::JSON, "{}".into()))
        }
        Target::Token => token::get(context).await,
        Target::Catalog => catalog::list(context).await,
        Target::Manifest(_, reference) if method == Method::PUT => push_manifests::put(context, &reference).await,
        Target::Manifest(_, reference) if method == Method::DELETE => delete::manifest(context, &reference).await,
        Target::Blob(_, digest) if method == Method::DELETE => delete::blob(context, &digest).await,
        Target::Manifest(..) | Target::Blob(..) | Target::Admin(_) => Err(not_allowed(&target, context.services.role)),
        Target::Tags(spelling) => tags::list(context, &spelling).await,
        Target::Referrers(_, subject) => referrers::get(context, &subject).await,
        Target::Uploads(_) => uploads::post(context).await,
        Target::Upload(_, id) => match method {
            Method::PATCH => uploads::patch(context, id).await,
            Method::PUT => uploads::put(context, id).await,
            Method::DELETE => uploads::delete(context, id).await,
            _ => uploads::get(context, id).await,
        },
    }
}

fn not_allowed(target: &Target, role: ListenerRole) -> HttpError {
    let allow = match target {
        _ if role == ListenerRole::PullOnly => "GET, HEAD",
        Target::Token => "GET, POST",
        Target::Manifest(..) => "GET, HEAD, PUT, DELETE",
        Target::Blob(..) => "GET, HEAD, DELETE",
        Target::Uploads(_) => "POST",
        Target::Upload(..) => "GET, PATCH, PUT, DELETE",
        Target::Home | Target::Live | Target::Ready | Target::Metrics | Target::Ping(_) | Target::Catalog => {
            "GET, HEAD"
        }
        Target::Tags(_) | Target::Referrers(..) => "GET, HEAD",
        Target::Admin(page) => page.allow(),
    };
    let message = match role {
        ListenerRole::PullOnly => "this address only pulls; push to lanyard's other one (listen)".to_owned(),
        ListenerRole::Full => format!("only {allow} can be done here"),
        ListenerRole::Admin => format!("only {allow} is answered here"),
    };
    HttpError::from(RegistryError::new(ErrorCode::Unsupported, message))
        .with_header(ALLOW, HeaderValue::from_static(allow))
}
