use super::*;

pub(super) fn names() -> Names {
    let upstreams = ["docker.io", "ghcr.io", "quay.io", "localhost:5001"];
    let upstreams = upstreams.iter().map(|u| u.parse().unwrap()).collect();
    Names::new(upstreams, "docker.io".parse().unwrap(), |name| name.as_str().starts_with("team/"))
}

fn resolve(host: Option<&str>, name: &str, ns: Option<&str>) -> Result<String, u16> {
    let spelling = Spelling { host: host.map(|h| h.parse().unwrap()), name: name.parse().unwrap() };
    let hosted = |name: &RepositoryName| name.as_str() == "app";
    match names().resolve(&spelling, ns, hosted) {
        Ok(repository) => Ok(match &repository.namespace {
            Namespace::Hosted => format!("hosted {}", repository.name),
            Namespace::Upstream(upstream) => format!("{upstream} {}", repository.name),
        }),
        Err(error) => Err(error.status),
    }
}

#[test]
fn every_spelling_of_one_image_is_one_repository() {
    for (host, name, ns) in [
        (None, "busybox", None),
        (None, "library/busybox", None),
        (None, "library/busybox", Some("docker.io")),
        (None, "busybox", Some("docker.io")),
        (None, "library/busybox", Some("index.docker.io")),
        (None, "library/busybox", Some("registry-1.docker.io")),
        (None, "docker.io/library/busybox", None),
        (None, "docker.io/busybox", None),
        (None, "index.docker.io/library/busybox", None),
        // containerd with override_path names the host twice.
        (None, "docker.io/library/busybox", Some("docker.io")),
        (Some("docker.io"), "library/busybox", None),
        (Some("docker.io"), "library/busybox", Some("docker.io")),
        (Some("docker.io"), "busybox", None),
    ] {
        assert_eq!(resolve(host, name, ns).as_deref(), Ok("docker.io library/busybox"), "{host:?} {name} {ns:?}");
    }
}

#[test]
fn other_upstreams_have_no_library() {
    assert_eq!(resolve(None, "tool", Some("ghcr.io")).as_deref(), Ok("ghcr.io tool"));
    assert_eq!(resolve(None, "ghcr.io/owner/tool", None).as_deref(), Ok("ghcr.io owner/tool"));
    assert_eq!(resolve(Some("localhost:5001"), "x", None).as_deref(), Ok("localhost:5001 x"));
    assert_eq!(resolve(None, "owner/x", Some("localhost:5001")).as_deref(), Ok("localhost:5001 owner/x"));
}

#[test]
fn ns_comes_before_the_prefix_and_the_prefix_before_hosted() {
    assert_eq!(resolve(None, "docker.io/x/y", Some("ghcr.io")).as_deref(), Ok("ghcr.io docker.io/x/y"));
    assert_eq!(resolve(Some("quay.io"), "x/y", Some("ghcr.io")).as_deref(), Ok("ghcr.io x/y"));
    assert_eq!(resolve(None, "app", Some("ghcr.io")).as_deref(), Ok("ghcr.io app"));
    assert_eq!(resolve(None, "quay.io/app", None).as_deref(), Ok("quay.io app"));
    // No segment follows the host, so it is a usual name.
    assert_eq!(resolve(None, "quay.io", None).as_deref(), Ok("docker.io library/quay.io"));
}

#[test]
fn s16_hosted_names_never_fall_through_to_an_upstream() {
    assert_eq!(resolve(None, "app", None).as_deref(), Ok("hosted app"));
    assert_eq!(resolve(None, "team/missing", None).as_deref(), Ok("hosted team/missing"));
    assert_eq!(resolve(None, "teams/x", None).as_deref(), Ok("docker.io teams/x"));
}

#[test]
fn s4_an_unknown_host_is_404_and_goes_no_further() {
    for ns in
        ["evil.example", "169.254.169.254", "", "DOCKER.IO", "docker.io.", "docker.io:443", "user@ghcr.io", "../x"]
    {
        assert_eq!(resolve(None, "library/x", Some(ns)), Err(404), "{ns}");
    }
    assert_eq!(resolve(Some("evil.example"), "library/x", None), Err(404));
    let error = names().upstream("a\nb").unwrap_err();
    assert!(!error.message.contains('\n') && error.code == ErrorCode::NameUnknown);
}

#[test]
fn a_name_without_room_for_library_is_invalid() {
    assert_eq!(resolve(None, &"a".repeat(253), None), Err(400));
}
