//! The official OCI conformance program, where it is on the path as `conformance`. Every API and
//! every data set is on, and none may fail, be skipped or be switched off.
//!
//! The program exits with 0 also after skips, and with a configuration that it does not understand.
//! So its report decides.

use std::{io::Write as _, path::Path, process::Command};

use crate::lanyard::Lanyard;

/// Everything on: version `dev`, and the features that `dev` leaves off.
const CONFIGURATION: &str = r#"
version: "dev"
tls: disabled
logging: error
apis:
  ping: true
  pull: true
  push: true
  blobs: {atomic: true, delete: true, digestHeader: true, mountAnonymous: true, uploadCancel: true}
  manifests: {atomic: true, delete: true, digestHeader: true, tagParam: true}
  tags: {atomic: true, delete: true, list: true}
  referrer: true
data:
  image: true
  index: true
  indexList: true
  sparse: true
  artifact: true
  subject: true
  subjectMissing: true
  artifactList: true
  subjectList: true
  dataField: true
  nondistributable: true
  customFields: true
  noLayers: true
  emptyBlob: true
  sha512: true
"#;

/// bcrypt of `pass`, at its lowest cost.
const USERS: &str = "user:$2b$05$Fx.NH2DfvUC0sC/7TI1FM.gyH7csKSm57PUmHhrrsMA0w4Qd.Vhga\n";

const SPARSE: &str = "mode = \"offline\"\n[hosted]\nsparse = true\n";

#[test]
fn conforms_without_users() {
    conforms(SPARSE, None);
}

#[test]
fn conforms_with_users() {
    let users = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(users.path(), USERS).unwrap();
    conforms(&format!("{SPARSE}[auth]\nhtpasswd = {:?}\n", users.path()), Some(("user", "pass")));
}

/// Without signing in, a client may not even pull.
#[test]
fn conforms_where_everything_needs_a_user() {
    let users = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(users.path(), USERS).unwrap();
    let rule = "[[access]]\nwho = [\"users\"]\nrepositories = [\"**\"]\nactions = [\"pull\", \"push\", \"delete\"]\n";
    conforms(&format!("{SPARSE}[auth]\nhtpasswd = {:?}\n{rule}", users.path()), Some(("user", "pass")));
}

fn conforms(config: &str, user: Option<(&str, &str)>) {
    if !available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (file, results) = (folder.path().join("all.yaml"), folder.path().join("results"));
    std::fs::write(&file, CONFIGURATION).unwrap();
    let lanyard = Lanyard::start(config);
    let (name, password) = user.unwrap_or_default();
    let output = Command::new("conformance")
        .env("OCI_CONFIGURATION", &file)
        .env("OCI_REGISTRY", lanyard.host())
        .env("OCI_TLS", "disabled")
        .env("OCI_REPO1", "conformance/repo1")
        .env("OCI_REPO2", "conformance/repo2")
        .env("OCI_USERNAME", name)
        .env("OCI_PASSWORD", password)
        .env("OCI_RESULTS_DIR", &results)
        .current_dir(folder.path())
        .output()
        .expect("conformance can be started");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let count = |word: &str| -> usize {
        let line = said.lines().find(|line| line.trim_start().starts_with(&format!("{word}.")));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no {word} in\n{said}"))
    };
    let counted = ["FAIL", "Error", "Skip", "Disabled"].map(count);
    assert_eq!(counted, [0; 4], "fail, error, skip, disabled:\n{said}");
    assert!(count("Pass") > 1000, "{said}");
    every_line_passes(&results);
}

/// The report names each API and each data set.
fn every_line_passes(results: &Path) {
    let report = std::fs::read_to_string(results.join("results.yaml")).unwrap();
    let lines: Vec<_> =
        report.lines().skip_while(|line| *line != "apis:").filter(|line| line.starts_with("  ")).collect();
    assert!(lines.len() >= 50, "{report}");
    for line in lines {
        assert!(line.ends_with(": Pass"), "{line}");
    }
}

/// Whether the program is here. Says so on the real standard error if not. No package has it, so it
/// is never required.
fn available() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join("conformance").is_file()) {
        return true;
    }
    let reason = "the OCI conformance program (`conformance` of opencontainers/distribution-spec) is not on PATH";
    let thread = std::thread::current();
    let line = format!("left out: {reason}; {} was not run\n", thread.name().unwrap_or("a test"));
    let _ = std::io::stderr().write_all(line.as_bytes());
    false
}
