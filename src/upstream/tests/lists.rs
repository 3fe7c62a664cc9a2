//! Tags and referrers.

use super::*;
use crate::{
    oci::{DOCKER_LIST, OCI_INDEX},
    upstream::{
        UpstreamError,
        script::{Scripted, status},
    },
};

fn texts(tags: &crate::oci::Tags) -> Vec<&str> {
    tags.iter().collect()
}

/// S9: pages within their bound are too large together, and none of them is kept.
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

const GONE: &str = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
const PAGE: &str = "<!doctype html><html>Please log in</html>";

/// The registry's answers, by path: to the API, and to the tag.
async fn referrers(
    api: impl Fn() -> Scripted + Send + Sync + 'static,
    tag: impl Fn() -> Scripted + Send + Sync + 'static,
) -> (Result<serde_json::Value, UpstreamError>, usize) {
    let subject = digest(b"subject");
    let fallback = format!("/v2/library/x/manifests/sha256-{}", subject.hex());
    let (upstream, script) = upstream(move |r| match r.url.path().contains("/referrers/") {
        true => api().reply(),
        false => tag().reply(),
    });
    let told = upstream.referrers(&repository(), &subject).await;
    (told.map(|index| serde_json::from_slice(&index).unwrap()), script.count(&fallback))
}

#[tokio::test(start_paused = true)]
async fn only_an_index_is_the_api_and_anything_else_leads_to_the_tag() {
    let index = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"x":1}]}"#;
    let no_api: [fn() -> Scripted; 20] = [
        || status(404),
        || status(404).body(PAGE),
        || status(404).body(GONE),
        || status(405).header("content-type", "text/html").body(PAGE),
        || status(400).body(PAGE),
        || status(401).body(PAGE),
        || status(403).body(PAGE),
        || status(406),
        || status(410),
        || status(501).body(PAGE),
        || status(200).header("content-type", "text/html").body(PAGE),
        || status(200).from("https://www.registry.example/login").body(PAGE),
        || status(200).header("content-type", OCI_INDEX),
        || status(200).header("content-type", OCI_INDEX).body("{}"),
        || status(200).header("content-type", OCI_INDEX).body(GONE),
        || status(200).header("content-type", OCI_INDEX).body(r#"{"schemaVersion":2,"manifests":[{"x""#),
        || status(200).header("content-type", OCI_IMAGE).body(image()),
        || {
            status(200)
                .header("content-type", OCI_INDEX)
                .body(format!(r#"{{"mediaType":"{OCI_IMAGE}","manifests":[]}}"#))
        },
        || status(200).header("content-type", DOCKER_LIST).body(r#"{"schemaVersion":2,"manifests":[]}"#),
        || status(200).header("content-type", "application/json").body(r#"{"manifests":[]}"#),
    ];
    for (n, api) in no_api.into_iter().enumerate() {
        let (told, asked) = referrers(api, move || status(200).header("content-type", OCI_INDEX).body(index)).await;
        assert_eq!((told.unwrap()["manifests"].clone(), asked), (serde_json::json!([{"x":1}]), 1), "{n}");
        let (told, asked) = referrers(api, || status(404).body(GONE)).await;
        assert_eq!((told.unwrap()["manifests"].clone(), asked), (serde_json::json!([]), 1), "{n}: no such tag");
        // An unclear answer is no empty list.
        let unclear: [fn() -> Scripted; 6] = [
            || status(404).body(PAGE),
            || status(404),
            || status(200).body(PAGE),
            || status(200).header("content-type", OCI_IMAGE).body(image()),
            || status(403),
            || status(503),
        ];
        for (m, tag) in unclear.into_iter().enumerate() {
            assert!(referrers(api, tag).await.0.is_err(), "{n} {m}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_is_a_list_and_trouble_is_trouble() {
    let lists: [fn() -> Scripted; 5] = [
        || status(200).header("content-type", OCI_INDEX).body(r#"{"manifests":[]}"#),
        || status(200).header("content-type", OCI_INDEX).body(r#"{"manifests":null}"#),
        || {
            status(200)
                .header("content-type", "application/vnd.oci.image.index.v1+json; charset=utf-8")
                .body(r#"{"manifests":[]}"#)
        },
        || {
            status(200)
                .header("content-type", "application/json")
                .body(format!(r#"{{"mediaType":"{OCI_INDEX}","manifests":[]}}"#))
        },
        || status(200).body(format!(r#"{{"mediaType":"{OCI_INDEX}","manifests":[],"annotations":null}}"#)),
    ];
    for (n, api) in lists.into_iter().enumerate() {
        let (told, asked) = referrers(api, || status(500)).await;
        assert_eq!((told.unwrap()["manifests"].clone(), asked), (serde_json::json!([]), 0), "{n}");
    }
    let trouble: [fn() -> Scripted; 6] = [
        || status(500),
        || status(502).body(PAGE),
        || status(503).header("retry-after", "1"),
        || status(429),
        || status(200).header("content-type", OCI_INDEX).body(r#"{"manifests":[]}"#).breaks_off(),
        || status(200).header("content-type", OCI_INDEX).body("x".repeat((4 << 20) + 1)),
    ];
    for (n, api) in trouble.into_iter().enumerate() {
        let (told, asked) = referrers(api, || status(404).body(GONE)).await;
        assert!(told.is_err() && asked == 0, "{n}: {told:?}");
    }
    // A later page that is no list spoils the list.
    let (upstream, _) = upstream(|r| match r.url.query() {
        None => status(200)
            .header("content-type", OCI_INDEX)
            .header("link", "<?last=1>; rel=next")
            .body(r#"{"manifests":[]}"#)
            .reply(),
        Some(_) => status(200).body(PAGE).reply(),
    });
    assert!(upstream.referrers(&repository(), &digest(b"subject")).await.is_err());
}
