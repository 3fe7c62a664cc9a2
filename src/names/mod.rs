//! The repository that a request means (DESIGN.md section 2). `http` calls [`Names::resolve`] once
//! for each request. Pure: it looks nothing up by itself.
//!
//! The order, first match wins:
//! 1. `ns=HOST`: that upstream. A first segment that repeats the host (containerd's
//!    `override_path`) is dropped.
//! 2. The path's own host, `/HOST/v2/…` or `/v2/HOST/…`: that upstream.
//! 3. A hosted repository of that name exists, or the operator claimed the name: hosted, and
//!    *never* upstream (S16). At `mirror_listen` only the claim counts: any client may have pushed
//!    the name, and a client that pulls there means the upstream (N1).
//! 4. Otherwise the default upstream; a one-segment name becomes `library/NAME`.
//!
//! The list of upstreams is closed: a host that is not on it is answered 404 here. No room below
//! sees the host, so no DNS query for it is possible (S4).

mod image;

pub use image::Image;

use crate::oci::{ErrorCode, Namespace, RegistryError, Repository, RepositoryName, UpstreamName};

/// Docker Hub, the one upstream whose official images live under `library/`.
const HUB: &str = "docker.io";
/// Other names of Docker Hub in old clients and configurations.
const HUB_ALIASES: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

/// A repository as a request's path spells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spelling {
    /// The host, if the path names one beyond doubt: in front of `/v2/`, or as a first segment with
    /// a port.
    pub host: Option<UpstreamName>,
    /// The rest of the path's name. Its first segment may be an upstream's name; only [`Names`]
    /// knows.
    pub name: RepositoryName,
}

/// Whether the operator reserves a name for pushed images.
type IsClaimed = Box<dyn Fn(&RepositoryName) -> bool + Send + Sync>;

/// The closed list of upstreams and the names the operator claimed.
pub struct Names {
    upstreams: Vec<UpstreamName>,
    default: UpstreamName,
    claims: IsClaimed,
}

impl Names {
    /// `claims` says whether a name is in `hosted.namespaces`. `default` is one of `upstreams`; the
    /// configuration checks this.
    pub fn new(
        upstreams: Vec<UpstreamName>,
        default: UpstreamName,
        claims: impl Fn(&RepositoryName) -> bool + Send + Sync + 'static,
    ) -> Self {
        Names { upstreams, default, claims: Box::new(claims) }
    }

    /// The repository of a spelling and the query's `ns=`. `hosted_exists` says whether a hosted
    /// repository of a name exists.
    ///
    /// # Errors
    /// An unknown host is NAME_UNKNOWN (404). A name that is too long for `library/` before it is
    /// NAME_INVALID (400).
    pub fn resolve(
        &self,
        spelling: &Spelling,
        ns: Option<&str>,
        hosted_exists: impl Fn(&RepositoryName) -> bool,
    ) -> Result<Repository, RegistryError> {
        let name = &spelling.name;
        if let Some(ns) = ns {
            let upstream = self.upstream(ns)?;
            let name = match self.prefixed(name) {
                Some((prefix, rest)) if prefix == upstream => rest,
                Some(_) | None => name.clone(),
            };
            return on(upstream, name);
        }
        if let Some(host) = &spelling.host {
            return on(self.upstream(host.as_str())?, name.clone());
        }
        if let Some((upstream, rest)) = self.prefixed(name) {
            return on(upstream, rest);
        }
        if hosted_exists(name) || self.claims(name) {
            return Ok(Repository { namespace: Namespace::Hosted, name: name.clone() });
        }
        Ok(Repository { namespace: Namespace::Upstream(self.default.clone()), name: in_library(name.clone())? })
    }

    /// Whether the operator reserves the name for pushed images (`hosted.namespaces`).
    pub fn claims(&self, name: &RepositoryName) -> bool {
        (self.claims)(name)
    }

    /// The configured upstream of this name.
    ///
    /// # Errors
    /// A name that is not configured is NAME_UNKNOWN (404).
    pub fn upstream(&self, host: &str) -> Result<&UpstreamName, RegistryError> {
        self.find(host).ok_or_else(|| {
            let shown: String = host.chars().take(100).flat_map(char::escape_default).collect();
            RegistryError::new(
                ErrorCode::NameUnknown,
                format!("lanyard does not mirror {shown}: no [[upstream]] of that name is configured"),
            )
        })
    }

    fn find(&self, host: &str) -> Option<&UpstreamName> {
        let exactly = |host: &str| self.upstreams.iter().find(|u| u.as_str() == host);
        exactly(host).or_else(|| HUB_ALIASES.contains(&host).then(|| exactly(HUB)).flatten())
    }

    /// Splits `UPSTREAM/rest`. An upstream's name without a rest has no prefix.
    fn prefixed(&self, name: &RepositoryName) -> Option<(&UpstreamName, RepositoryName)> {
        let (first, rest) = name.as_str().split_once('/')?;
        Some((self.find(first)?, rest.parse().ok()?))
    }
}

fn on(upstream: &UpstreamName, name: RepositoryName) -> Result<Repository, RegistryError> {
    let name = if upstream.as_str() == HUB { in_library(name)? } else { name };
    Ok(Repository { namespace: Namespace::Upstream(upstream.clone()), name })
}

fn in_library(name: RepositoryName) -> Result<RepositoryName, RegistryError> {
    if name.segments().nth(1).is_some() {
        return Ok(name);
    }
    let invalid = |error| RegistryError::new(ErrorCode::NameInvalid, format!("{error}"));
    format!("library/{name}").parse().map_err(|error: crate::oci::NameError| invalid(error))
}

#[cfg(test)]
mod tests;
