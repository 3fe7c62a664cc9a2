//! The addresses that may be dialled (S4): no server on the internet makes lanyard connect to the
//! LAN.
//!
//! Pure: it judges addresses that the resolver has found. The dialler connects only to addresses
//! that passed here, so the checked address is the connected one, whatever the name resolves to
//! later.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The network that an address belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AddressKind {
    /// The internet.
    Public,
    /// This machine, or its organisation's network. Also addresses that no connection can go to.
    Private,
    /// The local link. Clouds keep the credentials of their machines there.
    Link,
}

/// The addresses that a host of an upstream may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    /// Public addresses only.
    Public,
    /// Public and private ones.
    Private,
    /// All addresses.
    All,
}

impl Reach {
    /// Whether a host with this reach may have `address`.
    pub(super) fn covers(self, address: IpAddr) -> bool {
        match (self, kind_of(address)) {
            (Reach::All, _) | (_, AddressKind::Public) | (Reach::Private, AddressKind::Private) => true,
            (Reach::Public, AddressKind::Private | AddressKind::Link) | (Reach::Private, AddressKind::Link) => false,
        }
    }

    /// The reach of redirect targets and token realms, from the addresses of the upstream's
    /// configured host: no wider than the operator's choice. One public address makes an upstream
    /// public.
    pub(super) fn beside(own: &[IpAddr]) -> Reach {
        let all = |kind: fn(AddressKind) -> bool| !own.is_empty() && own.iter().all(|&address| kind(kind_of(address)));
        if all(|p| p == AddressKind::Link) {
            Reach::All
        } else if all(|p| p != AddressKind::Public) {
            Reach::Private
        } else {
            Reach::Public
        }
    }
}

/// The network that an address belongs to.
pub(super) fn kind_of(address: IpAddr) -> AddressKind {
    match address {
        IpAddr::V4(address) => kind_of_v4(address),
        IpAddr::V6(address) => kind_of_v6(address),
    }
}

fn kind_of_v4(address: Ipv4Addr) -> AddressKind {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (169, 254, _) => AddressKind::Link,
        // "This network", private, loopback, carrier-grade NAT (with Alibaba's metadata service),
        // private, protocol assignments (with Oracle's), private; then multicast, reserved and
        // broadcast.
        (0 | 10 | 127, _, _) | (100, 64..=127, _) | (172, 16..=31, _) | (192, 0, 0) | (192, 168, _) => {
            AddressKind::Private
        }
        (224..=255, _, _) => AddressKind::Private,
        _ => AddressKind::Public,
    }
}

fn kind_of_v6(address: Ipv6Addr) -> AddressKind {
    if let Some(v4) = embedded_v4(address) {
        return kind_of_v4(v4);
    }
    let segments = address.segments();
    match segments[0] {
        0xfe80..=0xfebf => AddressKind::Link,
        // Unique local (with Amazon's metadata service), the old site-local, multicast.
        0xfc00..=0xfdff | 0xfec0..=0xffff => AddressKind::Private,
        // Unspecified, loopback, and the rest of a block without hosts; Teredo; discard; local
        // NAT64.
        0 => AddressKind::Private,
        0x2001 if segments[1] == 0 => AddressKind::Private,
        0x100 if segments[1..4] == [0, 0, 0] => AddressKind::Private,
        0x64 if segments[1] == 0xff9b => AddressKind::Private,
        _ => AddressKind::Public,
    }
}

/// The IPv4 address that a packet to `address` reaches: mapped, compatible, NAT64 (RFC 6052) and
/// 6to4 (RFC 3056).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] => Some(v4(high, low)),
        [0, 0, 0, 0, 0xffff, 0, high, low] => Some(v4(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(v4(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s4_every_address_is_in_its_place() {
        let table = [
            (
                AddressKind::Private,
                "127.0.0.1 127.255.255.254 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 0.0.0.0 0.1.2.3",
            ),
            (
                AddressKind::Private,
                "100.64.0.1 100.100.100.200 100.127.255.255 192.0.0.192 224.0.0.1 239.1.1.1 255.255.255.255",
            ),
            (AddressKind::Private, "::1 :: fc00::1 fd00:ec2::254 ff02::1 fec0::1 64:ff9b:1::1 100::1 2001::1"),
            (
                AddressKind::Private,
                "::ffff:127.0.0.1 ::ffff:10.1.2.3 ::ffff:0:10.1.2.3 ::10.0.0.1 64:ff9b::10.0.0.1 2002:a00:1::1",
            ),
            (
                AddressKind::Link,
                "169.254.169.254 169.254.0.1 fe80::1 febf::1 ::ffff:169.254.169.254 64:ff9b::169.254.169.254",
            ),
            (
                AddressKind::Public,
                "8.8.8.8 1.1.1.1 100.63.255.255 100.128.0.0 172.15.0.1 172.32.0.1 192.0.1.1 223.255.255.255",
            ),
            (
                AddressKind::Public,
                "169.253.0.1 2606:4700::1111 2001:4860:4860::8888 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::1",
            ),
        ];
        for (expected, addresses) in table {
            for address in addresses.split(' ') {
                assert_eq!(kind_of(address.parse().unwrap()), expected, "{address}");
            }
        }
    }

    #[test]
    fn s4_other_hosts_reach_no_further_than_the_configured_one() {
        let own = |text: &str| text.split_whitespace().map(|a| a.parse().unwrap()).collect::<Vec<IpAddr>>();
        assert_eq!(Reach::beside(&own("")), Reach::Public);
        assert_eq!(Reach::beside(&own("8.8.8.8")), Reach::Public);
        assert_eq!(Reach::beside(&own("10.0.0.1 8.8.8.8")), Reach::Public);
        assert_eq!(Reach::beside(&own("10.0.0.1 fe80::1")), Reach::Private);
        assert_eq!(Reach::beside(&own("169.254.1.1")), Reach::All);
        assert!(!Reach::Private.covers("169.254.169.254".parse().unwrap()));
        assert!(Reach::Private.covers("127.0.0.1".parse().unwrap()));
        assert!(!Reach::Public.covers("127.0.0.1".parse().unwrap()));
    }
}
