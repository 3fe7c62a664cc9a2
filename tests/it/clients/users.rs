//! A lanyard with repositories that were pushed before it had users, and with one user since.

use super::Pushes as _;
use super::skopeo::Skopeo;
use crate::hub::{Hub, Image};
use crate::lanyard::Lanyard;

pub(super) const USER: &str = "ann";
pub(super) const PASSWORD: &str = "canary-ann-4711";

/// The image that each of these repositories has as `v1`, and the lanyard. Pulls come from
/// 127.0.0.1, to which these rules give no right.
pub(super) fn house(repositories: &[&str], rules: &str) -> (Hub, Image, Lanyard) {
    let hub = Hub::start();
    let image = hub.image("library/app", "latest").real_layer(100_000).oci().publish();
    let upstream = format!("[[upstream]]\nname = \"docker.io\"\nurl = \"{}\"\n", hub.url());
    let mut lanyard = Lanyard::start(&upstream);
    let skopeo = Skopeo::new(&lanyard.host(), false);
    for repo in repositories {
        skopeo.push("docker.io/library/app:latest", &format!("{}/{repo}:v1", lanyard.host())).unwrap();
    }
    let users = lanyard.config_file().with_file_name("users");
    std::fs::write(&users, format!("{USER}:{}\n", bcrypt::hash(PASSWORD, 4).unwrap())).unwrap();
    lanyard.reconfigure(&format!("[auth]\nhtpasswd = {users:?}\n{rules}{upstream}"));
    lanyard.restart();
    (hub, image, lanyard)
}
