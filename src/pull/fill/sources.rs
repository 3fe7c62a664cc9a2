//! Where the content of one fill can be had, and which requests it may be given to: those whose
//! source has it (S5). One fill serves many repositories, and an answer of one of them counts for
//! that one alone.
//!
//! The leader writes the states, and followers read them. A claim and a follower write the state of
//! their own source alone: that it has the content, or that it did not refuse. A source is in one
//! [`SourceState`] at a time; `statements` weighs what sources say.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::upstream::UpstreamError;

/// The sources of a fill, in the order in which they were named. Shared by the leader and its
/// followers.
#[derive(Clone)]
pub(super) struct FillSources<S>(Arc<Mutex<Inner<S>>>);

struct Inner<S> {
    sources: Vec<(S, SourceState)>,
    /// The length in bytes, from the moment at which the digest is proven.
    proven: Option<u64>,
    /// Readers were told another length before that: a source that agreed to it agreed to
    /// something else.
    in_vain: bool,
    /// The source at which the fill failed.
    failed_at: Option<S>,
}

/// What is known of a source.
#[derive(Clone, Debug)]
pub(in crate::pull) enum SourceState {
    /// It has not answered yet.
    Asked,
    /// It did not refuse, and its answer has not been weighed yet. Bytes may come from it.
    Offered,
    /// It has the content: it said so, or a manifest there names the content.
    Has,
    /// It does not have the content, or does not give it out.
    Refused(Arc<UpstreamError>),
}

impl<S: Clone + PartialEq> FillSources<S> {
    pub(super) fn new(source: S, state: SourceState) -> Self {
        let sources = vec![(source, state)];
        FillSources(Arc::new(Mutex::new(Inner { sources, proven: None, in_vain: false, failed_at: None })))
    }

    /// Sets the state of a source, and adds the source if it is new.
    pub(super) fn note(&self, source: &S, state: SourceState) {
        self.0.lock().note(source, state);
    }

    /// The source states the length that readers were told: it has the content, unless another
    /// length is proven. Says whether it has.
    pub(super) fn agrees(&self, source: &S, length: u64) -> bool {
        let mut inner = self.0.lock();
        let has = inner.proven.is_none_or(|proven| proven == length);
        if has {
            inner.note(source, SourceState::Has);
        }
        has
    }

    /// The digest is proven, with this length. `in_vain`: readers were told another.
    pub(super) fn set_proven(&self, length: u64, in_vain: bool) {
        let mut inner = self.0.lock();
        (inner.proven, inner.in_vain) = (Some(length), in_vain);
    }

    /// Whether the digest is proven.
    pub(super) fn is_proven(&self) -> bool {
        self.0.lock().proven.is_some()
    }

    /// The fill fails at this source.
    pub(super) fn set_failed_at(&self, source: S) {
        self.0.lock().failed_at = Some(source);
    }

    /// The source at which the fill failed.
    pub(super) fn failed_at(&self) -> Option<S> {
        self.0.lock().failed_at.clone()
    }

    /// The state of a source; `None` if no request has named it.
    pub(super) fn state(&self, source: &S) -> Option<SourceState> {
        self.0.lock().state(source).cloned()
    }

    /// Whether a reader who was told a length may go on: its source has the content, or had it and
    /// refused later, and the length is not disproven.
    pub(super) fn carries(&self, source: &S) -> bool {
        let inner = self.0.lock();
        match inner.state(source) {
            Some(SourceState::Has) => true,
            Some(SourceState::Refused(_)) => !inner.in_vain,
            Some(SourceState::Asked | SourceState::Offered) | None => false,
        }
    }

    /// The source that the fill was begun for.
    pub(super) fn first(&self) -> Option<S> {
        self.0.lock().sources.first().map(|(source, _)| source.clone())
    }

    /// Those that have not refused.
    pub(super) fn worth_asking(&self) -> Vec<S> {
        self.having(|state| !matches!(state, SourceState::Refused(_)))
    }

    /// Those that are known to have the content.
    pub(super) fn sure(&self) -> Vec<S> {
        self.having(|state| matches!(state, SourceState::Has))
    }

    fn having(&self, is: impl Fn(&SourceState) -> bool) -> Vec<S> {
        self.0.lock().sources.iter().filter(|(_, state)| is(state)).map(|(source, _)| source.clone()).collect()
    }
}

impl<S: Clone + PartialEq> Inner<S> {
    fn note(&mut self, source: &S, state: SourceState) {
        match self.sources.iter_mut().find(|(known, _)| known == source) {
            Some((_, known)) => *known = state,
            None => self.sources.push((source.clone(), state)),
        }
    }

    fn state(&self, source: &S) -> Option<&SourceState> {
        self.sources.iter().find(|(known, _)| known == source).map(|(_, state)| state)
    }
}

/// Whether a source answered that it does not have the content, or does not give it out. Another
/// source may.
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
