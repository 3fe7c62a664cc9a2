//! The heads that come in on a connection, before awc reads them. Pure.
//!
//! awc takes an informational answer (1xx) for the final one. RFC 9110 section 15.2 lets a client
//! skip those, so they are cut out here. Some servers send a body behind the head of an answer that
//! has none (to HEAD, 204, 304). The next answer would be read from those bytes. If they come
//! together with the head, they are seen here and spoil the connection.

use tokio::io::ReadBuf;

/// The most informational answers before the final one.
const MOST: usize = 16;
/// The longest head that is examined, in bytes.
const LONGEST: usize = 64 * 1024;

/// The state between a request and the end of its answer's head.
#[derive(Default)]
pub(super) struct Interim {
    /// A request went out, and its answer's head has not been passed on.
    waiting: bool,
    head_only: bool,
    passed_over: usize,
    held: Vec<u8>,
    spoiled: bool,
}

impl Interim {
    /// Notes bytes that go out: a request begins or goes on.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        let begins = [&b"GET "[..], b"HEAD ", b"POST "].iter().any(|method| bytes.starts_with(method));
        if begins {
            (self.waiting, self.head_only, self.passed_over) = (true, bytes.starts_with(b"HEAD "), 0);
        }
    }

    /// Whether incoming bytes must be fed here first.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Whether bytes have come that belong to no answer. Then this connection serves no other
    /// request.
    pub(super) fn is_spoiled(&self) -> bool {
        self.spoiled && self.held.is_empty()
    }

    /// Takes in bytes from the connection.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        self.waiting = !self.is_known();
    }

    /// Notes the end of the stream. The held bytes are passed on as they are.
    pub(super) fn end(&mut self) {
        self.waiting = false;
    }

    /// Moves held bytes into `buf`. Returns false if there are none.
    pub(super) fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        if self.waiting || self.held.is_empty() {
            return false;
        }
        let count = self.held.len().min(buf.remaining());
        buf.put_slice(&self.held[..count]);
        self.held.drain(..count);
        true
    }

    /// Cuts informational heads out. Returns true if the rest can be passed on.
    fn is_known(&mut self) -> bool {
        loop {
            if self.held.len() > LONGEST || self.passed_over > MOST {
                return true;
            }
            let Some(informational) = is_informational(&self.held) else { return false };
            // The final head is passed on before its end, unless it has no body.
            if !informational && !self.head_only && !is_bodiless(&self.held) {
                return true;
            }
            let Some(end) = end_of_head(&self.held) else { return false };
            if !informational {
                self.spoiled |= self.held.len() > end;
                self.held.truncate(end);
                return true;
            }
            self.held.drain(..end);
            self.passed_over += 1;
        }
    }
}

/// The status of a head, as far as it has come. `None`: more bytes are needed. 0: this is no head.
fn status(head: &[u8]) -> Option<u16> {
    // Empty lines before a head are skipped, by awc too (RFC 9112 section 2.2).
    let blank = head.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let line = &head[blank..];
    // In the pattern, 0 stands for any digit.
    let fits = |(byte, shape): (&u8, &u8)| if *shape == b'0' { byte.is_ascii_digit() } else { byte == shape };
    if !line.iter().zip(b"HTTP/1.0 000").all(fits) {
        return Some(0);
    }
    let code = line.get(9..12)?;
    Some(code.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0')))
}

/// Whether the head is to be skipped. 101 is not: lanyard never asks for another protocol.
fn is_informational(head: &[u8]) -> Option<bool> {
    status(head).map(|status| matches!(status, 100 | 102..200))
}

fn is_bodiless(head: &[u8]) -> bool {
    matches!(status(head), Some(204 | 304))
}

/// The offset at which the body begins.
fn end_of_head(head: &[u8]) -> Option<usize> {
    let blank = head.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let mut newlines = head.iter().enumerate().skip(blank).filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    newlines.find_map(|at| match &head[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is passed on of `answer`, cut at `cuts`, after a request by `method`.
    fn passed(method: &str, answer: &[u8], cuts: &[usize]) -> (Vec<u8>, bool) {
        let mut interim = Interim::default();
        interim.sent(format!("{method} / HTTP/1.1\r\n\r\n").as_bytes());
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (answer.len() + 1)).chain([0, answer.len()]).collect();
        cuts.sort_unstable();
        let mut given = Vec::new();
        let mut take = |interim: &mut Interim| {
            let mut space = [0; 7];
            let mut buf = ReadBuf::new(&mut space);
            while interim.give(&mut buf) {
                given.extend_from_slice(buf.filled());
                buf.clear();
            }
        };
        for pair in cuts.windows(2) {
            if interim.is_waiting() {
                interim.feed(&answer[pair[0]..pair[1]]);
            } else {
                interim.held.extend_from_slice(&answer[pair[0]..pair[1]]);
            }
            take(&mut interim);
        }
        interim.end();
        take(&mut interim);
        (given, interim.is_spoiled())
    }

    const FINAL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

    proptest! {
        #[test]
        fn informational_heads_are_passed_over_however_they_come(
            codes in proptest::collection::vec(prop_oneof![Just(100), 102u16..200], 0..=MOST),
            cuts in proptest::collection::vec(0usize..2000, 0..12),
            bare in any::<bool>(),
        ) {
            let end = if bare { "\n\n" } else { "\r\n\r\n" };
            let heads: String = codes.iter().map(|code| format!("HTTP/1.1 {code} Wait\r\nLink: </x>{end}")).collect();
            let (given, spoiled) = passed("GET", format!("{heads}{FINAL}").as_bytes(), &cuts);
            prop_assert_eq!((String::from_utf8(given).unwrap(), spoiled), (FINAL.to_owned(), false));
        }

        #[test]
        fn what_is_no_head_comes_through_untouched(bytes: Vec<u8>, cuts in proptest::collection::vec(0usize..200, 0..4)) {
            prop_assume!(!bytes.contains(&b'1'));
            prop_assert_eq!(passed("GET", &bytes, &cuts).0, bytes);
        }
    }

    #[test]
    fn bytes_behind_a_head_without_a_body_spoil_the_connection() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        let none = "HTTP/1.1 204 No Content\r\n\r\n";
        for (method, answer, given, spoiled) in [
            ("HEAD", FINAL.to_owned(), head.to_owned(), true),
            ("HEAD", head.to_owned(), head.to_owned(), false),
            ("HEAD", format!("HTTP/1.1 103 Hints\r\n\r\n{FINAL}"), head.to_owned(), true),
            ("GET", format!("{none}x"), none.to_owned(), true),
            ("GET", none.to_owned(), none.to_owned(), false),
            ("GET", "HTTP/1.1 304 Not Modified\r\n\r\nx".into(), "HTTP/1.1 304 Not Modified\r\n\r\n".into(), true),
            ("GET", FINAL.to_owned(), FINAL.to_owned(), false),
            ("POST", FINAL.to_owned(), FINAL.to_owned(), false),
            ("GET", "HTTP/1.1 101 Switching\r\n\r\nx".into(), "HTTP/1.1 101 Switching\r\n\r\nx".into(), false),
            ("HEAD", "SSH-2.0-x\r\n\r\ny".into(), "SSH-2.0-x\r\n\r\n".into(), true),
        ] {
            let told = passed(method, answer.as_bytes(), &[]);
            assert_eq!((String::from_utf8(told.0).unwrap(), told.1), (given, spoiled), "{method} {answer:?}");
        }
    }

    #[test]
    fn heads_without_end_are_passed_on() {
        let endless = format!("HTTP/1.1 100 {}", "x".repeat(2 * LONGEST));
        assert_eq!(passed("GET", endless.as_bytes(), &[]).0, endless.as_bytes());
        let many = "HTTP/1.1 100 C\r\n\r\n".repeat(2 * MOST);
        assert!(passed("GET", many.as_bytes(), &[]).0.starts_with(b"HTTP/1.1 100"));
    }
}
