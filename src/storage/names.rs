//! File names for repositories, tags and digests, and the way back.
//!
//! Promises: every file name made here is one path component of at most 255 bytes, of lower-case
//! letters, digits and `. _ - +` alone; it is never `.` or `..`, never ends with a dot, and is no
//! device name of Windows. Two different names never make file names that are equal, not even on a
//! file system that ignores case. So a data folder can move between ext4, xfs, NTFS and NFS.
//! Each `parse_*` undoes its function, and refuses a name that the function would not have made: a
//! stray file in the folder is no record. Callers: the layout, and the files of this room that list
//! folders.

use crate::oci::{Algorithm, Digest, Namespace, Reference, Repository, RepositoryName, Tag};

/// The folder of the hosted namespace. No upstream has an underscore in its name.
const HOSTED: &str = "_hosted";

/// The folder of a namespace: `_hosted`, or the upstream's name with `+` for the colon before a
/// port.
pub(super) fn namespace(namespace: &Namespace) -> String {
    match namespace {
        Namespace::Hosted => HOSTED.to_owned(),
        Namespace::Upstream(name) => guard(name.as_str().replace(':', "+")),
    }
}

/// The namespace of a folder.
pub(super) fn parse_namespace(file_name: &str) -> Option<Namespace> {
    if file_name == HOSTED {
        return Some(Namespace::Hosted);
    }
    let parsed = Namespace::Upstream(unguard(file_name).replace('+', ":").parse().ok()?);
    (namespace(&parsed) == file_name).then_some(parsed)
}

/// The folder of a repository within its namespace: its name with `+` for `/`, which no name has.
pub(super) fn repository(name: &RepositoryName) -> String {
    guard(name.as_str().replace('/', "+"))
}

/// The repository of a folder.
pub(super) fn parse_repository(file_name: &str) -> Option<RepositoryName> {
    let parsed = unguard(file_name).replace('+', "/").parse().ok()?;
    (repository(&parsed) == file_name).then_some(parsed)
}

/// A namespace and a repository in it, in one line: their folders, with a `/` between.
pub(super) fn whole_repository(whole: &Repository) -> String {
    format!("{}/{}", namespace(&whole.namespace), repository(&whole.name))
}

/// The repository of such a line; `None`: the line names no repository.
pub(super) fn parse_whole_repository(line: &str) -> Option<Repository> {
    let (namespace, name) = line.split_once('/')?;
    Some(Repository { namespace: parse_namespace(namespace)?, name: parse_repository(name)? })
}

/// The file of a tag: its lower-case form. Where that alone would not do (capitals, or a dot at the
/// end, which Windows drops) there follows `+` and, in hex, the number whose bit `i` says that
/// letter `i` is a capital.
pub(super) fn tag(tag: &Tag) -> String {
    let text = tag.as_str();
    let capitals = text
        .bytes()
        .enumerate()
        .filter(|(_, byte)| byte.is_ascii_uppercase())
        .fold(0_u128, |bits, (at, _)| bits | 1_u128.checked_shl(at as u32).unwrap_or(0));
    let lower = text.to_ascii_lowercase();
    guard(if capitals != 0 || text.ends_with('.') { format!("{lower}+{capitals:x}") } else { lower })
}

/// The tag of a file.
pub(super) fn parse_tag(file_name: &str) -> Option<Tag> {
    let body = unguard(file_name);
    let (lower, capitals) = match body.split_once('+') {
        Some((lower, hex)) => (lower, u128::from_str_radix(hex, 16).ok()?),
        None => (body, 0),
    };
    let capital = |at: usize| at < 128 && capitals >> at & 1 == 1;
    let text: String = lower
        .chars()
        .enumerate()
        .map(|(at, letter)| if capital(at) { letter.to_ascii_uppercase() } else { letter })
        .collect();
    let parsed = text.parse().ok()?;
    (tag(&parsed) == file_name).then_some(parsed)
}

/// The file or folder of a digest: `sha256-<hex>`.
pub(super) fn digest(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().as_str(), digest.hex())
}

/// The digest of a file or folder.
pub(super) fn parse_digest(file_name: &str) -> Option<Digest> {
    let (algorithm, hex) = file_name.split_once('-')?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// The file of a pin: that of its tag, or a `+` and the name of its digest, which no tag has.
pub(super) fn pin(reference: &Reference) -> String {
    match reference {
        Reference::Tag(tag) => self::tag(tag),
        Reference::Digest(digest) => format!("+{}", self::digest(digest)),
    }
}

/// The tag or digest of a pin's file.
pub(super) fn parse_pin(file_name: &str) -> Option<Reference> {
    let digest = file_name.strip_prefix('+').and_then(parse_digest);
    digest.map(Reference::from).or_else(|| parse_tag(file_name).map(Reference::from))
}

/// The digest of a blob's file, whose folder says the algorithm.
pub(super) fn parse_blob(algorithm: Algorithm, file_name: &str) -> Option<Digest> {
    format!("{}:{file_name}", algorithm.as_str()).parse().ok()
}

/// Puts a `+` before what Windows takes for a device: `con`, `nul.txt`, `com1.x.y`. No name begins
/// with a `+` of its own, since none begins with the characters that become one.
fn guard(file_name: String) -> String {
    let stem = file_name.split('.').next().unwrap_or_default();
    let device = match stem.as_bytes() {
        b"con" | b"prn" | b"aux" | b"nul" => true,
        [b'c', b'o', b'm', digit] | [b'l', b'p', b't', digit] => digit.is_ascii_digit(),
        _ => false,
    };
    if device { format!("+{file_name}") } else { file_name }
}

fn unguard(file_name: &str) -> &str {
    file_name.strip_prefix('+').unwrap_or(file_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NAME: &str = "(con|aux|nul|com1|lpt0|[a-z0-9]{1,9})((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,3}(/(con|[a-z0-9]{1,8})((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,3}){0,3}";
    const TAG: &str = "([cC][oO][nN]|nul|COM5|[a-zA-Z0-9_])[a-zA-Z0-9._-]{0,120}";

    /// What S13 asks of every file name.
    fn assert_safe(file_name: &str) {
        assert!(!file_name.is_empty() && file_name.len() <= 255, "{file_name}");
        assert!(file_name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'+')));
        assert!(!file_name.starts_with('.') && !file_name.ends_with('.'), "{file_name}");
        let stem = file_name.split('.').next().unwrap();
        assert!(!["con", "prn", "aux", "nul", "com0", "com9", "lpt1"].contains(&stem), "{file_name}");
    }

    #[test]
    fn writes_what_design_says() {
        for (name, file) in
            [("library/busybox", "library+busybox"), ("con", "+con"), ("con/x", "con+x"), ("aux.d/x", "+aux.d+x")]
        {
            assert_eq!(repository(&name.parse().unwrap()), file);
        }
        for (name, file) in [
            ("latest", "latest"),
            ("V1.0-RC", "v1.0-rc+61"),
            ("1.", "1.+0"),
            ("Nul", "nul+1"),
            ("NUL.1", "+nul.1+7"),
            ("nul.1", "+nul.1"),
            ("nulls", "nulls"),
        ] {
            assert_eq!(tag(&name.parse().unwrap()), file);
        }
        for (name, file) in
            [("localhost:5000", "localhost+5000"), ("docker.io", "docker.io"), ("com1.lan", "+com1.lan")]
        {
            assert_eq!(namespace(&Namespace::Upstream(name.parse().unwrap())), file);
        }
    }

    #[test]
    fn the_longest_names_fit() {
        let upper = "A".repeat(128);
        assert_safe(&tag(&upper.parse().unwrap()));
        assert_eq!(parse_tag(&tag(&upper.parse().unwrap())), upper.parse().ok());
        let long = format!("con.{}", "a".repeat(249));
        assert_safe(&repository(&long.parse().unwrap()));
        let long = format!("nul.{}", "a".repeat(249));
        assert_safe(&namespace(&Namespace::Upstream(long.parse().unwrap())));
    }

    #[test]
    fn refuses_files_it_would_not_have_written() {
        for stray in [
            "",
            ".",
            "..",
            "V1",
            "v1+0",
            "v1+g",
            "v1+04",
            "v+1+1",
            "+v1",
            "con",
            "x+ffffffffffffffffffffffffffffffffff",
            "lost+found+",
        ] {
            assert_eq!(parse_tag(stray), None, "{stray}");
        }
        for stray in ["", "..", "a+", "A", "+a", ".nfs0001", "a/b"] {
            assert_eq!(parse_repository(stray), None, "{stray}");
        }
        for stray in ["", "_other", "+a", "a+b", "docker.io.", "a:1"] {
            assert_eq!(parse_namespace(stray), None, "{stray}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn s13_repositories_are_safe_and_come_back(name in NAME) {
            let name: RepositoryName = name.parse().unwrap();
            assert_safe(&repository(&name));
            prop_assert_eq!(parse_repository(&repository(&name)), Some(name));
        }

        #[test]
        fn a_line_says_which_repository(name in NAME, hosted: bool) {
            let namespace = if hosted { Namespace::Hosted } else { Namespace::Upstream("docker.io".parse().unwrap()) };
            let whole = Repository { namespace, name: name.parse().unwrap() };
            prop_assert_eq!(parse_whole_repository(&whole_repository(&whole)), Some(whole));
        }

        #[test]
        fn s13_tags_are_safe_and_come_back(name in TAG) {
            let name: Tag = name.parse().unwrap();
            assert_safe(&tag(&name));
            prop_assert_eq!(parse_tag(&tag(&name)), Some(name));
        }

        #[test]
        fn s13_pins_are_safe_and_come_back(name in TAG, hex in "[0-9a-f]{64}", is_tag: bool) {
            let reference: Reference = if is_tag { name.parse().unwrap() } else { format!("sha256:{hex}").parse().unwrap() };
            assert_safe(&pin(&reference));
            prop_assert_eq!(parse_pin(&pin(&reference)), Some(reference));
            let looks_like_one: Reference = format!("sha256-{hex}").parse().unwrap();
            prop_assert!(parse_pin(&pin(&looks_like_one)) == Some(looks_like_one), "a tag is no digest");
        }

        #[test]
        fn s13_tags_that_differ_in_case_stay_apart(name in "[a-zA-Z]{1,6}[.]?", flips: u8) {
            let other: String = name.chars().enumerate()
                .map(|(at, c)| if flips >> at & 1 == 1 && c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c })
                .collect();
            let (a, b) = (tag(&name.parse().unwrap()), tag(&other.parse().unwrap()));
            prop_assert_eq!(a.eq_ignore_ascii_case(&b), name == other);
        }

        #[test]
        fn s13_whatever_parses_is_what_was_written(file in "[+a-zA-Z0-9._/-]{0,20}") {
            if let Some(name) = parse_tag(&file) {
                prop_assert_eq!(tag(&name), file.clone());
            }
            if let Some(name) = parse_repository(&file) {
                prop_assert_eq!(repository(&name), file.clone());
            }
            if let Some(name) = parse_namespace(&file) {
                prop_assert_eq!(namespace(&name), file);
            }
        }
    }
}
