//! A fill from an origin that is no registry: it uses nothing of a registry but what [`Origin`]
//! has.

use std::{convert::Infallible, fs, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    claim::{Claim, Fills},
    failure::FillFailure,
    folder::Folder,
    follower::Follower,
    leader::Leader,
    origin::Origin,
    transfer::Drive,
};
use crate::{
    config::MinFree,
    metrics::Metrics,
    oci::{Algorithm, Digest, Hasher},
    runtime::BlockingPool,
    storage::{Limits, LinkRight, Storage},
    upstream::UpstreamError,
};

struct World {
    dir: TempDir,
    drive: Drive,
    fills: Fills<Origin>,
    content: Vec<u8>,
    digest: Digest,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { max_size: None, min_free: MinFree::Bytes(0) };
        let pool = BlockingPool::new(Handle::current(), 2);
        let drive = Drive {
            storage: Arc::new(Storage::open(&dir.path().join("data"), limits, pool).unwrap()),
            metrics: Arc::new(Metrics::new(&[])),
            stop: CancellationToken::new(),
        };
        let content: Vec<u8> = (0..10_000_u32).map(|n| n.to_string().as_bytes()[0]).collect();
        let digest = Hasher::digest(Algorithm::Sha256, &content);
        World { dir, drive, fills: Fills::new(), content, digest }
    }

    /// An empty folder of this name.
    fn folder(&self, name: &str) -> Folder {
        let path = self.dir.path().join(name);
        fs::create_dir(&path).unwrap();
        Folder::new(path, "folder.example", name)
    }

    /// A folder that has the blob, cut to so many bytes.
    fn folder_with(&self, name: &str, bytes: usize) -> Folder {
        let folder = self.folder(name);
        folder.put(&self.digest, &self.content[..bytes]);
        folder
    }

    /// An earlier fill left so many bytes, which came from this folder.
    fn leave(&self, from: &Folder, bytes: usize) {
        let mut part = self.drive.storage.files().downloads.open(self.digest, None).unwrap();
        part.set_total(Some(self.content.len() as u64)).unwrap();
        part.add_source(&Origin::Folder(from.clone()).word()).unwrap();
        part.append(vec![Bytes::copy_from_slice(&self.content[..bytes])]).unwrap();
        part.park().unwrap();
    }

    fn claim(&self, folder: &Folder) -> Claim<Origin, ()> {
        let origin = Origin::Folder(folder.clone());
        let claim = self.fills.claim(self.digest, origin, true, async { Ok::<_, Infallible>(None) });
        claim.now_or_never().unwrap().unwrap()
    }

    fn lead(&self, folder: &Folder) -> (Leader<Origin>, Follower<Origin>) {
        match self.claim(folder) {
            Claim::Lead(leader, follower) => (leader, follower),
            Claim::Follow { .. } | Claim::Stored(()) => panic!("another fill leads"),
        }
    }

    /// Fills from these folders, and says how it ended.
    async fn fill(&self, folders: &[&Folder], expected: Option<u64>) -> Result<u64, FillFailure> {
        let (leader, mut follower) = self.lead(folders[0]);
        folders[1..].iter().for_each(|folder| drop(self.claim(folder)));
        self.drive.clone().run(leader, expected).await;
        follower.committed().await
    }

    fn stored(&self) -> Option<Vec<u8>> {
        let stored = self.drive.storage.files().blobs.open(&self.digest).unwrap()?;
        let mut bytes = vec![0; stored.size as usize];
        std::os::unix::fs::FileExt::read_exact_at(&*stored.file, &mut bytes, 0).unwrap();
        Some(bytes)
    }

    fn holds(&self, folder: &Folder) -> bool {
        let link = self.drive.storage.files().catalog.link(&folder.repository(), &self.digest).unwrap();
        link.is_some_and(|link| link.right == LinkRight::Fetched && link.size == self.content.len() as u64)
    }

    fn leftovers(&self) -> usize {
        self.drive.storage.files().downloads.leftovers().unwrap().len()
    }
}

#[tokio::test]
async fn a_blob_comes_from_a_folder() {
    let world = World::new();
    let folder = world.folder_with("a", 10_000);
    assert_eq!(world.fill(&[&folder], None).await.unwrap(), 10_000);
    assert_eq!(world.stored().as_ref(), Some(&world.content));
    assert!(world.holds(&folder));
    assert_eq!(folder.asked(), [0]);
}

#[tokio::test]
async fn a_fill_goes_on_in_the_middle_of_a_file() {
    let world = World::new();
    let folder = world.folder_with("a", 10_000);
    world.leave(&folder, 4_000);
    assert_eq!(world.fill(&[&folder], None).await.unwrap(), 10_000);
    assert_eq!(world.stored().as_ref(), Some(&world.content));
    assert_eq!(folder.asked(), [4_000]);
}

#[tokio::test]
async fn a_missing_file_is_a_refusal() {
    let world = World::new();
    let empty = world.folder("empty");
    let failure = world.fill(&[&empty], None).await.unwrap_err();
    assert!(matches!(failure, FillFailure::Upstream(error) if matches!(*error, UpstreamError::NotFound { .. })));
    assert_eq!((world.stored(), world.leftovers()), (None, 0));

    let full = world.folder_with("full", 10_000);
    assert_eq!(world.fill(&[&empty, &full], None).await.unwrap(), 10_000);
    assert_eq!((world.holds(&empty), world.holds(&full)), (false, true));
    assert_eq!((empty.asked(), full.asked()), (vec![0, 0], vec![0]));
}

#[tokio::test]
async fn a_short_file_is_not_the_blob() {
    let world = World::new();
    let short = world.folder_with("short", 3_000);
    let failure = world.fill(&[&short], None).await.unwrap_err();
    assert!(matches!(failure, FillFailure::Corrupt));
    assert_eq!((world.stored(), world.leftovers()), (None, 0));

    let full = world.folder_with("full", 10_000);
    assert_eq!(world.fill(&[&short, &full], Some(10_000)).await.unwrap(), 10_000);
    assert_eq!(world.stored().as_ref(), Some(&world.content));
    assert_eq!((world.holds(&short), world.holds(&full)), (false, true));
}

/// An earlier fill left more bytes than the file has by now.
#[tokio::test]
async fn what_a_cut_file_has_left_is_thrown_away() {
    let world = World::new();
    let (cut, full) = (world.folder_with("cut", 3_000), world.folder_with("full", 10_000));
    world.leave(&cut, 4_000);
    assert_eq!(world.fill(&[&cut, &full], None).await.unwrap(), 10_000);
    assert_eq!(world.stored().as_ref(), Some(&world.content));
    assert_eq!((cut.asked(), full.asked()), (vec![4_000], vec![0]));
    assert_eq!((world.holds(&cut), world.holds(&full)), (false, true));
}
