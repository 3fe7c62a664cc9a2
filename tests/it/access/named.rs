//! S23: naming a digest is no possession of it. A repository that names everything and holds
//! nothing gives out nothing. It gives out content that is here once its own upstream has said that
//! it has it.
//!
//! The stranger's registry holds manifests that name the digests of all other content: a hosted
//! layer and manifest, a private upstream's layer, config and manifest. Its own upstream has none
//! of them.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use super::{ANN, BOB, ELSEWHERE, House, MANIFEST, Small, basic};
use crate::{
    hub::{Fault, Gate, Hub, OCI_INDEX, On, Origin, Record, digest_of},
    pull::mirror_with,
    wire::{blob, eventually, get, manifest},
};

const RULES: &str = r#"
[[access]]
who = ["anonymous"]
repositories = ["stranger.lan/**", "docker.io/**"]
actions = ["pull"]
[[access]]
who = ["user:ann"]
repositories = ["ann/**", "private.lan/**"]
actions = ["pull", "push", "delete"]
[[access]]
who = ["user:bob"]
repositories = ["bob/**", "docker.io/**"]
actions = ["pull", "push", "delete"]
"#;
const PATIENCE: Duration = Duration::from_secs(60);
const LAYER: u64 = 3_000_000;

struct Scene {
    house: House,
    stranger: Hub,
    private: Hub,
    /// The digests that only ann may pull, with their lengths.
    secrets: Vec<(String, u64)>,
    /// The digest of the large layer of the private upstream.
    large: String,
    _password: tempfile::NamedTempFile,
}

impl Scene {
    fn new(mode: &str) -> Scene {
        let (stranger, private) = (Hub::start(), Hub::builder().account("company", "canary-company").start());
        let image = private.image("team/app", "latest").layer(LAYER).publish();
        let password = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(password.path(), "canary-company").unwrap();
        let upstreams = format!(
            "[[upstream]]\nname = \"stranger.lan\"\nurl = \"{}\"\n[[upstream]]\nname = \"private.lan\"\nurl = \"{}\"\n\
             username = \"company\"\npassword_file = {:?}\nallow = [\"**\"]\n",
            stranger.url(),
            private.url(),
            password.path()
        );
        let house = House::start(mode, &format!("{RULES}{upstreams}"));
        let ann = basic(ANN);
        let hosted = Small::new("ann's own");
        assert_eq!(hosted.push(house.port(), "ann/app", "latest", &[("Authorization", &ann)]), 201);
        let large = image.layer(0).to_owned();
        let secrets = vec![
            (hosted.blob(), hosted.layer.len() as u64),
            (hosted.digest(), hosted.manifest.len() as u64),
            (large.clone(), LAYER),
            (image.config().to_owned(), private.blob(image.config()).unwrap().len() as u64),
            (image.digest.clone(), image.bytes.len() as u64),
        ];
        Scene { house, stranger, private, secrets, large, _password: password }
    }

    /// Ann pulls her images from the private upstream.
    fn ann_pulls(&self) {
        let ann = basic(ANN);
        let headers = [ELSEWHERE, ("Authorization", ann.as_str())];
        for (digest, _) in &self.secrets[2..4] {
            let answer = self.house.ask("GET", &blob("private.lan/team/app", digest), &headers);
            assert_eq!((answer.status, digest_of(&answer.body)), (200, digest.clone()));
        }
        let answer = self.house.ask("GET", &manifest("private.lan/team/app", &self.secrets[4].0), &headers);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Puts manifests at the stranger's that name the secrets in every way, and pulls them
    /// anonymously. Each has a repository of its own: the refusal of one link must not hide another
    /// link that gives the secret out.
    fn name_everything(&self) -> Vec<String> {
        let types = ["application/vnd.oci.image.layer.v1.tar", MANIFEST, OCI_INDEX, "", "application/x"];
        let sizes: [fn(u64) -> u64; 4] = [|size| size, |size| size + 1, |_| 1, |_| 20 << 30];
        let mut repos = Vec::new();
        for (n, (size, media_type)) in sizes.iter().flat_map(|size| types.map(|t| (size, t))).enumerate() {
            let named =
                |digest: &str, length: u64| json!({ "mediaType": media_type, "digest": digest, "size": size(length) });
            let all: Vec<Value> = self.secrets.iter().map(|(digest, length)| named(digest, *length)).collect();
            let config = |n: usize| named(&self.secrets[n].0, self.secrets[n].1);
            let image = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config(3), "layers": all });
            let other = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config(0), "layers": [], "subject": config(4) });
            let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": all });
            for (kind, media_type, bytes) in
                [("image", MANIFEST, image), ("config", MANIFEST, other), ("index", OCI_INDEX, index)]
            {
                let repo = format!("lists/{kind}{n}");
                self.stranger.put_manifest(&repo, "latest", media_type, bytes.to_string().as_bytes());
                let repo = format!("stranger.lan/{repo}");
                let answer = self.house.ask("GET", &manifest(&repo, "latest"), &[ELSEWHERE]);
                assert_eq!(answer.status, 200, "{repo}: {}", answer.text());
                repos.push(repo);
            }
        }
        repos
    }

    /// Every client but ann asks for every secret through these repositories, in every way. Returns
    /// the number of answers.
    fn nobody_gets(&self, repos: &[String], expected: &[u16]) -> usize {
        let bob = basic(BOB);
        let bob = [ELSEWHERE, ("Authorization", bob.as_str())];
        let askers: [(&str, &[(&str, &str)]); 3] = [("anonymous", &[ELSEWHERE]), ("loopback", &[]), ("bob", &bob)];
        let mut asked = 0;
        let all = repos.iter().flat_map(|repo| self.secrets.iter().map(move |secret| (repo, secret)));
        for (n, (repo, (digest, _))) in all.enumerate() {
            // One client asks for one secret, the next for another: with so many repositories each
            // client asks for every secret.
            for (who, headers) in &askers[n % 3..=n % 3] {
                let known = format!("\"{digest}\"");
                for extra in [None, Some(("Range", "bytes=0-0")), Some(("If-None-Match", known.as_str()))] {
                    let headers: Vec<_> = headers.iter().copied().chain(extra).collect();
                    for path in [blob(repo, digest), manifest(repo, digest)] {
                        for method in ["GET", "HEAD"] {
                            let answer = self.house.ask(method, &path, &headers);
                            asked += 1;
                            let told = format!("{who} {method} {path} {extra:?}: {} {}", answer.status, answer.text());
                            assert!(expected.contains(&answer.status), "{told}");
                            assert_ne!(digest_of(&answer.body), *digest, "{told}");
                        }
                    }
                }
            }
            for from in [format!("&from={repo}"), String::new()] {
                let path = format!("/v2/bob/app/blobs/uploads/?mount={digest}{from}");
                let answer = self.house.ask("POST", &path, &bob);
                asked += 1;
                // Too many uploads at once would end this test before it has asked for everything.
                let upload = answer.header("location").unwrap_or_default().to_owned();
                assert_eq!(answer.status, 202, "{path}: {}", answer.text());
                assert_eq!(self.house.ask("DELETE", &upload, &bob).status, 204);
            }
        }
        asked
    }
}

#[test]
fn s23_a_repository_that_only_names_gives_out_nothing() {
    let mut scene = Scene::new("[cache]\nnegative_ttl = \"0s\"\ntag_ttl = \"1h\"");
    let repos = scene.name_everything();
    assert_eq!(repos.len(), 60);
    let some: Vec<_> = repos.iter().step_by(7).cloned().collect();
    // Before the content is here, when it is here, and after a restart, with an index and without.
    scene.nobody_gets(&some, &[404]);
    scene.ann_pulls();
    assert!(scene.nobody_gets(&repos, &[404]) > 4_000);
    scene.house.lanyard.kill9();
    std::fs::remove_dir_all(scene.house.lanyard.data_dir().join("index")).unwrap();
    scene.house.lanyard.restart();
    scene.nobody_gets(&some, &[404]);
    assert!(scene.stranger.count(|r| r.method == "HEAD" || r.method == "GET") > 0);
    // An upstream that cannot be asked permits nothing.
    scene.stranger.go_down();
    scene.nobody_gets(&some, &[502, 503, 504]);
    let offline = |config: &str| format!("mode = \"offline\"\n{config}");
    let config = std::fs::read_to_string(scene.house.lanyard.config_file()).unwrap();
    let config: String = config.lines().skip(2).map(|line| format!("{line}\n")).collect();
    scene.house.lanyard.reconfigure(&offline(&config));
    scene.house.lanyard.restart();
    // A digest that is named is missing, and one that is not even named is unknown.
    scene.nobody_gets(&some, &[404, 503]);
}

/// A pushed manifest that names another repository's content is refused, also where a mirrored
/// repository of the same name names that content.
#[test]
fn s23_a_namesake_that_only_names_is_not_adopted() {
    let stranger = Hub::start();
    let secret = Small::new("ann's own");
    let named = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": { "mediaType": "c", "digest": secret.blob(), "size": secret.layer.len() },
        "layers": [{ "mediaType": "l", "digest": secret.blob(), "size": secret.layer.len() }],
    });
    stranger.put_manifest("bob/app", "latest", MANIFEST, named.to_string().as_bytes());
    let upstream = format!("[[upstream]]\nname = \"docker.io\"\nurl = \"{}\"\n", stranger.url());
    let house = House::start("", &format!("{RULES}{upstream}"));
    let (ann, bob) = (basic(ANN), basic(BOB));
    assert_eq!(secret.push(house.port(), "ann/app", "latest", &[("Authorization", &ann)]), 201);
    assert_eq!(house.ask("GET", &manifest("bob/app", "latest"), &[ELSEWHERE]).status, 200);
    for body in [secret.manifest.clone(), named.to_string().into_bytes()] {
        let headers = [("Authorization", bob.as_str()), ("Content-Type", MANIFEST)];
        let answer = super::send(house.port(), "PUT", &manifest("bob/app", "stolen"), &headers, &body);
        assert!((400..500).contains(&answer.status), "{} {}", answer.status, answer.text());
        let answer = house.ask("GET", &blob("bob/app", &secret.blob()), &[("Authorization", &bob)]);
        assert_eq!(answer.status, 404, "{}", answer.text());
    }
}

#[test]
fn s23_a_name_joins_nobodys_download() {
    let scene = Scene::new("[cache]\nnegative_ttl = \"0s\"");
    let repos: Vec<_> = scene.name_everything().into_iter().step_by(11).collect();
    let gate = Gate::shut();
    scene.private.fault(On::blob(&scene.large), Fault::StallAt { bytes: 2_000_000, gate: gate.clone() });
    thread::scope(|scope| {
        let ann = scope.spawn(|| {
            let ann = basic(ANN);
            let headers = [ELSEWHERE, ("Authorization", ann.as_str())];
            scene.house.ask("GET", &blob("private.lan/team/app", &scene.large), &headers)
        });
        assert!(gate.wait_for_arrivals(1, PATIENCE));
        for repo in &repos {
            for method in ["GET", "HEAD"] {
                for range in [&[][..], &[("Range", "bytes=5-9")]] {
                    let answer = scene.house.ask(method, &blob(repo, &scene.large), range);
                    assert_eq!(answer.status, 404, "{method} {repo}: {} bytes", answer.body.len());
                }
            }
        }
        gate.open();
        assert_eq!(ann.join().unwrap().status, 200);
    });
    scene.nobody_gets(&repos, &[404]);
}

/// Content that another repository has brought is given out after one HEAD, however many clients
/// ask, and afterwards without any.
#[test]
fn s23_the_upstream_is_asked_once_for_each_link() {
    let hub = Hub::start();
    let base = vec![7_u8; 500_000];
    let first = hub.image("library/first", "latest").layer_of(base.clone()).publish();
    let second = hub.image("library/second", "latest").layer_of(base).layer(100).publish();
    let layer = first.layer(0).to_owned();
    let lanyard = mirror_with(&hub, "");
    for image in [&first, &second] {
        assert_eq!(get(lanyard.port(), &manifest(&image.repo, "latest")).status, 200);
    }
    assert_eq!(get(lanyard.port(), &blob("library/first", &layer)).status, 200);
    let gate = Gate::shut();
    hub.fault(On::blob(&layer).in_repo("library/second").head(), Fault::HoldHead(gate.clone()));
    let held = On::redirect_of(&layer).in_repo("library/second").head();
    hub.fault(held, Fault::HoldHead(gate.clone()));
    hub.reset_counts();
    thread::scope(|scope| {
        let all: Vec<_> =
            (0..20).map(|_| scope.spawn(|| get(lanyard.port(), &blob("library/second", &layer)))).collect();
        assert!(gate.wait_for_arrivals(1, PATIENCE));
        gate.open();
        for answer in all {
            let answer = answer.join().unwrap();
            assert_eq!((answer.status, digest_of(&answer.body)), (200, layer.clone()));
        }
    });
    assert!(hub.blob_bytes_sent(&layer) <= 1, "it is here");
    // Without the challenge that brings the token, and the requests to the content network.
    let asked = |record: &Record| {
        record.origin == Origin::Registry && record.status != 401 && record.path == blob("library/second", &layer)
    };
    // This content network refuses HEAD: it is asked for again, and then a GET of one byte decides.
    let all = hub.count(asked);
    assert!(all <= 6, "{all} requests for 20 clients");
    // The first answer is recorded a moment after the last byte.
    let outcome = || get(lanyard.port(), &blob("library/second", &layer)).outcome().to_owned();
    eventually("its word is known", || outcome() == "hit");
    for _ in 0..3 {
        assert_eq!(outcome(), "hit");
    }
    assert_eq!(hub.count(asked), all, "its word is remembered");
}

/// Images that share a layer stay complete without upstream: a client gets the layer where it may
/// have it anyway.
#[test]
fn shared_layers_stay_available_without_upstream() {
    let hub = Hub::start();
    let base = vec![7_u8; 500_000];
    let first = hub.image("library/first", "latest").layer_of(base.clone()).publish();
    let second = hub.image("library/second", "latest").layer_of(base).layer(100).publish();
    let layer = first.layer(0).to_owned();
    let mut lanyard = mirror_with(&hub, "");
    for (image, blobs) in
        [(&first, vec![first.config(), first.layer(0)]), (&second, vec![second.config(), second.layer(1)])]
    {
        assert_eq!(get(lanyard.port(), &manifest(&image.repo, "latest")).status, 200);
        for digest in blobs {
            assert_eq!(get(lanyard.port(), &blob(&image.repo, digest)).status, 200);
        }
    }
    hub.go_down();
    for mode in ["", "mode = \"offline\""] {
        for digest in [second.config(), second.layer(0), second.layer(1)] {
            let answer = get(lanyard.port(), &blob("library/second", digest));
            assert_eq!((answer.status, digest_of(&answer.body)), (200, digest.to_owned()), "{mode}: {}", answer.text());
            let path = format!("{}?ns=docker.io", blob("library/second", digest));
            assert_eq!(crate::wire::head(lanyard.port(), &path).status, 200, "{mode}");
        }
        // A layer that no manifest there names is not found there.
        assert_ne!(get(lanyard.port(), &blob("library/third", &layer)).status, 200);
        lanyard.reconfigure(&crate::pull::config(&hub, "mode = \"offline\""));
        lanyard.restart();
    }
}

/// An upstream that says yes to everything states no true length, so it is not believed: neither
/// about stored content, nor about a running download, nor about the part of a stopped one.
#[test]
fn s23_a_word_without_the_true_length_is_none() {
    let page = |status: u16| Fault::Status {
        status,
        headers: vec![("Content-Type".into(), "application/octet-stream".into())],
        body: "welcome".into(),
    };
    for (name, of_head) in [("yes to all", 200), ("no HEAD", 405), ("HEAD refused", 403)] {
        let mut scene = Scene::new("[cache]\nnegative_ttl = \"0s\"");
        let repos: Vec<_> = scene.name_everything().into_iter().step_by(9).collect();
        let digests: Vec<_> = scene.secrets.iter().map(|(digest, _)| digest.clone()).collect();
        for digest in &digests {
            scene.stranger.fault(On::blob(digest).head().always(), page(of_head));
            scene.stranger.fault(On::redirect_of(digest).head().always(), page(of_head));
            scene.stranger.fault(On::redirect_of(digest).always(), page(200));
            scene.stranger.fault(On::manifest(digest).any_method().always(), page(200));
        }
        let own = |digest: &str| {
            let ann = basic(ANN);
            let headers = [ELSEWHERE, ("Authorization", ann.as_str())];
            ["ann/app", "private.lan/team/app"].into_iter().find_map(|repo| {
                let paths = [blob(repo, digest), manifest(repo, digest)];
                paths.into_iter().map(|path| scene.house.ask("GET", &path, &headers)).find(|a| a.status == 200)
            })
        };
        let none_leaks = |scene: &Scene| {
            let bob = basic(BOB);
            let bob = [ELSEWHERE, ("Authorization", bob.as_str())];
            for (repo, digest) in repos.iter().flat_map(|repo| digests.iter().map(move |digest| (repo, digest))) {
                for path in [blob(repo, digest), manifest(repo, digest)] {
                    for (method, extra) in [("HEAD", &[][..]), ("GET", &[]), ("GET", &[("Range", "bytes=0-99")])] {
                        let headers = [&[ELSEWHERE][..], extra].concat();
                        let answer = scene.house.ask(method, &path, &headers);
                        let told = format!("{name} {method} {path}: {} {}", answer.status, answer.text());
                        assert_ne!(digest_of(&answer.body), *digest, "{told}");
                        assert!(answer.body.len() < 100 || answer.status >= 400, "{told}");
                    }
                }
                let path = format!("/v2/bob/app/blobs/uploads/?mount={digest}&from={repo}");
                let answer = scene.house.ask("POST", &path, &bob);
                assert_eq!(answer.status, 202, "{name} {path}");
                let upload = answer.header("location").unwrap_or_default().to_owned();
                assert_eq!(scene.house.ask("DELETE", &upload, &bob).status, 204);
            }
        };
        // Before the content is here, while it comes, when a part of it is left, and once it is
        // here.
        none_leaks(&scene);
        let gate = Gate::shut();
        scene.private.fault(On::blob(&scene.large), Fault::StallAt { bytes: 2_000_000, gate: gate.clone() });
        thread::scope(|scope| {
            let coming = scope.spawn(|| own(&scene.large));
            assert!(gate.wait_for_arrivals(1, PATIENCE));
            none_leaks(&scene);
            gate.open();
            assert!(coming.join().unwrap().is_some());
        });
        assert!(digests.iter().all(|digest| own(digest).is_some()));
        none_leaks(&scene);
        scene.house.lanyard.kill9();
        scene.house.lanyard.restart();
        none_leaks(&scene);
    }
}
