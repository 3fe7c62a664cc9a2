//! The eight built-in upstreams differ (WIRE, "Other upstreams"). A stand-in speaks each dialect
//! here, under the upstream's own name, and images are pulled by `ns=`.

use crate::{
    hub::{Fault, Hub, HubBuilder, Image, On, digest_of},
    lanyard::Lanyard,
    wire::get,
};

const REPO: &str = "team/app";

/// A lanyard whose upstream `name` is `hub`.
fn mirror_of(name: &str, hub: &Hub) -> Lanyard {
    Lanyard::start(&format!("[[upstream]]\nname = \"{name}\"\nurl = \"{}\"\n", hub.url()))
}

fn published(builder: HubBuilder) -> (Hub, Image) {
    let hub = builder.start();
    let image = hub.image(REPO, "v1").layer(5000).publish();
    (hub, image)
}

/// Pulls tag, config and layer through `ns=name`, and compares them.
fn pulls(lanyard: &Lanyard, name: &str, image: &Image) {
    let manifest = get(lanyard.port(), &format!("/v2/{REPO}/manifests/v1?ns={name}"));
    assert_eq!((manifest.status, &manifest.body), (200, &image.bytes), "{name}: {}", manifest.text());
    for digest in image.blobs() {
        let blob = get(lanyard.port(), &format!("/v2/{REPO}/blobs/{digest}?ns={name}"));
        assert_eq!((blob.status, digest_of(&blob.body).as_str()), (200, digest), "{name}");
    }
}

#[test]
fn docker_hub_gives_tokens_to_anybody_and_blobs_by_redirect() {
    let (hub, image) = published(Hub::builder());
    pulls(&mirror_of("docker.io", &hub), "docker.io", &image);
    assert!(hub.token_calls() >= 1);
    assert_eq!(hub.credentials_at_cdn(), 0);
}

#[test]
fn ghcr_refuses_the_token_itself_for_what_is_missing_or_private() {
    let (hub, image) = published(Hub::builder().tokens(|t| t.service = Some("ghcr.io".into())));
    let lanyard = mirror_of("ghcr.io", &hub);
    pulls(&lanyard, "ghcr.io", &image);
    let refusal = r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
    let refusal = Fault::Status { status: 403, headers: Vec::new(), body: refusal.into() };
    hub.fault(On::token().always(), refusal);
    let answer = get(lanyard.port(), "/v2/team/private/manifests/v1?ns=ghcr.io");
    assert_eq!(answer.status, 404, "a 401 or 403 would start the client's login dance: {}", answer.text());
    assert!(answer.text().contains("denied"), "upstream's own words: {}", answer.text());
}

#[test]
fn quay_names_another_service_and_sends_one_token_field() {
    let (hub, image) = published(Hub::builder().tokens(|t| {
        t.service = Some("quay.io".into());
        t.access_token = false;
        t.expires_in = None;
    }));
    pulls(&mirror_of("quay.io", &hub), "quay.io", &image);
}

#[test]
fn registry_k8s_io_redirects_everything_manifests_too() {
    let (regional, image) = published(Hub::builder().open());
    let hub = Hub::builder().open().start();
    let redirect = |path: String| {
        let on = On::when({
            let path = path.clone();
            move |request, _| request.path == path
        });
        hub.fault(on.any_method().always(), Fault::RedirectTo(format!("{}{path}", regional.url())));
    };
    redirect(format!("/v2/{REPO}/manifests/v1"));
    for digest in image.blobs() {
        redirect(format!("/v2/{REPO}/blobs/{digest}"));
    }
    hub.image(REPO, "unused").publish();
    pulls(&mirror_of("registry.k8s.io", &hub), "registry.k8s.io", &image);
    assert_eq!(regional.manifest_gets(), 1);
}

#[test]
fn gcr_and_mcr_ask_for_nothing() {
    for name in ["gcr.io", "mcr.microsoft.com"] {
        let (hub, image) = published(Hub::builder().open());
        pulls(&mirror_of(name, &hub), name, &image);
        assert_eq!(hub.token_calls(), 0, "{name}");
    }
}

#[test]
fn public_ecr_aws_has_one_scope_for_all() {
    let (hub, image) = published(Hub::builder().tokens(|t| {
        t.service = Some("public.ecr.aws".into());
        t.scope = Some("aws".into());
    }));
    let lanyard = mirror_of("public.ecr.aws", &hub);
    pulls(&lanyard, "public.ecr.aws", &image);
    let asked = hub.requests();
    let token = asked.iter().find(|r| r.path.contains("token")).expect("a token was asked for");
    assert!(token.query.contains("scope=aws"), "{}", token.query);
}

#[test]
fn nvcr_names_no_service_and_refuses_in_html() {
    let (hub, image) = published(Hub::builder().tokens(|t| {
        t.service = None;
        t.token = true;
        t.access_token = false;
    }));
    let lanyard = mirror_of("nvcr.io", &hub);
    pulls(&lanyard, "nvcr.io", &image);
    let page = Fault::Status {
        status: 401,
        headers: vec![("Content-Type".into(), "text/html".into())],
        body: "<html><body>401 Unauthorized</body></html>".into(),
    };
    hub.fault(On::token().always(), page);
    let answer = get(lanyard.port(), "/v2/team/private/manifests/v1?ns=nvcr.io");
    assert_eq!(answer.status, 404, "{}", answer.text());
}
