//! The `Link` header of a list that has more pages (RFC 8288).

use url::form_urlencoded::Serializer;

use crate::http::query::Query;

/// The link to the next page, in the spelling of this request: same path, same `ns`, same filter.
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
    fn the_link_keeps_the_clients_spelling() {
        let query = Query::parse("n=2&ns=localhost%3A5001&x=y").unwrap();
        let link = next("/docker.io/v2/library/x/tags/list", &query, "v1.0");
        assert_eq!(link, "</docker.io/v2/library/x/tags/list?ns=localhost%3A5001&n=2&last=v1.0>; rel=\"next\"");
    }
}
