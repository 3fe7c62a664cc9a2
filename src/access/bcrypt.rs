//! The one place that knows bcrypt. A hash takes a tenth of a second or more, so nothing here runs
//! on a worker: `lanes.rs` calls it on its threads, and `lanyard user` from the command line.

/// The cost of new hashes: 2^11 rounds.
pub(super) const COST: u32 = 11;
/// The highest cost that a hash in the file may have: about two seconds. Each step doubles it.
pub(super) const MOST_COST: u32 = 15;
/// The longest password, in bytes: bcrypt reads no further.
pub(super) const LONGEST: usize = 72;

/// Whether bcrypt reads all of the password. It reads 72 bytes at most, and stops at a NUL.
pub(super) fn reads(password: &str) -> bool {
    password.len() <= LONGEST && !password.contains('\0')
}

/// Whether the password has this hash. False for a malformed hash. False, after the same time, for
/// a password that bcrypt would cut short.
pub(super) fn matches(password: &str, hash: &str) -> bool {
    ::bcrypt::verify(password, hash).unwrap_or(false) && reads(password)
}

/// The hash of a new password, in the notation that other registries and web servers read too.
/// `None`: the machine has no random bytes.
pub(super) fn hash(password: &str) -> Option<String> {
    let parts = ::bcrypt::hash_with_result(password, COST).ok()?;
    Some(parts.format_for_version(::bcrypt::Version::TwoY))
}

/// As [`matches()`]. A wrong password takes as long as it would with the hash `dearest`, whatever
/// the cost of `hash`: further hashes, one of each cost from that of `hash` to that below
/// `dearest`, make up the difference, as each cost takes twice the time of the one before.
pub(super) fn matches_or_takes_as_long(password: &str, hash: &str, dearest: &str) -> bool {
    if matches(password, hash) {
        return true;
    }
    for cost in cost(hash).unwrap_or(MOST_COST)..cost(dearest).unwrap_or_default() {
        matches(password, &dummy(cost));
    }
    false
}

/// The cost of a hash. `None`: it is not a bcrypt hash.
pub(super) fn cost(hash: &str) -> Option<u32> {
    let parts: ::bcrypt::HashParts = hash.parse().ok()?;
    // `$2x$` marks the hashes of a broken implementation.
    ["$2a$", "$2b$", "$2y$"].iter().any(|mark| hash.starts_with(mark)).then(|| parts.get_cost())
}

/// A hash of this cost whose password is not known. The password of an unknown user is compared
/// with it.
pub(super) fn dummy(cost: u32) -> String {
    format!("$2b${cost:02}$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01232")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_the_common_ones() {
        let hash = hash("secret").unwrap();
        assert!(hash.starts_with("$2y$11$") && matches("secret", &hash) && !matches("Secret", &hash));
        assert_eq!(cost(&hash), Some(COST));
        assert_eq!(cost(&dummy(5)), Some(5));
        assert!(!matches("", &dummy(4)) && !matches("", "x"));
        let longest = "x".repeat(LONGEST);
        let hash = ::bcrypt::hash(&longest, 4).unwrap();
        assert!(matches(&longest, &hash), "all 72 bytes count");
        for other in [format!("{longest}y"), format!("{longest}{longest}"), "x".repeat(LONGEST - 1)] {
            assert!(!matches(&other, &hash), "{} bytes", other.len());
        }
        let short = ::bcrypt::hash("abc", 4).unwrap();
        assert!(matches("abc", &short));
        for same in ["abc\0", "abc\0abc", "abc\0abc\0abc"] {
            assert!(!matches(same, &short), "{same:?} is the same to bcrypt");
        }
        for none in ["{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "$apr1$x$y", "plain", "", "$2y$05$short"] {
            assert_eq!(cost(none), None, "{none}");
        }
        assert_eq!(cost(&dummy(5).replace("$2b$", "$2x$")), None);
    }
}
