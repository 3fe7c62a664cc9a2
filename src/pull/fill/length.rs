//! Which length of a blob is believed while it is downloaded, and which one readers are told.
//!
//! A manifest, `Content-Length`, the total of `Content-Range` and an earlier download's leftover
//! each state a length. None of them is proof: only the digest is. Readers are told a length when
//! nothing contradicts it, and a length that was told never changes. Otherwise readers wait for the
//! proof.
//!
//! | the answer states | no reader was told a length yet | readers were told `t` |
//! |---|---|---|
//! | the manifest's length, or no manifest names one | tell it | `t`: go on; another: refuse |
//! | another length than the manifest | hold: tell nothing before the proof | refuse |
//! | no length; its own manifest names one, and all bytes here are its own | tell that | go on |
//! | no length; another's manifest names one, or some bytes are another's | hold | go on |
//! | no length, and no manifest names one | hold | go on |
//! | another length than the bytes that are here came with | begin again | refuse |
//! | 0, and the digest is not that of nothing | refuse | refuse |
//! | a web page | hold; refuse if bytes are here already | refuse, unless it states `t` |
//!
//! `statements` decides whose bytes may follow once readers were told `t`.

use crate::oci::Digest;

/// The lengths that were stated for one digest.
#[derive(Clone, Debug)]
pub(super) struct Length {
    /// The digest is that of nothing: of no bytes.
    of_nothing: bool,
    /// The length that a manifest names, or 0 for the digest of nothing.
    named: Option<u64>,
    /// The length that the answer stated with which the bytes here came.
    said: Option<u64>,
    /// Some of the bytes that are here came without a length.
    unsized_bytes: bool,
    /// The length that readers were told.
    told: Option<u64>,
    /// A source stated another length than readers were told, or than the bytes that are here came
    /// with.
    disputed: bool,
}

/// What one answer states.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stated {
    /// The whole blob's length in bytes.
    pub(super) total: Option<u64>,
    /// Its type is that of a web page.
    pub(super) page: bool,
    /// The manifest that names a length is of the same repository, and every byte that is here
    /// comes from there.
    pub(super) own: bool,
}

/// What to do with an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// Readers may be told this length.
    Tell(u64),
    /// Take the bytes, and tell readers nothing before the digest is proven.
    Hold,
    /// The bytes that are here belong to something else: remove them, and hear the answer again.
    BeginAgain,
    /// This is not the blob. Another answer may be. The text tells no length: it may be a secret of
    /// another repository.
    Refuse(String),
}

impl Length {
    /// `named`: the length that a manifest gives; 0 says nothing.
    pub(super) fn new(digest: &Digest, named: Option<u64>) -> Length {
        let of_nothing = digest.is_of_nothing();
        let named = if of_nothing { Some(0) } else { named.filter(|length| *length > 0) };
        Length { of_nothing, named, said: None, unsized_bytes: false, told: None, disputed: false }
    }

    /// An earlier download left bytes, and this is the length that they came with.
    pub(super) fn left(&mut self, said: Option<u64>) {
        (self.said, self.unsized_bytes) = (said, said.is_none());
    }

    /// The length that a manifest names.
    pub(super) fn named(&self) -> Option<u64> {
        self.named
    }

    /// Where the bytes end, if that was told or stated.
    pub(super) fn end(&self) -> Option<u64> {
        self.told.or(self.said)
    }

    /// The length that was stated for all bytes that are here, and for those of the last answer.
    pub(super) fn came_with(&self) -> Option<u64> {
        self.said.filter(|_| !self.unsized_bytes)
    }

    /// Whether a download that left `here` bytes may have left all of them.
    pub(super) fn may_be_whole(&self, here: u64) -> bool {
        here > 0 && (self.said == Some(here) || self.named == Some(here))
    }

    /// The length that readers were told.
    pub(super) fn told(&self) -> Option<u64> {
        self.told
    }

    /// Whether sources contradict each other, so that the bytes here must not outlive this
    /// download.
    pub(super) fn is_disputed(&self) -> bool {
        self.disputed
    }

    /// No bytes are here any more.
    pub(super) fn begun_again(&mut self) {
        (self.said, self.unsized_bytes) = (None, false);
    }

    /// An answer came while `here` bytes are here.
    pub(super) fn hear(&mut self, stated: Stated, here: u64) -> Heard {
        if stated.total == Some(0) && !self.of_nothing {
            return Heard::Refuse("the answer has no bytes, and the blob has some".to_owned());
        }
        if let Some(told) = self.told {
            return self.hear_again(stated, told);
        }
        if stated.page && here > 0 {
            return Heard::Refuse("the answer is a web page".to_owned());
        }
        if stated.total.is_some_and(|total| here > 0 && self.contradicts(total, here)) {
            if self.said.is_some() && self.said == self.named {
                return self.dispute();
            }
            return Heard::BeginAgain;
        }
        if here == 0 {
            // An answer that brought no byte speaks for nothing.
            self.begun_again();
        }
        match stated.total.filter(|_| !stated.page) {
            Some(total) => self.said = Some(total),
            None => self.unsized_bytes = true,
        }
        match (stated.total, self.named) {
            _ if stated.page => Heard::Hold,
            (Some(total), Some(named)) if total == named && (stated.own || !self.unsized_bytes) => self.tell(total),
            (Some(total), None) if !self.unsized_bytes => self.tell(total),
            (None, Some(named)) if stated.own && self.said.is_none_or(|said| said == named) && here <= named => {
                self.tell(named)
            }
            (Some(_), Some(_) | None) | (None, Some(_) | None) => Heard::Hold,
        }
    }

    /// A source says that nothing comes after the bytes that are here, which are not the blob.
    pub(super) fn hear_the_end(&mut self) -> Heard {
        match self.told {
            Some(_) => self.dispute(),
            None => Heard::BeginAgain,
        }
    }

    fn hear_again(&mut self, stated: Stated, told: u64) -> Heard {
        match stated.total {
            Some(total) if total != told => self.dispute(),
            None if stated.page => Heard::Refuse("the answer is a web page".to_owned()),
            Some(_) | None => Heard::Tell(told),
        }
    }

    /// Neither length is told: one may be a secret of another repository.
    fn dispute(&mut self) -> Heard {
        self.disputed = true;
        Heard::Refuse("the blob has another length there than elsewhere".to_owned())
    }

    fn contradicts(&self, total: u64, here: u64) -> bool {
        total < here || self.said.is_some_and(|said| said != total)
    }

    fn tell(&mut self, length: u64) -> Heard {
        self.told = Some(length);
        Heard::Tell(length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::oci::{Algorithm, Hasher};

    const SIZED: fn(u64) -> Stated = |total| Stated { total: Some(total), page: false, own: true };
    const UNSIZED: Stated = Stated { total: None, page: false, own: true };
    const OTHERS: Stated = Stated { total: None, page: false, own: false };

    fn length(named: Option<u64>) -> Length {
        Length::new(&Hasher::digest(Algorithm::Sha256, b"x"), named)
    }

    /// The text tells no length: it may be a secret of another repository.
    fn is_refused(heard: &Heard) -> bool {
        matches!(heard, Heard::Refuse(why) if !why.contains(|c: char| c.is_ascii_digit()))
    }

    fn page(total: Option<u64>) -> Stated {
        Stated { total, page: true, own: true }
    }

    #[test]
    fn the_table() {
        assert_eq!(length(None).hear(SIZED(9), 0), Heard::Tell(9));
        assert_eq!(length(Some(9)).hear(SIZED(9), 0), Heard::Tell(9));
        assert_eq!(length(Some(8)).hear(SIZED(9), 0), Heard::Hold);
        assert_eq!(length(Some(8)).hear(UNSIZED, 0), Heard::Tell(8));
        assert_eq!(length(Some(8)).hear(OTHERS, 0), Heard::Hold, "a manifest speaks for its own repository");
        assert_eq!(length(Some(0)).hear(SIZED(9), 0), Heard::Tell(9), "0 in a manifest says nothing");
        assert_eq!(length(None).hear(UNSIZED, 0), Heard::Hold);
        assert!(is_refused(&length(None).hear(SIZED(0), 0)) && is_refused(&length(Some(8)).hear(SIZED(0), 0)));
        assert_eq!(length(Some(9)).hear(page(Some(9)), 0), Heard::Hold);
        assert!(is_refused(&length(None).hear(page(Some(9)), 1)));
        let mut told = length(None);
        assert_eq!(told.hear(SIZED(9), 0), Heard::Tell(9));
        assert_eq!((told.hear(UNSIZED, 3), told.hear(page(Some(9)), 3)), (Heard::Tell(9), Heard::Tell(9)));
        assert!(is_refused(&told.hear(page(None), 3)) && !told.is_disputed());
        assert!(is_refused(&told.hear(SIZED(10), 3)) && told.is_disputed());
    }

    #[test]
    fn bytes_that_came_with_another_length_are_not_kept() {
        let mut left = length(None);
        left.left(Some(300_000));
        assert_eq!(left.hear(SIZED(299_000), 200_000), Heard::BeginAgain);
        left.begun_again();
        assert_eq!(left.hear(SIZED(299_000), 0), Heard::Tell(299_000));
        let mut short = length(None);
        short.left(None);
        assert_eq!(short.hear(SIZED(5), 6), Heard::BeginAgain);
        let mut unsized_bytes = length(None);
        unsized_bytes.left(None);
        assert_eq!(unsized_bytes.hear(SIZED(9), 6), Heard::Hold, "nothing vouches for the first six");
        assert_eq!(unsized_bytes.hear_the_end(), Heard::BeginAgain);
        let mut nothing = length(None);
        assert_eq!((nothing.hear(page(Some(9)), 0), nothing.came_with()), (Heard::Hold, None));
        assert_eq!((nothing.hear(UNSIZED, 0), nothing.came_with()), (Heard::Hold, None));
        assert_eq!((nothing.hear(page(Some(9)), 0), nothing.hear(SIZED(7), 0)), (Heard::Hold, Heard::Tell(7)));
        let mut mixed = length(Some(8));
        assert_eq!((mixed.hear(SIZED(9), 0), mixed.came_with()), (Heard::Hold, Some(9)));
        assert_eq!((mixed.hear(OTHERS, 4), mixed.came_with()), (Heard::Hold, None));
        let mut anothers = length(Some(9));
        anothers.left(None);
        assert_eq!(anothers.hear(OTHERS, 6), Heard::Hold, "the first six are another's");
        assert_eq!(anothers.hear(Stated { own: false, ..SIZED(9) }, 6), Heard::Hold);
        assert_eq!(anothers.hear(SIZED(9), 6), Heard::Tell(9));
        let mut named = length(Some(9));
        named.left(Some(9));
        assert!(is_refused(&named.hear(SIZED(8), 6)) && named.is_disputed(), "the manifest arbitrates");
    }

    #[test]
    fn only_nothing_is_empty() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = Hasher::digest(algorithm, b"");
            assert_eq!(Length::new(&digest, None).hear(SIZED(0), 0), Heard::Tell(0));
            assert_eq!(Length::new(&digest, None).hear(UNSIZED, 0), Heard::Tell(0));
            assert_eq!(Length::new(&digest, Some(7)).hear(SIZED(7), 0), Heard::Hold);
        }
    }

    proptest! {
        /// F2: the length that readers were told never changes, is never less than the bytes that
        /// are here, and is never 0.
        #[test]
        fn f2_what_was_told_stays(
            named in proptest::option::of(0_u64..6),
            answers in proptest::collection::vec(
                (proptest::option::of(0_u64..6), any::<[bool; 2]>(), 0_u64..7), 1..12,
            ),
        ) {
            let (mut length, mut told, mut here) = (length(named), None, 0);
            for (total, [page, own], comes) in answers {
                let mut heard = length.hear(Stated { total, page, own }, here);
                if heard == Heard::BeginAgain {
                    prop_assert_eq!(told, None);
                    here = 0;
                    length.begun_again();
                    heard = length.hear(Stated { total, page, own }, 0);
                    prop_assert!(heard != Heard::BeginAgain);
                }
                if let Heard::Tell(length) = heard {
                    prop_assert!(told.is_none_or(|told| told == length) && length > 0 && here <= length);
                    told = Some(length);
                }
                prop_assert_eq!(told, length.told());
                if !is_refused(&heard) {
                    here = (here + comes).min(length.told().or(total).unwrap_or(u64::MAX));
                }
            }
        }
    }
}
