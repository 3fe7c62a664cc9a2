//! Which client may do what, through the real binary: users who sign in, rules, the address that
//! only pulls, `lanyard user`.
//!
//! Every test asks from this machine. A client from another address says so as a proxy would, with
//! `X-Forwarded-For`, which removes the rights of this machine.

mod catalog;
mod guessing;
mod inert;
mod matrix;
mod mirror;
mod named;
mod promises;
mod proxy;
mod routes;
mod secrets;
mod shadow;
mod sign_in;
mod user;

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    hub::digest_of,
    lanyard::Lanyard,
    wire::{Answer, Connection},
};

/// Makes a request count as one from another machine.
const ELSEWHERE: (&str, &str) = ("X-Forwarded-For", "192.0.2.7");
/// Two users and their passwords. The tests search the logs for the passwords.
const ANN: (&str, &str) = ("ann", "canary-ann:tail-4711");
const BOB: (&str, &str) = ("bob", "canary-bob");

/// A lanyard with two users.
struct House {
    lanyard: Lanyard,
    users: tempfile::NamedTempFile,
}

impl House {
    /// `before` is the configuration before `[auth]`, and `behind` the part after it.
    fn start(before: &str, behind: &str) -> House {
        let users = tempfile::NamedTempFile::new().unwrap();
        let line = |(user, password): (&str, &str)| format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap());
        std::fs::write(users.path(), [ANN, BOB].map(line).concat()).unwrap();
        let auth = format!("[auth]\nhtpasswd = {:?}\n", users.path());
        House { lanyard: Lanyard::start(&format!("{before}\n{auth}{behind}")), users }
    }

    fn port(&self) -> u16 {
        self.lanyard.port()
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        send(self.port(), method, path, headers, b"")
    }

    /// A token for these scopes, with the answer's status.
    fn token(&self, user: Option<(&str, &str)>, scopes: &[&str]) -> (u16, String) {
        let query: String = scopes.iter().map(|scope| format!("&scope={scope}")).collect();
        let authorization = user.map(basic);
        let mut headers = vec![ELSEWHERE];
        headers.extend(authorization.as_deref().map(|value| ("Authorization", value)));
        let answer = self.ask("GET", &format!("/token?service=lanyard{query}"), &headers);
        let token = (answer.status == 200).then(|| answer.json()["token"].as_str().unwrap().to_owned());
        (answer.status, token.unwrap_or_default())
    }
}

/// One request with a body, on a connection of its own.
fn send(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut connection = Connection::open(port);
    let length = body.len().to_string();
    let mut headers = headers.to_vec();
    headers.push(("Connection", "close"));
    if !matches!(method, "GET" | "HEAD") {
        headers.push(("Content-Length", &length));
    }
    connection.request(method, path, &headers);
    connection.send(body);
    connection.answer(method).unwrap_or_else(|error| panic!("no answer to {method} {path}: {error}"))
}

/// `Authorization` of a user.
fn basic((user, password): (&str, &str)) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// A small image: its layer, its configuration and its manifest.
struct Small {
    layer: Vec<u8>,
    manifest: Vec<u8>,
}

impl Small {
    fn new(text: &str) -> Small {
        let layer = text.as_bytes().to_vec();
        let descriptor = |media_type: &str| serde_json::json!({ "mediaType": media_type, "digest": digest_of(&layer), "size": layer.len() });
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json"),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar")],
        });
        Small { manifest: manifest.to_string().into_bytes(), layer }
    }

    fn blob(&self) -> String {
        digest_of(&self.layer)
    }

    fn digest(&self) -> String {
        digest_of(&self.manifest)
    }

    /// Pushes the image as `tag`. Returns the status of the first step that fails, else 201.
    fn push(&self, port: u16, repo: &str, tag: &str, headers: &[(&str, &str)]) -> u16 {
        let path = format!("/v2/{repo}/blobs/uploads/?digest={}", self.blob());
        let blob = send(port, "POST", &path, headers, &self.layer);
        if blob.status != 201 {
            return blob.status;
        }
        let typed = [headers, &[("Content-Type", MANIFEST)]].concat();
        send(port, "PUT", &format!("/v2/{repo}/manifests/{tag}"), &typed, &self.manifest).status
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
