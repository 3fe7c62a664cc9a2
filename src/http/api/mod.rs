//! `/api/v1` over [`Admin`]: JSON for an operator, on the Unix socket only (DESIGN.md section 1).
//! `routes.rs` calls it; `needs.rs` has the methods.
//!
//! | path | method | answer |
//! |---|---|---|
//! | `/api/v1/status` | GET | the process, and the content it keeps |
//! | `/api/v1/repositories` | GET | the hosted repositories and what they hold |
//! | `/api/v1/lock` | GET | what the tags of mirrored images name |
//! | `/api/v1/lock?image=IMAGE&image=…` | GET | the same of these images |
//! | `/api/v1/pins` | GET | the images that are kept on disk |
//! | `/api/v1/pins/IMAGE` | PUT | pins an image (`pins.rs`) |
//! | `/api/v1/pins/IMAGE` | DELETE | removes its pins; 404 if there are none |
//! | `/api/v1/rm` | POST | removes images of upstreams, or says what that would do (`remove.rs`) |
//! | `/api/v1/images?match=…&last=…` | GET | a page of the images: what is here of each, and why |
//! | `/api/v1/digests/D` | GET | why a digest is on disk, and when it would be evicted |
//! | `/api/v1/savings` | GET | what clients were sent and what upstreams sent for it, day by day |
//! | `/api/v1/gc` | POST | collects content that no manifest needs |
//! | `/api/v1/gc?dry_run=true` | POST | only reports what it would collect |
//! | `/api/v1/gc?now=true` | POST | waits for no grace; also with `dry_run=true` |
//! | `/api/v1/trim?free=N` | POST | evicts N bytes now; `dry_run=true` only reports |
//! | `/api/v1/trim?to=N` | POST | evicts until N bytes are cached; the same |
//! | `/api/v1/pull` | POST | fetches the images of its JSON body, and streams how it goes |
//!
//! Errors have the registry's form. A query key that is not in the table is 400: a dry run with a
//! misspelled name must not remove anything.

mod document;
mod parameters;
mod pins;
mod pull;
mod remove;

use std::sync::Arc;

use actix_web::http::Method;

use self::{
    document::json,
    parameters::{bad, images, none, switches},
};
use crate::{
    admin::{Admin, CollectOptions, Cursor, TrimTarget},
    http::{
        answer::{errors::HttpError, reply::Reply},
        request_body::RequestBody,
        target::AdminPage,
    },
    oci::{ErrorCode, RegistryError},
};

/// Answers one page. `query` is the raw query; the method is one that `needs.rs` lets through.
pub(crate) async fn answer(
    admin: &Arc<Admin>,
    page: &AdminPage,
    method: &Method,
    query: &str,
    body: RequestBody,
) -> Result<Reply, HttpError> {
    match page {
        AdminPage::Status => {
            none(query)?;
            Ok(json(&admin.status().await)?)
        }
        AdminPage::Repositories => {
            none(query)?;
            Ok(json(&admin.repositories().await?)?)
        }
        AdminPage::Lock => {
            let images = images(query)?;
            Ok(json(&admin.lock(&images).await?)?)
        }
        AdminPage::Pins => pins::list(admin, query).await,
        AdminPage::Pin(image) => pins::change(admin, method, image, query).await,
        AdminPage::Remove => remove::post(admin, query).await,
        AdminPage::Images => {
            let (texts, last) = images_asked(query)?;
            let selection = admin.selection(&texts).await?;
            let last = last.as_deref().map(Cursor::parse).transpose()?;
            Ok(json(&admin.images(&selection, last).await?)?)
        }
        AdminPage::Digest(digest) => {
            none(query)?;
            let unknown = || RegistryError::new(ErrorCode::Unknown, format!("{digest} is not known here"));
            let report = admin.digest(digest).await?;
            Ok(json(&report.ok_or_else(|| unknown().with_status(404))?)?)
        }
        AdminPage::Savings => {
            none(query)?;
            Ok(json(&admin.savings().await)?)
        }
        AdminPage::Collect => {
            let [dry_run, now] = switches(query, ["dry_run", "now"])?;
            Ok(json(&admin.collect(CollectOptions { dry_run, now }).await?)?)
        }
        AdminPage::Trim => {
            let (target, dry_run) = trim(query)?;
            Ok(json(&admin.trim(target, dry_run).await?)?)
        }
        AdminPage::Pull => {
            none(query)?;
            pull::post(admin, body).await
        }
    }
}

/// The values of `match`, which may stand more than once, and of `last`.
fn images_asked(query: &str) -> Result<(Vec<String>, Option<String>), RegistryError> {
    let (mut texts, mut last) = (Vec::new(), None);
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match key.as_ref() {
            "match" => texts.push(value.into_owned()),
            "last" if last.is_none() => last = Some(value.into_owned()),
            "last" => return Err(bad("last must be given once")),
            _ => return Err(bad(format!("unknown query key {key:?}"))),
        }
    }
    Ok((texts, last))
}

/// One of `free` and `to`, in bytes, and `dry_run`.
fn trim(query: &str) -> Result<(TrimTarget, bool), RegistryError> {
    let (target, rest) = query.split_once('&').unwrap_or((query, ""));
    let target = match target.split_once('=').map(|(key, bytes)| (key, bytes.parse())) {
        Some(("free", Ok(bytes))) => TrimTarget::Free(bytes),
        Some(("to", Ok(bytes))) => TrimTarget::To(bytes),
        Some(_) | None => return Err(bad("free or to must come first, with a number of bytes")),
    };
    let [dry_run] = switches(rest, ["dry_run"])?;
    Ok((target, dry_run))
}
