//! `/api/v1/pins`: which images are kept on disk. The image stands in the path as an operator
//! writes it, without escapes.
//!
//! | query key of PUT | meaning |
//! |---|---|
//! | `platform` | a platform that is kept of an index; may be repeated; `all`, or none: all |
//! | `note` | the operator's own words, at most 1,000 bytes |
//! | `by` | who orders it, at most 100 bytes |

use actix_web::http::Method;

use super::{
    document::json,
    parameters::{bad, none},
};
use crate::{
    admin::{Admin, PinOptions, Unpinned},
    http::answer::{errors::HttpError, reply::Reply},
    oci::{ErrorCode, Platforms, RegistryError},
};

/// The longest note, in bytes.
const NOTE: usize = 1000;

/// The longest name of an operator, in bytes.
const BY: usize = 100;

/// Most platforms of one pin: more than any index has.
const PLATFORMS: usize = 64;

pub(super) async fn list(admin: &Admin, query: &str) -> Result<Reply, HttpError> {
    none(query)?;
    Ok(json(&admin.pins().await?)?)
}

/// The method is PUT or DELETE (`needs.rs`).
pub(super) async fn change(admin: &Admin, method: &Method, image: &str, query: &str) -> Result<Reply, HttpError> {
    let options = options(query)?;
    if *method == Method::PUT {
        return Ok(json(&admin.pin(&admin.image(image)?, options).await?)?);
    }
    none(query)?;
    let image = admin.image_here(image).await?;
    let removed = admin.unpin(&image).await?;
    if removed.is_empty() {
        let message = format!("{image} is not pinned");
        return Err(RegistryError::new(ErrorCode::ManifestUnknown, message).into());
    }
    Ok(json(&Unpinned { images: removed })?)
}

fn options(query: &str) -> Result<PinOptions, RegistryError> {
    let (mut options, mut platforms) = (PinOptions::default(), Vec::new());
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match key.as_ref() {
            "platform" if platforms.len() < PLATFORMS => platforms.push(value.into_owned()),
            "platform" => return Err(bad("these are too many platforms")),
            "note" if value.len() <= NOTE => options.note = value.into_owned(),
            "note" => return Err(bad(format!("a note has at most {NOTE} bytes"))),
            "by" if value.len() <= BY => options.by = value.into_owned(),
            "by" => return Err(bad(format!("by has at most {BY} bytes"))),
            key => return Err(bad(format!("unknown query key {key:?}"))),
        }
    }
    // A pin without a platform keeps all of them, and not those of this machine alone.
    if !platforms.is_empty() {
        let platforms = Platforms::parse(platforms.iter().map(String::as_str));
        options.platforms = platforms.map_err(|error| bad(error.to_string()))?.names();
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_says_what_it_keeps_and_why() {
        let read = options("platform=linux%2Famd64&platform=linux/arm/v7&note=a+b%26c&by=ann").unwrap();
        let platforms: Vec<_> = read.platforms.iter().map(ToString::to_string).collect();
        assert_eq!(
            (platforms, read.note, read.by),
            (vec!["linux/amd64".to_owned(), "linux/arm/v7".to_owned()], "a b&c".to_owned(), "ann".to_owned(),)
        );
        assert_eq!(options("").unwrap(), PinOptions::default());
        assert_eq!(options("platform=all").unwrap(), PinOptions::default());
        for wrong in ["platform=all&platform=linux/amd64", "platform=all&platform=all", "platform="] {
            assert_eq!(options(wrong).unwrap_err().status, 400, "{wrong}");
        }
        for wrong in ["platform=amd64", "platforms=linux/amd64", &format!("note={}", "a".repeat(1001)), "x"] {
            assert_eq!(options(wrong).unwrap_err().status, 400, "{wrong}");
        }
    }
}
