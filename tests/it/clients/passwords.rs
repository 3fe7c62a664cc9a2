//! A client with a wrong password: one command is one attempt, however many requests it makes.

use super::containerd::{self, Containerd};
use super::users::{PASSWORD, USER, house};
use super::{Client as _, available, skopeo};

/// Only ann pulls.
const RULES: &str = "[[access]]\nwho = [\"user:ann\"]\nrepositories = [\"**\"]\nactions = [\"pull\"]\n";

/// ctr makes ten requests and more in one command. After eight commands with one wrong password the
/// right one is still accepted.
#[test]
fn ctr_with_a_wrong_password_is_not_locked_out() {
    if !available(&[containerd::PROGRAMS, skopeo::PROGRAMS].concat()) {
        return;
    }
    let (_hub, image, lanyard) = house(&["team/app"], RULES);
    let containerd = Containerd::start(&lanyard.url(), false);
    let name = format!("{}/team/app:v1", lanyard.host());
    for round in 0..8 {
        let said = containerd.pull_as(&name, USER, "wrong").expect_err("the password is wrong");
        assert!(!said.contains("status: 429"), "round {round}: {said}\n{}", lanyard.logs());
    }
    let pulled = containerd.pull_as(&name, USER, PASSWORD).unwrap_or_else(|said| panic!("{said}\n{}", lanyard.logs()));
    assert_eq!(pulled.tag, Some(image.digest));
    assert_eq!(containerd.hub_asked(), 0);
}
