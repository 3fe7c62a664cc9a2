//! Sizes, durations and shares as people write them. A unit that could mean two things is refused.

use std::time::Duration;

use super::super::values::{MaxSize, MinFree};

/// The longest duration that is allowed. It keeps every later addition to a clock far from
/// overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

const UNITS: [(&str, u64); 10] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("PiB", 1 << 50),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Bytes of a size like `500 GiB`, `1.5 TiB` or `20GB`. Binary and decimal units differ; `G` alone
/// is not a unit.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size such as \"500 GiB\" (B, KiB, MiB, GiB, TiB, PiB; kB, MB, GB, TB)");
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let (number, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let (whole, fraction) = decimal(number).ok_or_else(wrong)?;
    whole
        .checked_mul(*factor)
        .and_then(|bytes| bytes.checked_add((fraction * *factor as f64) as u64))
        .ok_or_else(|| format!("{text:?} is larger than any disk"))
}

/// A size of at least one byte, or a share of the disk like `60%`.
pub(in crate::config) fn max_size(text: &str) -> Result<MaxSize, String> {
    let bound = match text.strip_suffix('%') {
        Some(number) => MaxSize::Percent(share(number, text)?),
        None => MaxSize::Bytes(size(text)?),
    };
    match bound {
        MaxSize::Bytes(0) => Err("must be at least one byte; leave the key out for no bound".to_owned()),
        MaxSize::Percent(0.0) => Err("must be more than nothing; leave the key out for no bound".to_owned()),
        bound => Ok(bound),
    }
}

/// A duration like `60s`, `5m` or `1h 30m`, at most a year.
pub(in crate::config) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= LONGEST && text.trim() == text => Ok(duration),
        Ok(duration) if duration > LONGEST => Err(format!("{text:?} is longer than a year")),
        Ok(_) | Err(_) => Err(format!("{text:?} is not a duration such as \"60s\", \"5m\" or \"1h 30m\"")),
    }
}

/// The same, or `never`.
pub(in crate::config) fn duration_or_never(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "never" => Ok(None),
        _ => duration(text).map(Some).map_err(|error| format!("{error}, nor \"never\"")),
    }
}

/// A share of the disk like `10%`, or a size.
pub(in crate::config) fn min_free(text: &str) -> Result<MinFree, String> {
    let Some(number) = text.strip_suffix('%') else {
        return size(text)
            .map(MinFree::Bytes)
            .map_err(|_| format!("{text:?} is neither a share such as \"10%\" nor a size such as \"50 GiB\""));
    };
    share(number, text).map(MinFree::Percent)
}

/// Percent, 0 to 100; `text` is what was written.
fn share(number: &str, text: &str) -> Result<f64, String> {
    let number = number.strip_suffix(' ').unwrap_or(number);
    match decimal(number) {
        Some((whole, fraction)) if whole < 100 => Ok(whole as f64 + fraction),
        Some((100, 0.0)) => Ok(100.0),
        Some(_) | None => Err(format!("{text:?} is not a share from \"0%\" to \"100%\"")),
    }
}

/// `12` or `12.5`, as the whole and the fraction.
fn decimal(text: &str) -> Option<(u64, f64)> {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    Some((whole.parse().ok()?, format!("0.{fraction}").parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("500 GiB", 500 << 30),
            ("500GiB", 500 << 30),
            ("1.5 TiB", 3 << 39),
            ("20 GB", 20_000_000_000),
            ("0 B", 0),
            ("16383 PiB", 16383 << 50),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in [
            "",
            "500",
            "500 G",
            "500 gib",
            "GiB",
            "-1 GiB",
            "+1 GiB",
            "1e3 GiB",
            "1,5 GiB",
            ".5 GiB",
            "5. GiB",
            "1.2.3 B",
            " 1 GiB",
            "1 GiB ",
            "1  GiB",
            "16384 PiB",
            "99999999999999999999 B",
            "∞ GiB",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration_or_never("never"), Ok(None));
        assert_eq!(duration_or_never("90d"), Ok(Some(Duration::from_secs(90 * 86_400))));
        assert!(duration_or_never("Never").unwrap_err().ends_with("nor \"never\""));
        for bad in ["", "60", "-1s", " 60s", "60s ", "1.5.5s", "2years", "forever", "18446744073709551615s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shares() {
        assert_eq!(min_free("10%"), Ok(MinFree::Percent(10.0)));
        assert_eq!(min_free("2.5 %"), Ok(MinFree::Percent(2.5)));
        assert_eq!(min_free("100%"), Ok(MinFree::Percent(100.0)));
        assert_eq!(min_free("50 GiB"), Ok(MinFree::Bytes(50 << 30)));
        for bad in ["", "%", "10", "101%", "100.1%", "-1%", "NaN%", "inf%", "1e1%", "10 percent"] {
            assert!(min_free(bad).is_err(), "{bad}");
            assert!(max_size(bad).is_err(), "{bad}");
        }
        assert_eq!(max_size("60%"), Ok(MaxSize::Percent(60.0)));
        assert_eq!(max_size("50 GiB"), Ok(MaxSize::Bytes(50 << 30)));
        assert!(max_size("0%").is_err() && max_size("0 B").is_err());
        assert_eq!((MaxSize::Percent(2.5).of(1000), MaxSize::Bytes(7).of(1000)), (25, 7));
    }

    proptest! {
        #[test]
        fn never_panic(s in "\\PC*", n in "[0-9.]{1,30}") {
            for text in [s, format!("{n} PiB"), format!("{n}s"), format!("{n}%")] {
                let _ = (size(&text), duration(&text), min_free(&text));
            }
        }
    }
}
