//! The words of the OCI Distribution and Image specifications, as types.
//!
//! Pure: no I/O, no clock, no import of another room; every room may use it. A value is built once,
//! at the edge, from the bytes of a client or an upstream, and building it is strict. Below the
//! edge no `&str` stands for a digest, a name or a reference.

mod accept;
mod digest;
mod error;
mod fields;
mod hasher;
mod manifest;
mod media_type;
mod name;
mod needed;
mod outcome;
mod platforms;
mod range;
mod ranges;
mod reference;
mod repository;
mod tags;

pub use accept::Accept;
pub use digest::{Algorithm, Digest, DigestError};
pub use error::{ErrorCode, RegistryError};
pub use hasher::{HashState, Hasher};
pub use manifest::{Descriptor, MAX_MANIFEST_BYTES, Manifest, ManifestError, Platform};
pub use media_type::{
    DOCKER_IMAGE, DOCKER_LIST, MANIFEST_ACCEPT, OCI_IMAGE, OCI_INDEX, is_index, is_manifest, is_schema1,
};
pub use name::{NameError, RepositoryName, UpstreamName};
pub use needed::{NeededError, needed};
pub use outcome::Outcome;
pub use platforms::{MissingPlatforms, NotAPlatform, PlatformName, Platforms};
pub use range::{ByteRange, ContentRange, Unsatisfiable};
pub use ranges::{ByteRanges, ContentRanges, MOST_RANGES, NotRanges};
pub use reference::{Reference, ReferenceError, Tag};
pub use repository::{Namespace, Repository};
pub use tags::{Tags, TooManyTags};
