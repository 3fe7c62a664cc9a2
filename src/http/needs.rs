//! What each route needs of its client: one table, read by `routes.rs`, held by `authorizer.rs`.
//!
//! A route with a method that the table does not have is answered 405. Which listener has which
//! needs is in `services.rs`.

use actix_web::http::Method;

use crate::{access::Action, http::target::Target};

/// What a client must have before anything is done for its request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Needs {
    /// Nothing.
    Nothing,
    /// `/v2/`: a token or a password, where there are users.
    Greeting,
    /// `/v2/_catalog`: a password or a token for the catalogue, where there are users. The answer
    /// lists only repositories that the principal may pull.
    List,
    /// This right to the repository of the path.
    Right(Action),
    /// The administration's socket. Its file permissions let only operators connect.
    Admin,
}

/// The table of all routes. None: the route does not take this method.
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
        Target::Admin(page) => page.allow().split(", ").any(|one| one == method.as_str()).then_some(Needs::Admin),
    }
}

/// The right that a route of a repository needs.
fn action(target: &Target, method: &Method) -> Option<Action> {
    match (target, method.as_str()) {
        (Target::Manifest(..) | Target::Blob(..) | Target::Tags(_) | Target::Referrers(..), "GET" | "HEAD") => {
            Some(Action::Pull)
        }
        (Target::Manifest(..), "PUT") => Some(Action::Push),
        (Target::Manifest(..) | Target::Blob(..), "DELETE") => Some(Action::Delete),
        (Target::Uploads(_), "POST") => Some(Action::Push),
        // Only the pusher looks at an upload or cancels it.
        (Target::Upload(..), "GET" | "PATCH" | "PUT" | "DELETE") => Some(Action::Push),
        _ => None,
    }
}
