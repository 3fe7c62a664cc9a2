//! Manifests as people write them: pushed and pulled alike, byte for byte, and with the parts that
//! Go's clients find in them. `src/oci/fields.rs` says which fields are read.

use super::mirror;
use crate::{
    hub::{DOCKER_MANIFEST, Hub, digest_of},
    lanyard::Lanyard,
    push::{OCI_IMAGE, OCI_INDEX, Pusher},
    wire::{blob, get, manifest},
};

/// The parts in this test.
const PARTS: [&[u8]; 2] = [b"{}", b"a layer"];

/// A document, its type, and the statuses of a push and a pull. `$1` and `$2` are the parts'
/// digests, `$3` is a child.
type Document = (&'static str, &'static str, u16, u16);

#[rustfmt::skip]
const DOCUMENTS: &[Document] = &[
    // `null`, absent and unknown.
    (OCI_IMAGE, r#"{"schemaVersion":2,"config":{"digest":"$1","size":2},"layers":null}"#, 201, 200),
    (OCI_IMAGE, r#"{"schemaVersion":2,"config":{"digest":"$1","size":2}}"#, 201, 200),
    (OCI_IMAGE, r#"{"schemaVersion":2,"config":null,"layers":[{"digest":"$2","size":7}]}"#, 201, 200),
    (OCI_IMAGE, r#"{"schemaVersion":2,"layers":[{"digest":"$2","size":7}]}"#, 201, 200),
    (OCI_IMAGE, r#"{"config":{"digest":"$1","size":2},"layers":[]}"#, 201, 200),
    (OCI_IMAGE, r#"{"config":{"digest":"$1"},"layers":[{"digest":"$2"}]}"#, 201, 200),
    (OCI_IMAGE, r#"{"config":{"digest":"$1","size":null},"layers":[{"digest":"$2","size":null,"mediaType":null}]}"#, 201, 200),
    (OCI_IMAGE, r#"{"config":{"digest":"$1","size":2},"layers":[],"manifests":null}"#, 201, 200),
    (OCI_IMAGE, r#"{"config":{"digest":"$1","size":2},"layers":[],"subject":null,"annotations":null,"artifactType":null}"#, 201, 200),
    (OCI_IMAGE, r#"{"config":{"digest":"$1","size":2,"annotations":null,"urls":null,"platform":null,"data":null},"layers":[]}"#, 201, 200),
    (OCI_IMAGE, r#"{"mediaType":null,"config":{"digest":"$1","size":2},"layers":[]}"#, 201, 200),
    (OCI_IMAGE, r#"{"mediaType":"","config":{"digest":"$1","size":2},"layers":[]}"#, 201, 200),
    (OCI_IMAGE, r#"{"config":{"digest":"$1","size":2},"layers":[],"x":{"Layers":[1],"layers":1},"annotations":{"a":"b"}}"#, 201, 200),
    (OCI_IMAGE, r#"{"config":{"digest":"$1","size":2},"layers":[],"subject":{"digest":"$2"}}"#, 201, 200),
    (DOCKER_MANIFEST, r#"{"schemaVersion":2,"config":{"digest":"$1","size":2},"layers":null}"#, 201, 200),
    (OCI_INDEX, r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":null}"#, 201, 200),
    (OCI_INDEX, r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json"}"#, 201, 200),
    (OCI_INDEX, r#"{"schemaVersion":2,"manifests":[]}"#, 201, 200),
    (OCI_INDEX, r#"{"manifests":[{"digest":"$3","size":1,"platform":null}],"layers":null,"config":null}"#, 201, 200),
    (OCI_INDEX, r#"{"manifests":[{"digest":"$3","size":1,"platform":{"os":null,"architecture":null,"os.features":null}}]}"#, 201, 200),
    (OCI_INDEX, r#"{"manifests":[{"digest":"$3","size":1,"platform":{}},{"digest":"$3","annotations":null}]}"#, 201, 200),
    // Two readers would read two different documents.
    (OCI_IMAGE, r#"{"config":{"digest":"$1","size":2},"layers":[],"manifests":[]}"#, 400, 502),
    (OCI_IMAGE, r#"{"config":{"digest":"$1","size":2},"layers":[],"Manifests":[]}"#, 400, 502),
    (OCI_IMAGE, r#"{"config":{"digest":"$1","size":2},"layers":[],"MANIFESTS":[{"digest":"$3","size":1}]}"#, 400, 502),
    (OCI_INDEX, r#"{"manifests":[],"Layers":[]}"#, 400, 502),
    (OCI_INDEX, r#"{"maniFests":[{"digest":"$3","size":1}]}"#, 400, 502),
    (OCI_INDEX, r#"{"manifests":[],"Config":{"digest":"$1","size":2}}"#, 400, 502),
    (OCI_IMAGE, r#"{"config":{"digest":"$1","size":2},"Layers":[{"digest":"$2","size":7}]}"#, 400, 502),
    (OCI_IMAGE, r#"{"config":{"digest":"$1","size":2},"layers":[],"LAYERS":[{"digest":"$2","size":7}]}"#, 400, 502),
    (OCI_IMAGE, r#"{"config":{"digest":"$1","size":2},"layers":[],"layers":[{"digest":"$2","size":7}]}"#, 400, 502),
    (OCI_IMAGE, r#"{"config":{"digest":"$1","Digest":"$2","size":2},"layers":[]}"#, 400, 502),
    (OCI_IMAGE, r#"{"config":{"digest":"$1","size":2},"layers":[],"MediaType":"x"}"#, 400, 502),
    // Fields that are needed, and fields of the wrong kind.
    (OCI_IMAGE, r#"{"config":{"size":2},"layers":[]}"#, 400, 502),
    (OCI_IMAGE, r#"{"config":{"digest":"$1","size":2},"layers":[null]}"#, 400, 502),
    (OCI_IMAGE, r#"{"config":{"digest":"$1","size":-2},"layers":[]}"#, 400, 502),
    (OCI_IMAGE, r#"[{"config":{"digest":"$1","size":2},"layers":[]}]"#, 400, 502),
    (OCI_IMAGE, r#"{"mediaType":"application/vnd.oci.image.index.v1+json","config":{"digest":"$1","size":2},"layers":[]}"#, 400, 502),
    // A push whose two types are of the same kind is refused, and the error names both types; a
    // client that pulls uses the type of the header.
    (OCI_IMAGE, r#"{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"digest":"$1"},"layers":[]}"#, 400, 200),
];

fn document(json: &str, child: &str) -> String {
    let [first, second] = PARTS.map(digest_of);
    json.replace("$1", &first).replace("$2", &second).replace("$3", child)
}

#[test]
fn s10_documents_are_pushed_and_pulled_alike() {
    assert!(DOCUMENTS.len() > 30);
    let hub = Hub::builder().open().start();
    let upstream = mirror(&hub);
    let hosted = Lanyard::start("mode = \"offline\"\n");
    let client = Pusher(hosted.port());
    let child = document(r#"{"schemaVersion":2,"config":{"digest":"$1","size":2},"layers":[]}"#, "");
    for part in PARTS {
        hub.put_blob(part.to_vec());
        client.blob("team/app", part);
    }
    let digest = digest_of(child.as_bytes());
    assert_eq!(client.manifest("team/app", &digest, OCI_IMAGE, child.as_bytes()).status, 201);
    for (n, (media_type, json, push, pull)) in DOCUMENTS.iter().enumerate() {
        let bytes = document(json, &digest);
        let answer = client.manifest("team/app", &format!("v{n}"), media_type, bytes.as_bytes());
        assert_eq!(answer.status, *push, "push of {json}: {}", answer.text());
        if *push == 201 {
            let pulled = get(hosted.port(), &manifest("team/app", &format!("v{n}")));
            assert_eq!((pulled.text(), pulled.header("content-type")), (bytes.clone(), Some(*media_type)), "{json}");
        }
        let repo = format!("library/row{n}");
        hub.put_untagged(&repo, OCI_IMAGE, child.as_bytes());
        hub.put_manifest(&repo, "v1", media_type, bytes.as_bytes());
        let answer = get(upstream.port(), &manifest(&repo, "v1"));
        assert_eq!(answer.status, *pull, "pull of {json}: {}", answer.text());
        if *pull == 200 {
            assert_eq!((answer.text(), answer.header("content-type")), (bytes.clone(), Some(*media_type)), "{json}");
            // The parts can be fetched, and the manifest that names them is served without upstream
            // when they are here.
            for part in PARTS.map(digest_of).into_iter().filter(|part| bytes.contains(part.as_str())) {
                if !json.contains("subject\":{") {
                    assert_eq!(get(upstream.port(), &blob(&repo, &part)).status, 200, "{json}");
                }
            }
        }
    }
}

/// A part that a push names is looked for in every spelling of the rest of the document.
#[test]
fn a_part_that_is_missing_is_missed_in_every_spelling() {
    let hosted = Lanyard::start("mode = \"offline\"\n");
    let client = Pusher(hosted.port());
    client.blob("team/app", PARTS[0]);
    for json in [
        r#"{"config":null,"layers":[{"digest":"$2"}],"manifests":null}"#,
        r#"{"layers":[{"digest":"$2","urls":null}]}"#,
        r#"{"layers":[{"digest":"$2","urls":[]}]}"#,
        r#"{"layers":[{"digest":"$2","urls":"https://example.com"}]}"#,
        r#"{"config":{"digest":"$2"},"layers":null}"#,
    ] {
        let answer = client.manifest("team/app", "v1", OCI_IMAGE, document(json, "").as_bytes());
        assert_eq!((answer.status, answer.error_code().as_str()), (404, "MANIFEST_BLOB_UNKNOWN"), "{json}");
    }
}
