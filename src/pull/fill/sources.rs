//! Where the content of one fill can be had, and who may be given it: only those who ask by way of a source that has it
//! (S5). One fill serves many repositories, and what one of them says is not said for another.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::upstream::UpstreamError;

/// The sources of a fill, in the order in which they were named. Shared by the leader and its followers.
#[derive(Clone)]
pub(super) struct Sources<S>(Arc<Mutex<Vec<(S, Standing)>>>);

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
        Sources(Arc::new(Mutex::new(vec![(source, standing)])))
    }

    /// Puts a source down, or what it has said by now.
    pub(super) fn note(&self, source: &S, standing: Standing) {
        let mut sources = self.lock();
        match sources.iter_mut().find(|(known, _)| known == source) {
            Some((_, known)) => *known = standing,
            None => sources.push((source.clone(), standing)),
        }
    }

    /// What is known of a source; `None` if nobody has asked by way of it.
    pub(super) fn standing(&self, source: &S) -> Option<Standing> {
        self.lock().iter().find(|(known, _)| known == source).map(|(_, standing)| standing.clone())
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
        self.lock().iter().filter(|(_, standing)| is(standing)).map(|(source, _)| source.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(S, Standing)>> {
        // The critical sections cannot leave the list half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a source said that it has no such content, or does not give it out. Others may.
pub(in crate::pull) fn refuses(error: &UpstreamError) -> bool {
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
