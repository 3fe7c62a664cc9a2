//! Values of `[[tags]]`.

use std::time::Duration;

use super::{
    super::{
        freeze::{Day, Freeze, TagTtl},
        image_pattern::ImagePattern,
    },
    parsed,
    units::duration,
};
use crate::oci::UpstreamName;

/// A pattern over images of any upstream.
pub(in crate::config) fn image_pattern(text: &str) -> Result<ImagePattern, String> {
    let pattern: ImagePattern = parsed(text)?;
    match pattern.not_in_library() {
        Some(what) => Err(format!("{text:?}: {what}")),
        None => Ok(pattern),
    }
}

/// A pattern over images of these upstreams.
pub(in crate::config) fn image_pattern_of<'a>(
    text: &str,
    mut upstreams: impl Iterator<Item = &'a UpstreamName>,
) -> Result<ImagePattern, String> {
    let pattern = image_pattern(text)?;
    if upstreams.any(|upstream| pattern.may_be_of(upstream)) {
        return Ok(pattern);
    }
    Err(format!(
        "{text:?}: {:?} is not an upstream; write the image in full, as in docker.io/library/nginx:latest",
        pattern.upstream()
    ))
}

/// How long a tag is believed.
pub(in crate::config) fn tag_ttl(text: &str) -> Result<TagTtl, String> {
    match text {
        "never" => Ok(TagTtl::Never),
        text => duration(text).map(TagTtl::For).map_err(|error| format!("{error}, and not \"never\"")),
    }
}

/// How often something is done: a duration of at least a second.
pub(in crate::config) fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        short if short < Duration::from_secs(1) => Err(format!("{text:?} is shorter than a second")),
        interval => Ok(interval),
    }
}

/// A day, or the path of a lock file.
pub(in crate::config) fn freeze(text: &str) -> Result<Freeze, String> {
    let looks_like_a_day = text.len() == 10
        && text.bytes().enumerate().all(|(at, b)| if at == 4 || at == 7 { b == b'-' } else { b.is_ascii_digit() });
    match looks_like_a_day {
        true => parsed::<Day>(text).map(Freeze::Day),
        false => Ok(Freeze::File(text.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freeze_is_a_day_or_a_path() {
        let Ok(Freeze::Day(day)) = freeze("2026-11-01") else { panic!() };
        assert_eq!((day.to_string().as_str(), day.end()), ("2026-11-01", 1_793_577_599));
        for path in ["build.lock", "/etc/lanyard/build.lock", "2026-11-1", "2026-11-01.lock"] {
            assert_eq!(freeze(path), Ok(Freeze::File(path.into())));
        }
        for bad in ["2026-13-01", "2026-02-30", "2026-00-10", "1969-12-31"] {
            assert!(freeze(bad).is_err_and(|told| told.contains(bad)), "{bad}");
        }
    }

    #[test]
    fn a_pattern_that_no_image_fits_is_refused() {
        for (text, told) in [
            ("docker.io/nginx:1", "write \"docker.io/library/nginx:1\""),
            ("docker.io/*:x", "write \"docker.io/library/*:x\""),
            ("docker.io/-x:1", "no image has such a name: "),
            ("docker.io/library/../x:1", "no image has such a name: "),
        ] {
            let error = image_pattern(text).unwrap_err();
            assert!(error.starts_with(&format!("{text:?}: ")) && error.contains(told), "{error}");
        }
        let upstreams: Vec<UpstreamName> = ["docker.io", "quay.io"].map(|name| name.parse().unwrap()).into();
        for text in ["docker.io/library/nginx:1", "docker.io/**:x", "quay.io/nginx:1", "*/nginx:1", "**/nginx:1"] {
            let expected: Result<ImagePattern, String> = Ok(text.parse().unwrap());
            assert_eq!((image_pattern(text), image_pattern_of(text, upstreams.iter())), (expected.clone(), expected));
        }
        let error = image_pattern_of("docker.i*/nginx:1", upstreams.iter()).unwrap_err();
        assert!(error.contains("\"docker.i*\" is not an upstream; write the image in full"), "{error}");
    }

    #[test]
    fn times_have_their_bounds() {
        assert_eq!(tag_ttl("never"), Ok(TagTtl::Never));
        assert_eq!(tag_ttl("5m"), Ok(TagTtl::For(Duration::from_secs(300))));
        assert!(tag_ttl("always").is_err_and(|told| told.contains("\"never\"")));
        assert_eq!(interval("1s"), Ok(Duration::from_secs(1)));
        assert!(interval("999ms").is_err() && interval("0s").is_err());
    }
}
