//! `lanyard config check --reach`: stores that can be used, and one sentence for each that cannot.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use socket2::{Domain, Socket, Type};

use super::{
    fake::{Fake, Fault},
    servers,
};

/// The exit code and the output.
fn reach(config: &str, variables: &[(&str, &str)]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lanyard.toml");
    fs::write(&file, config).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_lanyard"))
        .args(["config", "check", "--reach", "--config"])
        .arg(&file)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for secret in ["lanyardsecret", "Signature=", "Credential="] {
        assert!(!text.contains(secret) && !String::from_utf8_lossy(&output.stderr).contains(secret), "{text}");
    }
    (output.status.code().unwrap(), text)
}

/// Of a store with a fault, the line that begins with `what`.
fn line(fault: Fault, what: &str) -> String {
    let (fake, folder) = (Fake::start(Some(fault)), tempfile::tempdir().unwrap());
    let (code, text) = reach(&servers::s3_config(folder.path(), fake.address), &[]);
    assert_eq!(code, 1, "{text}");
    let wrong: Vec<_> = text.lines().skip(2).filter(|line| !line.ends_with(": good")).collect();
    assert_eq!(wrong.len(), 1, "{text}");
    assert!(wrong[0].trim_start().starts_with(what), "{text}");
    wrong[0].trim_start()[what.len()..].to_owned()
}

#[test]
fn a_good_store_is_good_and_nothing_is_left_in_it() {
    let (fake, folder) = (Fake::start(None), tempfile::tempdir().unwrap());
    let (code, text) = reach(&servers::s3_config(folder.path(), fake.address), &[]);
    let good = ["put", "get", "list", "put in parts", "put if absent", "put if unchanged", "delete", "clock"];
    let lines: Vec<_> = good.iter().map(|what| format!("  {what}: good")).collect();
    let address = fake.address;
    let expected = format!("The configuration is good.\nThe object store s3 registry at http://{address}:\n");
    assert_eq!((code, text), (0, format!("{expected}{}\n", lines.join("\n"))));
    assert_eq!(fake.left(), (Vec::new(), 0));
}

#[test]
fn without_a_store_there_is_nothing_to_reach() {
    let (code, text) = reach("", &[]);
    assert_eq!(code, 0);
    assert!(text.ends_with("There is no object store to reach: storage.kind is \"files\".\n"), "{text}");
}

#[test]
fn what_a_store_lacks_is_one_sentence() {
    let ignored = line(Fault::EmptyLists, "list: ");
    assert_eq!(ignored, "an object that was just put is not listed");
    assert_eq!(line(Fault::NoParts, "put in parts: "), "the store cannot do this (501 NotImplemented: no)");
    let lost = line(Fault::LostParts, "put in parts: ");
    assert!(lost.contains("what is completed cannot be completed again"), "{lost}");
    let kept = line(Fault::NoDelete, "delete: ");
    assert!(kept.starts_with("an object is still there after it was deleted; lanyard/a/probe/"), "{kept}");
    let clock = line(Fault::Ahead(1200), "clock: ");
    assert!(clock.contains("s behind the store's: set it right"), "{clock}");
    let clock = line(Fault::Ahead(300), "clock: ");
    assert!(clock.contains("s behind the store's; from 900 s on nothing works"), "{clock}");
    let (fake, folder) = (Fake::start(Some(Fault::WrongBytes)), tempfile::tempdir().unwrap());
    let (code, text) = reach(&servers::s3_config(folder.path(), fake.address), &[]);
    assert!(code == 1 && text.contains("get: 10 bytes were put, and others are there"), "{text}");
}

#[test]
fn a_store_that_ignores_conditions_is_refused_by_name() {
    let (fake, folder) = (Fake::start(Some(Fault::NoConditions)), tempfile::tempdir().unwrap());
    let (code, text) = reach(&servers::s3_config(folder.path(), fake.address), &[]);
    assert_eq!(code, 1);
    assert!(text.contains("  put if absent: the store ignores If-None-Match"), "{text}");
    assert!(text.contains("  put if unchanged: the store ignores If-Match"), "{text}");
}

#[test]
fn a_store_that_is_not_there_is_told_and_nothing_else_is_tried() {
    // Its port is taken, so that no other test gets it, and nobody listens there.
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = silent.local_addr().unwrap().as_socket().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (code, text) = reach(&servers::s3_config(folder.path(), address), &[]);
    assert_eq!(code, 1);
    assert!(text.contains("  put: no connection: Connection refused"), "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");
}

/// S3's own tools' variables count where the configuration names no files, and their credentials
/// are checked by a store that checks them.
#[test]
fn credentials_are_told_apart_from_permissions() {
    let Some(server) = servers::versitygw() else { return };
    let without: String =
        server.config.lines().filter(|line| !line.contains("_file")).map(|line| format!("{line}\n")).collect();
    let pair = |secret| [("AWS_ACCESS_KEY_ID", "lanyardkey"), ("AWS_SECRET_ACCESS_KEY", secret)];
    let (code, text) = reach(&without, &pair("lanyardsecret"));
    assert_eq!(code, 0, "{text}");
    // What another program is told of an endpoint or a bucket moves nothing.
    let others = [("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), ("AWS_BUCKET", "other"), ("AWS_SKIP_SIGNATURE", "true")];
    let all: Vec<_> = pair("lanyardsecret").into_iter().chain(others).collect();
    assert_eq!(reach(&without, &all).0, 0);
    let (code, text) = reach(&without, &pair("wrong"));
    assert_eq!(code, 1);
    assert!(text.contains("  put: the store does not accept the credentials (403 SignatureDoesNotMatch: "), "{text}");
    let (_, text) = reach(&without.replace("\"registry\"", "\"no-registry\""), &pair("lanyardsecret"));
    assert!(text.contains("  put: there is no such bucket or container (404 NoSuchBucket: "), "{text}");
}

/// `reach` looks for the parts of a signature in what is told.
#[test]
fn s18_a_store_that_quotes_a_request_tells_no_secret() {
    for status in [200, 400, 403, 404, 409, 412, 429, 500, 503] {
        let (fake, folder) = (Fake::start(Some(Fault::Quotes(status))), tempfile::tempdir().unwrap());
        let (code, text) = reach(&servers::s3_config(folder.path(), fake.address), &[]);
        assert!(code == 1 && !text.contains("authorization") && !text.contains("lanyardkey"), "{status}: {text}");
    }
}

#[test]
fn s18_a_file_that_is_no_key_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("account.json");
    fs::write(&file, "\"lanyardsecret\"").unwrap();
    let named = |line: &str| format!("[storage]\nkind = \"gcs\"\nbucket = \"registry\"\n{line}");
    let path = file.to_str().unwrap();
    assert_eq!(reach(&named(&format!("service_account_file = \"{path}\"\n")), &[]).0, 1);
    assert_eq!(reach(&named(""), &[("GOOGLE_APPLICATION_CREDENTIALS", path)]).0, 1);
    let missing = [("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")];
    assert_eq!(reach(&named(""), &missing).0, 1);
    let azure = "[storage]\nkind = \"azure\"\nbucket = \"registry\"\naccount = \"a\"\n";
    assert_eq!(reach(&format!("{azure}account_key_file = \"{path}\"\n"), &[]).0, 1);
}

#[test]
fn files_of_credentials_are_named_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let config = servers::s3_config(folder.path(), "127.0.0.1:1".parse().unwrap());
    fs::remove_file(Path::new(folder.path()).join("secret")).unwrap();
    let (code, text) = reach(&config, &[]);
    assert_eq!((code, text.as_str()), (1, "The configuration is good.\n"));
}
