//! A blob that an address asks for again: `http::v2::blobs` comes here before each blob answer.
//! `second_look` remembers and proves.

use std::{net::IpAddr, sync::Arc};

use super::{Giving, PullThrough, StillProving, second_look::Mark};
use crate::oci::{Digest, Repository};

impl PullThrough {
    /// To be called before a blob is given: proves the blob if this address was just given all of
    /// it.
    pub async fn look_again(&self, to: IpAddr, repo: &Repository, digest: &Digest) -> Result<(), StillProving> {
        if !self.second_look.was_given(to, digest) || self.was_proven(repo, digest) {
            return Ok(());
        }
        // On the heap: 472 bytes that a blob that is asked for once does not need.
        Box::pin(self.second_look.prove(to, *digest)).await
    }

    /// Whether the proof of a blob that is open is still good.
    fn was_proven(&self, repo: &Repository, digest: &Digest) -> bool {
        let Some(mark) = self.second_look.known(digest) else { return false };
        let opened = self.warm_blobs.get(self.storage.version(repo), repo, digest).and_then(|kept| kept.get());
        opened.is_some_and(|stored| Mark::of(&stored.file).is_ok_and(|now| now == mark))
    }

    /// This address is about to be given a blob, or a range of it from `first` on.
    pub fn giving(&self, to: IpAddr, digest: &Digest, first: u64, size: u64) -> Giving {
        Giving::one(Arc::clone(&self.second_look), to, *digest, first, size)
    }

    /// The same for an answer with several ranges, which count when all of it went out.
    pub fn giving_parts(&self, to: IpAddr, digest: &Digest, parts: Vec<(u64, u64)>, size: u64) -> Giving {
        Giving::several(Arc::clone(&self.second_look), to, *digest, parts, size)
    }
}
