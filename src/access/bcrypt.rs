//! The one place that knows bcrypt. Everything here takes a tenth of a second or more: never on a worker.

/// The cost of new hashes: 2^11 rounds.
pub(super) const COST: u32 = 11;
/// The most that a hash in the file may cost: about two seconds. Each step doubles.
pub(super) const MOST_COST: u32 = 15;
/// The longest password, in bytes: bcrypt reads no further.
pub(super) const LONGEST: usize = 72;

/// Whether bcrypt reads all of the password. It goes by its bytes up to the 72nd, and a NUL ends
/// it.
pub(super) fn reads(password: &str) -> bool {
    password.len() <= LONGEST && !password.contains('\0')
}

/// Whether the password has this hash. No password has a malformed hash, and one that bcrypt would
/// cut short has none; that takes as long.
pub(super) fn matches(password: &str, hash: &str) -> bool {
    ::bcrypt::verify(password, hash).unwrap_or(false) && reads(password)
}

/// The hash of a new password, in the notation that other registries and web servers read too. None: the machine has no
/// random bytes.
pub(super) fn hash(password: &str) -> Option<String> {
    let parts = ::bcrypt::hash_with_result(password, COST).ok()?;
    Some(parts.format_for_version(::bcrypt::Version::TwoY))
}

/// The same, and where the password is wrong it takes as long as with the hash `dearest`, whatever this one costs: the costs
/// from this one's up to that of the other make up the difference, as each doubles the one before.
pub(super) fn matches_or_takes_as_long(password: &str, hash: &str, dearest: &str) -> bool {
    if matches(password, hash) {
        return true;
    }
    for cost in cost(hash).unwrap_or(MOST_COST)..cost(dearest).unwrap_or_default() {
        matches(password, &dummy(cost));
    }
    false
}

/// The cost of a hash. None: it is no bcrypt hash.
pub(super) fn cost(hash: &str) -> Option<u32> {
    let parts: ::bcrypt::HashParts = hash.parse().ok()?;
    // 2x is the mark of hashes that a broken program made.
    ["$2a$", "$2b$", "$2y$"].iter().any(|mark| hash.starts_with(mark)).then(|| parts.get_cost())
}

/// A hash of this cost that no password is known for: what the password of an unknown user is compared with.
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
        assert!(matches(&longest, &hash), "all 72 bytes are one's own");
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
