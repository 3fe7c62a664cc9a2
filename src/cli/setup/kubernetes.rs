//! Kubernetes: a DaemonSet keeps the `hosts.toml` files of the nodes' containerd in place. k3s and
//! RKE2 make theirs out of `registries.yaml`.

use super::{
    Server,
    containerd::{CONFIG_PATH, hosts_toml},
};
use crate::config::BUILT_IN;

/// A ConfigMap and a DaemonSet; after them, as comments, the file for k3s.
pub(super) fn text(server: &Server) -> String {
    let mut text = format!(
        "\
# Kubernetes nodes with containerd: a DaemonSet keeps a hosts.toml for each registry on every node.
#   lanyard setup kubernetes --server {server} | kubectl apply -f -
# It needs config_path in each node's /etc/containerd/config.toml, which recent kind, GKE, EKS and AKS have set:
{CONFIG_PATH}# The nodes, not only the pods, must reach {server}.
# CRI-O: lanyard setup podman. k3s and RKE2: the comment at the end.
{}apiVersion: v1
kind: ConfigMap
metadata:
  name: lanyard-hosts
  namespace: kube-system
data:
",
        server.loopback_note()
    );
    for (name, url) in BUILT_IN {
        text.push_str(&format!("  {name}: |\n{}", indented(&hosts_toml(url, server), "    ")));
    }
    text.push_str("---\n");
    text.push_str(DAEMON_SET);
    text.push_str(&k3s(server));
    text
}

const DAEMON_SET: &str = r#"apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: lanyard-hosts
  namespace: kube-system
spec:
  selector:
    matchLabels:
      app.kubernetes.io/name: lanyard-hosts
  template:
    metadata:
      labels:
        app.kubernetes.io/name: lanyard-hosts
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 1
      tolerations:
        - operator: Exists
      containers:
        - name: hosts
          image: docker.io/library/busybox:1.36
          command: ["sh", "-c"]
          args:
            - |
              while true; do
                for file in /hosts/*; do
                  folder="/certs.d/${file##*/}"
                  mkdir -p "$folder"
                  if ! cmp -s "$file" "$folder/hosts.toml"; then
                    cp "$file" "$folder/hosts.toml.new" && mv "$folder/hosts.toml.new" "$folder/hosts.toml"
                  fi
                done
                sleep 60
              done
          resources:
            requests:
              cpu: 1m
              memory: 8Mi
          volumeMounts:
            - name: hosts
              mountPath: /hosts
              readOnly: true
            - name: certs
              mountPath: /certs.d
      volumes:
        - name: hosts
          configMap:
            name: lanyard-hosts
        - name: certs
          hostPath:
            path: /etc/containerd/certs.d
            type: DirectoryOrCreate
"#;

/// The mirrors for k3s. They are comments, because they belong into another file.
fn k3s(server: &Server) -> String {
    let mirrors: String =
        BUILT_IN.iter().map(|(name, _)| format!("  {name}:\n    endpoint:\n      - \"{server}\"\n")).collect();
    format!(
        "\
# k3s (RKE2: /etc/rancher/rke2): on every node, the following without its # as /etc/rancher/k3s/registries.yaml, then
# sudo systemctl restart k3s, on agents k3s-agent.
#
{}",
        indented(&format!("mirrors:\n{mirrors}"), "#")
    )
}

/// Each line with `by` before it; empty lines stay empty.
fn indented(text: &str, by: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("{by}{line}\n") }).collect()
}
