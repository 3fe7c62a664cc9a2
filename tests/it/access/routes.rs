//! S7: every route with every method, for clients without any right: no request changes anything.

use super::{ELSEWHERE, House};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const UPLOAD: &str = "0b1f6f0e-4a55-4f7a-9d3e-5f2f3a1c2b4d";

#[test]
fn s7_every_route_and_method_asks_first() {
    // One user, whose only right is to push to a name that is never asked for.
    let house =
        House::start("", "[[access]]\nwho = [\"user:ann\"]\nrepositories = [\"nowhere\"]\nactions = [\"push\"]\n");
    let (get, change) = ("GET HEAD", "GET HEAD PUT DELETE");
    let open = ["/", "/livez", "/readyz", "/metrics"];
    for (path, known) in [
        ("/".to_owned(), get),
        ("/livez".to_owned(), get),
        ("/readyz".to_owned(), get),
        ("/metrics".to_owned(), get),
        ("/token".to_owned(), "GET POST"),
        ("/v2/token".to_owned(), "GET POST"),
        ("/v2/".to_owned(), get),
        ("/docker.io/v2/".to_owned(), get),
        ("/v2/_catalog".to_owned(), get),
        ("/v2/team/app/manifests/latest".to_owned(), change),
        (format!("/v2/team/app/manifests/{DIGEST}"), change),
        (format!("/v2/team/app/blobs/{DIGEST}"), "GET HEAD DELETE"),
        ("/v2/team/app/tags/list".to_owned(), get),
        (format!("/v2/team/app/referrers/{DIGEST}"), get),
        ("/v2/team/app/blobs/uploads/".to_owned(), "POST"),
        ("/v2/team/app/blobs/uploads".to_owned(), "POST"),
        (format!("/v2/team/app/blobs/uploads/{UPLOAD}"), "GET PATCH PUT DELETE"),
        (format!("/v2/docker.io/library/busybox/blobs/{DIGEST}"), "GET HEAD DELETE"),
        ("/v2/library/busybox/manifests/latest?ns=ghcr.io".to_owned(), change),
        ("/docker.io/v2/library/busybox/manifests/latest".to_owned(), change),
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get"] {
            let answer = house.ask(method, &path, &[ELSEWHERE]);
            let expected = match path.as_str() {
                _ if !known.split(' ').any(|known| known == method) => 405,
                "/token" | "/v2/token" => 200,
                path if open.contains(&path) => 200,
                _ => 401,
            };
            assert_eq!(answer.status, expected, "{method} {path}: {}", answer.text());
            assert_eq!(answer.status == 401, answer.header("www-authenticate").is_some(), "{method} {path}");
        }
    }
}
