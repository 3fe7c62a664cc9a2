//! Bytes that belong to no answer, and answers before the answer. No request fails because of them,
//! and none gets the bytes of another.

use futures_util::future::join_all;

use super::*;

/// Long enough for the next request to be on its way.
const LATER: Duration = Duration::from_millis(30);

/// An odd answer to `/odd`. Every other path is answered with itself.
type Odd = fn(&mut Conn, &str);

fn head_with_a_late_body(conn: &mut Conn, _: &str) {
    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n");
    thread::sleep(LATER);
    conn.send("{\"schemaVersion\":2,1}");
}

fn head_with_a_late_body_in_pieces(conn: &mut Conn, _: &str) {
    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nno");
    thread::sleep(LATER);
    conn.send("pe");
    thread::sleep(LATER);
}

fn head_with_a_body_at_once(conn: &mut Conn, _: &str) {
    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
}

fn head_with_a_late_answer_of_its_own(conn: &mut Conn, _: &str) {
    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    thread::sleep(LATER);
    conn.send("HTTP/1.1 100 Continue\r\n\r\nhello");
}

fn nothing_with_a_body(conn: &mut Conn, _: &str) {
    conn.send("HTTP/1.1 204 No Content\r\n\r\nhello");
}

fn nothing_with_a_late_body(conn: &mut Conn, _: &str) {
    conn.send("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n");
    thread::sleep(LATER);
    conn.send("hello");
}

fn unmodified_with_a_late_body(conn: &mut Conn, _: &str) {
    conn.send("HTTP/1.1 304 Not Modified\r\n\r\n");
    thread::sleep(LATER);
    conn.send("hello");
}

fn longer_than_told(conn: &mut Conn, _: &str) {
    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n/odd!hello");
}

fn longer_than_told_later(conn: &mut Conn, _: &str) {
    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n/odd!");
    thread::sleep(LATER);
    conn.send("hello");
}

fn behind_the_last_chunk(conn: &mut Conn, _: &str) {
    conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n/odd!\r\n0\r\n\r\n");
    thread::sleep(LATER);
    conn.send("5\r\nhello\r\n");
}

fn informed_first(conn: &mut Conn, method: &str) {
    conn.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
    thread::sleep(Duration::from_millis(2));
    conn.send("HTTP/1.1 102 Processing\r\n\r\n");
    conn.send(if method == "HEAD" { "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".into() } else { ok("/odd!") });
}

/// The connection's end shows only when it is used.
fn closed_behind_a_body(conn: &mut Conn, _: &str) {
    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    conn.head();
    conn.send("hel");
    conn.stream = Box::new(std::io::Cursor::new(Vec::new()));
}

fn server(odd: Odd) -> Server {
    Server::start(move |_, conn| {
        while let Some(head) = conn.head() {
            let mut words = head.split(' ');
            let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
            if path == "/odd" {
                odd(conn, &method);
            } else if method == "HEAD" {
                conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", path.len()));
            } else {
                conn.send(ok(&path));
            }
        }
    })
}

/// Many clients ask in turn for an odd path and for another one right behind it.
async fn ask(odd: Odd, method: Method, what: &str) {
    let server = server(odd);
    let fetchers = fetchers();
    let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
    let (fetcher, server, method) = (&fetcher, &server, &method);
    let one = |client: usize| async move {
        for turn in 0..25 {
            let mut answer = fetcher.send(request(method.clone(), server.url("/odd"))).await;
            let answer = answer.as_mut().unwrap_or_else(|error| panic!("{what}, {client}, {turn}: {error}"));
            let body = read(&mut answer.body).await.unwrap_or_else(|error| panic!("{what}, {client}, {turn}: {error}"));
            let expected: &[u8] = if method == Method::HEAD || answer.status != 200 { b"" } else { b"/odd!" };
            assert_eq!(body, expected, "{what}");
            let path = format!("/{client}/{turn}");
            let body = fetch(fetcher, get(server.url(&path))).await;
            assert_eq!(body.unwrap_or_else(|error| panic!("{what}, {path}: {error}")), path.as_bytes(), "{what}");
            let head = fetcher.send(request(Method::HEAD, server.url(&path))).await;
            let head = head.unwrap_or_else(|error| panic!("{what}, HEAD {path}: {error}"));
            assert_eq!(head.headers["content-length"], path.len().to_string(), "{what}");
        }
    };
    join_all((0..12).map(one)).await;
}

#[tokio::test]
async fn bytes_that_belong_to_no_answer_fail_no_request() {
    let odd: &[(&str, Method, Odd)] = &[
        ("a late body", Method::HEAD, head_with_a_late_body),
        ("a late body in pieces", Method::HEAD, head_with_a_late_body_in_pieces),
        ("a body at once", Method::HEAD, head_with_a_body_at_once),
        ("a late answer", Method::HEAD, head_with_a_late_answer_of_its_own),
        ("a body, then closed", Method::HEAD, closed_behind_a_body),
        ("204 with a body", Method::GET, nothing_with_a_body),
        ("204 with a late body", Method::GET, nothing_with_a_late_body),
        ("304 with a late body", Method::GET, unmodified_with_a_late_body),
        ("longer", Method::GET, longer_than_told),
        ("longer, later", Method::GET, longer_than_told_later),
        ("behind the chunks", Method::GET, behind_the_last_chunk),
    ];
    for (what, method, odd) in odd {
        ask(*odd, method.clone(), what).await;
    }
}

#[tokio::test]
async fn informational_answers_are_passed_over() {
    for method in [Method::GET, Method::HEAD] {
        ask(informed_first, method, "informed first").await;
    }
    // These cost no connection.
    let server = server(informed_first);
    let fetchers = fetchers();
    let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
    for _ in 0..10 {
        assert_eq!(fetch(&fetcher, get(server.url("/odd"))).await.unwrap(), b"/odd!");
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn excess_bytes_that_were_seen_end_the_connection() {
    let server = server(head_with_a_body_at_once);
    let fetchers = fetchers();
    let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
    for spoiled in 1..=3 {
        fetcher.send(request(Method::HEAD, server.url("/odd"))).await.unwrap();
        fetch(&fetcher, get(server.url("/well"))).await.unwrap();
        assert_eq!(server.connections(), spoiled + 1);
    }
}

/// Nonsense on a new connection is the server's own, and a POST is never sent twice.
#[tokio::test]
async fn only_what_may_have_been_left_over_is_sent_again() {
    let nonsense = Server::answering("nonsense\r\n\r\n");
    let fetchers = fetchers();
    let fetcher = fetchers.fetcher(peer_settings(nonsense.url(""))).unwrap();
    for tries in 1..=2 {
        assert!(matches!(fetch(&fetcher, get(nonsense.url("/"))).await, Err(FetchError::Protocol { .. })));
        assert_eq!((nonsense.connections(), nonsense.heads().len()), (tries, tries));
    }
    let server = server(head_with_a_late_body);
    let fetcher = fetchers.fetcher(peer_settings(server.url(""))).unwrap();
    fetcher.send(request(Method::HEAD, server.url("/odd"))).await.unwrap();
    let error = fetcher.send(request(Method::POST, server.url("/token"))).await.unwrap_err();
    assert!(matches!(error, FetchError::Protocol { .. }), "{error}");
}
