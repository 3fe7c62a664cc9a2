//! Tests of the configuration as a whole: layers, problems, and the secrets that are never shown.

use std::{fs, path::Path, time::Duration};

use super::*;

/// A folder with a `lanyard.toml` of this text.
fn file(text: &str) -> (tempfile::TempDir, Inputs) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lanyard.toml");
    fs::write(&path, text.replace("DIR", folder.path().to_str().unwrap())).unwrap();
    (folder, Inputs { file: Some(path), ..Inputs::default() })
}

fn environment(variables: &[(&str, &str)]) -> Inputs {
    let environment = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
    Inputs { environment, ..Inputs::default() }
}

fn problems(inputs: &Inputs) -> Vec<String> {
    let folder = inputs.file.as_deref().and_then(Path::parent).map(|p| format!("{}/", p.display())).unwrap_or_default();
    let problems = Config::load(inputs).unwrap_err();
    problems.iter().map(|problem| problem.to_string().replace(&folder, "")).collect()
}

#[test]
fn nothing_said_is_docker_hub_on_port_5000() {
    let Loaded { config, provenance } = Config::load(&Inputs::default()).unwrap();
    assert_eq!(config.listen, "0.0.0.0:5000".parse().unwrap());
    assert_eq!(config.data_dir, Path::new("data"));
    assert_eq!(config.mode, Mode::Auto);
    assert_eq!(config.default_upstream.as_str(), "docker.io");
    assert_eq!(config.cache.max_size, None);
    assert_eq!(config.cache.min_free, MinFree::Percent(10.0));
    assert_eq!(config.cache.tag_ttl, Duration::from_secs(60));
    assert_eq!(config.cache.negative_ttl, Duration::from_secs(10));
    assert_eq!(config.scrub_every, Duration::from_secs(30 * 24 * 3600));
    assert_eq!(config.hosted.gc_grace, Duration::from_secs(3600));
    assert!(config.hosted.namespaces.is_empty() && config.hosted.immutable_tags.is_empty() && !config.hosted.sparse);
    assert_eq!(config.hosted.reserved, ["library/**".parse().unwrap()]);
    assert_eq!(config.log.format, LogFormat::Text);
    let names: Vec<&str> = config.upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    assert_eq!(names, BUILT_IN.map(|(name, _)| name));
    assert!(config.upstreams.iter().all(|upstream| upstream.has_built_in_url() && upstream.connections == 16));
    assert_eq!(provenance.source("cache.tag_ttl"), Some(&Source::Default));
    assert_eq!(provenance.source("cache.max_size"), None);
}

#[test]
fn each_layer_is_over_the_one_before() {
    let (_folder, mut inputs) = file(
        "listen = \"127.0.0.1:1\"\nmode = \"online\"\ndata_dir = \"f\"\n[cache]\ntag_ttl = \"1s\"\nnegative_ttl = \"2s\"\n",
    );
    inputs.environment =
        environment(&[("LANYARD__MODE", "auto"), ("LANYARD__LISTEN", "[::1]:2"), ("LANYARD__CACHE__TAG_TTL", "3s")])
            .environment;
    inputs.flags = Flags { mode: Some("offline".into()), ..Flags::default() };
    let Loaded { config, provenance } = Config::load(&inputs).unwrap();
    assert_eq!((config.mode, config.listen), (Mode::Offline, "[::1]:2".parse().unwrap()));
    assert_eq!((config.cache.tag_ttl, config.cache.negative_ttl), (Duration::from_secs(3), Duration::from_secs(2)));
    let said = |key| provenance.source(key).unwrap().clone();
    assert_eq!(said("mode"), Source::Flag("--mode"));
    assert_eq!(said("listen"), Source::Environment("LANYARD__LISTEN".into()));
    assert_eq!(said("cache.negative_ttl"), Source::File { path: inputs.file.unwrap(), line: Some(6) });
    assert_eq!(said("cache.min_free"), Source::Default);
}

#[test]
fn upstreams_merge_by_name() {
    let (folder, inputs) = file(
        r#"
default_upstream = "hub.lan:5000"
[[upstream]]
name = "hub.lan:5000"
url = "http://10.0.0.1:5000/prefix"
username = "me"
password_file = "DIR/password"
allow = ["**"]
block = ["evil/*"]
token_hosts = ["auth.lan"]
proxy = "http://me:secret@proxy:3128"
tag_ttl = "5m"
keep_deleted = true
connections = 3
[[upstream]]
name = "ghcr.io"
tag_ttl = "1h"
[[upstream]]
name = "quay.io"
url = "https://quay.lan"
"#,
    );
    fs::write(folder.path().join("password"), "123456\n").unwrap();
    let config = Config::load(&inputs).unwrap().config;
    assert_eq!(config.upstreams.len(), 9);
    let upstream = |name: &str| config.upstreams.iter().find(|upstream| upstream.name.as_str() == name).unwrap();
    let own = upstream("hub.lan:5000");
    assert_eq!(own.url.as_str(), "http://10.0.0.1:5000/prefix");
    assert_eq!(own.credentials, Some(Credentials { username: "me".into(), password: "123456".into() }));
    assert_eq!(own.proxy.as_ref().unwrap().password(), Some("secret"));
    assert_eq!((own.connections, own.keep_deleted, own.has_built_in_url()), (3, true, false));
    assert_eq!(own.tag_ttl, Some(Duration::from_secs(300)));
    assert_eq!(own.token_hosts, ["auth.lan"]);
    assert!(upstream("ghcr.io").has_built_in_url() && upstream("ghcr.io").tag_ttl.is_some());
    assert!(!upstream("quay.io").has_built_in_url());
}

#[test]
fn every_problem_is_told_at_once_with_its_source() {
    let (_folder, mut inputs) = file(
        r#"lisen = "x"
mode = "fast"
default_upstream = "nowhere.lan"
[cache]
max_size = "500"
min_free = 10
tag-ttl = "60s"
[hosted]
namespaces = ["Team/**", "ghcr.io/x", "ok/**"]
[log]
format = "xml"
[[upstream]]
url = "registry.lan"
[[upstream]]
name = "team"
[[upstream]]
name = "a.lan"
connections = 0
keep_deleted = "yes"
token_hosts = ["https://a"]
ca_file = "DIR/none.pem"
[[upstream]]
name = "quay.io"
[[upstream]]
name = "quay.io"
"#,
    );
    inputs.environment = environment(&[
        ("LANYARD__LISTEN", "localhost"),
        ("LANYARD__CACHE_TAG_TTL", "1s"),
        ("LANYARD__UPSTREAM__0__URL", "x"),
    ])
    .environment;
    inputs.flags.data_dir = Some(String::new());
    let expected = [
        "lanyard.toml:1: lisen: there is no such key; did you mean listen?",
        "lanyard.toml:2: mode: \"fast\" is not one of \"auto\", \"online\", \"offline\"",
        "lanyard.toml:3: default_upstream: \"nowhere.lan\" is not an upstream; name it in an [[upstream]]",
        "lanyard.toml:5: cache.max_size: \"500\" is not a size",
        "lanyard.toml:6: cache.min_free: must be text in quotes",
        "lanyard.toml:7: cache.tag-ttl: there is no such key; did you mean cache.tag_ttl?",
        "lanyard.toml:9: hosted.namespaces[0]: \"Team/**\": a pattern is",
        "lanyard.toml:11: log.format: \"xml\" is not one of",
        "lanyard.toml:12: upstream[0].name: is missing",
        "lanyard.toml:13: upstream[0].url: must be a URL",
        "lanyard.toml:15: upstream[1].name: \"team\" could be the beginning",
        "lanyard.toml:17: upstream[2].url: is missing: a.lan is not built in",
        "lanyard.toml:18: upstream[2].connections: must be a whole number from 1 to 1000",
        "lanyard.toml:19: upstream[2].keep_deleted: must be true or false",
        "lanyard.toml:20: upstream[2].token_hosts[0]: must be a host",
        "lanyard.toml:21: upstream[2].ca_file: the file cannot be read",
        "lanyard.toml:25: upstream[4].name: \"quay.io\" is already defined at lanyard.toml:23",
        "LANYARD__CACHE_TAG_TTL: cache_tag_ttl: there is no such key; did you mean LANYARD__CACHE__TAG_TTL?",
        "LANYARD__LISTEN: listen: \"localhost\" is not an address and port",
        "LANYARD__UPSTREAM__0__URL: upstream: [[upstream]] is set in the configuration file only",
        "--data-dir: data_dir: must be text in quotes, and not empty",
    ];
    let told = problems(&inputs);
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}\nexpected: {expected}");
    }
    assert_eq!(told.len(), expected.len(), "{told:#?}");
}

#[test]
fn s6_credentials_need_a_list_of_what_may_be_pulled() {
    for (allow, good) in [("", false), ("allow = []", false), ("allow = [\"team/**\"]", true)] {
        let (folder, inputs) =
            file(&format!("[[upstream]]\nname = \"ghcr.io\"\nusername = \"me\"\npassword_file = \"DIR/p\"\n{allow}\n"));
        fs::write(folder.path().join("p"), "secret").unwrap();
        match Config::load(&inputs) {
            Ok(_) => assert!(good, "{allow}"),
            Err(problems) => {
                assert!(!good && problems.len() == 1 && problems[0].key == "upstream[0].allow", "{problems:?}")
            }
        }
    }
}

#[test]
fn s16_hosted_names_and_upstreams_do_not_overlap() {
    let (_folder, inputs) = file("[hosted]\nnamespaces = [\"team/**\", \"docker.io/**\"]\n");
    let told = problems(&inputs);
    assert_eq!(
        told,
        [
            "lanyard.toml:2: hosted.namespaces[1]: \"docker.io/**\" begins with the upstream docker.io, whose names are never hosted"
        ]
    );
}

#[test]
fn what_is_not_built_is_refused() {
    let (_folder, inputs) = file(
        "[tls]\nclient_ca = \"c\"\n[[access]]\nwho = [\"cert:ann\"]\nrepositories = [\"**\"]\nactions = [\"pull\", \"admin\"]\n",
    );
    assert_eq!(
        problems(&inputs),
        [
            "lanyard.toml:2: tls.client_ca: sign-in by client certificate is not in this version; remove it",
            "lanyard.toml:4: access[0].who[0]: sign-in by client certificate is not in this version; remove it",
            "lanyard.toml:6: access[0].actions[1]: is only allowed at the Unix socket in the data folder; no address gives it in this version",
        ]
    );
}

#[test]
fn rules_are_the_built_in_ones_or_those_that_are_given() {
    let defaults = Config::load(&Inputs::default()).unwrap().config;
    assert_eq!(defaults.access, Rule::built_in());
    assert_eq!((defaults.auth.htpasswd, defaults.mirror_listen), (None, None));
    let (_folder, mut inputs) = file(
        r#"
[auth]
htpasswd = "DIR/users"
[[upstream]]
name = "registry.lan:5000"
url = "https://registry.lan:5000"
[[access]]
who = ["anonymous", "loopback"]
repositories = ["docker.io/library/*", "registry.lan:5000/**"]
actions = ["pull"]
[[access]]
who = ["users", "user:ann smith"]
repositories = ["**"]
actions = ["pull", "push", "delete"]
"#,
    );
    inputs.environment = environment(&[("LANYARD__MIRROR_LISTEN", "127.0.0.1:5001")]).environment;
    let loaded = Config::load(&inputs).unwrap();
    assert_eq!(loaded.config.mirror_listen, Some("127.0.0.1:5001".parse().unwrap()));
    assert!(loaded.config.auth.htpasswd.as_ref().unwrap().ends_with("users"), "it need not be there yet");
    let [first, second] = &loaded.config.access[..] else { panic!() };
    assert_eq!(first.who, [Who::Anonymous, Who::Loopback]);
    assert_eq!(second.who, [Who::Users, Who::User("ann smith".to_owned())]);
    assert_eq!(second.actions, [Action::Pull, Action::Push, Action::Delete]);
    let (_folder, again) = file(&loaded.show());
    assert_eq!(Config::load(&again).unwrap().config, loaded.config);
}

#[test]
fn rules_that_cannot_work_are_told() {
    let (_folder, mut inputs) = file(
        r#"mirror_listen = "127.0.0.1:5000"
[auth]
htpasswd = "DIR"
[[access]]
who = ["everybody", "user:", "user:a:b"]
repositories = ["docker.io", "elsewhere.lan:5000/x", "Team/**", "ok/**"]
actions = ["read"]
[[access]]
who = []
action = ["pull"]
[hosted]
reserved = ["//"]
immutable_tags = ["team/**", "**:v*"]
sparse = "yes"
"#,
    );
    inputs.environment = environment(&[("LANYARD__ACCESS", "x")]).environment;
    let expected = [
        "lanyard.toml:1: mirror_listen: has the port of listen, 5000; give it another",
        "lanyard.toml:3: auth.htpasswd: is a folder, not a file of users",
        "lanyard.toml:5: access[0].who[0]: \"everybody\" is not one of \"anonymous\", \"loopback\", \"users\", \"user:NAME\"",
        "lanyard.toml:5: access[0].who[1]: needs a name after user:",
        "lanyard.toml:5: access[0].who[2]: needs a name after user:",
        "lanyard.toml:6: access[0].repositories[0]: \"docker.io\" is an upstream; write \"docker.io/**\" for all of it",
        "lanyard.toml:6: access[0].repositories[1]: \"elsewhere.lan:5000\" is not an upstream",
        "lanyard.toml:6: access[0].repositories[2]: \"Team/**\": a pattern is",
        "lanyard.toml:7: access[0].actions[0]: \"read\" is not one of \"pull\", \"push\", \"delete\"",
        "lanyard.toml:9: access[1].actions: is missing: a rule says who, repositories and actions",
        "lanyard.toml:9: access[1].repositories: is missing",
        "lanyard.toml:9: access[1].who: is missing",
        "lanyard.toml:10: access[1].action: there is no such key; did you mean access.actions?",
        "lanyard.toml:12: hosted.reserved[0]: \"//\": a pattern is",
        "lanyard.toml:13: hosted.immutable_tags[0]: \"team/**\": has no tag",
        "lanyard.toml:14: hosted.sparse: must be true or false",
        "LANYARD__ACCESS: access: [[access]] is set in the configuration file only",
    ];
    let told = problems(&inputs);
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}\nexpected: {expected}");
    }
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    let (_folder, inputs) = file("[[access]]\nwho = [\"user:ann\"]\nrepositories = [\"**\"]\nactions = [\"pull\"]\n");
    assert!(problems(&inputs)[0].ends_with("there is no file of users; set htpasswd in [auth]"));
}

#[test]
fn variables_are_text_whatever_they_look_like() {
    let inputs = environment(&[
        ("LANYARD__DATA_DIR", "123456"),
        ("LANYARD__HOSTED__NAMESPACES", r#"["team/**", "ci/*"]"#),
        ("LANYARD__CACHE__MAX_SIZE", "1 GiB"),
        ("LANYARD_PORT", "tcp://10.0.0.1:5000"),
    ]);
    let config = Config::load(&inputs).unwrap().config;
    assert_eq!(config.data_dir, Path::new("123456"));
    assert_eq!(config.hosted.namespaces.len(), 2);
    assert_eq!(config.cache.max_size, Some(MaxSize::Bytes(1 << 30)));
    for (dir, kept) in
        [("true", "true"), ("[abc]", "[abc]"), (" led", " led"), ("0x10", "0x10"), ("1.0", "1.0"), ("'q'", "'q'")]
    {
        assert_eq!(Config::load(&environment(&[("LANYARD__DATA_DIR", dir)])).unwrap().config.data_dir, Path::new(kept));
    }
    for bad in ["team/**", "[team]", "[1]", "[\"a\"]\nlisten = \"x\"", "[[\"a\"]]", "["] {
        assert!(Config::load(&environment(&[("LANYARD__HOSTED__NAMESPACES", bad)])).is_err(), "{bad}");
    }
}

#[test]
fn tables_and_values_are_not_taken_for_each_other() {
    let (_folder, mut inputs) = file("cache = 5\nlog = []\n[listen]\nx = 1\n[upstream]\nname = \"a.b\"\n");
    inputs.environment = environment(&[("LANYARD__MODE__X", "1"), ("LANYARD__HOSTED", "1")]).environment;
    let told = problems(&inputs);
    assert_eq!(
        told,
        [
            "lanyard.toml:1: cache: is a table: write [cache] and its keys below it",
            "lanyard.toml:2: log: is a table: write [log] and its keys below it",
            "lanyard.toml:3: listen: is a single value, not a table",
            "lanyard.toml:5: upstream: is a list of tables: write [[upstream]]",
            "LANYARD__HOSTED: hosted: is a table: write [hosted] and its keys below it",
            "LANYARD__MODE__X: mode: is a single value, not a table",
        ]
    );
}

#[test]
fn passwords_are_one_line() {
    for (content, password) in [
        ("secret\n", Some("secret")),
        ("secret\r\n", Some("secret")),
        (" s:ü \n", Some(" s:ü ")),
        ("", None),
        ("\n", None),
        ("a\nb\n", None),
        ("a\n\n", None),
    ] {
        let (folder, inputs) =
            file("[[upstream]]\nname = \"ghcr.io\"\nusername = \"me\"\npassword_file = \"DIR/p\"\nallow = [\"**\"]\n");
        fs::write(folder.path().join("p"), content).unwrap();
        match (Config::load(&inputs), password) {
            (Ok(loaded), Some(password)) => {
                assert_eq!(loaded.config.upstreams[1].credentials.as_ref().unwrap().password, password)
            }
            (Err(_), None) => {}
            (result, _) => panic!("{content:?}: {result:?}"),
        }
    }
}

#[test]
fn s18_no_secret_is_in_a_problem_or_in_show() {
    let (folder, inputs) = file(
        "[[upstream]]\nname = \"ghcr.io\"\nusername = \"me\"\npassword_file = \"DIR/p\"\nallow = [\"**\"]\nproxy = \"http://me:canary-1@proxy:1\"\n",
    );
    fs::write(folder.path().join("p"), "canary-2").unwrap();
    let loaded = Config::load(&inputs).unwrap();
    let shown = format!("{} {loaded:?}", loaded.show());
    assert!(!shown.contains("canary") && shown.contains("me:REDACTED@proxy:1"), "{shown}");

    let (_folder, mut inputs) = file(
        r#"
password = "canary-1"
[[upstream]]
name = "ghcr.io"
password = "canary-2"
username = "me:canary-3"
password_file = "canary-4"
proxy = "https://me:canary-5@proxy"
url = "https://me:canary-6@ghcr.io"
token_hosts = ["me:canary-7@host"]
[[upstream]]
name = "quay.io"
username = 123456
proxy = "me:canary-8@proxy:1"
url = "me:canary-9@quay.io"
ca_file = "canary-10"
[[upstream]]
name = "gcr.io"
url = "https://gcr.io?token=canary-11"
"#,
    );
    inputs.environment = environment(&[
        ("LANYARD__UPSTREAM", "canary-12"),
        ("LANYARD__PASSWORD", "canary-13"),
        ("LANYARD__AUTH__KEY", "canary-14"),
    ])
    .environment;
    let told = problems(&inputs).join("\n");
    assert!(!told.contains("canary") && !told.contains("123456"), "{told}");
    assert!(
        told.contains("upstream[0].password: there is no such key; did you mean upstream.password_file?"),
        "{told}"
    );
}

#[test]
fn show_is_toml_and_says_who_said_it() {
    let (_folder, mut inputs) = file(
        "[cache]\nmax_size = \"1 GiB\"\n[[upstream]]\nname = \"a.lan\"\nurl = \"https://a.lan\"\nallow = [\"x/*\"]\n",
    );
    inputs.environment = environment(&[("LANYARD__HOSTED__NAMESPACES", "['team/**']")]).environment;
    inputs.flags.listen = Some("127.0.0.1:0".into());
    let loaded = Config::load(&inputs).unwrap();
    let shown = loaded.show();
    for (value, source) in [
        ("listen = \"127.0.0.1:0\"", "# --listen"),
        ("mode = \"auto\"", "# default"),
        ("max_size = \"1 GiB\"", "lanyard.toml:2"),
        ("namespaces = [\"team/**\"]", "# LANYARD__HOSTED__NAMESPACES"),
        ("name = \"docker.io\"", "# default"),
        ("allow = [\"x/*\"]", "lanyard.toml:6"),
    ] {
        assert!(
            shown.lines().any(|line| line.starts_with(value) && line.ends_with(source)),
            "{value} {source}\n{shown}"
        );
    }
    let (_folder, again) = file(&shown);
    assert_eq!(Config::load(&again).unwrap().config, loaded.config);
}

#[test]
fn a_broken_file_does_not_hide_the_other_sources() {
    let (_folder, mut inputs) = file("mode = \n[[upstream]]\nname = \"a.lan\"\n");
    inputs.environment =
        environment(&[("LANYARD__DEFAULT_UPSTREAM", "a.lan"), ("LANYARD__LISTEN", "x"), ("LANYARD__X", "x")])
            .environment;
    let told = problems(&inputs);
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told[0].starts_with("lanyard.toml:1: is not TOML: "), "{told:#?}");
}
