//! What each route needs of its client. One table; `authorizer.rs` holds requests to it.

use actix_web::http::Method;

use crate::{
    access::Action,
    http::target::{AdminPage, Target},
};

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
    /// The administration's socket, whose permissions let only operators in.
    Admin,
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
        Target::Admin(AdminPage::Status | AdminPage::Repositories) => read.then_some(Needs::Admin),
        Target::Admin(AdminPage::Collect) => (*method == Method::POST).then_some(Needs::Admin),
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
