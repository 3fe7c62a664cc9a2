//! `/api/v1/rm`: images are removed, or only their bytes.
//!
//! | query key | meaning |
//! |---|---|
//! | `image` | an image, as an operator writes it; at least once |
//! | `bytes_only` | `true`: names stay |
//! | `force` | `true`: pinned images go too |
//! | `dry_run` | `true`: only says what would happen |

use super::{document::json, parameters::bad};
use crate::{
    admin::{Admin, RemoveError, RemoveOptions},
    http::answer::{errors::HttpError, reply::Reply},
    oci::RegistryError,
};

/// The most images of one request: a request's head is bounded too.
const IMAGES: usize = 1000;

pub(super) async fn post(admin: &Admin, query: &str) -> Result<Reply, HttpError> {
    let (images, options) = order(query)?;
    match admin.remove(&images, options).await {
        Ok(removals) => Ok(json(&removals)?),
        Err(RemoveError::Refused(error)) => Err(error.into()),
        Err(RemoveError::Retention(error)) => Err(error.into()),
    }
}

fn order(query: &str) -> Result<(Vec<String>, RemoveOptions), RegistryError> {
    let (mut images, mut switches) = (Vec::new(), [None; 3]);
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let at = match key.as_ref() {
            "image" if images.len() < IMAGES => {
                images.push(value.into_owned());
                continue;
            }
            "image" => return Err(bad(format!("more than {IMAGES} images"))),
            "bytes_only" => 0,
            "force" => 1,
            "dry_run" => 2,
            key => return Err(bad(format!("unknown query key {key:?}"))),
        };
        switches[at] = match (value.as_ref(), switches[at]) {
            ("true", None) => Some(true),
            ("false", None) => Some(false),
            _ => return Err(bad(format!("{key} must be given once, as true or false"))),
        };
    }
    if images.is_empty() {
        return Err(bad("no image is named"));
    }
    let [bytes_only, force, dry_run] = switches.map(|switch| switch.unwrap_or(false));
    if bytes_only && force {
        return Err(bad("the bytes of a pinned image stay: unpin it instead of force"));
    }
    Ok((images, RemoveOptions { bytes_only, force, dry_run }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_removes_nothing() {
        let (images, options) = order("image=nginx&image=ghcr.io%2Fa%2Fb%3A1&dry_run=true").unwrap();
        assert_eq!(images, ["nginx", "ghcr.io/a/b:1"]);
        assert_eq!(options, RemoveOptions { dry_run: true, ..RemoveOptions::default() });
        for wrong in [
            "",
            "dry_run=true",
            "image=a&dryrun=true",
            "image=a&dry_run=1",
            "image=a&dry_run=true&dry_run=false",
            "image=a&force=true&bytes_only=true",
        ] {
            assert_eq!(order(wrong).unwrap_err().status, 400, "{wrong}");
        }
    }
}
