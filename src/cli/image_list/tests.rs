use std::time::{Duration, Instant};

use super::*;

fn variable(name: &str) -> Option<String> {
    (name == "TAG").then(|| "1.2".to_owned())
}

fn found(text: &str) -> Vec<String> {
    images(text, &variable).unwrap_or_else(|mistakes| panic!("{mistakes:?}\n{text}"))
}

/// The lines of the mistakes, and their words.
fn mistakes(text: &str) -> Vec<(usize, String)> {
    let mistakes = images(text, &variable).expect_err(text);
    mistakes.into_iter().map(|mistake| (mistake.line, mistake.what)).collect()
}

#[test]
fn a_plain_list_has_one_image_a_line() {
    let text = "\u{feff}# ours\nnginx:1.27\n\n  ghcr.io/a/b@sha256:abc  # why\nnginx:1.27\nregistry:5000/x#y\n";
    let wrong = mistakes(text);
    assert_eq!(wrong, [(6, "\"registry:5000/x#y\" is no image".to_owned())]);
    assert_eq!(found(&text.replace("#y", "")), ["nginx:1.27", "ghcr.io/a/b@sha256:abc", "registry:5000/x"]);
    assert_eq!(mistakes("nginx\ntwo words\n")[0].0, 2);
    assert_eq!(mistakes("# nothing\n\n"), [(1, "there is no image in it".to_owned())]);
    assert_eq!(found("localhost:5000/x"), ["localhost:5000/x"]);
    assert_eq!(found("from\narg"), ["from", "arg"], "they are names too");
}

const COMPOSE: &str = r#"# ours
x-app: &app
  image: ghcr.io/team/app:${TAG}
  restart: always
services:
  db: {image: "postgres:${PG:-16}"}
  web:
    <<: *app
  worker:
    <<: [*app]
    image: ghcr.io/team/worker
  built:
    build: .
  none:
    image:
"#;

#[test]
fn compose_files_have_the_images_of_their_services() {
    assert_eq!(found(COMPOSE), ["postgres:16", "ghcr.io/team/app:1.2", "ghcr.io/team/worker"]);
    let json = r#"{"services": {"a": {"image": "nginx"}}, "version": "3"}"#;
    assert_eq!(found(json), ["nginx"]);
    let wrong = mistakes("services:\n  a:\n    image: nginx:${NONE}\n  b:\n    image: [x]\n  c:\n    image: a b\n");
    let told: Vec<_> = wrong.iter().map(|(line, what)| (*line, what.as_str())).collect();
    assert_eq!(
        told,
        [
            (3, "the image of service \"a\": the variable NONE has no value"),
            (5, "the image of service \"b\" is no text"),
            (7, "\"a b\" is no image"),
        ]
    );
}

const MERGED: &str = r"
x-more: &more
  deep: {image: deep}
  a: {image: no}
x-two: &two
  <<: *more
  b: {image: no}
  c: {image: c}
x-one: &one
  a: {image: a}
  b: {image: b}
services:";

#[test]
fn merged_services_are_services() {
    for (services, images) in [
        ("\n  <<: *one\n", &["a", "b"][..]),
        ("\n  <<: *one\n  b: {image: own}\n", &["own", "a"]),
        ("\n  b:\n  <<: *one\n", &["a"]),
        ("\n  <<: [*one, *two]\n", &["a", "b", "c", "deep"]),
        ("\n  web: {image: web}\n  <<: [*two, *one]\n", &["web", "no", "c", "deep"]),
        ("\n  web: {image: web}\n  <<:\n", &["web"]),
        (" *two\n", &["no", "c", "deep"]),
    ] {
        assert_eq!(found(&format!("{MERGED}{services}")), images, "{services}");
    }
    let image = "x-a: &a {image: a}\nx-b: &b {<<: *a}\nservices:\n  web: {<<: [{x: y}, *b]}\n";
    assert_eq!(found(image), ["a"]);
}

const KUBERNETES: &str = r"---
apiVersion: v1
kind: Pod
spec:
  initContainers:
  - image: init:1
  containers:
  - name: a
    image: a:1
    env: [{name: image, value: no}]
  - name: no-image
  ephemeralContainers: [{image: debug:1}]
  volumes:
  - image: {reference: data:1}
  - name: none
---
---
apiVersion: v1
kind: List
items:
- kind: CronJob
  spec: {jobTemplate: {spec: {template: {spec: {containers: [{image: cron:1}, {image: a:1}]}}}}}
- kind: Fleet
  spec:
    template:
      spec:
        containers:
        - image: fleet:1
---
kind: CustomResourceDefinition
spec:
  properties:
    containers:
      type: array
      image: no
...
";

#[test]
fn kubernetes_objects_have_the_images_of_all_containers() {
    let images = ["init:1", "a:1", "debug:1", "data:1", "cron:1", "fleet:1"];
    assert_eq!(found(KUBERNETES), images);
    let wrong = mistakes("kind: Pod\nspec:\n  containers:\n  - image: {a: b}\n");
    assert_eq!(wrong, [(4, "the image of a container is no text".to_owned())]);
    let wrong = mistakes("kind: Pod\n---\nfoo: bar\n");
    assert_eq!(wrong.len(), 1);
    assert!(wrong[0].0 == 3 && wrong[0].1.contains("neither a compose file"), "{wrong:?}");
}

const DOCKERFILE: &str = r#"# syntax=docker/dockerfile:1
# a comment
ARG VERSION=3.20 \
    BASE="alpine:${VERSION}"
ARG PLAIN
FROM --platform=$BUILDPLATFORM golang:1.24 AS Build
ARG VERSION=9
RUN --mount=type=cache,target=/x --mount=type=bind,from=tools:2,target=/t \
    # a comment in between
    go build
RUN <<EOF
FROM not an image
EOF
COPY <<-'ONE' <<TWO /x
	FROM no
	ONE
FROM no
TWO
from ${BASE} as run
COPY --chown=1 --from=build /x /x
COPY --from=0 /x /x
COPY --link --from=nginx:1.27 /etc /etc
RUN --mount=from=Build,target=/x echo --mount=from=no:1
FROM scratch
ONBUILD COPY --from=busybox:1 /x /
FROM run
"#;

#[test]
fn here_documents_are_what_buildkit_takes_for_them() {
    let text = r#"FROM a:1
RUN echo "type <<EOF to begin" && echo $((1<<2))
CMD cat <<EOF
COPY <<END-OF-CONF <<EOF.conf <<"MY EOF" /x
FROM no:1
END-OF-CONF
FROM no:2
END-OF-CONF
EOF.conf
FROM no:3
MY
MY EOF
ONBUILD RUN <<EOF
FROM no:4
EOF
FROM b:1
"#;
    assert_eq!(found(text), ["a:1", "b:1"]);
    for (text, name) in [("FROM a\nRUN <<END-OF\nEND\n", "END-OF"), ("FROM a\nADD <<'MY EOF' /x\nMY\n", "MY EOF")] {
        assert_eq!(mistakes(text), [(2, format!("the here-document {name:?} has no end"))]);
    }
}

#[test]
fn dockerfiles_have_the_images_of_their_stages_and_sources() {
    let images = ["docker/dockerfile:1", "golang:1.24", "tools:2", "alpine:3.20", "nginx:1.27", "busybox:1"];
    assert_eq!(found(DOCKERFILE), images);
    let windows = "# escape=`\nFROM mcr.microsoft.com/x:1 `\n  AS a\nRUN dir C:\\\nFROM a\n";
    assert_eq!(found(windows), ["mcr.microsoft.com/x:1"]);
    for (text, line, what) in [
        ("ARG A\nFROM nginx:$A\n", 2, "A has no value"),
        ("FROM nginx\nCOPY --from=$X /a /b\n", 2, "is no image"),
        ("FROM nginx\n\nRUN <<EOF\necho\n", 3, "has no end"),
        (doubling(10).as_str(), 10, "the argument \"V9\": with its variables it is longer than 4096 bytes"),
        ("FROM nginx\nFROM --platform=x\n", 2, "without an image"),
    ] {
        let wrong = mistakes(text);
        assert!(wrong.len() == 1 && wrong[0].0 == line && wrong[0].1.contains(what), "{text}: {wrong:?}");
    }
}

/// Arguments of which each is twice the one before.
fn doubling(lines: usize) -> String {
    (1..lines)
        .fold("ARG V0=aaaaaaaaaa\n".to_owned(), |text, n| text + &format!("ARG V{n}=${{V{}}}${{V{}}}\n", n - 1, n - 1))
}

/// What is hostile is refused or read, with bounded memory, in a moment.
#[test]
fn hostile_files_cost_little() {
    let bomb = (1..40).fold("kind: Pod\na0: &a0 {containers: [{image: x}]}\n".to_owned(), |text, n| {
        let many = format!("*a{},", n - 1).repeat(10);
        text + &format!("a{n}: &a{n} [{many}]\n")
    });
    let services = (0..50_000).fold("services:\n".to_owned(), |text, n| text + &format!("  s{n}: {{<<: *big}}\n"));
    let big = (0..50_000).fold("big: &big\n".to_owned(), |text, n| text + &format!("  k{n}: v\n")) + &services;
    let lists = format!("kind: X\na: &a [{}]\n", "{image: x},".repeat(50_000));
    let lists = (0..50_000).fold(lists, |text, n| text + &format!("k{n}: {{containers: *a}}\n"));
    let merges = (1..60).fold("m0: &m0 {s: {image: x}}\n".to_owned(), |text, n| {
        text + &format!("m{n}: &m{n} {{<<: [*m{0}, *m{0}]}}\n", n - 1)
    });
    let doubled = doubling(40) + "FROM ${V39}\n";
    let many = |name: &str, count: usize| (0..count).fold(String::new(), |text, n| text + &format!("{name}{n}\n"));
    let stages = many("FROM x AS s", 100_000) + &many("COPY --from=s", 100_000);
    for (what, text, told) in [
        ("a bomb of aliases", bomb, None),
        ("many merges of a large mapping", big, Some("there is no image")),
        ("many aliases of a long list", lists, None),
        ("merges that double", merges.clone() + "services: *m59\n", None),
        ("merges that double in a service", merges + "services: {a: *m59}\n", Some("there is no image")),
        ("nested flow", format!("kind: {}{}", "[".repeat(5_000), "]".repeat(5_000)), Some("")),
        ("nested blocks", (0..500).fold(String::new(), |text, n| text + &" ".repeat(n) + "a:\n"), Some("nests deeper")),
        ("an alias inside its anchor", "kind: &a [*a]".to_owned(), Some("")),
        ("an alias without an anchor", "kind: *a".to_owned(), Some("")),
        ("merges in a circle", "services: {a: &a {<<: *a}}".to_owned(), Some("inside its own anchor")),
        ("a template", "kind: Pod\nspec: {{ .Values.x }}\n".to_owned(), Some("")),
        ("a tab", "kind: Pod\nspec:\n\tcontainers: []\n".to_owned(), Some("")),
        ("a long image", format!("kind: Pod\ncontainers: [{{image: {}}}]", "x".repeat(1 << 20)), Some("is no image")),
        ("many nodes", format!("kind: [{}]", "a,".repeat(MOST_NODES_AND_MORE)), Some("nodes")),
        ("many documents", "---\n".repeat(200_000), Some("there is no image")),
        ("bytes", "\0\u{1}\u{2}\n".to_owned(), Some("is no image")),
        ("many lines", "a b\n".repeat(200_000), Some("is no image")),
        ("many continuations", format!("FROM x\nRUN {}", "\\\n".repeat(200_000)), None),
        ("doubling arguments", doubled, Some("longer than 4096 bytes")),
        (
            "a long argument",
            format!("ARG A={}\nFROM $A\n", "a".repeat(LONGEST_LINE - 10)),
            Some("longer than 4096 bytes"),
        ),
        ("a long line", "a".repeat(30_000_000), Some("longer than 1024 KiB")),
        ("a long FROM", format!("FROM x\n# {}\n", "a".repeat(LONGEST_LINE)), Some("longer than 1024 KiB")),
        ("many images", many("img", 200_000), Some("more than 10000 images")),
        ("many stages", stages, None),
        ("many here-documents", format!("FROM x\nRUN {}", "<<A ".repeat(50_000)), Some("has no end")),
    ] {
        let began = Instant::now();
        match (images(&text, &variable), told) {
            (Ok(images), None) => assert_eq!(images, ["x"], "{what}"),
            (Err(mistakes), Some(told)) => assert!(mistakes[0].what.contains(told), "{what}: {:?}", mistakes[0]),
            (read, told) => panic!("{what}: {:?}, not {told:?}", read.map_err(|mistakes| mistakes.len())),
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{what}: {:?}", began.elapsed());
    }
}

const MOST_NODES_AND_MORE: usize = 2_100_000;

#[test]
fn what_is_too_long_or_no_text_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list");
    let from = file.to_str().unwrap();
    assert!(read(from, &variable).unwrap_err().contains("list: "), "it is not there");
    std::fs::File::create(&file).unwrap().set_len(100 << 20).unwrap();
    assert!(read(from, &variable).unwrap_err().contains("longer than 32 MiB"));
    std::fs::write(&file, b"nginx\n\xff\n").unwrap();
    assert!(read(from, &variable).unwrap_err().contains("line 2 is no text"));
    std::fs::write(&file, "a b\n".repeat(100)).unwrap();
    let told = read(from, &variable).unwrap_err();
    assert_eq!(told.lines().count(), MOST_MISTAKES + 1, "{told}");
    assert!(told.starts_with(&format!("{from}:1: ")) && told.ends_with("and 80 more\n"), "{told}");
}

proptest::proptest! {
    #[test]
    fn never_panics(
        text in "(FROM |ARG |RUN |COPY --from=|services:|kind: |- |image: |[&*]a|[{}\\[\\],:\"'|>#\\\\\n $<]|[a-z]{1,3}){0,60}|\\PC*"
    ) {
        let _ = images(&text, &variable);
    }
}
