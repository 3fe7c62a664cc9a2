//! Where the content of one fill can be had, and who may be given it: only those who ask by way of a source that has it
//! (S5). One fill serves many repositories, and what one of them says is not said for another.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::upstream::UpstreamError;

/// The sources of a fill, in the order in which they were named. Shared by the leader and its followers.
#[derive(Clone)]
pub(super) struct Sources<S>(Arc<Mutex<Known<S>>>);

struct Known<S> {
    sources: Vec<(S, Standing)>,
    /// The length in bytes, from the moment at which the digest is proven.
    proven: Option<u64>,
    /// Readers were told another length before that: whoever agreed to it, agreed to something
    /// else.
    in_vain: bool,
    /// The one at which the fill failed.
    failed_at: Option<S>,
}

/// What is known of a source.
#[derive(Clone, Debug)]
pub(in crate::pull) enum Standing {
    /// It has not said yet.
    Asked,
    /// It did not refuse, and what it said is not weighed yet. Bytes may come from it.
    Offered,
    /// It has the content: it said so, or a manifest there names it.
    Has,
    /// It has not, or does not give it out.
    Refused(Arc<UpstreamError>),
}

impl<S: Clone + PartialEq> Sources<S> {
    pub(super) fn new(source: S, standing: Standing) -> Self {
        Sources(Arc::new(Mutex::new(Known {
            sources: vec![(source, standing)],
            proven: None,
            in_vain: false,
            failed_at: None,
        })))
    }

    /// Puts a source down, or what it has said by now.
    pub(super) fn note(&self, source: &S, standing: Standing) {
        self.lock().note(source, standing);
    }

    /// The source states the length that readers were told: it has the content, unless another
    /// length is proven. Says whether it has.
    pub(super) fn agrees(&self, source: &S, length: u64) -> bool {
        let mut known = self.lock();
        let has = known.proven.is_none_or(|proven| proven == length);
        if has {
            known.note(source, Standing::Has);
        }
        has
    }

    /// The digest is proven, with this length. `in_vain`: readers were told another.
    pub(super) fn proven(&self, length: u64, in_vain: bool) {
        let mut known = self.lock();
        (known.proven, known.in_vain) = (Some(length), in_vain);
    }

    pub(super) fn failed_at(&self, source: S) {
        self.lock().failed_at = Some(source);
    }

    /// The one at which the fill failed.
    pub(super) fn where_it_failed(&self) -> Option<S> {
        self.lock().failed_at.clone()
    }

    pub(super) fn is_proven(&self) -> bool {
        self.lock().proven.is_some()
    }

    /// What is known of a source; `None` if nobody has asked by way of it.
    pub(super) fn standing(&self, source: &S) -> Option<Standing> {
        self.lock().standing(source).cloned()
    }

    /// Whether a reader who was told a length may go on: the source counts, or counted when it
    /// refused, and what was told is not disproven.
    pub(super) fn carries(&self, source: &S) -> bool {
        let known = self.lock();
        match known.standing(source) {
            Some(Standing::Has) => true,
            Some(Standing::Refused(_)) => !known.in_vain,
            Some(Standing::Asked | Standing::Offered) | None => false,
        }
    }

    /// Those that have not refused.
    pub(super) fn worth_asking(&self) -> Vec<S> {
        self.that(|standing| !matches!(standing, Standing::Refused(_)))
    }

    /// Those that are known to have it.
    pub(super) fn sure(&self) -> Vec<S> {
        self.that(|standing| matches!(standing, Standing::Has))
    }

    fn that(&self, is: impl Fn(&Standing) -> bool) -> Vec<S> {
        self.lock().sources.iter().filter(|(_, standing)| is(standing)).map(|(source, _)| source.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known<S>> {
        // The critical sections cannot leave the list half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Clone + PartialEq> Known<S> {
    fn note(&mut self, source: &S, standing: Standing) {
        match self.sources.iter_mut().find(|(known, _)| known == source) {
            Some((_, known)) => *known = standing,
            None => self.sources.push((source.clone(), standing)),
        }
    }

    fn standing(&self, source: &S) -> Option<&Standing> {
        self.sources.iter().find(|(known, _)| known == source).map(|(_, standing)| standing)
    }
}

/// Whether a source said that it has no such content, or does not give it out. Others may.
pub(super) fn refuses(error: &UpstreamError) -> bool {
    match error {
        UpstreamError::NotFound { .. }
        | UpstreamError::Denied { .. }
        | UpstreamError::Blocked
        | UpstreamError::Offline => true,
        UpstreamError::RateLimited { .. }
        | UpstreamError::Failed { .. }
        | UpstreamError::Unreachable(_)
        | UpstreamError::CircuitOpen { .. }
        | UpstreamError::Untrue { .. }
        | UpstreamError::RangeNotSatisfiable => false,
    }
}
