//! Whose word counts in one fill: which sources are known to have the content (S23).
//!
//! | a source | counts |
//! |---|---|
//! | stated a length | where readers are told that length, or it is proven |
//! | stated none, and sent every byte that is here | until another one sends some |
//! | anything else | never by its answers |
//!
//! Where readers were told a length, bytes are taken only from those who state it too, and from the
//! one that sent every byte: so nobody's word for a false length brings another's bytes.
//!
//! Those who ask by way of a source that counts are given the bytes of all sources, and at the end
//! its repository holds the content. [`Words`] is the download's alone.

use super::{failure::FillFailure, follower::Follower, leader::Leader, origin::Origin, sources::refuses};

/// See the module.
#[derive(Default)]
pub(super) struct Words {
    /// What each source last stated as the length, in bytes.
    stated: Vec<(Origin, u64)>,
    /// The source of all bytes here that has never stated a length.
    unsure: Option<Origin>,
}

impl Words {
    /// Readers who asked by way of this source get its bytes alone.
    pub(super) fn unsure(&self) -> Option<&Origin> {
        self.unsure.as_ref()
    }

    /// All bytes that are here are this source's, and it has stated no length.
    pub(super) fn sends_all(&mut self, leader: &Leader<Origin>, source: &Origin) {
        leader.has(source);
        self.unsure = Some(source.clone());
    }

    /// What comes now is this source's.
    pub(super) fn sends(&mut self, leader: &Leader<Origin>, source: &Origin) {
        if let Some(other) = self.unsure.take_if(|unsure| unsure != source) {
            doubt(leader, &other);
        }
    }

    /// Whether its next bytes may go to readers who were told this length.
    pub(super) fn stands_for(&self, source: &Origin, told: u64) -> bool {
        self.unsure.as_ref() == Some(source) || self.stated.iter().any(|word| word.0 == *source && word.1 == told)
    }

    pub(super) fn states(&mut self, source: &Origin, length: u64) {
        self.unsure = self.unsure.take().filter(|unsure| unsure != source);
        self.stated.retain(|(known, _)| known != source);
        self.stated.push((source.clone(), length));
    }

    /// Readers are told this length, or it is proven: whoever stated it has the content, and whoever
    /// stated another has something else.
    pub(super) fn weigh(&self, leader: &Leader<Origin>, length: u64) {
        for (source, stated) in &self.stated {
            if *stated == length {
                leader.has(source);
            } else {
                doubt(leader, source);
            }
        }
    }

    /// The digest is proven, with this length. Where readers were told another, whoever agreed to
    /// that agreed to something else.
    pub(super) fn proven(&self, leader: &Leader<Origin>, length: u64, told: Option<u64>) {
        let in_vain = told.is_some_and(|told| told != length);
        // First: nobody agrees to what was told from here on.
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
    /// What this reader's client is told of the end: nothing of what another registry did or said,
    /// and of another repository only the trouble that both have.
    pub(crate) fn told(&self, failure: FillFailure) -> FillFailure {
        let Some(at) = self.failed_at_another() else { return failure };
        match &failure {
            FillFailure::Upstream(_) | FillFailure::Corrupt if !at.shares_upstream(self.source()) => {
                FillFailure::Elsewhere
            }
            FillFailure::Upstream(error) if refuses(error) || !error.is_outage() => FillFailure::Abandoned,
            _ => failure,
        }
    }
}

/// What the source said is no word any more. One that refused has refused.
fn doubt(leader: &Leader<Origin>, source: &Origin) {
    if leader.sure_sources().contains(source) {
        leader.doubts(source);
    }
}
