//! The headers by which a proxy describes the request it passes on: `Forwarded` (RFC 7239), and the
//! older `X-Forwarded-For`, `-Proto` and `-Host`. Pure; called by `peer.rs`.
//!
//! Any client can send these headers. The address that wrong passwords count for is believed only
//! from a configured proxy ([`client`]). The address that was asked ([`asked`]) is used only in the
//! answer to the same request, and only if it is a host.

use std::net::{IpAddr, Ipv6Addr};

use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName};

use crate::access::ClientAddress;

/// The address that a request comes from. `peer` is the other end of the connection. One rule
/// decides:
///
/// | the peer | headers | the address |
/// |---|---|---|
/// | no configured proxy | any | the peer |
/// | a configured proxy | neither | the peer: the request is the proxy's own |
/// | | one of them | the last one in its list that is no configured proxy |
/// | | both, and they agree | that |
/// | | both, and they differ | the peer; `X-Forwarded-For` is counted besides |
///
/// In the last row one of the two is the client's own text, and nothing tells which. So the request
/// counts for the proxy, and for the address in `X-Forwarded-For`, which nearly every proxy writes:
/// a second header gives no extra guess.
pub(crate) fn client(headers: &HeaderMap, peer: IpAddr, trusted: impl Fn(IpAddr) -> bool) -> ClientAddress {
    let peer = peer.to_canonical();
    if !trusted(peer) {
        return peer.into();
    }
    let walk = |hops: Vec<Option<IpAddr>>| {
        let mut last = peer;
        for hop in hops.into_iter().rev() {
            // Any sender may have written the entries before a hop that does not say who it is.
            let Some(hop) = hop else { break };
            last = hop;
            if !trusted(hop) {
                break;
            }
        }
        last
    };
    let old = listed(headers, "x-forwarded-for").iter().map(|hop| address(hop)).collect::<Vec<_>>();
    let new = elements(headers, FORWARDED.as_str());
    let new = new.iter().map(|element| address(&pair(element, "for")?)).collect::<Vec<_>>();
    match (old.is_empty(), new.is_empty()) {
        (true, true) => peer.into(),
        (false, true) => walk(old).into(),
        (true, false) => walk(new).into(),
        (false, false) => match (walk(old), walk(new)) {
            (old, new) if old == new => old.into(),
            (old, _) => ClientAddress { address: peer, perhaps: Some(old).filter(|old| *old != peer) },
        },
    }
}

/// Scheme and host for which the client asked the first proxy. The scheme is true for TLS. None: no
/// header says.
pub(crate) fn asked(headers: &HeaderMap) -> (Option<bool>, Option<String>) {
    let element = elements(headers, FORWARDED.as_str()).into_iter().next().unwrap_or_default();
    let first = |name| elements(headers, name).into_iter().next().map(|value| unquoted(&value));
    let secure = |proto: String| proto.eq_ignore_ascii_case("https");
    let said = [pair(&element, "proto"), first("x-forwarded-proto")].map(|proto| proto.map(secure));
    // A password must not go in the clear because of a header, so one "https" is enough.
    let secure = said.into_iter().flatten().reduce(|one, other| one || other);
    let host = [pair(&element, "host"), first("x-forwarded-host")].into_iter().flatten().find(|host| is_host(host));
    (secure, host)
}

/// Whether this can stand as the host of a URL between quotes: a name or an address, and a port.
pub(crate) fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((literal, port)) if literal.parse::<Ipv6Addr>().is_ok() => (None, port),
            Some(_) | None => return false,
        },
        None => {
            let (host, port) = text.find(':').map_or((text, ""), |colon| text.split_at(colon));
            (Some(host), port)
        }
    };
    let part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let is_port = |port: &str| {
        !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    let host = host.is_none_or(|host| !host.is_empty() && host.len() <= 253 && host.bytes().all(part));
    host && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

/// The elements of all lines of a header, in order. A comma between quotes does not divide. An open
/// quote would hide the next proxy's entries, so in such a line every comma divides.
fn elements(headers: &HeaderMap, name: &str) -> Vec<String> {
    let parts = |line: &str| match is_closed(line) {
        true => split(line, ',').map(str::to_owned).collect::<Vec<_>>(),
        false => line.split(',').map(str::to_owned).collect(),
    };
    parts_of(headers, name, parts)
}

/// The same for a header without quotes.
fn listed(headers: &HeaderMap, name: &str) -> Vec<String> {
    parts_of(headers, name, |line| line.split(',').map(str::to_owned).collect())
}

fn parts_of(headers: &HeaderMap, name: &str, parts: impl Fn(&str) -> Vec<String>) -> Vec<String> {
    let Ok(name) = HeaderName::try_from(name) else { return Vec::new() };
    let lines = headers.get_all(name).map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned());
    let parts = lines.flat_map(|line| parts(&line));
    parts.map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// Whether every quote is closed.
fn is_closed(line: &str) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    for c in line.chars() {
        match c {
            _ if std::mem::take(&mut escaped) => {}
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
    }
    !quoted
}

/// The value of a parameter of a `Forwarded` element, without quotes; the first if there are two.
fn pair(element: &str, key: &str) -> Option<String> {
    let pairs = split(element, ';').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case(key)).map(|(_, value)| value);
    values.next().map(|value| unquoted(value.trim()))
}

/// RFC 9110, section 5.6.4.
fn unquoted(value: &str) -> String {
    let Some(quoted) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return value.to_owned() };
    let mut text = String::new();
    let mut characters = quoted.chars();
    while let Some(c) = characters.next() {
        text.extend(if c == '\\' { characters.next() } else { Some(c) });
    }
    text
}

fn split(text: &str, at: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        if std::mem::take(&mut escaped) {
            return false;
        }
        match c {
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        c == at && !quoted
    })
}

/// An address as these headers write it: alone, with a port, in brackets, or with the zone of its
/// link. Anything else is refused.
fn address(text: &str) -> Option<IpAddr> {
    let (text, port) = match text.trim().strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        // One colon stands before a port; an IPv6 address has two.
        None if text.matches(':').count() == 1 => text.trim().split_at(text.trim().find(':')?),
        None => (text.trim(), ""),
    };
    let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    let (text, zone) = text.split_once('%').map_or((text, None), |(address, zone)| (address, Some(zone)));
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(word) || zone.is_some_and(|zone| !word(zone)) {
        return None;
    }
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
#[path = "forwarded_tests.rs"]
mod tests;
