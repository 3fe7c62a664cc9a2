//! A pull that ends early: Ctrl-C, kill, and a lanyard that stops. What is under way goes on, and
//! nothing new begins (F5).

use std::{
    io::{BufRead as _, BufReader},
    process::Child,
};

use rustix::process::{Pid, Signal, kill_process};

use super::*;

/// A pull of an image of two layers, one at a time, that stands still in the first layer.
struct Scene {
    hub: Hub,
    image: Image,
    server: Lanyard,
    gate: Gate,
    pull: Child,
}

fn stands_still() -> Scene {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(1 << 20).layer(2 << 20).publish();
    let server = mirror(&hub);
    let gate = Gate::shut();
    hub.fault(On::blob(image.layer(0)), Fault::StallAt { bytes: 100_000, gate: gate.clone() });
    let pull = begin(&server, &["busybox", "--jobs", "1"]);
    assert!(gate.wait_for_arrivals(1, PATIENCE));
    Scene { hub, image, server, gate, pull }
}

impl Scene {
    /// lanyard has noticed that the command has gone; the first layer comes, and the second is not
    /// asked for.
    fn goes_on_and_begins_nothing(&self) {
        eventually("the order is over", || self.server.logs().contains("/api/v1/pull"));
        self.gate.open();
        let layer = |number: usize| blob(REPO, self.image.layer(number));
        let path = layer(0);
        assert_eq!(get(self.server.port(), &path).body.len(), 1 << 20);
        eventually("it is stored", || get(self.server.port(), &path).outcome() == "hit");
        assert_eq!(self.hub.blob_gets(self.image.layer(0)), 1, "it was not begun again");
        assert_eq!(self.hub.blob_gets(self.image.layer(1)), 0, "nothing new began");
    }
}

#[test]
fn f5_ctrl_c_says_what_goes_on_and_ends_with_130() {
    let scene = stands_still();
    kill_process(Pid::from_child(&scene.pull), Signal::INT).unwrap();
    let Scene { hub, image, server, gate, pull } = scene;
    let output = pull.wait_with_output().unwrap();
    assert_eq!(code(&output), 130);
    assert!(stderr(&output).contains("1 download under way goes on"), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
    let pull = begin(&server, &["--help"]);
    let mut scene = Scene { hub, image, server, gate, pull };
    scene.pull.wait().unwrap();
    scene.goes_on_and_begins_nothing();
}

#[test]
fn f5_a_command_that_is_killed_leaves_its_downloads() {
    let mut scene = stands_still();
    scene.pull.kill().unwrap();
    scene.pull.wait().unwrap();
    scene.goes_on_and_begins_nothing();
}

#[test]
fn a_lanyard_that_stops_says_so() {
    let mut scene = stands_still();
    scene.server.stop();
    let output = scene.pull.wait_with_output().unwrap();
    assert_eq!(code(&output), 75, "{}", stderr(&output));
    assert!(stderr(&output).contains("failed: lanyard is stopping"), "{}", stderr(&output));
    scene.gate.open();
}

#[test]
fn a_lanyard_that_is_killed_is_told() {
    let mut scene = stands_still();
    scene.server.kill9();
    let output = scene.pull.wait_with_output().unwrap();
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    assert!(stderr(&output).contains("did not answer"), "{}", stderr(&output));
    scene.gate.open();
}

/// A slow download is told a few times a second, and not with each of its pieces.
#[test]
fn progress_is_told_a_few_times_a_second() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(400_000).publish();
    let server = mirror(&hub);
    hub.fault(On::blob(image.layer(0)), Fault::Slow { bytes_per_second: 200_000 });
    let mut pull = begin(&server, &["busybox", "--json"]);
    let began = std::time::Instant::now();
    let lines = BufReader::new(pull.stdout.take().unwrap()).lines().map(Result::unwrap);
    let of_layer = lines.filter(|line| line.contains(image.layer(0)) && line.contains("\"blob\""));
    let told: Vec<Value> = of_layer.map(|line| serde_json::from_str(&line).unwrap()).collect();
    let most = began.elapsed().as_secs() as usize * 5 + 7;
    assert_eq!(pull.wait().unwrap().code(), Some(0));
    assert!((4..=most).contains(&told.len()), "{} events, at most {most}", told.len());
    let bytes: Vec<_> = told.iter().map(|event| event["bytes"].as_u64().unwrap()).collect();
    assert!(bytes.is_sorted() && bytes.iter().any(|bytes| (1..400_000).contains(bytes)), "{bytes:?}");
    assert!(told.iter().all(|event| event["of"] == 400_000), "{told:?}");
}
