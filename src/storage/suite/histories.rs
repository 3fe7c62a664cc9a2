//! What a tag has named so far.

use super::{super::*, *};

#[test]
fn every_move_of_a_tag_is_in_its_history() {
    each(|house| {
        for a in [hosted("a"), repository("library/a")] {
            let history = || house.run(house.storage().tag_history(&a, &tag("t"))).unwrap();
            assert_eq!(history(), None);
            for (content, updated) in [(&b"1"[..], 10), (b"1", 15), (b"2", 20), (b"3", 30)] {
                let tags = vec![TagRecord { updated, ..tag_record("t", content) }];
                assert!(house.commit(Change { tags, ..Change::of(&a) }).unwrap());
            }
            let seen = history().unwrap();
            let before: Vec<_> = seen.before.iter().map(|past| (past.digest, past.from, past.until)).collect();
            assert_eq!(before, [(digest(b"1"), 10, 20), (digest(b"2"), 20, 30)]);
            assert_eq!((seen.record.digest, seen.since(), seen.first_seen()), (digest(b"3"), 30, 10));
            house.tag(&a, "other", b"x");
            let all = house.run(house.storage().tag_histories(&a)).unwrap();
            assert_eq!(all.iter().map(|seen| seen.record.tag.as_str()).collect::<Vec<_>>(), ["other", "t"]);
            assert_eq!(all[1], seen);
            assert_eq!(house.run(house.storage().tag(&a, &tag("t"))).unwrap(), Some(seen.record));
            house.commit(Change { untag: vec![tag("t")], ..Change::of(&a) }).unwrap();
            assert_eq!(history(), None, "a tag that is deleted has no history");
        }
    });
}
