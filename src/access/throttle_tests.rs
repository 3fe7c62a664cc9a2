//! The table of `throttle.rs`, row by row, on a clock that stands still.

use super::*;

const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

/// The fingerprint of the n-th password.
fn fingerprint(n: u32) -> Fingerprint {
    let mut fingerprint = Fingerprint::default();
    fingerprint[..4].copy_from_slice(&n.to_be_bytes());
    fingerprint
}

/// Guesses at a known user, and names the answer.
fn guess(throttle: &Throttle, address: IpAddr, user: &str, n: u32) -> &'static str {
    if throttle.refused(address, user).is_some() {
        return "refused";
    }
    match throttle.begin(address, user, fingerprint(n), true) {
        Start::Counted(attempt) => {
            attempt.wrong();
            "wrong"
        }
        Start::Again => "again",
        Start::Aside(Some(attempt), _) => {
            attempt.wrong();
            "aside"
        }
        Start::Aside(None, _) => "not tried",
        Start::Refused(_) => "refused",
    }
}

#[tokio::test(start_paused = true)]
async fn s17_ten_wrong_guesses_a_minute_of_an_address_at_a_user() {
    let throttle = Throttle::default();
    for n in 0..GUESSES as u32 {
        assert_eq!(guess(&throttle, ONE, "ann", n), "wrong");
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(throttle.refused(ONE, "ann"), Some(Duration::from_secs(50)));
    assert_eq!(guess(&throttle, ONE, "ann", 0), "refused", "what was wrong before is refused too");
    assert_eq!(guess(&throttle, ONE, "bob", 0), "again", "a fingerprint is one user's; here it is the same");
    assert_eq!(guess(&throttle, ONE, "bob", 100), "wrong", "another user has nothing to do with it");
    assert_eq!(guess(&throttle, OTHER, "ann", 100), "wrong", "nor has another address");
    tokio::time::advance(Duration::from_secs(50)).await;
    assert_eq!(guess(&throttle, ONE, "ann", 200), "wrong", "one guess has left the window");
    assert_eq!(guess(&throttle, ONE, "ann", 201), "refused", "and one has come");
}

#[tokio::test(start_paused = true)]
async fn s27_a_guess_counts_from_its_start_and_the_right_one_is_taken_back() {
    let throttle = Throttle::default();
    for n in 0..GUESSES as u32 {
        assert!(matches!(throttle.begin(ONE, "ann", fingerprint(n), true), Start::Counted(_)), "{n}");
    }
    assert!(matches!(throttle.begin(ONE, "ann", fingerprint(10), true), Start::Refused(_)), "their clients are gone");
    let throttle = Throttle::default();
    for n in 0..1000 {
        let Start::Counted(attempt) = throttle.begin(ONE, "ann", fingerprint(n), true) else { panic!("{n}") };
        attempt.right();
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_guess_counts_once() {
    let throttle = Throttle::default();
    let Start::Counted(first) = throttle.begin(ONE, "ann", fingerprint(1), true) else { panic!() };
    for _ in 0..100 {
        assert!(matches!(throttle.begin(ONE, "ann", fingerprint(1), true), Start::Counted(_)), "not answered yet");
    }
    first.wrong();
    for _ in 0..100 {
        assert_eq!(guess(&throttle, ONE, "ann", 1), "again");
    }
    for n in 2..=GUESSES as u32 {
        assert_eq!(guess(&throttle, ONE, "ann", n), "wrong");
    }
    assert_eq!(guess(&throttle, ONE, "ann", 1), "refused");
}

#[tokio::test(start_paused = true)]
async fn s27_beyond_the_limit_of_an_address_a_user_has_three_guesses() {
    let throttle = Throttle::default();
    assert_eq!(guess(&throttle, ONE, "eve", 5000), "wrong");
    for n in 1..BY_ADDRESS as u32 {
        assert_eq!(guess(&throttle, ONE, &format!("user {n}"), n), "wrong");
    }
    for n in 200..210 {
        let expected = if n < 200 + ASIDE as u32 { "aside" } else { "not tried" };
        assert_eq!(guess(&throttle, ONE, "ann", n), expected, "{n}");
        assert!(matches!(throttle.begin(ONE, "unknown", fingerprint(n + 1000), false), Start::Aside(None, _)));
    }
    for n in 300..310 {
        let expected = if n < 299 + ASIDE as u32 { "aside" } else { "not tried" };
        assert_eq!(guess(&throttle, ONE, "eve", n), expected, "the guess before counts: {n}");
    }
    assert_eq!(guess(&throttle, ONE, "eve", 5000), "not tried", "an answer at once would say that the user is known");
    let Start::Aside(Some(bob), wait) = throttle.begin(ONE, "bob", fingerprint(400), true) else { panic!() };
    assert_eq!(wait, WINDOW);
    bob.right();
    tokio::time::advance(WINDOW).await;
    assert_eq!(guess(&throttle, ONE, "ann", 500), "wrong");
}

/// An address beyond its limit is counted alike, whether the names that it tried are users or not.
#[tokio::test(start_paused = true)]
async fn s27_unknown_names_leave_the_same_trace() {
    let waits = [true, false].map(|known| {
        let throttle = Throttle::default();
        for n in 0..BY_ADDRESS as u32 {
            assert_eq!(guess(&throttle, ONE, &format!("user {n}"), n), "wrong");
        }
        for n in 1000..1010 {
            drop(throttle.begin(ONE, "somebody", fingerprint(n), known));
        }
        throttle.lock().tables[0][&ONE].len()
    });
    assert_eq!(waits[0], waits[1]);
}

/// A client that hangs up and sends the same guess again has made another one: a check costs
/// processor time.
#[tokio::test(start_paused = true)]
async fn s27_the_same_guess_after_a_hang_up_counts_again() {
    let throttle = Throttle::default();
    for n in 1..GUESSES {
        let together: Vec<_> = (0..5).map(|_| throttle.begin(ONE, "ann", fingerprint(1), true)).collect();
        assert!(together.iter().all(|start| matches!(start, Start::Counted(_))), "{n}: they are one guess");
    }
    assert!(matches!(throttle.begin(ONE, "ann", fingerprint(1), true), Start::Counted(_)));
    assert!(matches!(throttle.begin(ONE, "ann", fingerprint(1), true), Start::Refused(_)));
}

#[test]
fn an_ipv6_network_is_one_address() {
    let net = |text: &str| network(text.parse().unwrap(), PREFIXES[0]);
    assert_eq!(net("2001:db8:1:2:3::4"), net("2001:db8:1:2:ffff::"));
    assert_ne!(net("2001:db8:1:2::"), net("2001:db8:1:3::"));
    assert_eq!(net("::ffff:192.0.2.1"), ONE);
}

/// A flood of addresses neither takes memory without bound nor makes lanyard forget an address that
/// guesses.
#[tokio::test(start_paused = true)]
async fn s27_a_flood_of_addresses_forgets_nobody() {
    let throttle = Throttle::default();
    for n in 0..GUESSES as u32 {
        assert_eq!(guess(&throttle, ONE, "ann", n), "wrong");
    }
    for n in 0..3 * ADDRESSES as u32 {
        guess(&throttle, IpAddr::V4((0x0a00_0000 + n).into()), "ann", n);
    }
    assert!(throttle.lock().tables.iter().all(|table| table.len() <= ADDRESSES));
    assert_eq!(guess(&throttle, ONE, "ann", 100), "refused");
    tokio::time::advance(WINDOW).await;
    assert_eq!(guess(&throttle, IpAddr::V4(1.into()), "ann", 100), "wrong");
    assert!(throttle.lock().tables.iter().all(|table| table.len() < 10), "they are let go");
}

/// If there are more addresses than can be counted, a new address pays for its neighbours at most,
/// and a stranger for none.
#[tokio::test(start_paused = true)]
async fn s27_a_flood_of_addresses_locks_no_stranger_out() {
    let address = |a: u8, b: u8, c: u8, d: u8| IpAddr::from([a, b, c, d]);
    let (home, next_door, far) = (address(192, 0, 2, 1), address(192, 0, 2, 200), address(192, 0, 77, 1));
    // Each crowd guesses at ann from so many networks. Then `home` makes ten guesses. `refused`
    // says whether its neighbour and a distant address are refused too.
    let flood = |throttle: &Throttle, spread: &dyn Fn(u32) -> u32, count: u32| {
        for n in 0..count {
            guess(throttle, IpAddr::V4(spread(n).into()), "ann", n);
        }
    };
    let ten = |throttle: &Throttle, from: IpAddr| {
        (0..GUESSES as u32).for_each(|n| {
            guess(throttle, from, "ann", 1_000_000 + n);
        });
    };
    for (name, spread, count, refused) in [
        ("few addresses", &(|n: u32| 0x0a00_0000 + n) as &dyn Fn(u32) -> u32, 100, [false, false]),
        ("many of few networks", &|n| 0x0a00_0000 + n, 3 * ADDRESSES as u32, [true, false]),
        ("many of many networks", &|n| 0x0a00_0000 + (n << 8), 3 * ADDRESSES as u32, [true, true]),
    ] {
        let throttle = Throttle::default();
        flood(&throttle, spread, count);
        assert_eq!(guess(&throttle, far, "ann", 9_000_000), "wrong", "{name}: the crowd is no neighbour");
        ten(&throttle, home);
        assert!(throttle.refused(home, "ann").is_some(), "{name}: its own guesses");
        let others = [next_door, far].map(|other| throttle.refused(other, "ann").is_some());
        assert_eq!(others, refused, "{name}");
        assert_eq!(throttle.refused(address(198, 51, 100, 1), "ann"), None, "{name}: a stranger");
        assert_eq!(throttle.refused(home, "bob"), None, "{name}: another user");
    }
    // IPv6: /64, /48, /32.
    let throttle = Throttle::default();
    for n in 0..3 * u128::from(ADDRESSES as u32) {
        guess(&throttle, IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) + (n << 64))), "ann", n as u32);
    }
    assert!(throttle.refused("2001:db8:0:ffff::1".parse().unwrap(), "ann").is_some());
    for stranger in ["2001:db8:ffff::1", "2001:db9::1", "192.0.2.1"] {
        assert_eq!(throttle.refused(stranger.parse().unwrap(), "ann"), None, "{stranger}");
    }
}
