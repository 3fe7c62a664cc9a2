//! The printed text has the form that each client reads: TOML and JSON that parse, a script that
//! runs.

use std::{fs, process::Command};

use super::{Client, Server};
use crate::config::BUILT_IN;

const SERVERS: [&str; 5] = [
    "http://localhost:5000",
    "http://10.0.0.5:5000",
    "https://registry.lan",
    "https://registry.lan:8443",
    "http://[fd00::1]:5000",
];

fn each(client: Client, check: impl Fn(&Server, &str, &str)) {
    for text in SERVERS {
        let server: Server = text.parse().unwrap();
        let setup = client.setup(&server);
        assert!(setup.notes.lines().all(|line| line.starts_with('#')), "{}", setup.notes);
        assert!(setup.text.ends_with('\n') && !setup.text.contains('\t'), "{}", setup.text);
        check(&server, &setup.notes, &setup.text);
    }
}

fn check_hosts_toml(text: &str, upstream: &str, server: &Server) {
    let hosts: toml::Table = text.parse().unwrap();
    assert_eq!(hosts["server"].as_str(), Some(upstream));
    let host = &hosts["host"][server.to_string()];
    assert_eq!(host["capabilities"].as_array().unwrap().len(), 2);
    assert_eq!(host.as_table().unwrap().len(), 1);
}

#[test]
fn docker_is_json() {
    each(Client::Docker, |server, notes, text| {
        let json: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(json, serde_json::json!({ "registry-mirrors": [server.to_string()] }));
        assert!(notes.contains("/etc/docker/daemon.json") && notes.contains("systemctl restart docker"));
        assert_eq!(notes.contains("insecure-registries"), server.is_plain() && !server.is_loopback());
        assert_eq!(notes.contains("trust store"), !server.is_plain());
    });
}

/// The lines of the notes that follow this one, as a file or a shell has them.
fn shown_after<'a>(notes: &'a str, line: &str) -> impl Iterator<Item = &'a str> {
    let (_, rest) = notes.split_once(line).unwrap();
    rest.lines().skip_while(|line| line.trim_matches(['#', ' ']).is_empty()).map_while(|line| line.strip_prefix("#   "))
}

#[test]
fn docker_with_the_containerd_store_has_a_hosts_toml_without_a_way_around() {
    each(Client::Docker, |server, notes, _| {
        assert!(notes.contains("Docker Engine 28.0 or newer, with the containerd image store"));
        let file: String = shown_after(notes, "nothing is restarted:\n").map(|line| format!("{line}\n")).collect();
        check_hosts_toml(&file, &server.to_string(), server);
        // The command writes the same file for each registry, and keeps one that stood there
        // before.
        let command = shown_after(notes, "To write it for all of them:\n").next().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let script = command.replace("sudo ", "").replace("/etc/docker/certs.d", folder.path().to_str().unwrap());
        let before = folder.path().join("ghcr.io/hosts.toml");
        fs::create_dir(before.parent().unwrap()).unwrap();
        fs::write(&before, "mine").unwrap();
        for _ in 0..2 {
            assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success(), "{script}");
        }
        for (name, _) in BUILT_IN {
            let written = fs::read_to_string(folder.path().join(name).join("hosts.toml")).unwrap();
            check_hosts_toml(&written, &server.to_string(), server);
        }
        assert_eq!(fs::read_to_string(folder.path().join("ghcr.io/hosts.toml.before-lanyard")).unwrap(), "mine");
    });
}

#[test]
fn containerd_is_a_script_that_writes_a_hosts_toml_for_each_upstream() {
    each(Client::Containerd, |server, _, text| {
        let folder = tempfile::tempdir().unwrap();
        let before = folder.path().join("ghcr.io/hosts.toml");
        fs::create_dir(before.parent().unwrap()).unwrap();
        fs::write(&before, "mine").unwrap();
        for _ in 0..2 {
            let status = Command::new("sh").args(["-c", text]).env("CERTS_D", folder.path()).status().unwrap();
            assert!(status.success());
        }
        for (name, url) in BUILT_IN {
            let written = fs::read_to_string(folder.path().join(name).join("hosts.toml")).unwrap();
            check_hosts_toml(&written, url, server);
        }
        assert_eq!(fs::read_to_string(folder.path().join("ghcr.io/hosts.toml.before-lanyard")).unwrap(), "mine");
        assert!(text.contains("config_path = \"/etc/containerd/certs.d\""));
    });
}

#[test]
fn podman_is_toml_with_a_prefix_for_each_upstream() {
    each(Client::Podman, |server, _, text| {
        let conf: toml::Table = text.parse().unwrap();
        let mut registries = conf["registry"].as_array().unwrap().as_slice();
        if server.is_plain() {
            let (own, others) = registries.split_first().unwrap();
            assert_eq!(own["location"].as_str(), Some(server.authority().as_str()));
            assert_eq!(own["insecure"].as_bool(), Some(true));
            registries = others;
        }
        assert_eq!(registries.len(), BUILT_IN.len());
        for (registry, (name, _)) in registries.iter().zip(BUILT_IN) {
            assert_eq!((registry["prefix"].as_str(), registry["location"].as_str()), (Some(name), Some(name)));
            let mirror = &registry["mirror"][0];
            assert_eq!(mirror["location"].as_str(), Some(format!("{}/{name}", server.authority()).as_str()));
            assert_eq!(mirror.get("insecure").and_then(toml::Value::as_bool), server.is_plain().then_some(true));
        }
        assert!(text.contains("/etc/containers/registries.conf.d/lanyard.conf"));
    });
}

#[test]
fn buildkit_is_toml() {
    each(Client::Buildkit, |server, _, text| {
        let conf: toml::Table = text.parse().unwrap();
        let registries = conf["registry"].as_table().unwrap();
        assert_eq!(registries.len(), BUILT_IN.len() + 1);
        for (name, _) in BUILT_IN {
            assert_eq!(registries[name]["mirrors"][0].as_str(), Some(server.authority().as_str()));
        }
        let own = &registries[&server.authority()];
        assert_eq!(own.get("http").and_then(toml::Value::as_bool), server.is_plain().then_some(true));
        assert!(text.contains("buildkitd.toml"));
    });
}

/// The `data` of the ConfigMap, with the indentation that YAML takes off.
#[test]
fn kubernetes_holds_a_hosts_toml_for_each_upstream() {
    each(Client::Kubernetes, |server, _, text| {
        let documents: Vec<&str> = text.split("\n---\n").collect();
        let [config_map, daemon_set] = documents[..] else { panic!("{text}") };
        for (name, url) in BUILT_IN {
            let (_, rest) = config_map.split_once(&format!("\n  {name}: |\n")).unwrap();
            let block = rest.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
            check_hosts_toml(&block.map(|line| format!("{}\n", line.trim_start())).collect::<String>(), url, server);
            assert!(
                daemon_set.contains(&format!("\n#  {name}:\n#    endpoint:\n#      - \"{server}\"\n")),
                "{daemon_set}"
            );
        }
        assert!(daemon_set.starts_with("apiVersion: apps/v1\nkind: DaemonSet\n"));
        assert!(text.contains("kubectl apply") && text.contains("registries.yaml"));
    });
}

#[test]
fn a_loopback_server_is_pointed_out() {
    for client in [Client::Docker, Client::Containerd, Client::Podman, Client::Buildkit, Client::Kubernetes] {
        each(client, |server, notes, text| {
            let said = format!("{notes}{text}").contains("For other machines: --server");
            assert_eq!(said, server.is_loopback());
        });
    }
}
