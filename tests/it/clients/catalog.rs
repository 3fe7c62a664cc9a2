//! `_catalog` by tools that list it. Signed in, they see the repositories that their user may pull,
//! and no others. They ask without a token first, and believe a list that they are given.

use std::collections::BTreeSet;

use super::tools::{CRANE, ORAS, REGCTL, Tool};
use super::users::{PASSWORD, USER, house};
use super::{available, available_extra, skopeo};
use crate::lanyard::Lanyard;

/// Every client pulls `open/**`; ann pulls and pushes everything.
const RULES: &str = r#"
[[access]]
who = ["anonymous"]
repositories = ["open/**"]
actions = ["pull"]
[[access]]
who = ["user:ann"]
repositories = ["**"]
actions = ["pull", "push"]
"#;

/// A lanyard with one repository that every client may pull, and two for ann.
fn stage() -> Lanyard {
    let (_, _, lanyard) = house(&["open/app", "team/app", "team/other"], RULES);
    lanyard
}

fn lines(said: &str) -> BTreeSet<&str> {
    said.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// Signs in, lists, signs out, lists.
fn lists_what_its_user_may_see(tool: &Tool, login: &[&str], list: &[&str], logout: &[&str]) {
    tool.run(login);
    let all = tool.run(list);
    assert_eq!(lines(&all), BTreeSet::from(["open/app", "team/app", "team/other"]), "signed in");
    tool.run(logout);
    let open = tool.run(list);
    assert_eq!(lines(&open), BTreeSet::from(["open/app"]), "as anybody");
}

#[test]
fn oras_lists_what_its_user_may_see() {
    if available(skopeo::PROGRAMS) && available_extra(ORAS) {
        let lanyard = stage();
        let host = lanyard.host();
        let login = ["login", "--plain-http", "--username", USER, "--password", PASSWORD, &host];
        let list = ["repo", "ls", "--plain-http", &host];
        lists_what_its_user_may_see(&Tool::new(ORAS), &login, &list, &["logout", &host]);
    }
}

#[test]
fn regctl_lists_what_its_user_may_see() {
    if available(skopeo::PROGRAMS) && available_extra(REGCTL) {
        let lanyard = stage();
        let host = lanyard.host();
        let tool = Tool::new(REGCTL);
        tool.run(&["registry", "set", "--skip-check", "--tls", "disabled", &host]);
        let login = ["registry", "login", "--user", USER, "--pass", PASSWORD, &host];
        lists_what_its_user_may_see(&tool, &login, &["repo", "ls", &host], &["registry", "logout", &host]);
    }
}

#[test]
fn crane_lists_what_its_user_may_see() {
    if available(skopeo::PROGRAMS) && available_extra(CRANE) {
        let lanyard = stage();
        let host = lanyard.host();
        let login = ["auth", "login", "--username", USER, "--password", PASSWORD, &host];
        lists_what_its_user_may_see(&Tool::new(CRANE), &login, &["catalog", &host], &["auth", "logout", &host]);
    }
}
