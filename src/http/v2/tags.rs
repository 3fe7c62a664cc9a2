//! GET and HEAD of `/v2/NAME/tags/list` (distribution-spec, "Listing Tags").

use actix_web::http::{
    StatusCode,
    header::{CACHE_CONTROL, HeaderValue, LINK},
};

use crate::{
    http::{
        answer::{errors::HttpError, reply, reply::Reply},
        request::RequestContext,
        v2::link,
    },
    names::Spelling,
    pull::TagPage,
};

/// The repository's tags in bytewise order, all of them unless `n` says how many.
pub(crate) async fn list(context: RequestContext<'_>, spelling: &Spelling) -> Result<Reply, HttpError> {
    let repository = context.repository()?;
    let wanted = TagPage { last: context.query.last.clone(), n: context.query.n.and_then(|n| usize::try_from(n).ok()) };
    let list = context.services.pull.tags(&repository, wanted).await?;
    let tags = list.all.range(list.wanted.clone());
    let mut reply = Reply::bytes(StatusCode::OK, reply::JSON, body(spelling.name.as_str(), tags.clone()).into());
    reply.header(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let (true, Some(last)) = (list.more, tags.last()) {
        reply.text(LINK, &link::next(context.request.uri().path(), &context.query, last));
    }
    reply.trace = Some(list.trace);
    Ok(reply)
}

/// The list as JSON, made in one piece of memory. The name is in the client's spelling, because
/// clients compare it. Neither a name nor a tag has a character that JSON escapes.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_json() {
        assert_eq!(body("a/b", ["1", "b-2"].into_iter()), r#"{"name":"a/b","tags":["1","b-2"]}"#);
        assert_eq!(body("a", [].into_iter()), r#"{"name":"a","tags":[]}"#);
    }
}
