//! The facts in a certificate that webpki does not tell: whether it is an authority, when it is
//! valid, and whether it may stand for a server (RFC 5280 sections 4.1.2.5, 4.2.1.3, 4.2.1.9 and
//! 4.2.1.12).
//!
//! Pure. It reads only certificates that the operator has put into `ca_file`, never a server's.

use rustls_pki_types::{CertificateDer, UnixTime};

const SEQUENCE: u8 = 0x30;
const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]`, around the version.
const VERSION: u8 = 0xa0;
/// `[3]`, around the extensions.
const EXTENSIONS: u8 = 0xa3;

const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
/// `keyCertSign`, in the first byte of the bits.
const SIGNS_CERTIFICATES: u8 = 0x04;
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

/// The facts of one certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct CertificateFacts {
    /// It may sign others: `CA:TRUE`, and no key usage that leaves this out. Or its version is
    /// below 3, which cannot tell.
    pub(super) is_authority: bool,
    /// It names no purposes, or the purpose of servers among others.
    pub(super) is_for_servers: bool,
    /// The first second of its life, in Unix time.
    not_before: i64,
    /// The last second of its life, in Unix time.
    not_after: i64,
}

/// The part of a certificate's life that a time lies in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Life {
    ToCome,
    Now,
    Over,
}

impl CertificateFacts {
    /// Reads a certificate. `None` if the bytes are no certificate.
    pub(super) fn read(certificate: &CertificateDer<'_>) -> Option<CertificateFacts> {
        let mut whole = Der(certificate);
        let mut signed = Der(whole.take(SEQUENCE)?);
        let mut tbs = Der(signed.take(SEQUENCE)?);
        let version = match tbs.peek() {
            Some(VERSION) => *Der(tbs.take(VERSION)?).take(INTEGER)?.last()?,
            _ => 0,
        };
        tbs.take(INTEGER)?;
        tbs.take(SEQUENCE)?; // The signature's algorithm.
        tbs.take(SEQUENCE)?; // The issuer.
        let mut validity = Der(tbs.take(SEQUENCE)?);
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        tbs.take(SEQUENCE)?; // The subject.
        tbs.take(SEQUENCE)?; // Its key.
        let mut facts = CertificateFacts { is_authority: version < 2, is_for_servers: true, not_before, not_after };
        while let Some((tag, content)) = tbs.next() {
            if tag == EXTENSIONS {
                facts.extensions(content)?;
            }
        }
        Some(facts)
    }

    fn extensions(&mut self, content: &[u8]) -> Option<()> {
        let mut list = Der(Der(content).take(SEQUENCE)?);
        let mut may_sign = true;
        while let Some((SEQUENCE, extension)) = list.next() {
            let mut extension = Der(extension);
            let id = extension.take(OID)?;
            if extension.peek() == Some(BOOLEAN) {
                extension.take(BOOLEAN)?; // Critical or not.
            }
            let mut value = Der(Der(extension.take(OCTET_STRING)?).next().map_or(&[], |(_, content)| content));
            match id {
                BASIC_CONSTRAINTS => {
                    self.is_authority = value.peek() == Some(BOOLEAN) && value.take(BOOLEAN)? != [0];
                }
                // A byte says how many bits are unused, then the bits follow.
                KEY_USAGE => may_sign = value.0.get(1).is_some_and(|bits| bits & SIGNS_CERTIFICATES != 0),
                EXTENDED_KEY_USAGE => {
                    self.is_for_servers =
                        std::iter::from_fn(|| value.next()).any(|(_, purpose)| purpose == SERVER_AUTH);
                }
                _ => {}
            }
        }
        self.is_authority &= may_sign;
        Some(())
    }

    /// Where `now` lies in its life.
    pub(super) fn life(&self, now: UnixTime) -> Life {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        match now {
            now if now < self.not_before => Life::ToCome,
            now if now > self.not_after => Life::Over,
            _ => Life::Now,
        }
    }
}

/// The rest of an encoding in DER.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next value's tag and content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            let bytes = usize::from(first & 0x7f);
            if !(1..=3).contains(&bytes) || rest.len() < bytes {
                return None;
            }
            let (long, behind) = rest.split_at(bytes);
            length = long.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = behind;
        }
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next value, if it has this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`, in seconds of Unix time.
    fn time(&mut self) -> Option<i64> {
        let (tag, text) = self.next()?;
        let digits = text.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
        let (year, rest) = match tag {
            UTC_TIME if digits.len() == 12 => {
                let year = number(&digits[..2]);
                (year + if year >= 50 { 1900 } else { 2000 }, &digits[2..])
            }
            GENERALIZED_TIME if digits.len() == 14 => (number(&digits[..4]), &digits[4..]),
            _ => return None,
        };
        let field = |at: usize| number(&rest[at..at + 2]);
        let days = days_from_epoch(year, field(0), field(2));
        Some(days * 86_400 + field(4) * 3_600 + field(6) * 60 + field(8))
    }
}

fn number(digits: &[u8]) -> i64 {
    digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'))
}

/// Days between a date of the Gregorian calendar and 1 January 1970. Years begin in March here, so
/// that a leap day is last.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose as Purpose, IsCa, KeyPair,
        KeyUsagePurpose as Usage,
    };

    use super::*;

    fn facts(change: impl FnOnce(&mut CertificateParams)) -> CertificateFacts {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        change(&mut params);
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        CertificateFacts::read(made.der()).unwrap()
    }

    #[test]
    fn authorities_say_so() {
        assert!(facts(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)).is_authority);
        assert!(facts(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))).is_authority);
        assert!(!facts(|p| p.is_ca = IsCa::ExplicitNoCa).is_authority);
        assert!(!facts(|p| p.is_ca = IsCa::NoCa).is_authority);
        for (usages, signs) in [
            (vec![Usage::KeyCertSign], true),
            (vec![Usage::DigitalSignature, Usage::KeyCertSign, Usage::CrlSign], true),
            (vec![Usage::DigitalSignature, Usage::KeyEncipherment], false),
        ] {
            let made = facts(|p| {
                p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                p.key_usages = usages.clone();
            });
            assert_eq!(made.is_authority, signs, "{usages:?}");
        }
    }

    #[test]
    fn purposes_are_servers_or_others() {
        assert!(facts(|_| ()).is_for_servers);
        for (purposes, expected) in [
            (vec![Purpose::ServerAuth], true),
            (vec![Purpose::ClientAuth, Purpose::ServerAuth], true),
            (vec![Purpose::ClientAuth], false),
            (vec![Purpose::CodeSigning, Purpose::EmailProtection], false),
        ] {
            assert_eq!(facts(|p| p.extended_key_usages = purposes.clone()).is_for_servers, expected, "{purposes:?}");
        }
    }

    #[test]
    fn times_are_read_in_both_spellings() {
        // UTCTime up to 2049, GeneralizedTime after.
        for (from, to) in
            [((1999, 12, 31), (2000, 3, 1)), ((2024, 2, 29), (2049, 12, 31)), ((2050, 1, 1), (2100, 3, 1))]
        {
            let date = |(y, m, d): (i32, u8, u8)| rcgen::date_time_ymd(y, m, d);
            let made = facts(|p| (p.not_before, p.not_after) = (date(from), date(to)));
            let (first, last) = (date(from).unix_timestamp(), date(to).unix_timestamp());
            let life = |at: i64| made.life(UnixTime::since_unix_epoch(Duration::from_secs(at as u64)));
            assert_eq!(
                [life(first - 1), life(first), life(last), life(last + 1)],
                [Life::ToCome, Life::Now, Life::Now, Life::Over]
            );
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>, at: usize, byte: u8) {
            let _ = CertificateFacts::read(&CertificateDer::from(bytes.as_slice()));
            let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
            let mut bent = made.cert.der().to_vec();
            let at = at % bent.len();
            bent[at] = byte;
            let _ = CertificateFacts::read(&CertificateDer::from(bent.as_slice()));
            let _ = CertificateFacts::read(&CertificateDer::from(&bent[..at]));
        }
    }
}
