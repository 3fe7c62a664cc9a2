//! The bodies of answers: read whole within a limit, and the words of an error's body, made fit for
//! messages (S18).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use serde::Deserialize;

use super::{
    counters::UpstreamCounters,
    error::UpstreamError,
    fetcher::{FetchError, Response, ResponseBody},
};

/// How long the next piece of a small body may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long an error's body may take. Its words are worth no more.
const WORDS_PATIENCE: Duration = Duration::from_secs(2);

/// The largest error body that is read, in bytes.
const MAX_WORDS_BODY: usize = 64 << 10;

/// The most characters of an upstream's words in a message.
const MAX_WORDS: usize = 300;

/// Reads a body of at most `cap` bytes. A longer one, and one longer than its `Content-Length`, is
/// [`UpstreamError::Untrue`]. A shorter one is [`FetchError::Broken`].
pub(super) async fn whole(
    response: &mut Response,
    cap: usize,
    counters: &UpstreamCounters,
) -> Result<Bytes, UpstreamError> {
    let too_big = || UpstreamError::untrue(format!("the answer is larger than {cap} bytes"));
    let declared = content_length(&response.headers);
    if declared.is_some_and(|length| length > cap as u64) {
        return Err(too_big());
    }
    let host = response.url.host_str().unwrap_or_default().to_owned();
    let mut bytes = BytesMut::new();
    while let Some(chunk) = next(&mut response.body, &host, PATIENCE).await {
        let chunk = chunk?;
        counters.received(chunk.len());
        if bytes.len() + chunk.len() > cap {
            return Err(too_big());
        }
        bytes.extend_from_slice(&chunk);
    }
    match declared {
        Some(length) if length > bytes.len() as u64 => {
            Err(FetchError::Broken { host, reason: format!("only {} of {length} bytes came", bytes.len()) }.into())
        }
        Some(length) if length < bytes.len() as u64 => {
            Err(UpstreamError::untrue("the answer is longer than its Content-Length"))
        }
        _ => Ok(bytes.freeze()),
    }
}

async fn next(body: &mut ResponseBody, host: &str, patience: Duration) -> Option<Result<Bytes, FetchError>> {
    let late = || FetchError::Timeout { host: host.into(), what: "the rest of an answer" };
    tokio::time::timeout(patience, body.chunk()).await.unwrap_or_else(|_| Some(Err(late())))
}

/// `Content-Length`, if it is a number.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// The media type of an answer, in lower case, without parameters such as `; charset=utf-8`.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let media_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    (!media_type.is_empty()).then_some(media_type)
}

/// Whether a media type tells the content. Some registries, and every static file server, send one
/// that does not.
pub(super) fn is_telling(media_type: &str) -> bool {
    !media_type.starts_with("text/") && !matches!(media_type, "application/json" | "application/octet-stream")
}

/// The words of an error's body.
#[derive(Debug, Default)]
pub(super) struct ErrorWords {
    /// The upstream's own words, if it sent any.
    pub(super) words: Option<String>,
    /// Whether they stand in the specification's list of errors. Then a registry said them, and not
    /// the web page of a proxy, a load balancer or a guest network.
    pub(super) listed: bool,
}

/// Reads an error's body: the messages of the specification's `errors` list, or a short plain text.
/// XML and HTML are left out: object stores put keys and signatures there. `secrets`, which lanyard
/// sent and the upstream may have echoed, are cut out (S18).
pub(super) async fn said(response: &mut Response, counters: &UpstreamCounters, secrets: &[&str]) -> ErrorWords {
    let read = async { whole(response, MAX_WORDS_BODY, counters).await.ok() };
    let Ok(Some(bytes)) = tokio::time::timeout(WORDS_PATIENCE, read).await else { return ErrorWords::default() };
    ErrorWords {
        words: from_body(media_type(&response.headers).as_deref(), &bytes, secrets),
        listed: is_listed(&bytes),
    }
}

/// Reads the words of an error's body alone.
pub(super) async fn of_error(response: &mut Response, counters: &UpstreamCounters, secrets: &[&str]) -> Option<String> {
    said(response, counters, secrets).await.words
}

fn is_listed(bytes: &[u8]) -> bool {
    serde_json::from_slice::<ErrorBody>(bytes).is_ok_and(|said| !said.errors.is_empty())
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<ListedError>,
    /// Token endpoints use these (RFC 6749 section 5.2, and ghcr.io).
    #[serde(alias = "message", alias = "error")]
    details: Option<String>,
}

#[derive(Deserialize)]
struct ListedError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

fn from_body(media_type: Option<&str>, bytes: &[u8], secrets: &[&str]) -> Option<String> {
    let words = if let Ok(said) = serde_json::from_slice::<ErrorBody>(bytes) {
        let entries = said.errors.into_iter().map(|e| if e.message.is_empty() { e.code } else { e.message });
        let mut all: Vec<String> = entries.filter(|words| !words.is_empty()).collect();
        all.dedup();
        all.extend(said.details.filter(|_| all.is_empty()));
        all.join("; ")
    } else if matches!(media_type, None | Some("text/plain")) && !bytes.trim_ascii_start().starts_with(b"<") {
        String::from_utf8_lossy(bytes).into_owned()
    } else {
        return None;
    };
    // Cut the secrets out before the text is shortened: half a secret is not found any more.
    let secrets = secrets.iter().filter(|secret| !secret.is_empty());
    let words = clean(&secrets.fold(words, |words, secret| words.replace(secret, "[secret]")));
    (!words.is_empty()).then_some(words)
}

/// One line of at most 300 characters, without control characters.
fn clean(words: &str) -> String {
    let one_line: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(4 * MAX_WORDS).collect();
    one_line.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_registry_lists_its_errors() {
        for (body, listed) in [
            (r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#, true),
            (r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#, true),
            (r#"{"errors":[{}]}"#, true),
            (r#"{"errors":[]}"#, false),
            (r#"{"message":"no route"}"#, false),
            ("404 page not found\n", false),
            ("default backend - 404", false),
            ("<html>404</html>", false),
            ("", false),
        ] {
            assert_eq!(is_listed(body.as_bytes()), listed, "{body}");
        }
    }

    #[test]
    fn finds_the_words() {
        let words = |t: Option<&str>, body: &str| from_body(t, body.as_bytes(), &["CANARY"]);
        let hub = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have\nreached\u0007 your limit"}]}"#;
        assert_eq!(words(Some("application/json"), hub).unwrap(), "You have reached your limit");
        let two = r#"{"errors":[{"code":"DENIED"},{"code":"X","message":"no","detail":[{"Type":"repository"}]}]}"#;
        assert_eq!(words(None, two).unwrap(), "DENIED; no");
        assert_eq!(words(Some("text/plain"), "Too Many Requests (HAP429)\n").unwrap(), "Too Many Requests (HAP429)");
        assert_eq!(
            words(Some("application/json"), r#"{"details":"incorrect username"}"#).unwrap(),
            "incorrect username"
        );
        assert_eq!(words(Some("application/xml"), "<Error><Signature>s</Signature></Error>"), None);
        assert_eq!(words(None, "  <html>"), None);
        let echo = format!("{}CANARY", "x".repeat(MAX_WORDS - 3));
        assert!(words(None, &echo).unwrap().ends_with("x[se"), "s18: not even a part of it");
        assert_eq!(words(Some("application/json"), "{}"), None);
        assert_eq!(words(Some("text/plain"), &"ä".repeat(5000)).unwrap().chars().count(), MAX_WORDS);
    }

    proptest! {
        #[test]
        fn what_is_shown_is_short_and_plain(text in "(?s).*") {
            let clean = clean(&text);
            prop_assert!(clean.chars().count() <= MAX_WORDS && !clean.chars().any(char::is_control));
        }
    }
}
