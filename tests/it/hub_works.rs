//! The stand-in behaves as its documentation says: content, tokens, the CDN, counts. Faults are in
//! `hub_faults`.

use std::time::{Duration, Instant};

use crate::hub::{DOCKER_LIST, DOCKER_MANIFEST, Fault, Gate, Hub, OCI_MANIFEST, On, Origin, Quota, digest_of};
use crate::raw::{Answer, finish, get, send, split};

/// A token for one repository.
fn token(hub: &Hub, repo: &str) -> String {
    let (address, path) = split(hub.token_url());
    let answer = get(address, &format!("{path}?service=registry.docker.io&scope=repository:{repo}:pull"), &[]);
    format!("Bearer {}", answer.json()["token"].as_str().unwrap())
}

/// A blob through the CDN, as a client gets it.
fn pull_blob(hub: &Hub, repo: &str, digest: &str, headers: &[(&str, &str)]) -> Answer {
    let token = token(hub, repo);
    let answer = get(hub.address(), &format!("/v2/{repo}/blobs/{digest}"), &[("Authorization", &token)]);
    assert_eq!(answer.status, 307);
    let (address, path) = split(answer.header("location"));
    assert_eq!(address, hub.cdn_address());
    get(address, &path, headers)
}

#[test]
fn a_pull_goes_challenge_token_manifest_redirect_cdn() {
    let hub = Hub::start();
    let image = hub.image("library/busybox", "latest").layer(100_000).layer(10).publish();
    let path = "/v2/library/busybox/manifests/latest";

    let challenge = get(hub.address(), path, &[]);
    assert_eq!(challenge.status, 401);
    let expected = format!(
        "Bearer realm=\"{}/token\",service=\"registry.docker.io\",scope=\"repository:library/busybox:pull\"",
        hub.url()
    );
    assert_eq!(challenge.header("www-authenticate"), expected);
    assert_eq!(challenge.json()["errors"][0]["code"], "UNAUTHORIZED");

    let token = token(&hub, "library/busybox");
    let manifest = get(hub.address(), path, &[("Authorization", &token)]);
    assert_eq!((manifest.status, &manifest.rest), (200, &image.bytes));
    assert_eq!(manifest.header("docker-content-digest"), image.digest);
    assert_eq!(manifest.header("content-type"), DOCKER_MANIFEST);
    assert_eq!(manifest.header("content-length"), image.bytes.len().to_string());
    let head = finish(&mut send(hub.address(), "HEAD", path, &[("Authorization", &token)]));
    assert_eq!((head.header("content-length"), head.rest.len()), (manifest.header("content-length"), 0));

    for digest in image.blobs() {
        let blob = pull_blob(&hub, "library/busybox", digest, &[]);
        assert_eq!((blob.status, digest_of(&blob.rest).as_str()), (200, digest));
        assert_eq!(hub.blob_gets(digest), 1);
        assert_eq!(hub.blob_bytes_sent(digest), blob.rest.len() as u64);
    }
    assert_eq!((hub.manifest_gets(), hub.manifest_heads(), hub.any_blob_gets()), (1, 1, 3));
    assert_eq!((hub.token_calls(), hub.credentials_at_cdn()), (4, 0));
    hub.reset_counts();
    assert!(hub.requests().is_empty());
}

#[test]
fn the_cdn_refuses_credentials_and_foreign_signatures() {
    let hub = Hub::start();
    let image = hub.image("a/b", "1").layer(1000).publish();
    let refused = pull_blob(&hub, "a/b", image.layer(0), &[("Authorization", "Bearer x")]);
    assert_eq!((refused.status, hub.credentials_at_cdn()), (400, 1));
    let hex = image.layer(0).trim_start_matches("sha256:").to_string();
    let path =
        format!("/registry-v2/docker/registry/v2/blobs/sha256/{}/{hex}/data?expires=999999&signature=1", &hex[..2]);
    assert_eq!(get(hub.cdn_address(), &path, &[]).status, 403);
    let hub = Hub::builder().link_ttl(Duration::ZERO).start();
    let image = hub.image("a/b", "1").layer(1000).publish();
    assert_eq!(pull_blob(&hub, "a/b", image.layer(0), &[]).status, 403);
}

#[test]
fn tokens_expire_and_open_only_their_repository() {
    let hub = Hub::builder().token_uses(2).start();
    hub.image("a/b", "1").publish();
    hub.image("a/c", "1").publish();
    let status = |token: &str, path: &str| get(hub.address(), path, &[("Authorization", token)]).status;
    let b = token(&hub, "a/b");
    let wrong = get(hub.address(), "/v2/a/c/manifests/1", &[("Authorization", &b)]);
    assert!(wrong.header("www-authenticate").contains("error=\"insufficient_scope\""));
    assert_eq!([1, 2, 3].map(|_| status(&b, "/v2/a/b/manifests/1")), [200, 200, 401]);
    let b = token(&hub, "a/b");
    hub.revoke_tokens();
    assert_eq!(status(&b, "/v2/a/b/manifests/1"), 401);

    let hub = Hub::builder().token_ttl(Duration::ZERO).start();
    hub.image("a/b", "1").publish();
    assert_eq!(get(hub.address(), "/v2/a/b/manifests/1", &[("Authorization", &token(&hub, "a/b"))]).status, 401);
}

#[test]
fn a_missing_repository_is_401_and_a_missing_tag_404() {
    let hub = Hub::builder().member("mary", "secret").start();
    hub.image("a/b", "1").publish();
    hub.image("a/private", "1").publish();
    hub.set_private("a/private");
    for repo in ["a/none", "a/private"] {
        let answer = get(hub.address(), &format!("/v2/{repo}/manifests/1"), &[("Authorization", &token(&hub, repo))]);
        assert_eq!(answer.status, 401);
        assert!(answer.header("www-authenticate").contains("insufficient_scope"));
    }
    let answer = get(hub.address(), "/v2/a/b/manifests/2", &[("Authorization", &token(&hub, "a/b"))]);
    assert_eq!((answer.status, &answer.json()["errors"][0]["code"]), (404, &"MANIFEST_UNKNOWN".into()));

    let login = [("Authorization", "Basic bWFyeTpzZWNyZXQ=")];
    let given = get(hub.address(), "/token?scope=repository:a/private:pull", &login).json();
    let bearer = format!("Bearer {}", given["access_token"].as_str().unwrap());
    assert_eq!(get(hub.address(), "/v2/a/private/manifests/1", &[("Authorization", &bearer)]).status, 200);
    let wrong = [("Authorization", "Basic bWFyeTp3cm9uZw==")];
    assert_eq!(get(hub.address(), "/token?scope=repository:a/private:pull", &wrong).status, 401);
}

#[test]
fn other_kinds_of_access() {
    let hub = Hub::builder().open().start();
    assert_eq!(get(hub.address(), "/v2/", &[]).status, 200);
    let hub = Hub::builder().basic("mary", "secret").start();
    assert!(get(hub.address(), "/v2/", &[]).header("www-authenticate").starts_with("Basic "));
    assert_eq!(get(hub.address(), "/v2/", &[("Authorization", "Basic bWFyeTpzZWNyZXQ=")]).status, 200);
    let hub = Hub::builder().account("mary", "secret").token_listener().start();
    let (address, path) = split(hub.token_url());
    assert_ne!(address, hub.address());
    assert_eq!(get(address, &path, &[]).status, 401);
    assert_eq!(get(address, &path, &[("Authorization", "Basic bWFyeTpzZWNyZXQ=")]).status, 200);
    assert_eq!(hub.requests()[0].origin, Origin::Token);
    let hub = Hub::builder().realm("https://evil.example.test/token").start();
    assert!(get(hub.address(), "/v2/", &[]).header("www-authenticate").contains("evil.example.test"));
}

#[test]
fn ranges_are_answered_until_switched_off() {
    let hub = Hub::builder().open().without_cdn().start();
    let bytes: Vec<u8> = (0..=255).collect();
    let digest = hub.put_blob(bytes.clone());
    let path = format!("/v2/a/b/blobs/{digest}");
    let ask = |headers: &[(&str, &str)]| get(hub.address(), &path, headers);
    let answer = ask(&[("Range", "bytes=10-19")]);
    assert_eq!((answer.status, &answer.rest[..]), (206, &bytes[10..20]));
    assert_eq!(answer.header("content-range"), "bytes 10-19/256");
    assert_eq!(ask(&[("Range", "bytes=200-")]).rest, &bytes[200..]);
    assert_eq!(ask(&[("Range", "bytes=-6")]).rest, &bytes[250..]);
    assert_eq!(ask(&[("Range", "bytes=256-")]).status, 416);
    let etag = format!("\"{digest}\"");
    assert_eq!(ask(&[("Range", "bytes=1-"), ("If-Range", &etag)]).status, 206);
    assert_eq!(ask(&[("Range", "bytes=1-"), ("If-Range", "\"old\"")]).status, 200);
    hub.set_ranges(false);
    assert_eq!(ask(&[("Range", "bytes=10-19")]).rest, bytes);
}

#[test]
fn the_rate_limit_is_told_and_kept() {
    let hub = Hub::builder().open().rate_limit(100, 2).start();
    hub.image("a/b", "1").publish();
    let ask = || get(hub.address(), "/v2/a/b/manifests/1", &[]);
    let first = ask();
    assert_eq!(first.header("ratelimit-limit"), "100;w=21600");
    assert_eq!(first.header("ratelimit-remaining"), "1;w=21600");
    let head = finish(&mut send(hub.address(), "HEAD", "/v2/a/b/manifests/1", &[]));
    assert_eq!((head.status, hub.quota_left()), (200, Some(1)));
    assert_eq!(ask().status, 200);
    let refused = ask();
    assert_eq!((refused.status, refused.header("retry-after")), (429, ""));
    assert_eq!(refused.json()["errors"][0]["code"], "TOOMANYREQUESTS");
    hub.set_quota(Some(Quota { limit: 100, window: 60, remaining: 0, retry_after: Some("7".into()) }));
    assert_eq!(ask().header("retry-after"), "7");
    hub.set_quota(None);
    assert_eq!(ask().header("ratelimit-limit"), "");
}

#[test]
fn an_index_is_served_to_those_who_can_read_it() {
    let hub = Hub::builder().open().start();
    let image = hub.image("a/b", "1").layer(10).platforms(&["linux/amd64", "linux/arm64/v8"]).publish();
    let ask = |reference: &str, accept: &str| {
        get(hub.address(), &format!("/v2/a/b/manifests/{reference}"), &[("Accept", accept)])
    };
    assert_eq!(ask("1", DOCKER_LIST).rest, image.bytes);
    assert_eq!(ask("1", "application/json, */*;q=0.1").rest, image.bytes);
    assert_eq!(ask("1", DOCKER_MANIFEST).header("docker-content-digest"), image.platforms[0].digest);
    assert_eq!(ask(&image.platforms[1].digest, DOCKER_MANIFEST).rest, image.platforms[1].bytes);
    assert_ne!(image.platforms[0].layers, image.platforms[1].layers);
    assert_eq!(
        Hub::start().image("a/b", "1").layer(10).platforms(&["linux/amd64", "linux/arm64/v8"]).publish().digest,
        image.digest
    );
}

#[test]
fn tags_are_paged_moved_and_deleted() {
    let hub = Hub::builder().open().start();
    let one = hub.image("a/b", "one").publish();
    hub.image("a/b", "two").layer(5).publish();
    hub.move_tag("a/b", "three", &one.digest);
    let page = get(hub.address(), "/v2/a/b/tags/list?n=2", &[]);
    assert_eq!(page.json()["tags"], serde_json::json!(["one", "three"]));
    let link = page.header("link").to_string();
    assert_eq!(link, "</v2/a/b/tags/list?last=three&n=2>; rel=\"next\"");
    let page = get(hub.address(), &link[1..link.find('>').unwrap()], &[]);
    assert_eq!((page.json()["tags"].clone(), page.header("link")), (serde_json::json!(["two"]), ""));
    hub.delete_tag("a/b", "one");
    assert_eq!(get(hub.address(), "/v2/a/b/manifests/one", &[]).status, 404);
    assert_eq!(get(hub.address(), &format!("/v2/a/b/manifests/{}", one.digest), &[]).status, 200);
    hub.delete_repo("a/b");
    assert_eq!(get(hub.address(), "/v2/a/b/tags/list", &[]).status, 404);
}

#[test]
fn referrers_are_listed_and_filtered() {
    let hub = Hub::builder().open().start();
    let image = hub.image("a/b", "1").publish();
    for kind in ["text/sbom", "text/signature"] {
        let bytes = serde_json::json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": kind,
            "subject": {"mediaType": DOCKER_MANIFEST, "digest": image.digest, "size": image.bytes.len()},
        });
        hub.put_untagged("a/b", OCI_MANIFEST, bytes.to_string().as_bytes());
    }
    let path = format!("/v2/a/b/referrers/{}", image.digest);
    assert_eq!(get(hub.address(), &path, &[]).json()["manifests"].as_array().unwrap().len(), 2);
    let filtered = get(hub.address(), &format!("{path}?artifactType=text%2Fsbom"), &[]);
    assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
    assert_eq!(filtered.json()["manifests"][0]["artifactType"], "text/sbom");
    let hub = Hub::builder().open().without_referrers().start();
    assert_eq!(get(hub.address(), &path, &[]).status, 404);
}

#[test]
fn two_hundred_connections_share_one_rate() {
    let hub = Hub::builder().open().without_cdn().bytes_per_second(10_000_000).start();
    let digest = hub.image("a/b", "1").layer(20_000).publish().layer(0).to_string();
    // All wait at the gate together, so that the overlap does not depend on how quickly threads
    // start.
    let gate = Gate::shut();
    hub.fault(On::blob(&digest).always(), Fault::HoldHead(gate.clone()));
    let mut began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..220 {
            scope.spawn(|| assert_eq!(get(hub.address(), &format!("/v2/a/b/blobs/{digest}"), &[]).rest.len(), 20_000));
        }
        assert!(gate.wait_for_arrivals(220, Duration::from_secs(60)));
        began = Instant::now();
        gate.open();
    });
    assert!(began.elapsed() >= Duration::from_millis(420), "4.4 MB at 10 MB/s took {:?}", began.elapsed());
    assert_eq!((hub.blob_gets(&digest), hub.connections_accepted()), (220, 220));
    assert_eq!(hub.body_bytes_sent(), 220 * 20_000);
    assert_eq!(hub.most_at_once(|record| record.is_blob_get(&digest)), 220);
}

#[test]
fn dropping_it_closes_its_connections() {
    let hub = Hub::start();
    let mut idle = std::net::TcpStream::connect(hub.address()).unwrap();
    // Dropping joins the accepting threads and so closes the listeners too. The test cannot see
    // that: another test may already have the port.
    drop(hub);
    assert!(matches!(std::io::Read::read(&mut idle, &mut [0]), Ok(0) | Err(_)));
}
