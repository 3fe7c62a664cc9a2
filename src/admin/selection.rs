//! Which images an operator asks for: by name, or by patterns over full names.
//!
//! | text | means |
//! |---|---|
//! | `nginx`, `ghcr.io/a/b:1`, `nginx@sha256:…` | that image, as a client would write it |
//! | `docker.io/library/*:1.*` | tags of the repositories whose full names fit |
//! | `ghcr.io/**` | all images of the repositories whose full names fit |
//!
//! In a pattern a part between slashes is a segment of the full name, host included; of a host with
//! a port the rest of the name has to fit. `images.rs` uses it.

use super::Admin;
use crate::{
    config::{Pattern, TagPattern},
    names::Image,
    oci::{ErrorCode, RegistryError, Repository, RepositoryName},
};

/// What is asked for; everything if there is no text.
#[derive(Debug)]
pub struct Selection(Vec<Choice>);

#[derive(Debug)]
enum Choice {
    Image(Image),
    Names(Pattern),
    Tags(TagPattern),
}

impl Admin {
    /// Reads an operator's texts. Looks at the disk where a name may be hosted.
    ///
    /// # Errors
    /// 400: a text is neither an image nor a pattern.
    pub async fn selection(&self, texts: &[String]) -> Result<Selection, RegistryError> {
        let mut choices = Vec::new();
        for text in texts {
            choices.push(if text.contains('*') {
                pattern(text).map_err(|why| {
                    let shown: String = text.chars().take(200).flat_map(char::escape_default).collect();
                    RegistryError::new(ErrorCode::Unsupported, format!("{shown}: {why}")).with_status(400)
                })?
            } else {
                Choice::Image(self.image_here(text).await.map_err(|error| error.with_status(400))?)
            });
        }
        Ok(Selection(choices))
    }
}

fn pattern(text: &str) -> Result<Choice, String> {
    if text.rsplit('/').next().is_some_and(|last| last.contains(':')) {
        text.parse().map(Choice::Tags).map_err(|error: crate::config::TagPatternError| error.to_string())
    } else {
        text.parse().map(Choice::Names).map_err(|error: crate::config::PatternError| error.to_string())
    }
}

impl Selection {
    /// Whether an image of this repository may be asked for.
    pub(super) fn may_have(&self, repository: &Repository) -> bool {
        self.0.is_empty() || self.0.iter().any(|choice| choice.may_have(repository))
    }

    /// Whether this image is asked for.
    pub(super) fn has(&self, image: &Image) -> bool {
        self.0.is_empty() || self.0.iter().any(|choice| choice.has(image))
    }
}

impl Choice {
    fn may_have(&self, repository: &Repository) -> bool {
        match self {
            Choice::Image(image) => image.repository == *repository,
            Choice::Names(pattern) => pattern.matches(&full(repository)),
            Choice::Tags(_) => true,
        }
    }

    fn has(&self, image: &Image) -> bool {
        match self {
            Choice::Image(wanted) => {
                wanted.repository == image.repository
                    && match &image.tag {
                        Some(_) => wanted.tag == image.tag,
                        None => wanted.digest == image.digest,
                    }
            }
            Choice::Names(pattern) => pattern.matches(&full(&image.repository)),
            Choice::Tags(pattern) => {
                image.tag.as_ref().is_some_and(|tag| pattern.matches(&full(&image.repository), tag))
            }
        }
    }
}

/// The full name, if it has the form of one.
fn full(repository: &Repository) -> RepositoryName {
    repository.to_string().parse().unwrap_or_else(|_| repository.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Namespace;

    fn has(text: &str, upstream: &str, name: &str, tag: &str) -> bool {
        let namespace =
            if upstream.is_empty() { Namespace::Hosted } else { Namespace::Upstream(upstream.parse().unwrap()) };
        let repository = Repository { namespace, name: name.parse().unwrap() };
        let (tag, digest) = match tag {
            "" => (None, Some(crate::oci::Digest::Sha256([7; 32]))),
            tag => (Some(tag.parse().unwrap()), None),
        };
        let selection = Selection(vec![pattern(text).unwrap()]);
        let image = Image { repository, tag, digest };
        selection.has(&image) && selection.may_have(&image.repository)
    }

    #[test]
    fn patterns_are_over_full_names() {
        for (text, upstream, name, tag, fits) in [
            ("docker.io/library/*", "docker.io", "library/nginx", "1", true),
            ("docker.io/library/*", "docker.io", "library/nginx", "", true),
            ("docker.io/library/*", "docker.io", "team/nginx", "1", false),
            ("library/*", "docker.io", "library/nginx", "1", false),
            ("**/nginx:1.*", "docker.io", "library/nginx", "1.27", true),
            ("**/nginx:1.*", "docker.io", "library/nginx", "2", false),
            ("**:*", "docker.io", "library/nginx", "", false),
            ("**", "docker.io", "library/nginx", "", true),
            ("team/*", "", "team/app", "v1", true),
            ("team/*", "localhost:5001", "team/app", "v1", true),
        ] {
            assert_eq!(has(text, upstream, name, tag), fits, "{text} {upstream} {name} {tag}");
        }
        for text in ["a//*", "A*", "**x", "*:"] {
            assert!(pattern(text).is_err(), "{text}");
        }
    }
}
