//! GET and HEAD of `/v2/NAME/tags/list` (distribution-spec, "Listing Tags").

use actix_web::http::{
    StatusCode,
    header::{CACHE_CONTROL, HeaderValue, LINK},
};
use url::form_urlencoded::Serializer;

use crate::{
    http::{
        answer::{errors::Refusal, reply, reply::Reply},
        query::Query,
        routes::Asked,
    },
    names::Spelling,
    pull::TagPage,
};

/// The repository's tags in bytewise order, all of them unless `n` says how many.
pub(crate) async fn list(asked: Asked<'_>, spelling: &Spelling) -> Result<Reply, Refusal> {
    let repository = asked.repository()?;
    let wanted = TagPage { last: asked.query.last.clone(), n: asked.query.n.and_then(|n| usize::try_from(n).ok()) };
    let list = asked.face.pull.tags(&repository, wanted).await?;
    let tags = list.all.range(list.wanted.clone());
    let mut reply = Reply::bytes(StatusCode::OK, reply::JSON, body(spelling.name.as_str(), tags.clone()).into());
    reply.header(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let (true, Some(last)) = (list.more, tags.last()) {
        reply.text(LINK, &next(asked.request.uri().path(), &asked.query, last));
    }
    reply.trace = Some(list.trace);
    Ok(reply)
}

/// The list as JSON, made in one piece of memory. The name is as the client wrote it: it compares.
/// Neither it nor a tag has anything that JSON would have to escape.
fn body<'a>(name: &str, tags: impl Iterator<Item = &'a str> + Clone) -> String {
    let length: usize = tags.clone().map(|tag| tag.len() + 3).sum();
    let mut body = String::with_capacity(length + name.len() + 32);
    body.push_str("{\"name\":\"");
    body.push_str(name);
    body.push_str("\",\"tags\":[");
    for (at, tag) in tags.enumerate() {
        body.push_str(if at == 0 { "\"" } else { ",\"" });
        body.push_str(tag);
        body.push('"');
    }
    body.push_str("]}");
    body
}

/// The next page, in the spelling of this request: same path, same `ns`, same filter.
pub(crate) fn next(path: &str, query: &Query, last: &str) -> String {
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

    #[test]
    fn the_list_is_json() {
        assert_eq!(body("a/b", ["1", "b-2"].into_iter()), r#"{"name":"a/b","tags":["1","b-2"]}"#);
        assert_eq!(body("a", [].into_iter()), r#"{"name":"a","tags":[]}"#);
    }

    #[test]
    fn the_link_keeps_the_clients_spelling() {
        let query = Query::parse("n=2&ns=localhost%3A5001&x=y").unwrap();
        let link = next("/docker.io/v2/library/x/tags/list", &query, "v1.0");
        assert_eq!(link, "</docker.io/v2/library/x/tags/list?ns=localhost%3A5001&n=2&last=v1.0>; rel=\"next\"");
    }
}
