//! Content negotiation for manifests: the media types that a client can read, by its `Accept`.
//! `http` builds an [`Accept`] once a request, `pull` asks it.

use std::borrow::Cow;

use super::media_type::{is_index, is_manifest};

/// The union of a request's `Accept` headers. Clients send one list, several lines in any order,
/// `*/*`, or no header. Quality values below 1 do not matter to a registry; `q=0` does not occur.
#[derive(Clone, Debug, Default)]
pub struct Accept<'a>(Vec<Cow<'a, str>>);

impl<'a> Accept<'a> {
    /// Collects all header lines.
    pub fn from_headers(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let types = lines.into_iter().flat_map(|line| line.split(','));
        let names = types.map(|t| t.split(';').next().unwrap_or_default().trim()).filter(|t| !t.is_empty());
        Accept(names.map(lower_case).collect())
    }

    /// Whether a manifest of this type may be sent. Without an `Accept` header every type may.
    pub fn takes(&self, media_type: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|t| t == media_type || t == "*/*" || t == "application/*")
    }

    /// Whether the client asks by this HEAD if it still has to push a manifest. Such a client names
    /// the one type that it has, and `*/*`: containerd's pusher and its users do so. A client that
    /// pulls by a tag names all types.
    pub fn asks_before_a_push(&self) -> bool {
        matches!(self.0.as_slice(), [one, any] if any == "*/*" && is_manifest(one))
    }

    /// Whether the client predates indexes: it names types, and none of them is an index. Docker
    /// Hub gives such a client the `linux/amd64` image of a tag.
    pub fn wants_single_image(&self) -> bool {
        !self.0.is_empty()
            && !self.0.iter().any(|t| is_index(t) || t == "*/*" || t == "application/*")
            && self.0.iter().any(|t| t.contains("manifest.v"))
    }
}

/// The type in lower case, because types are compared without regard to case (RFC 9110 section
/// 8.3.1). Clients write lower case, so this seldom allocates.
fn lower_case(name: &str) -> Cow<'_, str> {
    match name.bytes().any(|b| b.is_ascii_uppercase()) {
        true => name.to_ascii_lowercase().into(),
        false => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DOCKER_IMAGE, DOCKER_LIST, OCI_INDEX};
    use super::*;

    #[test]
    fn a_pusher_names_the_one_type_it_has() {
        let asks = |lines: &[&str]| Accept::from_headers(lines.iter().copied()).asks_before_a_push();
        let all = format!("{DOCKER_IMAGE}, {DOCKER_LIST}, {OCI_INDEX}, */*");
        assert!(asks(&[&format!("{DOCKER_IMAGE}, */*")]) && asks(&[&format!("{OCI_INDEX}, */*")]));
        for no in [&all, DOCKER_IMAGE, "*/*", "", "application/json, */*"] {
            assert!(!asks(&[no]), "{no}");
        }
    }

    #[test]
    fn reads_lists_and_lines() {
        let accept =
            Accept::from_headers([DOCKER_IMAGE, "application/json;q=0.5, application/vnd.oci.image.index.v1+json"]);
        assert!(accept.takes(OCI_INDEX) && accept.takes(DOCKER_IMAGE) && !accept.takes(DOCKER_LIST));
        assert!(!accept.wants_single_image());
        assert!(Accept::default().takes(OCI_INDEX));
        assert!(Accept::from_headers(["x/y, */*"]).takes(OCI_INDEX));
        assert!(Accept::from_headers([DOCKER_IMAGE]).wants_single_image());
    }
}
