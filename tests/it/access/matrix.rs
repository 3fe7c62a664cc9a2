//! S5: a request for content that a principal may not pull is answered exactly as one for content
//! that does not exist. Principals × end points × repositories.

use super::{ANN, BOB, ELSEWHERE, House, Small, basic};
use crate::{
    hub::Hub,
    wire::{Answer, eventually},
};

const RULES: &str = r#"
[[access]]
who = ["anonymous"]
repositories = ["docker.io/**"]
actions = ["pull"]
[[access]]
who = ["loopback"]
repositories = ["here/**"]
actions = ["pull", "push"]
[[access]]
who = ["user:ann"]
repositories = ["ann/**", "private.lan/**"]
actions = ["pull", "push", "delete"]
[[access]]
who = ["user:bob"]
repositories = ["bob/**"]
actions = ["pull", "push", "delete"]
"#;

struct Scene {
    house: House,
    /// The repositories of ann, of bob, of this machine.
    hosted: [(&'static str, Small); 3],
    /// The repository of a registry that knows lanyard by a password.
    private: (String, String),
    _hubs: [Hub; 2],
}

impl Scene {
    fn new() -> Scene {
        let public = Hub::start();
        public.image("library/busybox", "latest").layer(100).publish();
        let private = Hub::builder().account("company", "canary-company").start();
        let image = private.image("team/app", "secret-tag").layer(100).publish();
        let password = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(password.path(), "canary-company").unwrap();
        let before = "[hosted]\nnamespaces = [\"ann/**\", \"bob/**\", \"here/**\"]";
        let upstreams = format!(
            "[[upstream]]\nname = \"docker.io\"\nurl = \"{}\"\n[[upstream]]\nname = \"private.lan\"\nurl = \"{}\"\n\
             username = \"company\"\npassword_file = {:?}\nallow = [\"**\"]\n",
            public.url(),
            private.url(),
            password.path()
        );
        let house = House::start(before, &format!("{RULES}{upstreams}"));
        let hosted = [("ann/app", "ann's"), ("bob/app", "bob's"), ("here/app", "here's")];
        let hosted = hosted.map(|(repo, text)| (repo, Small::new(text)));
        for ((repo, image), user) in hosted.iter().zip([Some(ANN), Some(BOB), None]) {
            let authorization = user.map(basic);
            let headers: Vec<_> = authorization.iter().map(|value| ("Authorization", value.as_str())).collect();
            assert_eq!(image.push(house.port(), repo, "secret-tag", &headers), 201, "{repo}");
        }
        Scene { house, hosted, private: (image.digest.clone(), image.layer(0).to_owned()), _hubs: [public, private] }
    }

    /// Every end point that reads, for a repository with these digests.
    fn reads(repo: &str, manifest: &str, blob: &str) -> Vec<String> {
        vec![
            format!("/v2/{repo}/manifests/secret-tag"),
            format!("/v2/{repo}/manifests/{manifest}"),
            format!("/v2/{repo}/blobs/{blob}"),
            format!("/v2/{repo}/tags/list"),
            format!("/v2/{repo}/referrers/{manifest}"),
        ]
    }
}

/// A client, and the repository that belongs to it.
struct Who {
    name: &'static str,
    headers: Vec<(&'static str, String)>,
    own: &'static [&'static str],
}

impl Who {
    fn all() -> [Who; 4] {
        let elsewhere = || (ELSEWHERE.0, ELSEWHERE.1.to_owned());
        let user = |user| vec![elsewhere(), ("Authorization", basic(user))];
        [
            Who { name: "anonymous", headers: vec![elsewhere()], own: &[] },
            Who { name: "loopback", headers: vec![], own: &["here/app"] },
            Who { name: "ann", headers: user(ANN), own: &["ann/app", "private.lan/team/app"] },
            Who { name: "bob", headers: user(BOB), own: &["bob/app"] },
        ]
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }
}

/// All of an answer but its date, with the repository's name taken out.
fn plain(answer: &Answer, repo: &str) -> String {
    let mut headers: Vec<_> = answer.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("date")).collect();
    headers.sort();
    // The names that are asked for here have one length, so the length of the answer says nothing
    // about them.
    format!("{} {headers:?} {}", answer.status, answer.text()).replace(repo, "REPO")
}

#[test]
fn s5_nobody_learns_of_what_is_not_theirs() {
    let scene = Scene::new();
    let mut asked = 0;
    for who in Who::all() {
        let (headers, own, who) = (who.headers(), who.own, who.name);
        let (manifest, blob) = &scene.private;
        let private = [("private.lan/team/app", manifest.clone(), blob.clone())];
        let hosted = scene.hosted.iter().map(|(repo, image)| (*repo, image.digest(), image.blob()));
        for (repo, manifest, blob) in hosted.chain(private) {
            for path in Scene::reads(repo, &manifest, &blob) {
                for method in ["GET", "HEAD"] {
                    let answer = scene.house.ask(method, &path, &headers);
                    asked += 1;
                    if own.contains(&repo) {
                        assert_eq!(answer.status, 200, "{who} {method} {path}: {}", answer.text());
                        continue;
                    }
                    let expected = if matches!(who, "ann" | "bob") { 404 } else { 401 };
                    assert_eq!(answer.status, expected, "{who} {method} {path}: {}", answer.text());
                    let nowhere = repo.replace("app", "xyz");
                    let unknown = scene.house.ask(method, &path.replacen(repo, &nowhere, 1), &headers);
                    assert_eq!(plain(&answer, repo), plain(&unknown, &nowhere), "{who} {method} {path}");
                }
            }
        }
    }
    assert_eq!(asked, 4 * 4 * 5 * 2);
}

#[test]
fn s5_lists_and_tokens_hold_only_what_is_ones_own() {
    let scene = Scene::new();
    for who in Who::all() {
        let (headers, own, who) = (who.headers(), who.own, who.name);
        let hosted: Vec<_> = own.iter().filter(|repo| !repo.starts_with("private")).copied().collect();
        let listing = scene.house.ask("GET", "/v2/token?service=lanyard&scope=registry:catalog:*", &headers);
        let listing = format!("Bearer {}", listing.json()["token"].as_str().unwrap());
        let anybody: Vec<_> = headers.iter().filter(|(name, _)| *name != "Authorization").copied().collect();
        let with_listing = [anybody, vec![("Authorization", listing.as_str())]].concat();
        let signed_in = matches!(who, "ann" | "bob");
        for path in ["/v2/_catalog", "/v2/_catalog?n=1", "/v2/_catalog?last=a"] {
            let told = scene.house.ask("GET", path, &headers);
            assert_eq!(told.status, if signed_in { 200 } else { 401 }, "{who} {path}");
            let listed = scene.house.ask("GET", path, &with_listing);
            assert_eq!(
                (listed.status, &listed.json()["repositories"]),
                (200, &serde_json::json!(hosted)),
                "{who} {path}"
            );
            assert!(!own.is_empty() || listed.header("link").is_none(), "a next page would tell of others");
        }
        // A token for any scope opens nothing else.
        let scopes: String = ["ann/app", "bob/app", "here/app", "private.lan/team/app"]
            .map(|repo| format!("&scope=repository:{repo}:pull,push,delete"))
            .concat();
        let issued = scene.house.ask("GET", &format!("/token?service=lanyard{scopes}"), &headers);
        assert_eq!(issued.status, 200);
        let bearer = format!("Bearer {}", issued.json()["token"].as_str().unwrap());
        let with_token: Vec<_> = headers.iter().filter(|(name, _)| *name != "Authorization").copied().collect();
        let with_token = [with_token, vec![("Authorization", bearer.as_str())]].concat();
        for repo in ["ann/app", "bob/app", "here/app", "private.lan/team/app"] {
            let answer = scene.house.ask("GET", &format!("/v2/{repo}/manifests/secret-tag"), &with_token);
            assert_eq!(answer.status == 200, own.contains(&repo), "{who} {repo}: {}", answer.text());
            // Nor does the token for the catalogue.
            let path = format!("/v2/{repo}/manifests/secret-tag");
            let answer = scene.house.ask("GET", &path, &with_listing);
            assert_eq!(answer.status == 200, who == "loopback" && own.contains(&repo), "{who} {repo}");
        }
        let told = scene.house.ask("GET", "/v2/_catalog", &with_token);
        assert_eq!(told.status, 401, "{who}: a token for repositories does not list");
        assert!(told.header("www-authenticate").unwrap().contains("error=\"insufficient_scope\""));
    }
}

/// S5: a mount from a repository that the client may not pull is like a mount from one that does
/// not exist.
#[test]
fn s5_a_mount_takes_nothing_from_others() {
    let scene = Scene::new();
    let authorization = basic(ANN);
    let headers = [ELSEWHERE, ("Authorization", authorization.as_str())];
    let (_, of_bob) = &scene.hosted[1];
    for from in ["bob/app", "bob/xyz", "here/app", ""] {
        let from = if from.is_empty() { String::new() } else { format!("&from={from}") };
        let path = format!("/v2/ann/mounted/blobs/uploads/?mount={}{from}", of_bob.blob());
        let answer = scene.house.ask("POST", &path, &headers);
        assert_eq!(answer.status, 202, "{from}: {}", answer.text());
    }
    let path = format!("/v2/ann/mounted/blobs/uploads/?mount={}&from=ann/app", scene.hosted[0].1.blob());
    assert_eq!(scene.house.ask("POST", &path, &headers).status, 201);
    // A manifest that names another repository's blob is refused like one that names a blob that
    // does not exist.
    let put = |blob: &[u8]| {
        let image = Small::new(&String::from_utf8_lossy(blob));
        let typed = [&headers[..], &[("Content-Type", super::MANIFEST)]].concat();
        let path = "/v2/ann/mounted/manifests/stolen";
        super::send(scene.house.port(), "PUT", path, &typed, &image.manifest)
    };
    let (theirs, nobodys) = (put(&of_bob.layer), put(b"nobody's"));
    assert_eq!((theirs.status, theirs.error_code()), (nobodys.status, nobodys.error_code()));
    assert!(theirs.status >= 400, "{}", theirs.text());
}

/// Pushing and deleting are separate rights.
#[test]
fn s7_changes_are_refused_to_whom_no_rule_gives_them() {
    let scene = Scene::new();
    let image = Small::new("intruder");
    for who in Who::all() {
        let (headers, own, who) = (who.headers(), who.own, who.name);
        for (repo, image_there) in &scene.hosted {
            let expected = match who {
                _ if own.contains(repo) => continue,
                "ann" | "bob" => 403,
                _ => 401,
            };
            assert_eq!(image.push(scene.house.port(), repo, "secret-tag", &headers), expected, "{who} {repo}");
            for path in [
                format!("/v2/{repo}/manifests/secret-tag"),
                format!("/v2/{repo}/manifests/{}", image_there.digest()),
                format!("/v2/{repo}/blobs/{}", image_there.blob()),
            ] {
                assert_eq!(scene.house.ask("DELETE", &path, &headers).status, expected, "{who} {path}");
            }
        }
    }
    // loopback may push to here/**, but not delete there.
    assert_eq!(scene.house.ask("DELETE", "/v2/here/app/manifests/secret-tag", &[]).status, 401);
    let own = basic(ANN);
    let gone = scene.house.ask("DELETE", "/v2/ann/app/manifests/secret-tag", &[ELSEWHERE, ("Authorization", &own)]);
    assert_eq!(gone.status, 202);
    eventually("it is gone", || {
        scene.house.ask("GET", "/v2/ann/app/manifests/secret-tag", &[("Authorization", &own)]).status == 404
    });
}
