//! Which sources of one fill are known to have the content, by their answers (S23).
//!
//! | the source | counts |
//! |---|---|
//! | stated a length | if readers are told that length, or it is proven |
//! | stated none, and sent every byte that is here | until another source sends some |
//! | did anything else | never by its answers |
//!
//! Once readers were told a length, bytes are taken only from sources that state it too, and from
//! the source that sent every byte. So a false length of one source brings no bytes of another.
//!
//! A request that named a source that counts gets the bytes of all sources, and at the end its
//! repository holds the content. [`Statements`] belongs to the download alone.

use super::{failure::FillFailure, follower::Follower, leader::Leader, origin::Origin, sources::refuses};

/// See the module.
#[derive(Default)]
pub(super) struct Statements {
    /// The length that each source stated last, in bytes.
    stated: Vec<(Origin, u64)>,
    /// The source of all bytes that are here, if it has never stated a length.
    unsure: Option<Origin>,
}

impl Statements {
    /// The source whose readers get its bytes alone.
    pub(super) fn unsure(&self) -> Option<&Origin> {
        self.unsure.as_ref()
    }

    /// All bytes that are here come from this source, and it has stated no length.
    pub(super) fn sends_all(&mut self, leader: &Leader<Origin>, source: &Origin) {
        leader.has(source);
        self.unsure = Some(source.clone());
    }

    /// The next bytes come from this source.
    pub(super) fn sends(&mut self, leader: &Leader<Origin>, source: &Origin) {
        if let Some(other) = self.unsure.take_if(|unsure| unsure != source) {
            doubt(leader, &other);
        }
    }

    /// Whether its next bytes may go to readers who were told this length.
    pub(super) fn stands_for(&self, source: &Origin, told: u64) -> bool {
        self.unsure.as_ref() == Some(source) || self.stated.iter().any(|word| word.0 == *source && word.1 == told)
    }

    /// The source states this length.
    pub(super) fn states(&mut self, source: &Origin, length: u64) {
        self.unsure = self.unsure.take().filter(|unsure| unsure != source);
        self.stated.retain(|(known, _)| known != source);
        self.stated.push((source.clone(), length));
    }

    /// Readers are told this length, or it is proven: a source that stated it has the content, and
    /// one that stated another has something else.
    pub(super) fn weigh(&self, leader: &Leader<Origin>, length: u64) {
        for (source, stated) in &self.stated {
            if *stated == length {
                leader.has(source);
            } else {
                doubt(leader, source);
            }
        }
    }

    /// The digest is proven, with this length. If readers were told another, a source that agreed
    /// to that one agreed to something else.
    pub(super) fn proven(&self, leader: &Leader<Origin>, length: u64, told: Option<u64>) {
        let in_vain = told.is_some_and(|told| told != length);
        // First: from here on no source agrees to the length that was told.
        leader.proves(length, in_vain);
        if in_vain {
            let all = leader.sure_sources();
            all.iter().filter(|source| self.unsure.as_ref() != Some(source)).for_each(|source| doubt(leader, source));
        }
        self.weigh(leader, length);
    }

    /// No bytes are here any more.
    pub(super) fn begun_again(&mut self, leader: &Leader<Origin>) {
        if let Some(unsure) = self.unsure.take() {
            doubt(leader, &unsure);
        }
    }
}

impl Follower<Origin> {
    /// The failure that this reader's client is told. It tells nothing of another registry, and of
    /// another repository of the same registry only an outage, which both have.
    pub(crate) fn told(&self, failure: FillFailure) -> FillFailure {
        let Some(at) = self.failed_at() else { return failure };
        match &failure {
            FillFailure::Upstream(_) | FillFailure::Corrupt if !at.shares_upstream(self.source()) => {
                FillFailure::Elsewhere
            }
            FillFailure::Upstream(error) if refuses(error) || !error.is_outage() => FillFailure::Abandoned,
            _ => failure,
        }
    }
}

/// The source's answer does not count any more. A refusal stays one.
fn doubt(leader: &Leader<Origin>, source: &Origin) {
    if leader.sure_sources().contains(source) {
        leader.doubts(source);
    }
}
