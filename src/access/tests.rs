//! The room as a whole: rules, a file of users that is edited, passwords.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::*;
use crate::{
    config::{Inputs, Loaded},
    oci::Namespace,
};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));

/// A configuration with a file of users beside it.
struct House {
    folder: tempfile::TempDir,
    config: Config,
}

impl House {
    fn new(rules: &str) -> House {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lanyard.toml");
        let here = folder.path().to_str().unwrap();
        fs::write(&file, format!("data_dir = \"{here}\"\n[auth]\nhtpasswd = \"{here}/users\"\n{rules}")).unwrap();
        let Loaded { config, .. } = Config::load(&Inputs { file: Some(file), ..Inputs::default() }).unwrap();
        House { folder, config }
    }

    fn users(&self) -> PathBuf {
        self.folder.path().join("users")
    }

    fn open(&self) -> Access {
        Access::new(&self.config, threads()).unwrap()
    }
}

fn threads() -> BlockingPool {
    BlockingPool::new(tokio::runtime::Handle::current(), 2)
}

/// Writes a file of users with the cheapest hashes, so that the tests are quick.
fn quick(path: &Path, users: &[(&str, &str)]) {
    let line = |(user, password): &(&str, &str)| format!("{user}:{}\n", ::bcrypt::hash(password, 4).unwrap());
    fs::write(path, users.iter().map(line).collect::<String>()).unwrap();
}

fn hosted(name: &str) -> Repository {
    Repository { namespace: Namespace::Hosted, name: name.parse().unwrap() }
}

fn upstream(host: &str, name: &str) -> Repository {
    Repository { namespace: Namespace::Upstream(host.parse().unwrap()), name: name.parse().unwrap() }
}

fn user(name: &str) -> Principal {
    Principal::User(name.to_owned())
}

#[tokio::test]
async fn the_built_in_rules_let_everybody_pull_and_this_machine_and_users_push() {
    let house = House::new("");
    let none = house.open();
    quick(&house.users(), &[("ann", "secret")]);
    let some = house.open();
    let team = hosted("team/app");
    for repository in [&team, &upstream("docker.io", "library/busybox")] {
        for who in [Principal::Anonymous, Principal::Loopback, user("ann"), Principal::Operator] {
            assert_eq!(some.authorize(&who, Action::Pull, repository), Ok(()), "{who:?}");
        }
    }
    for action in [Action::Push, Action::Delete] {
        for who in [Principal::Loopback, user("ann"), Principal::Operator] {
            assert_eq!(some.authorize(&who, action, &team), Ok(()), "{who:?}");
        }
        assert_eq!(some.authorize(&Principal::Anonymous, action, &team), Err(Denied::SignIn));
        assert_eq!(none.authorize(&Principal::Anonymous, action, &team), Err(Denied::Forbidden), "who should sign in?");
    }
    assert_eq!(some.authorize(&Principal::Operator, Action::Admin, &team), Ok(()));
    assert_eq!(some.authorize(&user("ann"), Action::Admin, &team), Err(Denied::Forbidden));
}

#[tokio::test]
async fn rules_give_and_what_none_gives_is_denied() {
    let house = House::new(
        r#"
[[access]]
who = ["anonymous"]
repositories = ["docker.io/library/*", "open/**"]
actions = ["pull"]
[[access]]
who = ["user:ann"]
repositories = ["ann/**"]
actions = ["pull", "push"]
[[access]]
who = ["users"]
repositories = ["**/shared"]
actions = ["pull"]
"#,
    );
    quick(&house.users(), &[("ann", "1"), ("bob", "2")]);
    let access = house.open();
    let may = |who: &Principal, action, repository: &Repository| access.authorize(who, action, repository);
    let (anyone, ann, bob) = (Principal::Anonymous, user("ann"), user("bob"));
    for (who, repository, answer) in [
        (&anyone, upstream("docker.io", "library/busybox"), Ok(())),
        (&bob, upstream("docker.io", "library/busybox"), Ok(())),
        (&anyone, upstream("docker.io", "company/app"), Err(Denied::SignIn)),
        (&bob, upstream("docker.io", "company/app"), Err(Denied::Unknown)),
        (&anyone, upstream("ghcr.io", "library/busybox"), Err(Denied::SignIn)),
        (&anyone, hosted("library/busybox"), Err(Denied::SignIn)),
        (&anyone, hosted("open/a/b"), Ok(())),
        (&anyone, upstream("docker.io", "open/a"), Err(Denied::SignIn)),
        (&ann, hosted("ann/x"), Ok(())),
        (&bob, hosted("ann/x"), Err(Denied::Unknown)),
        (&Principal::Loopback, hosted("ann/x"), Err(Denied::SignIn)),
        (&bob, hosted("a/shared"), Ok(())),
        (&bob, upstream("docker.io", "a/shared"), Ok(())),
        (&anyone, hosted("a/shared"), Err(Denied::SignIn)),
    ] {
        assert_eq!(may(who, Action::Pull, &repository), answer, "{who:?} {repository}");
    }
    assert_eq!(may(&ann, Action::Push, &hosted("ann/x")), Ok(()));
    assert_eq!(may(&ann, Action::Delete, &hosted("ann/x")), Err(Denied::Forbidden));
    assert_eq!(may(&bob, Action::Push, &hosted("ann/x")), Err(Denied::Forbidden));
}

#[tokio::test]
async fn users_sign_in_and_edits_count_within_seconds() {
    let house = House::new("");
    let access = house.open();
    assert!(!access.has_users());
    assert_eq!(access.sign_in("ann", "secret", CLIENT).await, Err(SignInError::Wrong));
    quick(&house.users(), &[("ann", "secret")]);
    eventually(&access, || access.has_users()).await;
    assert_eq!(access.sign_in("ann", "secret", CLIENT).await, Ok(user("ann")));
    assert_eq!(access.sign_in("ann", "Secret", CLIENT).await, Err(SignInError::Wrong));
    assert_eq!(access.sign_in("bob", "secret", CLIENT).await, Err(SignInError::Wrong));
    let token = access.issue(Some("ann"), Vec::new()).unwrap();
    assert_eq!(access.verify(&token.text).unwrap().user.as_deref(), Some("ann"));

    quick(&house.users(), &[("bob", "secret")]);
    eventually(&access, || access.verify(&token.text).is_none()).await;
    assert_eq!(
        access.sign_in("ann", "secret", CLIENT).await,
        Err(SignInError::Wrong),
        "what was remembered is of no use"
    );
    assert!(access.has_users(), "the token went with its user");
}

async fn eventually(access: &Access, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
        access.refresh().await;
    }
}

/// S27: the refusal comes before the memory of a success.
#[tokio::test]
async fn s27_a_right_password_is_checked_once_a_minute_and_refused_after_ten_wrong_ones() {
    let house = House::new("");
    quick(&house.users(), &[("ann", "secret"), ("bob", "secret")]);
    let access = house.open();
    assert_eq!(access.sign_in("ann", "secret", CLIENT).await, Ok(user("ann")));
    for n in 0..throttle::GUESSES {
        assert_eq!(access.sign_in("ann", &format!("wrong {n}"), CLIENT).await, Err(SignInError::Wrong));
    }
    for password in ["another", "wrong 0", "secret"] {
        let refused = access.sign_in("ann", password, CLIENT).await;
        assert!(matches!(refused, Err(SignInError::TooMany { wait }) if wait <= throttle::WINDOW), "{refused:?}");
    }
    assert_eq!(access.sign_in("bob", "secret", CLIENT).await, Ok(user("bob")), "nobody else notices");
    let other = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));
    assert_eq!(access.sign_in("ann", "wrong", other).await, Err(SignInError::Wrong));
    assert_eq!(access.sign_in("ann", "secret", other).await, Ok(user("ann")));
}

/// S27: beyond the limit of an address every wrong password gets the same answer, and a right one
/// signs in.
#[tokio::test]
async fn s27_an_address_that_guesses_at_many_users_keeps_nobody_out() {
    let house = House::new("");
    quick(&house.users(), &[("ann", "secret"), ("bob", "secret"), ("eve", "secret")]);
    let access = house.open();
    assert_eq!(access.sign_in("eve", "secret", CLIENT).await, Ok(user("eve")));
    for n in 0..throttle::BY_ADDRESS {
        assert_eq!(access.sign_in(&format!("user {n}"), "guess", CLIENT).await, Err(SignInError::Wrong), "{n}");
    }
    for (name, password) in [("user 0", "guess"), ("nobody", "x"), ("ann", "x"), ("ann", "x"), ("ann", "y")] {
        let told = access.sign_in(name, password, CLIENT).await;
        assert!(matches!(told, Err(SignInError::TooMany { .. })), "{name} {told:?}");
    }
    assert_eq!(access.sign_in("eve", "secret", CLIENT).await, Ok(user("eve")), "remembered");
    assert_eq!(access.sign_in("bob", "secret", CLIENT).await, Ok(user("bob")), "not remembered");
    assert_eq!(access.sign_in("ann", "secret", CLIENT).await, Ok(user("ann")), "guessed at twice");
}

/// S27: a guess counts although its client leaves before the answer, and however many are made at
/// once.
#[tokio::test]
async fn s27_neither_leaving_nor_hurry_gives_more_guesses() {
    let house = House::new("");
    quick(&house.users(), &[("ann", "secret"), ("bob", "secret")]);
    let access = house.open();
    for n in 0..throttle::GUESSES {
        let password = format!("left {n}");
        let mut attempt = std::pin::pin!(access.sign_in("ann", &password, CLIENT));
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(attempt.as_mut().poll(context))).await;
        assert!(polled.is_pending(), "the check takes longer than this");
    }
    let refused = access.sign_in("ann", "secret", CLIENT).await;
    assert!(matches!(refused, Err(SignInError::TooMany { .. })), "{refused:?}");

    let other = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));
    let passwords: Vec<_> = (0..200).map(|n| format!("at once {n}")).collect();
    let all = passwords.iter().map(|password| access.sign_in("ann", password, other));
    let told = futures_util::future::join_all(all).await;
    let wrong = told.iter().filter(|told| **told == Err(SignInError::Wrong)).count();
    assert_eq!(wrong, throttle::GUESSES, "{told:?}");
    // The right password a hundred times at once is one guess.
    let all = (0..100).map(|_| access.sign_in("bob", "secret", other));
    let told = futures_util::future::join_all(all).await;
    assert!(told.iter().all(|told| *told == Ok(user("bob"))), "{told:?}");
}

/// S27: strangers who guess fill the queue, and a right password does not wait in it.
#[tokio::test(flavor = "multi_thread")]
async fn s27_two_hundred_wrong_logins_delay_a_right_one_by_no_more_than_a_few_checks() {
    let house = House::new("");
    let hash = |password| ::bcrypt::hash(password, 9).unwrap();
    fs::write(house.users(), format!("ann:{}\nbob:{}\n", hash("secret"), hash("secret"))).unwrap();
    let access = std::sync::Arc::new(house.open());
    let began = Instant::now();
    assert_eq!(access.sign_in("ann", "secret", CLIENT).await, Ok(user("ann")));
    let one = began.elapsed();
    let strangers: Vec<_> = (0..200_u32)
        .map(|n| {
            let access = std::sync::Arc::clone(&access);
            let from = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n / 10));
            let name = if n % 2 == 0 { "ann".to_owned() } else { format!("nobody {n}") };
            tokio::spawn(async move { access.sign_in(&name, &format!("guess {n}"), from).await })
        })
        .collect();
    while access.sign_in.places_taken() == 0 {
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    assert_eq!(access.sign_in("ann", "secret", CLIENT).await, Ok(user("ann")));
    let remembered = began.elapsed();
    let began = Instant::now();
    assert_eq!(access.sign_in("bob", "secret", CLIENT).await, Ok(user("bob")));
    let right = began.elapsed();
    let mut refused = 0;
    for stranger in strangers {
        refused += usize::from(stranger.await.unwrap() != Err(SignInError::Wrong));
    }
    println!("one check {one:?}; remembered {remembered:?}, right {right:?}; {refused} of 200 found no place");
    assert!(remembered < one.max(Duration::from_millis(50)), "{remembered:?}");
    assert!(right < 20 * one, "one check takes {one:?}, this took {right:?}");
}

/// S27: a crowd that guesses at one user does not stand before that user's first sign-in, whether
/// it has one address for each guess or fewer.
#[tokio::test(flavor = "multi_thread")]
async fn s27_a_crowd_that_guesses_at_a_user_delays_its_first_sign_in_by_a_few_checks() {
    for each in [1, 10] {
        let house = House::new("");
        let hash = |password| ::bcrypt::hash(password, 9).unwrap();
        fs::write(house.users(), format!("ann:{}\nbob:{}\n", hash("secret"), hash("secret"))).unwrap();
        let access = std::sync::Arc::new(house.open());
        let crowd: Vec<_> = (0..250_u32)
            .map(|n| {
                let access = std::sync::Arc::clone(&access);
                let from = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n / each));
                tokio::spawn(async move { access.sign_in("ann", &format!("guess {n}"), from).await })
            })
            .collect();
        let told = || crowd.iter().filter(|guess| guess.is_finished()).count();
        // The whole crowd comes first.
        while access.sign_in.places_taken() + told() < crowd.len() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let before = told();
        assert_eq!(access.sign_in("ann", "secret", CLIENT).await, Ok(user("ann")));
        let meanwhile = told() - before;
        println!("{meanwhile} of 250 guesses were told before it, with {each} of each address");
        assert!(meanwhile < 20, "{meanwhile} guesses were told before it ({each} of each address)");
        crowd.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// S17, measured: nine wrong guesses at once take as long for a known user as for an unknown one.
#[tokio::test(flavor = "multi_thread")]
async fn s17_guesses_at_once_tell_nothing_about_who_is_there() {
    let house = House::new("");
    fs::write(house.users(), format!("ann:{}\n", ::bcrypt::hash("secret", 8).unwrap())).unwrap();
    let access = house.open();
    let mut spent = [Vec::new(), Vec::new()];
    for round in 0..16_u32 {
        let which = round as usize % 2;
        let from = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + round));
        let passwords: Vec<_> = (0..9).map(|n| format!("wrong {round} {n}")).collect();
        let name = ["ann", "nobody"][which];
        let began = Instant::now();
        let all = passwords.iter().map(|password| access.sign_in(name, password, from));
        let told = futures_util::future::join_all(all).await;
        spent[which].push(began.elapsed());
        assert!(told.iter().all(|told| *told == Err(SignInError::Wrong)), "{told:?}");
    }
    // Other tests run beside this one and slow it down. The second quickest round is free of them.
    let [known, unknown] = spent.map(|mut times| {
        times.sort();
        times[1]
    });
    println!("nine at once: known {known:?}, unknown {unknown:?}");
    assert!(known.abs_diff(unknown) < Duration::from_millis(5).max(unknown / 3), "{known:?}, {unknown:?}");
}

/// A password that bcrypt would read only in part is wrong, and takes as long.
#[tokio::test]
async fn a_password_is_never_cut_short() {
    let house = House::new("");
    let longest = "x".repeat(72);
    quick(&house.users(), &[("ann", &longest), ("bob", "abc")]);
    let access = house.open();
    assert_eq!(access.sign_in("ann", &longest, CLIENT).await, Ok(user("ann")));
    for (name, password) in [("ann", format!("{longest}x")), ("ann", longest.repeat(2)), ("bob", "abc\0".to_owned())] {
        assert_eq!(access.sign_in(name, &password, CLIENT).await, Err(SignInError::Wrong), "{name}");
    }
    assert_eq!(access.sign_in("bob", "abc", CLIENT).await, Ok(user("bob")));
}

/// While the file is half edited or gone, the users of the last good reading can still sign in.
#[tokio::test]
async fn a_list_that_is_not_one_keeps_the_last_good_one() {
    let house = House::new("");
    quick(&house.users(), &[("ann", "secret")]);
    let good = fs::read_to_string(house.users()).unwrap();
    let access = house.open();
    let half = &good[..good.len() / 2];
    for text in ["", "\n", " \n\t\n", "# ours\n", "\u{feff}", "\0\0\0", half, "ann", "ann:", "ann:broken\n"] {
        fs::write(house.users(), text).unwrap();
        tokio::time::sleep(Duration::from_millis(1010)).await;
        access.refresh().await;
        assert_eq!(access.sign_in("ann", "secret", CLIENT).await, Ok(user("ann")), "{text:?}");
    }
    fs::remove_file(house.users()).unwrap();
    tokio::time::sleep(Duration::from_millis(1010)).await;
    access.refresh().await;
    assert!(access.has_users(), "a missing file changes nothing");
    fs::write(house.users(), good.replace("ann:", "\u{feff}carl:").replace('\n', "\r\n")).unwrap();
    eventually(&access, || access.sign_in.users.list().has("carl")).await;
    assert_eq!(access.sign_in("carl", "secret", CLIENT).await, Ok(user("carl")));
    assert!(edit::remove(&house.users(), "carl").unwrap());
    eventually(&access, || !access.has_users()).await;
}

/// S17, measured: 200 attempts each at a user with the dearest hash, at one with a cheap hash, and
/// at an unknown one, in turns.
#[tokio::test]
async fn s17_an_unknown_user_takes_as_long_as_a_known_one() {
    let house = House::new("");
    let hash = |cost| ::bcrypt::hash("secret", cost).unwrap();
    fs::write(house.users(), format!("ann:{}\nbob:{}\n", hash(6), hash(4))).unwrap();
    let access = house.open();
    let (mut told, mut from) = (Vec::new(), 0x0a00_0000..);
    // A busy machine may stretch one of them in one look, but not in five.
    for _ in 0..5 {
        let mut spent = [Vec::new(), Vec::new(), Vec::new()];
        for round in 0..600_usize {
            let (which, from) = (round % 3, IpAddr::V4(Ipv4Addr::from_bits(from.next().unwrap())));
            let began = Instant::now();
            let answer = access.sign_in(["ann", "bob", "nobody"][which], &format!("wrong {round}"), from).await;
            spent[which].push(began.elapsed());
            assert_eq!(answer, Err(SignInError::Wrong));
        }
        // Other tests run beside this one and slow it down. The quickest tenth is free of them.
        let [known, cheap, unknown] = spent.map(|mut times| {
            times.sort();
            times[times.len() / 10]
        });
        assert!(unknown > Duration::from_micros(500), "no hash was made: {unknown:?}");
        // A missing check would be three quarters of the time, or all of it.
        let most = Duration::from_millis(2).max(unknown / 4);
        if known.abs_diff(unknown) < most && cheap.abs_diff(unknown) < most {
            return;
        }
        told.push((known, cheap, unknown));
    }
    panic!("known, known with a cheap hash, unknown: {told:?}");
}

#[tokio::test]
async fn a_broken_list_is_told_at_the_start() {
    let house = House::new("");
    fs::write(house.users(), "ann:canary\n").unwrap();
    let told = Access::new(&house.config, threads()).err().unwrap().to_string();
    assert!(told.contains("users: line 1: is not a bcrypt hash") && !told.contains("canary"), "{told}");
}

#[tokio::test]
async fn without_a_list_there_is_no_key_and_with_one_tokens_outlive_a_restart() {
    let house = House::new("");
    quick(&house.users(), &[("ann", "secret")]);
    let token = house.open().issue(Some("ann"), Vec::new()).unwrap();
    assert!(house.open().verify(&token.text).is_some());
    fs::remove_file(house.folder.path().join(KEY_FILE)).unwrap();
    assert!(house.open().verify(&token.text).is_none());

    let mut config = house.config.clone();
    config.auth.htpasswd = None;
    fs::remove_file(house.folder.path().join(KEY_FILE)).unwrap();
    assert!(!Access::new(&config, threads()).unwrap().has_users());
    assert!(!house.folder.path().join(KEY_FILE).exists());
}
