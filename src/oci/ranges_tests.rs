use proptest::prelude::*;

use super::*;

fn laid(header: &str, total: u64) -> Result<Vec<(u64, u64)>, u16> {
    let ranges = header.parse::<ByteRanges>().map_err(|error| match error {
        NotRanges::Malformed => 200_u16,
        NotRanges::TooMany => 400,
    })?;
    let ranges = ranges.resolve(total).map_err(|_| 416_u16)?;
    Ok(ranges.iter().map(|range| (range.first, range.last)).collect())
}

#[test]
fn lays_sets_over_content() {
    let table: [(&str, &[(u64, u64)]); 17] = [
        ("bytes=0-9", &[(0, 9)]),
        ("BYTES=0-9", &[(0, 9)]),
        ("bytes=0-9,20-29", &[(0, 9), (20, 29)]),
        ("bytes= 0-9 ,\t20-29 ", &[(0, 9), (20, 29)]),
        ("bytes=,0-9,,20-29,", &[(0, 9), (20, 29)]),
        // The requested order stays.
        ("bytes=20-29,0-9", &[(20, 29), (0, 9)]),
        ("bytes=-10,0-9", &[(990, 999), (0, 9)]),
        ("bytes=0-9,500-,-5", &[(0, 9), (500, 999)]),
        // Ranges that overlap become one, at the place of the first.
        ("bytes=0-9,5-19", &[(0, 19)]),
        ("bytes=0-9,0-9", &[(0, 9)]),
        ("bytes=50-59,0-9,55-69,9-9", &[(50, 69), (0, 9)]),
        ("bytes=5-6,100-109,0-9", &[(0, 9), (100, 109)]),
        ("bytes=0-,10-20,-1", &[(0, 999)]),
        // Ranges that touch stay apart.
        ("bytes=0-9,10-19", &[(0, 9), (10, 19)]),
        ("bytes=10-19,0-9", &[(10, 19), (0, 9)]),
        // Ranges that cannot be satisfied are left out.
        ("bytes=1000-1001,0-9,-0", &[(0, 9)]),
        ("bytes=990-2000,99999999999999999999-,0-0", &[(990, 999), (0, 0)]),
    ];
    for (header, expected) in table {
        assert_eq!(laid(header, 1000).as_deref(), Ok(expected), "{header}");
    }
    for header in ["bytes=1000-", "bytes=1000-,2000-3000", "bytes=-0,-0", "bytes=9-5"] {
        assert_eq!(laid(header, 1000), Err(416), "{header}");
    }
    assert_eq!(laid("bytes=0-,0-0", 0), Err(416));
    let nonsense = [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=,,",
        "bytes=-",
        "bytes=0-1,-",
        "bytes=0-1,a-b",
        "bytes=0-1;3-4",
        "bytes=0-1, 3 - 4",
        "bytes=0-1 3-4",
        "lines=0-1,3-4",
        "bytes =0-1",
        "bytes=0-1,bytes=3-4",
        "0-1,3-4",
        "bytes=9-5,0-1",
        "bytes=0-1,9-5",
        "bytes=0-1,+3-4",
        "bytes=0-1-2",
    ];
    for header in nonsense {
        assert_eq!(laid(header, 1000), Err(200), "{header}");
    }
}

/// S9: the cost of a request is bounded for every header.
#[test]
fn s9_at_most_a_thousand_ranges() {
    let set = |count: usize| {
        let specs: Vec<_> = (0..count).map(|n| format!("{}-{}", 3 * n, 3 * n + 1)).collect();
        format!("bytes={}", specs.join(","))
    };
    assert_eq!(laid(&set(1000), 1 << 20).map(|laid| laid.len()), Ok(1000));
    for count in [1001, 1023, 10_000] {
        assert_eq!(laid(&set(count), 1 << 20), Err(400), "{count}");
    }
    let commas = format!("bytes=0-1{},3-4", ",".repeat(100_000));
    assert_eq!(laid(&commas, 1000), Ok(vec![(0, 1), (3, 4)]));
}

#[test]
fn knows_what_is_the_whole() {
    let whole = |header: &str| header.parse::<ByteRanges>().unwrap().resolve(100).unwrap().is_whole();
    assert!(whole("bytes=0-") && whole("bytes=0-49,50-") && whole("bytes=0-9,10-19,20-99,5-12"));
    assert!(!whole("bytes=0-98") && !whole("bytes=1-") && !whole("bytes=0-48,50-") && !whole("bytes=50-,0-49"));
}

/// One of the three forms of a range.
fn spec() -> impl Strategy<Value = String> {
    prop_oneof![
        (0..120_u64, 0..40_u64).prop_map(|(first, more)| format!("{first}-{}", first + more)),
        (0..120_u64).prop_map(|first| format!("{first}-")),
        (0..120_u64).prop_map(|length| format!("-{length}")),
    ]
}

/// The bytes that a set asks for, found one at a time.
fn asked(specs: &[String], total: u64) -> Vec<bool> {
    let asks = |spec: &str, at: u64| match spec.split_once('-').unwrap() {
        ("", length) => at + length.parse::<u64>().unwrap() >= total,
        (first, "") => at >= first.parse().unwrap(),
        (first, last) => at >= first.parse().unwrap() && at <= last.parse().unwrap(),
    };
    (0..total).map(|at| specs.iter().any(|spec| asks(spec, at))).collect()
}

proptest! {
    /// Every requested byte is sent once, and no other byte is. The parts are in the order of their
    /// first ranges.
    #[test]
    fn sends_what_is_asked_for_once(specs in proptest::collection::vec(spec(), 1..12), total in 0..130_u64) {
        let expected = asked(&specs, total);
        let parts = match laid(&format!("bytes={}", specs.join(",")), total) {
            Err(status) => {
                prop_assert!(status == 416 && !expected.contains(&true));
                return Ok(());
            }
            Ok(parts) => parts,
        };
        let mut sent = vec![0; usize::try_from(total).unwrap()];
        for (first, last) in &parts {
            (*first..=*last).for_each(|at| sent[usize::try_from(at).unwrap()] += 1);
        }
        prop_assert!(sent.iter().zip(&expected).all(|(sent, asked)| *sent == i32::from(*asked)), "{:?}", parts);
        let place = |(first, last): &(u64, u64)| {
            let inside = |spec: &String| {
                let alone = asked(std::slice::from_ref(spec), total);
                (*first..=*last).any(|at| alone[usize::try_from(at).unwrap()])
            };
            specs.iter().position(inside)
        };
        prop_assert!(parts.iter().map(place).is_sorted(), "{:?} of {:?}", parts, specs);
    }

    #[test]
    fn never_panics(header in "(bytes=)?[-0-9, \ta=]{0,40}", total: u64) {
        let _ = laid(&header, total);
    }
}
