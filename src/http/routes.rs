//! Every route, on one page.
//!
//! | path | GET, HEAD | anything else |
//! |---|---|---|
//! | `/`, `/livez`, `/readyz`, `/metrics` | [`health`] | 405 |
//! | `/v2/` | `{}`, at once, whatever upstream does; a challenge where there are users | 405 |
//! | `/v2/token`, `/token` | GET [`token`] | POST [`token`] |
//! | `/v2/_catalog` | [`catalog`] | 405 |
//! | `/v2/NAME/manifests/REFERENCE` | [`manifests`] | PUT [`push_manifests`], DELETE [`delete`] |
//! | `/v2/NAME/blobs/DIGEST` | [`blobs`] | DELETE [`delete`] |
//! | `/v2/NAME/blobs/uploads/` | 405 | POST [`uploads`] |
//! | `/v2/NAME/blobs/uploads/ID` | GET [`uploads`] | PATCH, PUT, DELETE [`uploads`] |
//! | `/v2/NAME/tags/list` | [`tags`] | 405 |
//! | `/v2/NAME/referrers/DIGEST` | [`referrers`] | 405 |
//!
//! `NAME` may have a registry's name in front, and `/v2/` may too. [`needs`] is the table of what
//! each route needs, and [`authorizer::admit`] decides whether whoever asks has it, before anything else
//! is done. A token is held to the repository of the path; `from=` of a mount goes by what its user
//! may pull, and so does what the catalogue lists to a token that was asked for the catalogue
//! ([`Asked::may_pull`]).

use std::{pin::pin, sync::Arc, task::Poll, time::Duration};

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
    access::{Action, Principal},
    http::{
        Face, Side,
        answer::{access_log::Entry, body::Body, errors::Refusal, reply, reply::Reply},
        authorizer, health,
        query::Query,
        request_body::Intake,
        target::Target,
        transport::places,
        v2::{blobs, catalog, delete, manifests, push_manifests, referrers, tags, token, uploads},
    },
    names::Spelling,
    oci::{Digest, ErrorCode, RegistryError, Repository, RepositoryName},
    pull::PullError,
    push::MayPull,
};

/// Tells a client that its `ns=` was understood (distribution-spec, "Registry Proxying").
const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");

/// A request that has been understood, for the files that answer it.
pub(crate) struct Asked<'a> {
    pub(crate) request: &'a HttpRequest,
    pub(crate) face: &'a Face,
    pub(crate) query: Query,
    pub(crate) entry: &'a mut Entry,
    /// Who asks; has the right that the table says.
    pub(crate) principal: Principal,
    /// The request's body.
    pub(crate) body: Intake,
    repository: Option<Repository>,
}

/// What a request has to have before anything is done for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Needs {
    /// Nothing.
    Nothing,
    /// `/v2/`: where there are users, a token or a password.
    Greeting,
    /// `/v2/_catalog`: where there are users, a password or a token for it. What is listed is what
    /// the principal may pull.
    List,
    /// This right to the repository of the path.
    Right(Action),
}

/// The table of all routes. None: nothing is done at this path with this method.
pub(crate) fn needs(target: &Target, method: &Method) -> Option<Needs> {
    let read = matches!(*method, Method::GET | Method::HEAD);
    match target {
        Target::Home | Target::Live | Target::Ready | Target::Metrics => read.then_some(Needs::Nothing),
        Target::Token => matches!(*method, Method::GET | Method::POST).then_some(Needs::Nothing),
        Target::Ping(_) => read.then_some(Needs::Greeting),
        Target::Catalog => read.then_some(Needs::List),
        Target::Manifest(..) | Target::Blob(..) | Target::Tags(_) | Target::Referrers(..) => {
            action(target, method).map(Needs::Right)
        }
        Target::Uploads(_) | Target::Upload(..) => action(target, method).map(Needs::Right),
    }
}

/// The same for the paths of a repository.
fn action(target: &Target, method: &Method) -> Option<Action> {
    match (target, method.as_str()) {
        (Target::Manifest(..) | Target::Blob(..) | Target::Tags(_) | Target::Referrers(..), "GET" | "HEAD") => {
            Some(Action::Pull)
        }
        (Target::Manifest(..), "PUT") => Some(Action::Push),
        (Target::Manifest(..) | Target::Blob(..), "DELETE") => Some(Action::Delete),
        (Target::Uploads(_), "POST") => Some(Action::Push),
        // Looking at an upload and cancelling it are the pusher's business.
        (Target::Upload(..), "GET" | "PATCH" | "PUT" | "DELETE") => Some(Action::Push),
        _ => None,
    }
}

impl Asked<'_> {
    pub(crate) fn is_head(&self) -> bool {
        *self.request.method() == Method::HEAD
    }

    /// The repository that the path and its `ns=` mean. It is looked up once for each request: what was authorized is what is
    /// served. An error where the path means none.
    pub(crate) fn repository(&self) -> Result<Repository, RegistryError> {
        self.repository.clone().ok_or_else(|| RegistryError::new(ErrorCode::NameInvalid, "there is no repository here"))
    }

    /// The same for a request that pushes; an error where the name takes no push.
    pub(crate) fn push_target(&self) -> Result<Repository, RegistryError> {
        let repository = self.repository()?;
        let push = &self.face.push;
        let here = self.is_here();
        let taken =
            push.takes(&repository).and_then(|()| if here { Ok(()) } else { push.takes_from_others(&repository) });
        taken.map_err(|refused| refused.to_registry_error())?;
        Ok(repository)
    }

    /// Whether this machine itself asks.
    pub(crate) fn is_here(&self) -> bool {
        self.face.peer(self.request) == Principal::Loopback
    }

    /// Another repository in which anybody at this client's address may have what `repository` only
    /// names, where upstream cannot be asked. What a user may do is left out: its token may be
    /// narrower.
    pub(crate) async fn other_holder(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Repository>, PullError> {
        let (face, peer) = (self.face.clone(), self.face.peer(self.request));
        let may_pull =
            move |holder: &Repository| face.shows(holder) && face.access.authorize(&peer, Action::Pull, holder).is_ok();
        self.face.pull.holder(repository, digest, may_pull).await
    }

    /// Whether a push to this name would go to a hosted repository that is not there yet: a client that reads it meets the
    /// mirrored one.
    pub(crate) fn could_be_pushed_to(&self, spelling: &Spelling) -> bool {
        let pushed = resolve(self.face, spelling, self.query.ns.as_deref(), Action::Push, None);
        self.face.side == Side::Whole
            && pushed.is_ok_and(|pushed| self.face.push.takes(&pushed).is_ok() && Some(pushed) != self.repository)
    }

    /// The repository that a name in the query means to a client that reads this blob.
    pub(crate) fn named(&self, name: &str, blob: &Digest) -> Result<Repository, RegistryError> {
        let name = name.parse::<RepositoryName>();
        let name = name.map_err(|error| RegistryError::new(ErrorCode::NameInvalid, error.to_string()))?;
        resolve(self.face, &Spelling { host: None, name }, None, Action::Pull, Some(blob))
    }

    /// Whether this client may pull from repositories that its path does not name: to mount from
    /// one, to list them. That goes by who it is. Which repositories its token was asked for is not
    /// looked at: docker brings one for the target of a mount alone, and the one for the catalogue
    /// names none.
    pub(crate) fn may_pull(&self) -> MayPull {
        let access = Arc::clone(&self.face.access);
        // Signing in takes nothing away.
        let everybody = [self.principal.clone(), self.face.peer(self.request)];
        let face = self.face.clone();
        Arc::new(move |repo| {
            face.shows(repo) && everybody.iter().any(|who| access.authorize(who, Action::Pull, repo).is_ok())
        })
    }

    /// Whose uploads these are, for their number: a user's, or an address's, as [`places::owner`]
    /// counts those.
    pub(crate) fn owner(&self) -> String {
        match self.principal.user() {
            Some(user) => format!("user {user}"),
            None => places::owner(self.face.site.client(self.request).address).to_string(),
        }
    }
}

/// What a path and its `ns=` mean, where it names a blob with that. Pushes and deletions are about hosted repositories, whether they exist or not, unless the
/// client names an upstream.
pub(crate) fn resolve(
    face: &Face,
    spelling: &Spelling,
    ns: Option<&str>,
    action: Action,
    blob: Option<&Digest>,
) -> Result<Repository, RegistryError> {
    let hosted = |name: &RepositoryName| face.side == Side::Whole && face.pull.hosts(name, blob);
    face.names.resolve(spelling, ns, |name| action != Action::Pull || hosted(name))
}

/// The one handler: actix-web's router would decode the path. `patience`: how long a pull may take
/// to its head.
pub(crate) async fn serve(
    request: HttpRequest,
    face: Data<Face>,
    body: Payload,
    patience: Duration,
) -> HttpResponse<Body> {
    let mut entry = Entry::new(&request, &face.metrics);
    let path = request.uri().path();
    let mut scope = None;
    let mut reply = match route(&request, &face, &mut entry, body, patience, &mut scope).await {
        Ok(reply) => reply,
        Err(refusal) => refusal.into_reply(path),
    };
    if let Some(ns) = scope {
        reply.text(NAMESPACE, &ns);
    }
    let registry = path.starts_with("/v2/") || path.split('/').skip(1).take(2).any(|segment| segment == "v2");
    reply.is_carried_by(&mut entry, request.method(), path);
    reply.send(request.method(), registry, entry)
}

/// `scope` becomes the value of `ns=` where that has said which registry is meant.
async fn route(
    request: &HttpRequest,
    face: &Face,
    entry: &mut Entry,
    body: Payload,
    patience: Duration,
    scope: &mut Option<String>,
) -> Result<Reply, Refusal> {
    let uri = request.uri();
    if uri.scheme().is_some() || uri.authority().is_some() {
        let error = RegistryError::new(ErrorCode::Unsupported, "lanyard is no open proxy").with_status(400);
        return Err(error.into());
    }
    // Whose body would have no end: what follows on the connection would be taken for it (S29).
    let websocket = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket");
    if request.headers().get_all(UPGRADE).any(websocket) {
        let error = RegistryError::new(ErrorCode::Unsupported, "lanyard does not speak websocket").with_status(400);
        return Err(error.into());
    }
    let target = Target::parse(uri.path())?;
    entry.kind(target.kind());
    let Some(needs) = needs(&target, request.method()).filter(|needs| face.answers(*needs)) else {
        return Err(not_allowed(&target, face.side));
    };
    let query = Query::parse(uri.query().unwrap_or_default())?;
    let place = match (needs, target.spelling()) {
        (Needs::Right(action), Some(spelling)) => {
            let repository = resolve(face, spelling, query.ns.as_deref(), action, target.blob())?;
            entry.about(&repository);
            scope.clone_from(&query.ns);
            Some((spelling, repository))
        }
        (Needs::Right(_) | Needs::Nothing | Needs::Greeting | Needs::List, _) => None,
    };
    let principal = authorizer::admit(request, face, &target, needs, place.as_ref()).await?;
    entry.by(principal.user());
    let repository = place.map(|(_, repository)| repository);
    let asked = Asked { request, face, query, entry, principal, body: Intake::new(body, request), repository };
    let deadline = Instant::from_std(asked.entry.began()) + patience;
    let answer = answer(asked, target);
    // What waits for upstream goes on without the request, and the next one joins it.
    let waits = matches!(needs, Needs::Right(Action::Pull));
    let mut answer = pin!(answer);
    if !waits {
        return answer.await;
    }
    // What is at hand needs no clock.
    match futures_util::poll!(answer.as_mut()) {
        Poll::Ready(answered) => answered,
        Poll::Pending => match timeout_at(deadline, answer).await {
            Ok(answered) => answered,
            Err(_) => Err(late(patience)),
        },
    }
}

/// A client that waits longer for a head gives this mirror up, and begins again (containerd after
/// 30 s).
fn late(patience: Duration) -> Refusal {
    let message = format!(
        "upstream has not answered within {} s; lanyard goes on asking, and the next try joins it",
        patience.as_secs_f64()
    );
    let mut error = RegistryError::new(ErrorCode::Unavailable, message).with_status(504);
    error.retry_after = Some(Duration::from_secs(1));
    error.into()
}

/// What is asked for most is answered here. The rest is on the heap, so that a pull makes no room for a push.
async fn answer(asked: Asked<'_>, target: Target) -> Result<Reply, Refusal> {
    let reads = matches!(*asked.request.method(), Method::GET | Method::HEAD);
    match target {
        Target::Manifest(spelling, reference) if reads => manifests::get(asked, &spelling, &reference).await,
        Target::Blob(spelling, digest) if reads => blobs::get(asked, &spelling, &digest).await,
        target => Box::pin(answer_others(asked, target)).await,
    }
}

async fn answer_others(asked: Asked<'_>, target: Target) -> Result<Reply, Refusal> {
    // The table has let through no other method.
    let method = asked.request.method().clone();
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
        Target::Token => token::get(asked).await,
        Target::Catalog => catalog::list(asked).await,
        Target::Manifest(_, reference) if method == Method::PUT => push_manifests::put(asked, &reference).await,
        Target::Manifest(_, reference) if method == Method::DELETE => delete::manifest(asked, &reference).await,
        Target::Blob(_, digest) if method == Method::DELETE => delete::blob(asked, &digest).await,
        Target::Manifest(..) | Target::Blob(..) => Err(not_allowed(&target, asked.face.side)),
        Target::Tags(spelling) => tags::list(asked, &spelling).await,
        Target::Referrers(_, subject) => referrers::get(asked, &subject).await,
        Target::Uploads(_) => uploads::post(asked).await,
        Target::Upload(_, id) => match method {
            Method::PATCH => uploads::patch(asked, id).await,
            Method::PUT => uploads::put(asked, id).await,
            Method::DELETE => uploads::delete(asked, id).await,
            _ => uploads::get(asked, id).await,
        },
    }
}

fn not_allowed(target: &Target, side: Side) -> Refusal {
    let allow = match target {
        _ if side == Side::Mirror => "GET, HEAD",
        Target::Token => "GET, POST",
        Target::Manifest(..) => "GET, HEAD, PUT, DELETE",
        Target::Blob(..) => "GET, HEAD, DELETE",
        Target::Uploads(_) => "POST",
        Target::Upload(..) => "GET, PATCH, PUT, DELETE",
        Target::Home | Target::Live | Target::Ready | Target::Metrics | Target::Ping(_) | Target::Catalog => {
            "GET, HEAD"
        }
        Target::Tags(_) | Target::Referrers(..) => "GET, HEAD",
    };
    let message = match side {
        Side::Mirror => "this address only pulls; push to lanyard's other one (listen)".to_owned(),
        Side::Whole => format!("only {allow} can be done here"),
    };
    Refusal::from(RegistryError::new(ErrorCode::Unsupported, message))
        .with_header(ALLOW, HeaderValue::from_static(allow))
}
