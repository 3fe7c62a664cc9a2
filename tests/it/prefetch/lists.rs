//! `--from`: each form of a list, from a file and from standard input.

use std::{fs, io::Write as _};

use super::*;

const NAMES: [&str; 3] = ["library/one", "library/two", "library/three"];

fn forms() -> Vec<(&'static str, &'static str)> {
    vec![
        ("plain", "# ours\none\ntwo:latest # the second\n\ndocker.io/three\none\n"),
        (
            "compose",
            "services:\n  a: {image: one}\n  b: {image: \"${WHICH:-two}\"}\n  c: {build: ., image: \"${THIRD}:latest\"}\n",
        ),
        (
            "kubernetes",
            "kind: Pod\nspec:\n  containers: [{image: one}]\n  initContainers: [{image: two}]\n---\nkind: List\nitems:\n\
             - kind: Deployment\n  spec: {template: {spec: {containers: [{image: three}, {image: one}]}}}\n",
        ),
        (
            "dockerfile",
            "ARG TAG=latest\nFROM --platform=linux/amd64 one:$TAG AS build\nRUN --mount=from=two,target=/x true\n\
             FROM scratch\nCOPY --from=build / /\nCOPY --from=three / /\n",
        ),
    ]
}

#[test]
fn each_form_of_a_list_is_read() {
    let hub = Hub::start();
    for name in NAMES {
        hub.image(name, "latest").layer(10).publish();
    }
    let server = mirror(&hub);
    let folder = tempfile::tempdir().unwrap();
    for (form, text) in forms() {
        let file = folder.path().join(form);
        fs::write(&file, text).unwrap();
        let words = words(&server, &["--json", "--from", file.to_str().unwrap()]);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let output = lanyard(folder.path(), &words, &[("THIRD", "three")]);
        assert_eq!(code(&output), 0, "{form}: {}", stderr(&output));
        let events = events(&output);
        let whole =
            events.iter().filter(|event| event["state"] == "whole").map(|event| event["image"].as_str().unwrap());
        let mut whole: Vec<_> = whole.map(|image| image.replace("docker.io/", "").replace(":latest", "")).collect();
        whole.sort();
        assert_eq!(whole, ["library/one", "library/three", "library/two"], "{form}: each once");
    }
}

#[test]
fn standard_input_is_a_list_and_arguments_come_along() {
    let hub = Hub::start();
    for name in NAMES {
        hub.image(name, "latest").layer(10).publish();
    }
    let server = mirror(&hub);
    let mut command = Command::new(env!("CARGO_BIN_EXE_lanyard"));
    command.args(words(&server, &["three", "--from", "-"])).env_clear();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"one\ntwo\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).starts_with("3 images whole.\n"), "{}", stdout(&output));
}

#[test]
fn a_list_that_cannot_be_read_is_64_with_its_lines() {
    let hub = Hub::start();
    hub.image("library/one", "latest").publish();
    let server = mirror(&hub);
    let folder = tempfile::tempdir().unwrap();
    for (name, text, told) in [
        ("list", "one\ntwo words\n", "list:2: \"two words\" is no image"),
        ("compose", "services:\n  a: {image: one}\n  b:\n    image: ${NONE}\n", "compose:4: the image of service"),
        ("broken", "kind: Pod\nspec: [\n", "broken:"),
        ("other", "foo: bar\n", "other:1: this is neither a compose file"),
        ("docker", "FROM one\nFROM $X\n", "docker:2: the image \"$X\": the variable X has no value"),
        ("empty", "", "empty:1: there is no image in it"),
    ] {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        let output = pull(&server, &["one", "--from", file.to_str().unwrap()]);
        assert_eq!(code(&output), 64, "{name}");
        assert!(stderr(&output).contains(told), "{name}: {}", stderr(&output));
    }
    assert_eq!(hub.requests().len(), 0, "nothing is fetched");
}

/// A tag that has moved since: the image that the lock file names is fetched.
#[test]
fn a_lock_file_brings_what_its_tags_named() {
    let hub = Hub::start();
    let old = hub.image("library/app", "1").layer(1000).publish();
    let (first, second) = (mirror(&hub), mirror(&hub));
    assert_eq!(code(&pull(&first, &["app:1"])), 0);
    let lock = first.data_dir().join("app.lock");
    let lock = lock.to_str().unwrap();
    let output = crate::admin::command(&first, &["lock", "--output", lock]);
    assert!(output.status.success(), "{}", stderr(&output));
    hub.image("library/app", "1").layer(2000).publish();
    let output = pull(&second, &["--lock", lock]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    is_here(&second, &old);

    fs::write(lock, "image = 1").unwrap();
    for file in [lock, "/nothing/is/here.lock"] {
        let output = pull(&second, &["--lock", file]);
        assert_eq!((code(&output), stdout(&output).as_str()), (64, ""));
        assert!(stderr(&output).starts_with(file), "{}", stderr(&output));
    }
}
