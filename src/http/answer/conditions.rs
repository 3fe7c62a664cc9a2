//! Conditional requests (RFC 9110, section 13) for content whose entity tag is its digest. Pure.

use actix_web::http::header::{HeaderMap, HeaderValue, IF_NONE_MATCH, IF_RANGE, RANGE};

use crate::oci::{ByteRanges, Digest, ErrorCode, MOST_RANGES, NotRanges, RegistryError};

/// Whether `If-None-Match` names the content, so that the answer is 304.
pub(crate) fn has_it(headers: &HeaderMap, digest: &Digest) -> bool {
    if !headers.contains_key(IF_NONE_MATCH) {
        return false;
    }
    let tag = digest.quoted();
    let lines = headers.get_all(IF_NONE_MATCH).filter_map(|line| line.to_str().ok());
    let mut tags = lines.flat_map(|line| line.split(',')).map(str::trim);
    // Weak comparison: for bytes that cannot change, a weak tag is as good as a strong one.
    tags.any(|t| t == "*" || t.strip_prefix("W/").unwrap_or(t) == tag)
}

/// The ranges to send. None for the whole content: no range was asked for, the header is malformed,
/// or `If-Range` names other content (strong comparison; a date never matches, as there is no
/// `Last-Modified`).
///
/// # Errors
/// 400 for too many ranges: containers/storage and the stargz snapshotter then ask again for fewer.
/// 416 would end their partial pull, and 200 would send all of a blob of which they need little.
pub(crate) fn ranges(headers: &HeaderMap, digest: &Digest) -> Result<Option<ByteRanges>, RegistryError> {
    if let Some(condition) = headers.get(IF_RANGE)
        && condition.to_str().ok().map(str::trim) != Some(&*digest.quoted())
    {
        return Ok(None);
    }
    let mut lines = headers.get_all(RANGE).map(HeaderValue::to_str);
    let (Some(Ok(line)), None) = (lines.next(), lines.next()) else { return Ok(None) };
    match line.parse() {
        Ok(ranges) => Ok(Some(ranges)),
        Err(NotRanges::Malformed) => Ok(None),
        Err(NotRanges::TooMany) => {
            let message = format!("one request may ask for {MOST_RANGES} ranges");
            Err(RegistryError::new(ErrorCode::RangeInvalid, message).with_status(400))
        }
    }
}

/// `Cache-Control` for content that a digest names. Caches trust no more than a year.
pub(crate) fn immutable() -> HeaderValue {
    HeaderValue::from_static("max-age=31536000, immutable")
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderName;

    use super::*;

    fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn etags_are_digests() {
        let digest = Digest::Sha256([7; 32]);
        let other = Digest::Sha256([8; 32]);
        let has = |value: &str| has_it(&headers(&[(IF_NONE_MATCH, value)]), &digest);
        assert!(has("*") && has(&format!("\"{digest}\"")) && has(&format!("W/\"{digest}\"")));
        assert!(has(&format!("\"{other}\", \"{digest}\"")));
        assert!(!has(&format!("\"{other}\"")) && !has(&digest.to_string()) && !has(""));
    }

    #[test]
    fn if_range_is_strong() {
        let digest = Digest::Sha256([7; 32]);
        let ask = |condition: Option<&str>, spec: &str| {
            let mut lines = vec![(RANGE, spec)];
            lines.extend(condition.map(|c| (IF_RANGE, c)));
            ranges(&headers(&lines), &digest).map_err(|error| error.status)
        };
        let first = Ok(Some("bytes=0-9".parse().unwrap()));
        assert_eq!(ask(None, "bytes=0-9"), first);
        assert_eq!(ask(Some(&format!("\"{digest}\"")), "bytes=0-9"), first);
        assert_eq!(ask(Some(&format!("W/\"{digest}\"")), "bytes=0-9"), Ok(None));
        assert_eq!(ask(Some("Wed, 21 Oct 2015 07:28:00 GMT"), "bytes=0-9"), Ok(None));
        assert_eq!(ask(None, "bytes=0-1,x"), Ok(None));
        let many = format!("bytes={}", "0-0,".repeat(1001));
        assert_eq!(ask(None, &many), Err(400));
        assert_eq!(ask(Some("\"another\""), &many), Ok(None));
        assert_eq!(ranges(&headers(&[(RANGE, "bytes=0-1"), (RANGE, "bytes=3-4")]), &digest), Ok(None));
    }
}
