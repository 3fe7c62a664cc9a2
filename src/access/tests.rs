//! The room as a whole: rules, users that change under it, passwords.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::*;
use crate::{
    config::{Loaded, Sources},
    oci::Namespace,
};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));

/// A configuration with a file of users beside it; `DIR` in the text is its folder.
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
        let Loaded { config, .. } = Config::load(&Sources { file: Some(file), ..Sources::default() }).unwrap();
        House { folder, config }
    }

    fn users(&self) -> PathBuf {
        self.folder.path().join("users")
    }

    fn open(&self) -> Access {
        Access::new(&self.config, threads()).unwrap()
    }
}

fn threads() -> DiskThreads {
    DiskThreads::new(tokio::runtime::Handle::current(), 2)
}

/// The cheapest hash there is, so that the tests are quick.
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

    fs::write(house.users(), "ann:broken\n").unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    access.refresh().await;
    assert_eq!(access.sign_in("ann", "secret", CLIENT).await, Ok(user("ann")), "a broken file changes nothing");
    fs::remove_file(house.users()).unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    access.refresh().await;
    assert!(access.has_users(), "nor does a missing one");

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

#[tokio::test]
async fn a_right_password_is_checked_once_a_minute_and_eleven_wrong_ones_are_too_many() {
    let house = House::new("");
    quick(&house.users(), &[("ann", "secret")]);
    let access = house.open();
    assert_eq!(access.sign_in("ann", "secret", CLIENT).await, Ok(user("ann")));
    for _ in 0..throttle::FAILURES {
        assert_eq!(access.sign_in("ann", "wrong", CLIENT).await, Err(SignInError::Wrong));
    }
    let refused = access.sign_in("ann", "wrong", CLIENT).await;
    assert!(matches!(refused, Err(SignInError::TooMany { wait }) if wait <= throttle::WINDOW), "{refused:?}");
    // A remembered password is no attempt, so whoever is in stays in.
    assert_eq!(access.sign_in("ann", "secret", CLIENT).await, Ok(user("ann")));
    let other = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));
    assert_eq!(access.sign_in("ann", "wrong", other).await, Err(SignInError::Wrong));
}

/// S17, measured: 200 attempts each with a name whose hash is the dearest, one whose hash is cheap, and one that is not
/// there, in turns.
#[tokio::test]
async fn s17_an_unknown_user_takes_as_long_as_a_known_one() {
    let house = House::new("");
    let hash = |cost| ::bcrypt::hash("secret", cost).unwrap();
    fs::write(house.users(), format!("ann:{}\nbob:{}\n", hash(6), hash(4))).unwrap();
    let access = house.open();
    let mut spent = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..600_u32 {
        let which = round as usize % 3;
        let from = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + round / 4));
        let began = Instant::now();
        let answer = access.sign_in(["ann", "bob", "nobody"][which], "wrong", from).await;
        spent[which].push(began.elapsed());
        assert_eq!(answer, Err(SignInError::Wrong));
    }
    // Other tests run beside this one; the middle of the measurements is what the mean is without them.
    let middle = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let [known, cheap, unknown] = spent.map(middle);
    for known in [known, cheap] {
        assert!(known.abs_diff(unknown) < Duration::from_millis(2), "known {known:?}, unknown {unknown:?}");
    }
    assert!(unknown > Duration::from_micros(500), "no hash was made: {unknown:?}");
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
