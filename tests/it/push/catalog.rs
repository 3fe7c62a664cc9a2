//! `_catalog`, page by page.

use super::{Pusher, registry};
use crate::wire::{get, manifest};

#[test]
fn pages_meet_without_gap_or_overlap() {
    let lanyard = registry("");
    let client = Pusher(lanyard.port());
    assert_eq!(get(lanyard.port(), "/v2/_catalog").json()["repositories"], serde_json::json!([]));
    let mut names: Vec<String> = ["b", "a/b", "a-b", "a", "z/y/x", "a/b/c", "m_1"].map(String::from).into();
    for name in &names {
        client.blob(name, b"{}");
    }
    names.sort();
    let list = |path: &str| -> (Vec<String>, Option<String>) {
        let answer = get(lanyard.port(), path);
        assert_eq!(answer.status, 200);
        let page = serde_json::from_value(answer.json()["repositories"].clone()).unwrap();
        let link = answer.header("link").map(|link| {
            let (path, rest) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
            assert_eq!(rest, "; rel=\"next\"");
            path.to_owned()
        });
        (page, link)
    };
    for n in 1..=8 {
        let (mut seen, mut next) = (Vec::new(), Some(format!("/v2/_catalog?n={n}")));
        while let Some(path) = next {
            let (page, link) = list(&path);
            assert!(page.len() <= n && !page.is_empty());
            seen.extend(page);
            next = link;
        }
        assert_eq!(seen, names, "n={n}");
    }
    assert_eq!(list("/v2/_catalog"), (names.clone(), None));
    assert_eq!(list("/v2/_catalog?n=0"), (vec![], None));
    assert_eq!(list("/v2/_catalog?last=a/b&n=100").0, names[3..]);
    assert_eq!(list("/v2/_catalog?last=N/no+name").0, names, "what is no name sorts all the same");
    assert_eq!(list("/v2/_catalog?last=zz").0, [""; 0]);
    assert_eq!(get(lanyard.port(), "/v2/_catalog?n=-1").status, 400);
    // An emptied repository is not listed.
    let digest = client.image("b", "v1", b"{}");
    assert_eq!(client.delete(&manifest("b", &digest)), 202);
    assert_eq!(client.delete(&format!("/v2/b/blobs/{}", crate::hub::digest_of(b"{}"))), 202);
    assert!(!list("/v2/_catalog").0.contains(&"b".to_owned()));
}
