//! What a request's path means: the end points of the distribution specification, read from the
//! *raw* path. Called by `routes.rs`; pure.
//!
//! Nothing is decoded. A path that needs an escape has no meaning here, so `%2f`, `%2e`, `%5c`,
//! `%00`, `//`, `..`, backslashes and bytes beyond ASCII all end as 400 or 404, and never as a file
//! name (S13). One escape is understood, because some clients send it: `%3a` for the colon of a
//! digest.
//!
//! A name may contain the words `manifests`, `blobs`, `tags`, `referrers` and `uploads`: the *last*
//! keyword splits the path.

use crate::{
    names::Spelling,
    oci::{Digest, ErrorCode, Reference, RegistryError, RepositoryName, UpstreamName},
    push::UploadId,
};

/// Everything a path can mean.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    /// `/`
    Home,
    /// `/livez`
    Live,
    /// `/readyz`
    Ready,
    /// `/metrics`
    Metrics,
    /// `/v2/token` and `/token`. The first is no end point of a repository called `token`.
    Token,
    /// `/v2`, `/v2/`, `/HOST/v2`, `/HOST/v2/`
    Ping(Option<UpstreamName>),
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/NAME/manifests/REFERENCE`
    Manifest(Spelling, Reference),
    /// `/v2/NAME/blobs/DIGEST`
    Blob(Spelling, Digest),
    /// `/v2/NAME/tags/list`
    Tags(Spelling),
    /// `/v2/NAME/referrers/DIGEST`
    Referrers(Spelling, Digest),
    /// `/v2/NAME/blobs/uploads`, `/v2/NAME/blobs/uploads/`
    Uploads(Spelling),
    /// `/v2/NAME/blobs/uploads/ID`
    Upload(Spelling, UploadId),
    /// `/api/v1/…`
    Admin(AdminPage),
}

/// A page of the administration's API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum AdminPage {
    /// `/api/v1/status`
    Status,
    /// `/api/v1/repositories`
    Repositories,
    /// `/api/v1/lock`
    Lock,
    /// `/api/v1/images`
    Images,
    /// `/api/v1/digests/D`
    Digest(Digest),
    /// `/api/v1/savings`
    Savings,
    /// `/api/v1/gc`
    Collect,
    /// `/api/v1/trim`
    Trim,
    /// `/api/v1/pull`
    Pull,
    /// `/api/v1/rm`
    Remove,
    /// `/api/v1/pins`
    Pins,
    /// `/api/v1/pins/IMAGE`, with the image as an operator writes it.
    Pin(String),
}

impl AdminPage {
    /// The methods that the page takes, as an `Allow` header lists them (RFC 9110, 10.2.1).
    pub(crate) fn allow(&self) -> &'static str {
        match self {
            AdminPage::Status
            | AdminPage::Repositories
            | AdminPage::Lock
            | AdminPage::Images
            | AdminPage::Digest(_)
            | AdminPage::Savings
            | AdminPage::Pins => "GET, HEAD",
            AdminPage::Pin(_) => "PUT, DELETE",
            AdminPage::Collect | AdminPage::Trim | AdminPage::Pull | AdminPage::Remove => "POST",
        }
    }
}

impl Target {
    /// Reads a raw path, without its query.
    ///
    /// # Errors
    /// The client's: 400 with the specification's code where the form is right and a part is not,
    /// 404 where there is no such end point.
    pub(crate) fn parse(path: &str) -> Result<Target, RegistryError> {
        match path {
            "/" => return Ok(Target::Home),
            "/livez" => return Ok(Target::Live),
            "/readyz" => return Ok(Target::Ready),
            "/metrics" => return Ok(Target::Metrics),
            "/token" | "/v2/token" => return Ok(Target::Token),
            "/v2" | "/v2/" => return Ok(Target::Ping(None)),
            "/v2/_catalog" => return Ok(Target::Catalog),
            "/api/v1/status" => return Ok(Target::Admin(AdminPage::Status)),
            "/api/v1/repositories" => return Ok(Target::Admin(AdminPage::Repositories)),
            "/api/v1/lock" => return Ok(Target::Admin(AdminPage::Lock)),
            "/api/v1/images" => return Ok(Target::Admin(AdminPage::Images)),
            "/api/v1/savings" => return Ok(Target::Admin(AdminPage::Savings)),
            "/api/v1/gc" => return Ok(Target::Admin(AdminPage::Collect)),
            "/api/v1/trim" => return Ok(Target::Admin(AdminPage::Trim)),
            "/api/v1/pull" => return Ok(Target::Admin(AdminPage::Pull)),
            "/api/v1/rm" => return Ok(Target::Admin(AdminPage::Remove)),
            "/api/v1/pins" => return Ok(Target::Admin(AdminPage::Pins)),
            _ => {}
        }
        if let Some(image) = path.strip_prefix("/api/v1/pins/") {
            return Ok(Target::Admin(AdminPage::Pin(image.to_owned())));
        }
        if let Some(digest) = path.strip_prefix("/api/v1/digests/") {
            return Ok(Target::Admin(AdminPage::Digest(self::digest(digest)?)));
        }
        let rest = path.strip_prefix('/').ok_or_else(nowhere)?;
        if let Some(rest) = rest.strip_prefix("v2/") {
            return end_point(None, rest);
        }
        let (host, rest) = rest.split_once('/').ok_or_else(nowhere)?;
        let rest = rest.strip_prefix("v2").ok_or_else(nowhere)?;
        let host: UpstreamName = host.parse().map_err(|_| nowhere())?;
        match rest {
            "" | "/" => Ok(Target::Ping(Some(host))),
            _ => end_point(Some(host), rest.strip_prefix('/').ok_or_else(nowhere)?),
        }
    }

    /// The blob that the path names.
    pub(crate) fn blob(&self) -> Option<&Digest> {
        match self {
            Target::Blob(_, digest) => Some(digest),
            Target::Manifest(..)
            | Target::Tags(_)
            | Target::Referrers(..)
            | Target::Uploads(_)
            | Target::Upload(..)
            | Target::Home
            | Target::Live
            | Target::Ready
            | Target::Metrics
            | Target::Token
            | Target::Ping(_)
            | Target::Catalog
            | Target::Admin(_) => None,
        }
    }

    /// The repository that the path names.
    pub(crate) fn spelling(&self) -> Option<&Spelling> {
        match self {
            Target::Manifest(spelling, _)
            | Target::Blob(spelling, _)
            | Target::Tags(spelling)
            | Target::Referrers(spelling, _)
            | Target::Uploads(spelling)
            | Target::Upload(spelling, _) => Some(spelling),
            Target::Home
            | Target::Live
            | Target::Ready
            | Target::Metrics
            | Target::Token
            | Target::Ping(_)
            | Target::Catalog
            | Target::Admin(_) => None,
        }
    }

    /// The label in metrics, from a fixed list.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Target::Home | Target::Live | Target::Ready | Target::Metrics => "own",
            Target::Token => "token",
            Target::Ping(_) => "ping",
            Target::Catalog => "catalog",
            Target::Manifest(..) => "manifest",
            Target::Blob(..) => "blob",
            Target::Tags(_) => "tags",
            Target::Referrers(..) => "referrers",
            Target::Uploads(_) | Target::Upload(..) => "upload",
            Target::Admin(_) => "api",
        }
    }
}

/// The part of a path behind `/v2/`. Its last two segments name the end point; only an upload has a
/// keyword before them.
fn end_point(host: Option<UpstreamName>, rest: &str) -> Result<Target, RegistryError> {
    let (before, last) = rest.rsplit_once('/').ok_or_else(nowhere)?;
    if let Some(name) = rest.strip_suffix("/blobs/uploads") {
        return Ok(Target::Uploads(spelling(host, name)?));
    }
    let (name, keyword) = before.rsplit_once('/').ok_or_else(nowhere)?;
    match (keyword, last) {
        ("tags", "list") => Ok(Target::Tags(spelling(host, name)?)),
        ("manifests", reference) => Ok(Target::Manifest(spelling(host, name)?, self::reference(reference)?)),
        ("blobs", digest) => Ok(Target::Blob(spelling(host, name)?, self::digest(digest)?)),
        ("referrers", digest) => Ok(Target::Referrers(spelling(host, name)?, self::digest(digest)?)),
        ("uploads", id) => match name.strip_suffix("/blobs") {
            Some(name) if id.is_empty() => Ok(Target::Uploads(spelling(host, name)?)),
            Some(name) => Ok(Target::Upload(spelling(host, name)?, upload_id(id)?)),
            None => Err(nowhere()),
        },
        _ => Err(nowhere()),
    }
}

/// A repository as the scope of a token spells it.
pub(crate) fn scope_name(name: &str) -> Option<Spelling> {
    spelling(None, name).ok()
}

/// A first segment with a port is a host: it cannot be part of a repository's name.
fn spelling(host: Option<UpstreamName>, name: &str) -> Result<Spelling, RegistryError> {
    let invalid = |error: String| RegistryError::new(ErrorCode::NameInvalid, error);
    let (host, name) = match (host, name.split_once('/')) {
        (None, Some((first, rest))) if first.contains(':') => {
            (Some(first.parse::<UpstreamName>().map_err(|error| invalid(error.to_string()))?), rest)
        }
        (host, _) => (host, name),
    };
    let name = name.parse::<RepositoryName>().map_err(|error| invalid(error.to_string()))?;
    Ok(Spelling { host, name })
}

fn digest(text: &str) -> Result<Digest, RegistryError> {
    unescape_colon(text).parse().map_err(|error: crate::oci::DigestError| bad_digest(&error.to_string()))
}

fn reference(text: &str) -> Result<Reference, RegistryError> {
    unescape_colon(text).parse().map_err(|error: crate::oci::ReferenceError| match error {
        crate::oci::ReferenceError::Digest(error) => bad_digest(&error.to_string()),
        // The specification has no code for a malformed tag.
        crate::oci::ReferenceError::Tag => RegistryError::new(ErrorCode::ManifestInvalid, error.to_string()),
    })
}

fn bad_digest(message: &str) -> RegistryError {
    RegistryError::new(ErrorCode::DigestInvalid, message)
}

fn unescape_colon(text: &str) -> std::borrow::Cow<'_, str> {
    if !text.contains('%') {
        return text.into();
    }
    match text.split_once("%3a").or_else(|| text.split_once("%3A")) {
        Some((algorithm, hex)) => format!("{algorithm}:{hex}").into(),
        None => text.into(),
    }
}

/// An id that lanyard cannot have made names no upload.
fn upload_id(text: &str) -> Result<UploadId, RegistryError> {
    let unknown = |_| RegistryError::new(ErrorCode::BlobUploadUnknown, "there is no upload of that name");
    text.parse().map_err(unknown)
}

/// The path up to the end of its repository's name, in the client's spelling: for the `Location` of
/// an answer. [`Target::parse`] must have taken the path for a manifest, a blob or an upload.
pub(crate) fn base(path: &str) -> &str {
    let path = path.strip_suffix('/').unwrap_or(path);
    let before = path.rsplit_once('/').map_or(path, |(before, _)| before);
    let ends = [(path, "/blobs/uploads"), (before, "/blobs/uploads"), (before, "/manifests"), (before, "/blobs")];
    ends.iter().find_map(|(path, end)| path.strip_suffix(end)).unwrap_or(before)
}

/// 404: the path means nothing.
pub(crate) fn nowhere() -> RegistryError {
    RegistryError::new(ErrorCode::Unsupported, "there is nothing at this path").with_status(404)
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
