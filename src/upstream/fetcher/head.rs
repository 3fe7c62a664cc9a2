//! The heads of answers that are accepted, and the length of the body behind each. Pure.
//!
//! awc accepts unsafe heads: a 1xx as the final answer (the next request would then get this
//! answer), both lengths at once, and no length at all, which it takes for an empty body.

use http::{HeaderMap, Method, StatusCode, Version, header};

/// The end of the body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BodyLength {
    /// There is no body, whatever the headers say: HEAD, 204, 304.
    Nothing,
    /// After this many bytes.
    Sized(u64),
    /// With the last chunk.
    Chunked,
    /// The answer is no success, and its body has no provable end or has an encoding. Its status is
    /// worth knowing. Its body is given as empty, and its connection is not used again.
    Withheld,
}

/// Checks a head. The error tells in words why it is refused.
pub(super) fn accept(
    method: &Method,
    status: StatusCode,
    version: Version,
    headers: &HeaderMap,
) -> Result<BodyLength, &'static str> {
    if status.is_informational() {
        return Err("a 1xx in place of the final answer");
    }
    let sized = headers.contains_key(header::CONTENT_LENGTH);
    let transfer = headers.get(header::TRANSFER_ENCODING);
    if sized && transfer.is_some() {
        return Err("both Content-Length and Transfer-Encoding");
    }
    if headers.get_all(header::UPGRADE).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        // awc would forget the body, and use the connection again with the body still in it.
        return Err("an upgrade that was not asked for");
    }
    if *method == Method::HEAD || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
        return Ok(BodyLength::Nothing);
    }
    let chunked = transfer.is_some_and(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    let length = match headers.get(header::CONTENT_LENGTH).map(|value| value.to_str().map(|v| v.trim().parse())) {
        Some(Ok(Ok(length))) => BodyLength::Sized(length),
        Some(_) => return Err("a Content-Length that is not a number"),
        // Transfer-Encoding does not exist before HTTP/1.1 (RFC 9112 section 6.1).
        None if chunked && version == Version::HTTP_11 => BodyLength::Chunked,
        None if status.is_success() => return Err("neither Content-Length nor chunks"),
        None => BodyLength::Withheld,
    };
    let plain = |value: &http::HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    if headers.get_all(header::CONTENT_ENCODING).iter().all(plain) {
        Ok(length)
    } else if status.is_success() {
        Err("a Content-Encoding that was not asked for")
    } else {
        Ok(BodyLength::Withheld)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(
        method: &str,
        status: u16,
        version: Version,
        headers: &[(&'static str, &str)],
    ) -> Result<BodyLength, &'static str> {
        let map = headers.iter().map(|(n, v)| (header::HeaderName::from_static(n), v.parse().unwrap())).collect();
        accept(&method.parse().unwrap(), StatusCode::from_u16(status).unwrap(), version, &map)
    }

    #[test]
    fn s12_framing_is_clear_or_refused() {
        use BodyLength::{Chunked, Nothing, Sized, Withheld};
        const V: Version = Version::HTTP_11;
        let (length, chunks) = (("content-length", "5"), ("transfer-encoding", "chunked"));
        assert_eq!(judge("GET", 200, V, &[length]), Ok(Sized(5)));
        assert_eq!(judge("GET", 206, V, &[chunks]), Ok(Chunked));
        assert_eq!(judge("HEAD", 200, V, &[]), Ok(Nothing));
        assert_eq!(judge("HEAD", 200, V, &[length]), Ok(Nothing));
        assert_eq!(judge("GET", 304, V, &[length]), Ok(Nothing));
        assert_eq!(judge("GET", 204, V, &[]), Ok(Nothing));
        assert_eq!(judge("GET", 401, V, &[]), Ok(Withheld));
        for (status, version, headers) in [
            (200, V, &[][..]),
            (200, V, &[("transfer-encoding", "identity")]),
            (200, V, &[length, chunks]),
            (404, V, &[length, chunks]),
            (200, Version::HTTP_10, &[chunks]),
            (100, V, &[]),
            (103, V, &[]),
            (101, V, &[length]),
            (200, V, &[length, ("upgrade", "WebSocket")]),
        ] {
            assert!(judge("GET", status, version, headers).is_err(), "{status} {headers:?}");
        }
    }

    #[test]
    fn s15_encodings_are_refused() {
        let (length, gzip) = (("content-length", "5"), ("content-encoding", "gzip"));
        assert!(judge("GET", 200, Version::HTTP_11, &[length, gzip]).is_err());
        assert_eq!(judge("GET", 503, Version::HTTP_11, &[length, gzip]), Ok(BodyLength::Withheld));
        let identity = ("content-encoding", "Identity");
        assert_eq!(judge("GET", 200, Version::HTTP_11, &[length, identity]), Ok(BodyLength::Sized(5)));
    }
}
