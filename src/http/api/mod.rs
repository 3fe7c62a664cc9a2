//! `/api/v1` over [`Admin`]: JSON for an operator, on the Unix socket only (DESIGN.md section 1).
//! `routes.rs` calls it; `needs.rs` has the methods.
//!
//! | path | method | answer |
//! |---|---|---|
//! | `/api/v1/status` | GET | the process, and the content it keeps |
//! | `/api/v1/repositories` | GET | the hosted repositories and what they hold |
//! | `/api/v1/gc` | POST | collects content that no manifest needs |
//! | `/api/v1/gc?dry_run=true` | POST | only reports what it would collect |
//! | `/api/v1/gc?now=true` | POST | waits for no grace; also with `dry_run=true` |
//!
//! Errors have the registry's form. A query key that is not in the table is 400: a dry run with a
//! misspelled name must not remove anything.

use actix_web::http::{
    StatusCode,
    header::{CACHE_CONTROL, HeaderValue},
};
use serde::Serialize;

use crate::{
    admin::{Admin, CollectOptions},
    http::{
        answer::{
            errors::HttpError,
            reply::{JSON, Reply},
        },
        target::AdminPage,
    },
    oci::{ErrorCode, RegistryError},
};

/// Answers one page. `query` is the raw query; the method is one that `needs.rs` lets through.
pub(crate) async fn answer(admin: &Admin, page: AdminPage, query: &str) -> Result<Reply, HttpError> {
    match page {
        AdminPage::Status => {
            none(query)?;
            Ok(json(&admin.status().await)?)
        }
        AdminPage::Repositories => {
            none(query)?;
            Ok(json(&admin.repositories().await?)?)
        }
        AdminPage::Collect => {
            let [dry_run, now] = switches(query, ["dry_run", "now"])?;
            Ok(json(&admin.collect(CollectOptions { dry_run, now }).await?)?)
        }
    }
}

fn json(value: &impl Serialize) -> Result<Reply, RegistryError> {
    let text = serde_json::to_vec(value).map_err(|error| RegistryError::new(ErrorCode::Unknown, error.to_string()))?;
    let mut reply = Reply::bytes(StatusCode::OK, JSON, text.into());
    reply.header(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(reply)
}

fn none(query: &str) -> Result<(), RegistryError> {
    match url::form_urlencoded::parse(query.as_bytes()).next() {
        Some((key, _)) => Err(bad(format!("unknown query key {key:?}"))),
        None => Ok(()),
    }
}

/// The values of these keys. Each may stand once, as `true` or `false`; an absent one is false.
fn switches<const N: usize>(query: &str, keys: [&str; N]) -> Result<[bool; N], RegistryError> {
    let mut said = [None; N];
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let Some(at) = keys.iter().position(|known| *known == key) else {
            return Err(bad(format!("unknown query key {key:?}")));
        };
        said[at] = match (value.as_ref(), said[at]) {
            ("true", None) => Some(true),
            ("false", None) => Some(false),
            _ => return Err(bad(format!("{key} must be given once, as true or false"))),
        };
    }
    Ok(said.map(|said| said.unwrap_or(false)))
}

fn bad(message: impl Into<String>) -> RegistryError {
    RegistryError::new(ErrorCode::Unsupported, message).with_status(400)
}
