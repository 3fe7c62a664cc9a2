//! Guessing passwords (S17, S27), in every way in which a client can send one. Addresses are told
//! apart as behind a trusted proxy.

use std::{io::Write, net::TcpStream, time::Instant};

use super::{ANN, BOB, House, basic, send};
use crate::wire::{Answer, eventually, manifest};
use crate::{hub::Hub, pull::config};

/// A lanyard that trusts a proxy on this machine.
fn behind_a_proxy(behind: &str) -> House {
    House::start("trusted_proxies = [\"127.0.0.1\"]", behind)
}

/// The ways to send a name and a password. The last argument is the client's address.
type Way = fn(&House, (&str, &str), &str) -> Answer;

const WAYS: [(&str, Way); 6] = [
    ("Basic at /v2/", |house, login, from| ask(house, "GET", "/v2/", login, from)),
    ("Basic at an upload", |house, login, from| ask(house, "POST", "/v2/team/app/blobs/uploads/", login, from)),
    ("Basic at the catalogue", |house, login, from| ask(house, "HEAD", "/v2/_catalog", login, from)),
    ("docker login", |house, login, from| {
        ask(house, "GET", "/v2/token?account=ann&client_id=docker&offline_token=true&service=lanyard", login, from)
    }),
    ("a token", |house, login, from| ask(house, "GET", "/token?scope=repository:team/app:pull,push", login, from)),
    ("a form", |house, (user, password), from| {
        let form = format!("grant_type=password&service=lanyard&username={user}&password={password}");
        send(house.port(), "POST", "/v2/token", &[("X-Forwarded-For", from)], form.as_bytes())
    }),
];

fn ask(house: &House, method: &str, path: &str, login: (&str, &str), from: &str) -> Answer {
    send(house.port(), method, path, &[("X-Forwarded-For", from), ("Authorization", &basic(login))], b"")
}

fn is_in(house: &House, login: (&str, &str), from: &str) -> u16 {
    ask(house, "GET", "/v2/", login, from).status
}

/// Ten wrong passwords a minute are allowed, in whichever way they are sent. Then every password is
/// refused, also one that was right a moment ago.
#[test]
fn s27_a_refusal_stands_before_every_memory_and_nobody_else_notices() {
    let hub = Hub::start();
    hub.image("library/busybox", "latest").layer(100).publish();
    let house = behind_a_proxy(&config(&hub, ""));
    for (number, (name, way)) in WAYS.iter().enumerate() {
        let from = format!("192.0.2.{}", number + 1);
        assert_eq!(is_in(&house, ANN, &from), 200, "{name}: remembered from now on");
        for guess in 0..10 {
            assert_eq!(way(&house, ("ann", &format!("guess{number}-{guess}")), &from).status, 401, "{name} {guess}");
        }
        for (other, again) in &WAYS {
            for password in ["another", "guess0-0", ANN.1] {
                let refused = again(&house, ("ann", password), &from);
                assert_eq!(refused.status, 429, "{name}, then {other}");
                let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
                assert!((1..=60).contains(&wait), "{wait}");
            }
        }
        assert_eq!(is_in(&house, BOB, &from), 200, "{name}: another user of this address");
        assert_eq!(is_in(&house, ANN, "192.0.2.200"), 200, "{name}: this user at another address");
        let headers = [("X-Forwarded-For", from.as_str()), ("Authorization", &basic(("ann", "x")))];
        let pull = send(house.port(), "GET", &manifest("library/busybox", "latest"), &headers, b"");
        assert_eq!(pull.status, 200, "{name}: a pull that anybody may do");
    }
}

/// Which client a wrong password counts against, for each address that is believed.
#[test]
fn s27_only_a_proxy_of_ours_says_who_guesses() {
    for (trusted, spread, expected) in [
        // One job behind the proxy: only its own guesses are used up.
        ("[\"127.0.0.0/8\"]", false, 200),
        // A client that invents addresses is counted by its true one, with a proxy that is not
        // trusted and without any.
        ("[]", true, 429),
        ("[\"192.0.2.1\"]", true, 429),
    ] {
        let house = House::start(&format!("trusted_proxies = {trusted}"), "");
        for guess in 0..10 {
            let from = if spread { format!("198.51.100.{guess}") } else { "198.51.100.1".to_owned() };
            assert_eq!(is_in(&house, ("ann", &format!("guess{guess}")), &from), 401);
        }
        assert_eq!(is_in(&house, ANN, "198.51.100.77"), expected, "{trusted}");
        assert_eq!(is_in(&house, ANN, "1.2.3.4, 198.51.100.77"), expected, "{trusted}");
        if trusted != "[]" && !spread {
            // The client can write anything in front; the last hop is the proxy's statement.
            assert_eq!(is_in(&house, ANN, "203.0.113.9, 198.51.100.1"), 429);
        }
    }
}

/// A client that sends the other header too gets no further guess, in whichever order it tries.
#[test]
fn s27_a_second_header_gives_no_guess_more() {
    for (other, value) in [("Forwarded", "for=203.0.113.9"), ("Forwarded", "for=_hidden"), ("Forwarded", "proto=https")]
    {
        for first in [false, true] {
            let house = behind_a_proxy("");
            let guess = |from: &str, two: bool, password: &str| {
                let login = basic(("ann", password));
                let mut headers = vec![("X-Forwarded-For", from), ("Authorization", login.as_str())];
                headers.extend(two.then_some((other, value)));
                send(house.port(), "GET", "/v2/", &headers, b"").status
            };
            let tried = (0..20).map(|n| guess("198.51.100.1", (n < 10) == first, &format!("guess {n}")));
            let wrong = tried.filter(|status| *status == 401).count();
            assert_eq!(wrong, 10, "{other}: {value} {first}");
            assert_eq!(guess("198.51.100.1", false, ANN.1), 429);
            assert_eq!(guess("198.51.100.2", false, ANN.1), 200, "who sends one header has nothing to do with it");
        }
    }
}

/// A guess counts although its client leaves while it is checked. The hashes are expensive, so that
/// the check takes a while.
#[test]
fn s27_hanging_up_is_no_way_to_guess() {
    let house = behind_a_proxy("");
    let line = |(user, password): (&str, &str)| format!("{user}:{}\n", bcrypt::hash(password, 10).unwrap());
    std::fs::write(house.users.path(), [ANN, BOB].map(line).concat()).unwrap();
    eventually("the list is read", || {
        house.ask("GET", "/v2/", &[]);
        house.lanyard.logs().contains("the users have changed")
    });
    assert_eq!(is_in(&house, ANN, "192.0.2.1"), 200, "remembered, so that asking again is no guess");
    for guess in 0.. {
        assert!(guess < 40, "guesses that nobody waits for are not counted");
        let mut stream = TcpStream::connect(house.lanyard.host()).unwrap();
        let login = basic(("ann", &format!("hung up {guess}")));
        let head =
            format!("GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\nAuthorization: {login}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut answer = [0; 1];
        // The request for the metrics is counted too.
        eventually("it is being checked", || {
            let metrics = house.ask("GET", "/metrics", &[]).text();
            !metrics.contains("lanyard_requests_in_flight 1\n") || stream.peek(&mut answer).is_ok()
        });
        drop(stream);
        if is_in(&house, ANN, "192.0.2.1") == 429 {
            break;
        }
    }
    assert_eq!(is_in(&house, BOB, "192.0.2.1"), 200);
}

/// All that one command sends with a wrong password is one guess, also beside other guesses, and no
/// other client is told about it.
#[test]
fn the_wrong_password_of_one_command_is_one_guess() {
    let house = behind_a_proxy("");
    for round in 0..5 {
        for (name, way) in WAYS.iter().cycle().take(20) {
            assert_eq!(way(&house, ("ann", "wrong-of-the-command"), "192.0.2.1").status, 401, "{name} {round}");
        }
        assert_eq!(is_in(&house, ANN, "192.0.2.1"), 200, "{round}");
    }
    // Nine guesses are left.
    for guess in 0..9 {
        assert_eq!(is_in(&house, ("ann", &format!("guess{guess}")), "192.0.2.1"), 401, "{guess}");
    }
    assert_eq!(is_in(&house, ("ann", "wrong-of-the-command"), "192.0.2.1"), 429);
    assert_eq!(is_in(&house, ANN, "192.0.2.1"), 429);
}

/// Many guesses at once are no more than the same number one after the other, and right passwords
/// are not refused because they are many.
#[test]
fn s27_guessing_at_once_gives_no_more_guesses() {
    let house = behind_a_proxy("");
    let at_once = |logins: Vec<(String, String)>, from: &'static str| {
        let told = std::thread::scope(|scope| {
            let house = &house;
            let all: Vec<_> = logins
                .iter()
                .map(|(user, password)| scope.spawn(move || is_in(house, (user, password), from)))
                .collect();
            all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
        });
        let count = |status| told.iter().filter(|told| **told == status).count();
        (count(200), count(401), count(429))
    };
    let guesses = (0..60).map(|n| ("ann".to_owned(), format!("guess{n}"))).collect();
    assert_eq!(at_once(guesses, "192.0.2.1"), (0, 10, 50));
    let right = vec![(BOB.0.to_owned(), BOB.1.to_owned()); 60];
    assert_eq!(at_once(right, "192.0.2.1"), (60, 0, 0));
}

/// Guessing at many names is limited by address. It does not tell which names exist, and it locks
/// no user out.
#[test]
fn s27_guessing_at_many_names_from_one_address() {
    let house = behind_a_proxy("");
    assert_eq!(is_in(&house, BOB, "192.0.2.1"), 200);
    let mut told = [0, 0];
    for guess in 0..120 {
        match is_in(&house, (&format!("user{guess}"), "guess"), "192.0.2.1") {
            401 => told[0] += 1,
            429 => told[1] += 1,
            status => panic!("{status}"),
        }
    }
    assert_eq!(told, [100, 20]);
    for (user, password) in [("ann", "x"), ("nobody", "x"), ("ann", "x"), ("nobody", "y")] {
        let began = Instant::now();
        assert_eq!(is_in(&house, (user, password), "192.0.2.1"), 429);
        assert!(began.elapsed().as_millis() >= 100, "{user}: it takes as long for whoever is there");
    }
    assert_eq!(is_in(&house, ANN, "192.0.2.1"), 200, "who has the right password signs in all the same");
    assert_eq!(is_in(&house, BOB, "192.0.2.1"), 200, "and who has signed in stays so");
    assert_eq!(is_in(&house, ("ann", "x"), "192.0.2.2"), 401, "another address is not this one");
}

/// bcrypt reads 72 bytes of a password. A longer password is not cut, and is wrong.
#[test]
fn a_password_that_bcrypt_would_cut_is_wrong() {
    let house = behind_a_proxy("");
    let longest = "x".repeat(72);
    std::fs::write(house.users.path(), format!("ann:{}\n", bcrypt::hash(&longest, 4).unwrap())).unwrap();
    eventually("the list is read", || {
        house.ask("GET", "/v2/", &[]);
        house.lanyard.logs().contains("the users have changed")
    });
    for (name, way) in &WAYS {
        assert_ne!(way(&house, ("ann", &longest), "192.0.2.1").status, 401, "{name}");
        assert_eq!(way(&house, ("ann", &format!("{longest}y")), "192.0.2.1").status, 401, "{name}");
    }
}
