use std::io;

use actix_web::{http::Method, test::TestRequest};
use parking_lot::Mutex;
use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::{metrics::Sample, oci::Outcome};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Lines;
    fn make_writer(&self) -> Lines {
        self.clone()
    }
}

/// The fields of the one line that is written when the entry ends.
fn line(request: TestRequest, drive: impl FnOnce(&mut LogEntry)) -> (Value, String, String) {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().json().with_writer(lines.clone()).finish();
    let metrics = Arc::new(Metrics::new(&[]));
    tracing::subscriber::with_default(subscriber, || {
        let mut entry = LogEntry::new(&request.to_http_request(), &metrics);
        drive(&mut entry);
    });
    let text = String::from_utf8(lines.0.lock().clone()).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((text.lines().count(), &json["target"]), (1, &Value::from("access")));
    (json["fields"].clone(), text, metrics.encode(&Sample::default()))
}

fn trace() -> Trace {
    let upstream = Some("docker.io".parse().unwrap());
    Trace { outcome: Outcome::Joined, upstream, upstream_time: Duration::from_millis(12) }
}

#[test]
fn a_line_says_everything() {
    let digest = Digest::Sha256([7; 32]);
    let request = TestRequest::with_uri("/v2/library/x/blobs/y?ns=docker.io&token=canary")
        .peer_addr("[::ffff:10.1.2.3]:999".parse().unwrap())
        .insert_header(("user-agent", "docker/28\tx"))
        .insert_header(("authorization", "Basic canary"));
    let (fields, text, metrics) = line(request, |entry| {
        entry.kind("blob");
        entry.about(&Repository {
            namespace: crate::oci::Namespace::Upstream("docker.io".parse().unwrap()),
            name: "library/x".parse().unwrap(),
        });
        entry.digest(&digest);
        entry.answered(StatusCode::OK, Some(trace()), 100);
        entry.sent(60);
        entry.sent(40);
    });
    for (field, value) in [
        ("method", Value::from("GET")),
        ("path", "/v2/library/x/blobs/y?ns=docker.io".into()),
        ("status", 200.into()),
        ("repo", "docker.io/library/x".into()),
        ("digest", digest.to_string().into()),
        ("outcome", "joined".into()),
        ("bytes", 100.into()),
        ("upstream", "docker.io".into()),
        ("upstream_ms", 12.into()),
        ("client", "10.1.2.3".into()),
        ("user_agent", "docker/28\\tx".into()),
        ("aborted", Value::Null),
    ] {
        assert_eq!(fields[field], value, "{field} of {fields}");
    }
    assert!(fields["duration_ms"].is_u64());
    assert!(!text.contains("canary"), "S18: {text}");
    assert!(metrics.contains(r#"lanyard_requests_total{kind="blob",code="2xx",outcome="joined"} 1"#));
}

#[test]
fn a_client_that_leaves_is_told_from_a_body_that_is_cut() {
    let leave = |entry: &mut LogEntry| {
        entry.answered(StatusCode::OK, None, 100);
    };
    let (fields, _, metrics) = line(TestRequest::get(), leave);
    assert_eq!((&fields["aborted"], &fields["cut"]), (&Value::from(true), &Value::Null));
    assert!(metrics.contains("lanyard_requests_aborted_total 1"));

    let (fields, _, metrics) = line(TestRequest::get(), |entry| {
        leave(entry);
        entry.cut();
    });
    assert_eq!((&fields["aborted"], &fields["cut"]), (&Value::Null, &Value::from(true)));
    assert!(metrics.contains("lanyard_requests_aborted_total 0"));

    // Before any answer.
    let (fields, _, _) = line(TestRequest::default().method(Method::HEAD), |_| {});
    assert_eq!((&fields["status"], &fields["aborted"]), (&Value::Null, &Value::from(true)));
}

#[test]
fn s18_what_strangers_write_is_escaped_and_bounded() {
    assert_eq!(escaped("docker/20.10 go/1 \"x\"", 200), "docker/20.10 go/1 \"x\"");
    assert_eq!(escaped("a\r\nb\x1b[31m\u{202e}ä", 200), "a\\r\\nb\\u{1b}[31m\\u{202e}\\u{e4}");
    assert_eq!(escaped(&"x".repeat(1000), LONGEST_AGENT).len(), 200);
}
