//! What strangers write reaches no terminal as it is: an upstream's platforms, types, annotations
//! and messages could move the cursor, set a title or turn a line around.

use serde_json::json;

use crate::{
    admin,
    hub::{Fault, Hub, On, digest_of},
    lanyard::Lanyard,
    pull::mirror_with,
    push::{self, OCI_IMAGE, OCI_INDEX},
    wire::{ask, blob, get, manifest},
};

/// A colour, a title, a control of Latin-1, marks of direction, and an end of a line.
const NASTY: &str =
    "x\u{1b}[31m\u{1b}]0;title\u{7}\u{9b}5m\u{202e}\u{2066}\u{2069}\u{200e}\u{200f}\u{61c}\u{2028}\u{7f}\rforged\nline";

/// The characters of a text that a terminal obeys.
fn obeyed(text: &str) -> Vec<char> {
    let obeys = |c: &char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || "\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}"
                .contains(*c)
    };
    text.chars().filter(obeys).collect()
}

/// Runs a command, and returns what it printed on both outputs.
fn printed(server: &Lanyard, words: &[&str]) -> [String; 2] {
    let output = admin::command(server, words);
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!((obeyed(&out), obeyed(&err)), (vec![], vec![]), "{words:?}\n{out:?}\n{err:?}");
    [out, err]
}

/// Has an image whose platforms, types and annotations are hostile, and a name whose upstream
/// answers with a hostile message.
fn hostile() -> (Hub, String) {
    let hub = Hub::start();
    let config = hub.put_blob(json!({ "architecture": NASTY, "os": NASTY }).to_string().into_bytes());
    let layer = hub.put_blob(b"a layer".to_vec());
    let mut image = push::image(&config, &[&layer]);
    image["layers"][0]["mediaType"] = NASTY.into();
    image["annotations"] = json!({ NASTY: NASTY });
    image["artifactType"] = NASTY.into();
    let bytes = image.to_string();
    let child = hub.put_untagged("a/b", OCI_IMAGE, bytes.as_bytes());
    let platform = json!({ "os": NASTY, "architecture": NASTY, "variant": NASTY, "os.version": NASTY });
    let manifests = json!([
        { "mediaType": OCI_IMAGE, "digest": child, "size": bytes.len(), "platform": platform },
        { "mediaType": NASTY, "digest": digest_of(b"none"), "size": 4, "annotations": { NASTY: NASTY } },
    ]);
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests });
    hub.put_manifest("a/b", "1", OCI_INDEX, index.to_string().as_bytes());
    let body = json!({ "errors": [{ "code": NASTY, "message": NASTY, "detail": NASTY }] }).to_string();
    for at in [On::manifest("9"), On::blob(&digest_of(b"no blob"))] {
        let headers = vec![("Content-Type".into(), "application/json".into())];
        hub.fault(at.always(), Fault::Status { status: 403, headers, body: body.clone() });
    }
    (hub, child)
}

#[test]
fn s33_what_strangers_write_reaches_no_terminal() {
    for format in ["text", "json"] {
        let (hub, child) = hostile();
        let server = mirror_with(&hub, &format!("[log]\nformat = \"{format}\"\n"));
        let port = server.port();
        let any = [("Accept", "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json")];
        for reference in ["1", &child] {
            assert_eq!(ask(port, "GET", &manifest("a/b", reference), &any).status, 200);
        }
        assert!(get(port, &blob("a/b", &digest_of(b"no blob"))).status >= 400);
        let pinned = printed(&server, &["pin", "a/b:1", "--note", NASTY]);
        assert!(pinned[1].is_empty(), "{pinned:?}");
        for words in [
            &["ls"][..],
            &["ls", "--tree", "--gone"],
            &["ls", "--json", "--gone"],
            &["ls", "--digest", &child],
            &["ls", "--json", "--digest", &child],
            &["ls", NASTY],
            &["lock"],
            &["lock", "--json"],
            &["lock", NASTY],
            &["pins"],
            &["pins", "--json"],
            &["pull", "a/b:1", "--platform", "all", "--dry-run"],
            &["pull", "a/b:1", "--platform", "all", "--json"],
            &["pull", "a/b:1", "--platform", "all"],
            &["pull", "a/b:1", "--platform", "linux/s390x"],
            &["pull", "z/z:9"],
            &["pull", "z/z:9", "--json"],
            &["pull", "z/z:9", "--dry-run"],
            &["pull", NASTY],
            &["pull", "--from", NASTY],
            &["pull", "--lock", NASTY],
            &["rm", "a/b:1", "--force", "--dry-run"],
            &["rm", NASTY],
            &["status"],
            &["gc", "--dry-run"],
            &[NASTY],
        ] {
            let [out, err] = printed(&server, words);
            let of_strangers = !words.contains(&NASTY);
            assert!(!of_strangers || !(out + &err).contains("\nline"), "{words:?}: nor does it begin a line");
        }
        assert!(printed(&server, &["ls", "--tree", "--gone"])[0].contains("\\u001b[31m"), "it is shown, escaped");
        let json: serde_json::Value = serde_json::from_str(&printed(&server, &["pins", "--json"])[0]).unwrap();
        assert!(json.to_string().contains(&json!(NASTY).to_string()), "JSON means the same: {json}");
        let log = server.logs();
        assert!(log.contains("z/z") && obeyed(&log).is_empty(), "{:?} {log}", obeyed(&log));
    }
}
