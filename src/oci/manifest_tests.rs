//! Tests of the parts that are read from manifests, in all the forms that tools write.

use super::super::{DOCKER_IMAGE, DOCKER_LIST, OCI_IMAGE, OCI_INDEX};
use super::*;

const A: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const B: &str = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

/// The number of blobs and of children. `None`: the manifest is refused.
type Read = Option<(usize, usize)>;

/// A type, a document, and the expected parts.
type Row = (&'static str, &'static str, Read);

fn read(media_type: &str, json: &str) -> Read {
    let json = json.replace("$A", A).replace("$B", B);
    let manifest = Manifest::parse(media_type, json.as_bytes()).ok()?;
    Some((manifest.blobs().count(), manifest.children().count()))
}

/// A refused manifest is refused with any other fields in it. An accepted one names all parts that
/// Go's clients find.
#[test]
fn s10_s21_manifests_are_read_as_gos_clients_read_them() {
    let (i, x) = (OCI_IMAGE, OCI_INDEX);
    #[rustfmt::skip]
    let table: &[Row] = &[
        // `null`, absent and unknown.
        (i, r#"{"config":{"digest":"$A"},"layers":null}"#, Some((1, 0))),
        (i, r#"{"config":{"digest":"$A"}}"#, Some((1, 0))),
        (i, r#"{"config":null,"layers":[{"digest":"$A"}]}"#, Some((1, 0))),
        (i, r#"{"config":null,"layers":null,"manifests":null}"#, Some((0, 0))),
        (i, r#"{"layers":[{"digest":"$A","size":1},{"digest":"$B"}],"manifests":null}"#, Some((2, 0))),
        (i, r#"{"layers":[],"annotations":null,"subject":null,"artifactType":null,"mediaType":null}"#, Some((0, 0))),
        (i, r#"{"layers":[],"mediaType":""}"#, Some((0, 0))),
        (i, r#"{"layers":[],"annotations":7,"artifactType":{"x":[1]},"schemaVersion":"two"}"#, Some((0, 0))),
        (i, r#"{"layers":[{"mediaType":null,"digest":"$A","size":null,"urls":null,"platform":null}]}"#, Some((1, 0))),
        (i, r#"{"layers":[{"digest":"$A","urls":[null,1],"platform":"x","annotations":null,"data":3}]}"#, Some((1, 0))),
        (i, r#"{"layers":[{"digest":"$A","annotations":{"Digest":"x","digest":"y"}}]}"#, Some((1, 0))),
        (i, r#"{"layers":[],"subject":{"digest":"$A"}}"#, Some((0, 0))),
        (i, r#"{"layers":[],"x":{"Layers":1,"layers":2,"Layers":3},"fslayers":1}"#, Some((0, 0))),
        (i, "{\"l\\u0061yers\":[{\"digest\":\"$A\"}]}", Some((1, 0))),
        (x, r#"{"manifests":null}"#, Some((0, 0))),
        (x, r#"{"manifests":null,"config":null,"layers":null}"#, Some((0, 0))),
        (x, r#"{"manifests":[{"digest":"$A","platform":null},{"digest":"$B","platform":{}}]}"#, Some((0, 2))),
        (x, r#"{"manifests":[{"digest":"$A","platform":{"os":null,"architecture":1,"os.version":null}}]}"#, Some((0, 1))),
        (x, r#"{"manifests":[{"digest":"$A","mediaType":"application/vnd.oci.image.layer.v1.tar"}]}"#, Some((1, 0))),
        (x, r#"{"manifests":[],"layers":null}"#, Some((0, 0))),
        // A type inside that differs and is of the same kind is how some registries keep images.
        (DOCKER_IMAGE, r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}"#, Some((0, 0))),
        (DOCKER_LIST, r#"{"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#, Some((0, 0))),
        (x, r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[]}"#, None),
        (i, r#"{"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json"}"#, None),
        // An image and an index in one.
        (x, r#"{"manifests":[],"layers":[]}"#, None),
        (x, r#"{"manifests":[],"config":{"digest":"$A"}}"#, None),
        (i, r#"{"layers":[],"Manifests":[]}"#, None),
        (i, r#"{"Layers":[],"manifests":[]}"#, None),
        (x, r#"{"manifests":[],"CONFIG":{"digest":"$A"}}"#, None),
        (x, r#"{"maniFests":[],"laYers":[]}"#, None),
        // Keys that only Go's clients take for fields, and fields that are there twice.
        (i, r#"{"Layers":[{"digest":"$A"}]}"#, None),
        (i, r#"{"layers":[],"LAYERS":null}"#, None),
        (i, "{\"layers\":[],\"layer\u{17f}\":[{\"digest\":\"$A\"}]}", None),
        (i, r#"{"layers":[],"mediatype":"x"}"#, None),
        (i, r#"{"layers":[],"Subject":{"digest":"$A"}}"#, None),
        (i, r#"{"layers":[{"Digest":"$A"}]}"#, None),
        (i, r#"{"layers":[{"digest":"$A","Digest":"$B"}]}"#, None),
        (i, r#"{"layers":[{"digest":"$A","SIZE":1}]}"#, None),
        (i, r#"{"layers":[{"digest":"$A","Urls":["x"]}]}"#, None),
        (i, r#"{"layers":[],"layers":[]}"#, None),
        (i, r#"{"layers":null,"layers":[]}"#, None),
        (i, r#"{"config":{"digest":"$A","digest":"$B"}}"#, None),
        // Fields that are needed.
        (i, r#"{"layers":[{"size":1}]}"#, None),
        (i, r#"{"layers":[{"digest":null}]}"#, None),
        (i, r#"{"layers":[{"digest":"sha256:short"}]}"#, None),
        (i, r#"{"layers":[null]}"#, None),
        (i, r#"{"layers":[{"digest":"$A","size":-1}]}"#, None),
        (i, r#"{"layers":{}}"#, None),
        (i, r#"{"config":[]}"#, None),
        (i, r#"{"mediaType":1}"#, None),
        (i, "[]", None),
        (i, "null", None),
        (i, r#"{"layers":[]"#, None),
        (i, r#"{"layers":[]} {}"#, None),
    ];
    for (media_type, json, expected) in table {
        assert_eq!(read(media_type, json), *expected, "{json}");
    }
}

#[test]
fn what_is_kept_is_of_its_kind() {
    for (media_type, json, kept) in [
        (OCI_IMAGE, "{}".to_owned(), false),
        (OCI_INDEX, "{}".to_owned(), false),
        (OCI_IMAGE, r#"{"schemaVersion":2}"#.to_owned(), false),
        (OCI_IMAGE, r#"{"manifests":[]}"#.to_owned(), false),
        (OCI_INDEX, r#"{"layers":[]}"#.to_owned(), false),
        (OCI_INDEX, r#"{"layers":[],"manifests":null}"#.to_owned(), false),
        (OCI_INDEX, format!(r#"{{"mediaType":"{OCI_INDEX}"}}"#), true),
        (OCI_IMAGE, format!(r#"{{"mediaType":"{OCI_IMAGE}"}}"#), true),
        (OCI_INDEX, r#"{"manifests":null}"#.to_owned(), true),
        (OCI_IMAGE, r#"{"layers":null}"#.to_owned(), true),
        (OCI_IMAGE, r#"{"config":null,"manifests":null}"#.to_owned(), true),
        (DOCKER_IMAGE, r#"{"layers":[]}"#.to_owned(), true),
    ] {
        let manifest = Manifest::parse(media_type, json.as_bytes()).unwrap();
        assert_eq!(manifest.is_kept_as(media_type).unwrap(), kept, "{media_type} {json}");
    }
    let other = format!(r#"{{"mediaType":"{DOCKER_IMAGE}","layers":[]}}"#);
    let other = Manifest::parse(OCI_IMAGE, other.as_bytes()).unwrap();
    assert!(matches!(other.is_kept_as(OCI_IMAGE), Err(ManifestError::MediaType { .. })));
}

#[test]
fn an_old_clients_image_is_found_beside_odd_ones() {
    let json = r#"{"manifests":[{"digest":"$A","platform":null},{"digest":"$A","platform":{"os":"linux"}},
        {"digest":"$B","platform":{"architecture":"amd64","os":"linux","features":null}}]}"#;
    let json = json.replace("$A", A).replace("$B", B);
    let index = Manifest::parse(OCI_INDEX, json.as_bytes()).unwrap();
    assert_eq!(index.default_image().unwrap().digest.to_string(), B);
}
