//! Tags and referrers.

use super::*;
use crate::{
    oci::OCI_INDEX,
    upstream::{UpstreamError, script::status},
};

fn texts(tags: &crate::oci::Tags) -> Vec<&str> {
    tags.iter().collect()
}

/// S9: pages that are one after the other within their bound are not so together, and nothing is kept of them.
#[tokio::test]
async fn a_list_of_long_pages_is_ended() {
    let tags: Vec<_> = (0..100_000).map(|n| format!("\"tag-number-{n:020}\"")).collect();
    let page = format!(r#"{{"tags":[{}]}}"#, tags.join(","));
    let (upstream, script) = upstream(move |r| {
        let last: u64 = r.url.query().unwrap().rsplit('=').next().unwrap().parse().unwrap();
        let link = format!("<?last={}>; rel=next", last + 1);
        status(200).header("link", link).body(page.clone()).reply()
    });
    let error = upstream.tags(&repository()).await.unwrap_err();
    assert!(error.to_string().contains("longer than 8 MiB"), "{error}");
    assert_eq!(script.asked().len(), 3);
}

#[tokio::test]
async fn a_list_may_hold_anything_beside_tags() {
    for (page, expected) in [
        (r#"{"tags":["a"],"more":{"tags":["x"]},"name":7}"#, Some(&["a"][..])),
        (r#"{"name":"x"}"#, Some(&[])),
        (r#"{"tags":["\u0061","b"]}"#, Some(&["a", "b"])),
        (r#"{"tags":[1]}"#, None),
        (r#"{"tags":{}}"#, None),
        (r#"["a"]"#, None),
        (r#"{"tags":["a"]} x"#, None),
        ("<html>", None),
    ] {
        let (upstream, _) = upstream(move |_| status(200).body(page).reply());
        let tags = upstream.tags(&repository()).await;
        assert_eq!(tags.as_ref().ok().map(|tags| texts(tags)), expected.map(<[_]>::to_vec), "{page}");
    }
}

#[tokio::test]
async fn tags_come_from_all_pages_in_order() {
    let (upstream, script) = upstream(|r| match r.url.query() {
        Some("n=1000") => status(200)
            .header("link", r#"</v2/library/x/tags/list?n=2&last=a>; rel="next""#)
            .body(r#"{"name":"library/x","tags":["b","a","no tag","B"]}"#)
            .reply(),
        Some("n=2&last=a") => status(200).body(r#"{"tags":["c","b"]}"#).reply(),
        _ => status(404).reply(),
    });
    assert_eq!(texts(&upstream.tags(&repository()).await.unwrap()), ["B", "a", "b", "c"]);
    assert_eq!(script.asked().len(), 2);
}

#[tokio::test]
async fn a_registry_may_refuse_a_page_size_and_have_no_tags() {
    let (upstream, _) = upstream(|r| match r.url.query() {
        Some(_) => status(400).reply(),
        None => status(200).body(r#"{"name":"library/x","tags":null}"#).reply(),
    });
    assert!(upstream.tags(&repository()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_list_without_end_is_ended() {
    let (upstream, script) = upstream(|r| {
        let last: u64 = r.url.query().unwrap().rsplit('=').next().unwrap().parse().unwrap();
        let link = format!("<?last={}>; rel=next", last + 1);
        status(200).header("link", link).body(r#"{"tags":["a"]}"#).reply()
    });
    assert!(matches!(upstream.tags(&repository()).await, Err(UpstreamError::Untrue { .. })));
    assert_eq!(script.asked().len(), 1000);
}

#[tokio::test(start_paused = true)]
async fn a_slow_list_is_ended() {
    let (upstream, _) = upstream(|r| {
        let last: u64 = r.url.query().unwrap().rsplit('=').next().unwrap().parse().unwrap();
        let link = format!("<?last={}>; rel=next", last + 1);
        status(200).after(Duration::from_secs(5)).header("link", link).body(r#"{"tags":["a"]}"#).reply()
    });
    let begun = tokio::time::Instant::now();
    assert!(upstream.tags(&repository()).await.unwrap_err().is_outage());
    assert_eq!(begun.elapsed().as_secs(), 60);
}

#[tokio::test]
async fn referrers_are_passed_on_and_joined() {
    let one = || format!(r#"{{"schemaVersion":2,  "mediaType":"{OCI_INDEX}","manifests":[{{"a":1}}]}}"#);
    let (single, script) = upstream(move |_| status(200).header("content-type", OCI_INDEX).body(one()).reply());
    let subject = digest(b"subject");
    assert_eq!(single.referrers(&repository(), &subject).await.unwrap(), one());
    assert_eq!(script.asked(), [format!("GET /v2/library/x/referrers/{subject}")]);

    let (paged, _) = upstream(move |r| match r.url.query() {
        None => status(200).header("link", "<?last=1>; rel=next").body(one()).reply(),
        Some(_) => status(200).body(r#"{"manifests":[{"b":2}]}"#).reply(),
    });
    let joined: serde_json::Value =
        serde_json::from_slice(&paged.referrers(&repository(), &subject).await.unwrap()).unwrap();
    assert_eq!(joined["manifests"], serde_json::json!([{"a":1},{"b":2}]));
    assert_eq!((joined["schemaVersion"].as_u64(), joined["mediaType"].as_str()), (Some(2), Some(OCI_INDEX)));
}

#[tokio::test]
async fn without_the_api_there_is_a_tag_or_nothing() {
    let subject = digest(b"subject");
    let fallback = format!("/v2/library/x/manifests/sha256-{}", subject.hex());
    let index = r#"{"schemaVersion":2,"manifests":[{"x":1}]}"#;
    let path = fallback.clone();
    let (with_tag, _) = upstream(move |r| match r.url.path() == path {
        true => status(200).header("content-type", OCI_INDEX).body(index).reply(),
        false => status(404).reply(),
    });
    assert_eq!(with_tag.referrers(&repository(), &subject).await.unwrap(), index);

    let (without, script) = upstream(|r| status(if r.url.path().contains("referrers") { 405 } else { 404 }).reply());
    let empty: serde_json::Value =
        serde_json::from_slice(&without.referrers(&repository(), &subject).await.unwrap()).unwrap();
    assert_eq!(empty["manifests"], serde_json::json!([]));
    assert_eq!(script.count(&fallback), 1);

    let (limited, script) = upstream(|_| status(429).reply());
    assert!(limited.referrers(&repository(), &subject).await.unwrap_err().is_outage());
    assert_eq!(script.asked().len(), 1);
}
