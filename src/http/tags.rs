//! GET and HEAD of `/v2/NAME/tags/list` (distribution-spec, "Listing Tags").

use actix_web::http::{
    StatusCode,
    header::{CACHE_CONTROL, HeaderValue, LINK},
};
use serde_json::json;
use url::form_urlencoded::Serializer;

use super::{errors::Refusal, query::Query, reply, reply::Reply, routes::Asked};
use crate::{names::Spelling, oci::Tag};

/// The repository's tags in bytewise order, all of them unless `n` says how many.
pub(super) async fn list(asked: Asked<'_>, spelling: &Spelling) -> Result<Reply, Refusal> {
    let repository = asked.repository()?;
    let list = asked.face.pull.tags(&repository).await?;
    let (page, more) = page(&list.tags, &asked.query);
    // The name as the client wrote it: it compares.
    let body = json!({ "name": spelling.name.as_str(), "tags": page.iter().map(Tag::as_str).collect::<Vec<_>>() });
    let mut reply = Reply::bytes(StatusCode::OK, reply::JSON, body.to_string().into());
    reply.header(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let (true, Some(last)) = (more, page.last()) {
        reply.text(LINK, &next(asked.request.uri().path(), &asked.query, last.as_str()));
    }
    reply.trace = Some(list.trace);
    Ok(reply)
}

/// The tags after `last`, at most `n`, and whether others follow. `n=0` is an empty page that nothing follows (distribution-spec).
fn page<'a>(tags: &'a [Tag], query: &Query) -> (&'a [Tag], bool) {
    let start = query.last.as_deref().map_or(0, |last| tags.partition_point(|tag| tag.as_str() <= last));
    let rest = tags.get(start..).unwrap_or_default();
    let n = query.n.and_then(|n| usize::try_from(n).ok()).unwrap_or(rest.len());
    (rest.get(..n).unwrap_or(rest), n > 0 && n < rest.len())
}

/// The next page, in the spelling of this request: same path, same `ns`, same filter.
pub(super) fn next(path: &str, query: &Query, last: &str) -> String {
    let mut keys = Serializer::new(String::new());
    for (key, value) in [("ns", &query.ns), ("artifactType", &query.artifact_type)] {
        if let Some(value) = value {
            keys.append_pair(key, value);
        }
    }
    if let Some(n) = query.n {
        keys.append_pair("n", &n.to_string());
    }
    keys.append_pair("last", last);
    format!("<{path}?{}>; rel=\"next\"", keys.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags() -> Vec<Tag> {
        ["1", "10", "2", "B", "a", "b"].iter().map(|t| t.parse().unwrap()).collect()
    }

    fn ask(raw: &str) -> (Vec<String>, bool) {
        let tags = tags();
        let (page, more) = page(&tags, &Query::parse(raw).unwrap());
        (page.iter().map(Tag::to_string).collect(), more)
    }

    #[test]
    fn pages_meet_without_gap_or_overlap() {
        let (mut seen, mut last) = (Vec::new(), String::new());
        loop {
            let (page, more) = ask(&format!("n=2&last={last}"));
            last = page.last().unwrap().clone();
            seen.extend(page);
            if !more {
                break;
            }
        }
        assert_eq!(seen, ask("").0);
        assert_eq!(seen.len(), 6);
    }

    #[test]
    fn edges() {
        assert_eq!(ask("n=6"), (ask("").0, false));
        assert_eq!(ask("n=0"), (vec![], false));
        assert_eq!(ask("last=zzz"), (vec![], false));
        assert_eq!(ask("n=1&last=11"), (vec!["2".to_owned()], true));
        assert_eq!(ask("n=1000000000000000000").0.len(), 6);
    }

    #[test]
    fn the_link_keeps_the_clients_spelling() {
        let query = Query::parse("n=2&ns=localhost%3A5001&x=y").unwrap();
        let link = next("/docker.io/v2/library/x/tags/list", &query, "v1.0");
        assert_eq!(link, "</docker.io/v2/library/x/tags/list?ns=localhost%3A5001&n=2&last=v1.0>; rel=\"next\"");
    }
}
