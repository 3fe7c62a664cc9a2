//! A refused push says why: a client asks by HEAD first, and the answer to a HEAD has no text.

use std::fs;

use super::containerd::{self, Containerd};
use super::podman::{self, Podman};
use super::{Client as _, Pushes as _, SignsIn as _, available};
use crate::hub::Hub;
use crate::lanyard::Lanyard;

/// The owner of the names, and a user to whom no rule gives a right.
const RULES: &str = r#"
[[access]]
who = ["anonymous"]
repositories = ["docker.io/**"]
actions = ["pull"]
[[access]]
who = ["user:ann"]
repositories = ["team/**"]
actions = ["pull", "push"]
"#;

/// The errors for a client that has not signed in, and for one that has and may not push.
const SENTENCES: [&str; 2] =
    ["this needs a user; sign in first", "the rules of [[access]] do not give this user this right"];

struct Scene {
    lanyard: Lanyard,
    _hub: Hub,
    _users: tempfile::NamedTempFile,
}

impl Scene {
    /// In each scene the client can pull `docker.io/library/app:latest`. Where `team/**` is not
    /// claimed, it is also a name of the upstream's, which does not know it.
    fn all() -> [Scene; 2] {
        ["[hosted]\nnamespaces = [\"team/**\"]\n", ""].map(|hosted| {
            let hub = Hub::start();
            hub.image("library/app", "latest").real_layer(3_000).publish();
            let users = tempfile::NamedTempFile::new().unwrap();
            let line = |name: &str| format!("{name}:{}\n", bcrypt::hash("secret", 4).unwrap());
            fs::write(users.path(), ["ann", "bob"].map(line).concat()).unwrap();
            let upstream = format!("[[upstream]]\nname = \"docker.io\"\nurl = \"{}\"\n", hub.url());
            let auth = format!("[auth]\nhtpasswd = {:?}\n", users.path());
            Scene { lanyard: Lanyard::start(&format!("{hosted}{auth}{RULES}{upstream}")), _hub: hub, _users: users }
        })
    }

    fn name(&self) -> String {
        format!("{}/team/app:v1", self.lanyard.host())
    }
}

#[test]
fn podman_is_told_why_it_may_not_push() {
    if !available(podman::PROGRAMS) {
        return;
    }
    for scene in Scene::all() {
        let client = Podman::new(&scene.lanyard.host());
        client.pull("docker.io/library/app:latest").unwrap_or_else(|said| panic!("{said}\n{}", scene.lanyard.logs()));
        for (user, sentence) in [None, Some("bob")].into_iter().zip(SENTENCES) {
            if let Some(user) = user {
                client.login(&scene.lanyard.host(), user, "secret").unwrap();
            }
            let told = client.push("docker.io/library/app:latest", &scene.name()).expect_err("it has no right to");
            assert!(told.contains(sentence), "{user:?}: {told}\n{}", scene.lanyard.logs());
        }
        client.login(&scene.lanyard.host(), "ann", "secret").unwrap();
        client.push("docker.io/library/app:latest", &scene.name()).unwrap();
    }
}

/// containerd asks for all blobs at once, and gives up with the first request that is refused.
#[test]
fn containerd_is_refused_by_the_request_that_pushes() {
    if !available(containerd::PROGRAMS) {
        return;
    }
    for scene in Scene::all() {
        let client = Containerd::start(&scene.lanyard.url(), false);
        client.pull("docker.io/library/app:latest").unwrap_or_else(|said| panic!("{said}\n{}", scene.lanyard.logs()));
        for user in [None, Some("bob:secret")] {
            let told = client.push_as(user, "docker.io/library/app:latest", &scene.name());
            let told = told.expect_err("it has no right to");
            let logs = scene.lanyard.logs();
            // It asks for several blobs at once, so a HEAD may come after the refusal.
            let of = |method: &'static str| {
                logs.lines().filter(move |line| line.contains(" path=\"/v2/team/app/") && line.contains(method))
            };
            let last = of(" method=\"POST\" ").next_back().unwrap();
            let refused = if user.is_some() { " status=403 " } else { " status=401 " };
            assert!(last.contains(refused), "{user:?}: {told}\n{last}");
            assert!(!of(" method=\"HEAD\" ").any(|line| line.contains(" status=403 ")), "{user:?}: {told}");
        }
        let wrong = client.push_as(Some("ann:wrong"), "docker.io/library/app:latest", &scene.name());
        wrong.expect_err("a wrong password");
        // One command with a wrong password is one guess, so the right password is accepted.
        let pushed = client.push_as(Some("ann:secret"), "docker.io/library/app:latest", &scene.name());
        pushed.unwrap_or_else(|said| panic!("{said}\n{}", scene.lanyard.logs()));
    }
}
