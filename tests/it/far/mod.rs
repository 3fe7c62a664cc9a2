//! The object store: one behaviour for every kind, on real servers and on a store of the tests'
//! own, and what `config check --reach` says of stores that cannot be used.

mod fake;
mod reach;
mod servers;

use std::{fs, path::Path, sync::atomic::Ordering};

use bytes::Bytes;
use lanyard::{
    config::{Config, Inputs},
    storage::{Far, FarError, PartMark, Session},
};

use fake::{Fake, Fault};

/// The least part of S3, in bytes.
const PART: usize = 5 << 20;

fn open(config: &str) -> Far {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lanyard.toml");
    fs::write(&file, config).unwrap();
    let loaded = Config::load(&Inputs { file: Some(file), ..Inputs::default() }).unwrap();
    Far::open(&loaded.config.storage, |_| None).unwrap()
}

/// `[storage]` of the tests' own store as Google's.
fn gcs_config(folder: &Path, fake: &Fake) -> String {
    let account = serde_json::json!({
        "gcs_base_url": format!("http://{}", fake.address), "disable_oauth": true,
        "client_email": "", "private_key": "", "private_key_id": "",
    });
    let file = folder.join("account.json");
    fs::write(&file, account.to_string()).unwrap();
    let file = file.display();
    format!(
        "[storage]\nkind = \"gcs\"\nbucket = \"registry\"\nprefix = \"lanyard/a\"\nservice_account_file = \"{file}\"\n"
    )
}

fn run(far: &Far, neighbour: &Far) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        objects(far).await;
        conditions(far).await;
        parts(far, neighbour).await;
        listings(far, neighbour).await;
        assert!(far.clock_ahead().is_some_and(|seconds| seconds.abs() < 60), "{:?}", far.clock_ahead());
        let reach = far.probe().await;
        assert!(reach.is_good(), "{reach:?}");
        assert_eq!(far.list("probe/", None).await.unwrap().objects, [], "a probe leaves nothing");
    });
}

/// The same store by another prefix.
fn neighbour_of(config: &str) -> Far {
    open(&config.replace("prefix = \"lanyard/a\"", "prefix = \"lanyard/ab\""))
}

async fn content(far: &Far, key: &str) -> Vec<u8> {
    far.read(key, 1 << 30).await.unwrap().0.to_vec()
}

async fn objects(far: &Far) {
    // The characters of the names of records (`storage/names.rs`).
    for key in ["a", "blobs/sha256/ab/0.1", "repos/_hosted/team+app/tags/v1.2-x+3f", "uploads/1-2/3"] {
        assert_eq!((far.size(key).await.unwrap(), far.read(key, 9).await.err()), (None, Some(FarError::Missing)));
        far.put(key, Bytes::from_static(b"one")).await.unwrap();
        far.put(key, Bytes::from_static(b"other")).await.unwrap();
        assert_eq!((far.size(key).await.unwrap(), content(far, key).await), (Some(5), b"other".to_vec()));
        far.remove(key).await.unwrap();
        far.remove(key).await.unwrap();
        assert_eq!(far.size(key).await.unwrap(), None);
    }
    far.put("empty", Bytes::new()).await.unwrap();
    assert_eq!((far.size("empty").await.unwrap(), content(far, "empty").await), (Some(0), Vec::new()));
    let long: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    far.put("long", long.clone().into()).await.unwrap();
    assert!(matches!(far.read("long", 299_999).await, Err(FarError::Refused(_))), "it is longer");
    for range in [0..1, 299_999..300_000, 1000..200_000, 0..300_000] {
        let mut got = Vec::new();
        far.read_range("long", range.clone(), |piece| got.extend_from_slice(&piece)).await.unwrap();
        assert_eq!(got, long[range.start as usize..range.end as usize], "{range:?}");
    }
    for range in [299_999..300_001, 300_000..300_001] {
        assert!(far.read_range("long", range.clone(), |_| {}).await.is_err(), "{range:?}");
    }
    assert_eq!(far.read_range("none", 0..1, |_| {}).await, Err(FarError::Missing));
    for wrong in ["../out", "a//b", "/a", "a/./b"] {
        assert!(far.put(wrong, Bytes::from_static(b"x")).await.is_err(), "{wrong}");
    }
    far.remove("empty").await.unwrap();
    far.remove("long").await.unwrap();
}

async fn conditions(far: &Far) {
    let text = Bytes::from_static;
    let first = far.create("lock.json", text(b"1")).await.unwrap();
    assert_eq!(far.create("lock.json", text(b"2")).await, Err(FarError::Conflict));
    let second = far.replace("lock.json", text(b"3"), &first).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(far.replace("lock.json", text(b"4"), &first).await, Err(FarError::Conflict));
    let (bytes, version) = far.read("lock.json", 9).await.unwrap();
    assert_eq!((&bytes[..], &version), (&b"3"[..], &second), "a reader can go on where the writer was");
    far.remove("lock.json").await.unwrap();
    assert_eq!(far.replace("lock.json", text(b"5"), &second).await, Err(FarError::Conflict), "it is gone");
    // Of many at once, one wins.
    let all = futures_util::future::join_all((0..8).map(|n| far.create("lock.json", Bytes::from(vec![n])))).await;
    assert_eq!(all.iter().filter(|one| one.is_ok()).count(), 1, "{all:?}");
    far.remove("lock.json").await.unwrap();
}

async fn parts(far: &Far, neighbour: &Far) {
    let piece = |n: u8, long: usize| Bytes::from(vec![n; long]);
    let session = far.begin("pushed/1").await.unwrap();
    // Parts come in any order, and another process goes on with what was noted.
    let last = far.part(&session, 2, piece(3, 10)).await.unwrap();
    let middle = far.part(&session, 1, piece(2, PART)).await.unwrap();
    assert_eq!(far.size("pushed/1").await.unwrap(), None, "nothing is there before the end");
    let noted = Session { key: session.key.clone(), id: session.id.clone() };
    let first = far.part(&noted, 0, piece(1, PART)).await.unwrap();
    let marks: Vec<_> = [first, middle, last].iter().map(|mark| PartMark(mark.0.clone())).collect();
    let size = 2 * PART as u64 + 10;
    far.complete(&noted, &marks, size).await.unwrap();
    far.complete(&noted, &marks, size).await.unwrap();
    assert_eq!(far.size("pushed/1").await.unwrap(), Some(size));
    let mut got = Vec::new();
    far.read_range("pushed/1", PART as u64 - 1..PART as u64 + 1, |piece| got.extend_from_slice(&piece)).await.unwrap();
    assert_eq!(got, [1, 2]);
    far.abandon(&noted).await.unwrap();
    assert_eq!(far.size("pushed/1").await.unwrap(), Some(size), "a session that is done takes nothing with it");
    far.remove("pushed/1").await.unwrap();
    // A session that ended makes no object.
    let session = far.begin("pushed/2").await.unwrap();
    let mark = far.part(&session, 0, piece(1, 10)).await.unwrap();
    far.abandon(&session).await.unwrap();
    far.abandon(&session).await.unwrap();
    assert_eq!(far.size("pushed/2").await.unwrap(), None);
    // Azure knows no sessions.
    if !far.name().starts_with("azure") {
        assert!(far.part(&session, 1, piece(2, 10)).await.is_err());
        assert!(far.complete(&session, &[mark], 10).await.is_err());
        assert_eq!(far.size("pushed/2").await.unwrap(), None);
    }
    // Two sessions at once, of neighbours, do not meet.
    let (ours, theirs) = (far.begin("pushed/3").await.unwrap(), neighbour.begin("pushed/3").await.unwrap());
    let our_mark = far.part(&ours, 0, piece(1, 10)).await.unwrap();
    let their_mark = neighbour.part(&theirs, 0, piece(2, 20)).await.unwrap();
    far.complete(&ours, &[our_mark], 10).await.unwrap();
    neighbour.complete(&theirs, &[their_mark], 20).await.unwrap();
    assert_eq!((content(far, "pushed/3").await, content(neighbour, "pushed/3").await), (vec![1; 10], vec![2; 20]));
    far.remove("pushed/3").await.unwrap();
    neighbour.remove("pushed/3").await.unwrap();
}

async fn listings(far: &Far, neighbour: &Far) {
    neighbour.put("names/other", Bytes::from_static(b"x")).await.unwrap();
    let keys: Vec<_> = (0..1010).map(|n| format!("names/{n:04}")).collect();
    for keys in keys.chunks(50) {
        let all = keys.iter().map(|key| far.put(key, Bytes::from_static(b"ab")));
        futures_util::future::join_all(all).await.into_iter().for_each(|put| drop(put.unwrap()));
    }
    let (mut found, mut next, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = far.list("names/", next).await.unwrap();
        found.extend(page.objects);
        pages += 1;
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    found.sort();
    let expected: Vec<_> = keys.iter().map(|key| (key.clone(), 2)).collect();
    assert_eq!((found == expected, pages), (true, 2), "{} of {}", found.len(), expected.len());
    assert_eq!(far.list("names/000", None).await.unwrap().objects.len(), 10);
    assert_eq!(far.list("none/", None).await.unwrap().objects, []);
    for keys in keys.chunks(50) {
        futures_util::future::join_all(keys.iter().map(|key| far.remove(key)))
            .await
            .into_iter()
            .for_each(Result::unwrap);
    }
    assert_eq!(far.list("", None).await.unwrap().objects, []);
    assert_eq!(neighbour.list("", None).await.unwrap().objects, [("names/other".to_owned(), 1)]);
    neighbour.remove("names/other").await.unwrap();
}

#[test]
fn a_store_of_s3s_dialect_behaves() {
    let (fake, folder) = (Fake::start(None), tempfile::tempdir().unwrap());
    let config = servers::s3_config(folder.path(), fake.address);
    run(&open(&config), &neighbour_of(&config));
    assert_eq!(fake.left(), (Vec::new(), 0));
}

#[test]
fn a_store_of_googles_dialect_behaves() {
    let (fake, folder) = (Fake::start(None), tempfile::tempdir().unwrap());
    let config = gcs_config(folder.path(), &fake);
    run(&open(&config), &neighbour_of(&config));
    assert_eq!(fake.left(), (Vec::new(), 0));
}

#[test]
fn versitygw_behaves() {
    if let Some(server) = servers::versitygw() {
        run(&open(&server.config), &neighbour_of(&server.config));
    }
}

#[test]
fn moto_behaves() {
    if let Some(server) = servers::moto() {
        run(&open(&server.config), &neighbour_of(&server.config));
    }
}

#[test]
fn azurite_behaves() {
    if let Some(server) = servers::azurite() {
        run(&open(&server.config), &neighbour_of(&server.config));
    }
}

#[test]
fn a_store_that_is_busy_is_asked_three_times() {
    for (first, works) in [(2, true), (3, false)] {
        let (fake, folder) = (Fake::start(Some(Fault::Unavailable(first))), tempfile::tempdir().unwrap());
        let far = open(&servers::s3_config(folder.path(), fake.address));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let put = runtime.block_on(far.put("a", Bytes::from_static(b"a")));
        assert_eq!(put.is_ok(), works, "{put:?}");
        assert!(works || matches!(put, Err(FarError::Unavailable(_))), "it may have happened");
        assert_eq!(fake.requests.load(Ordering::SeqCst), 3);
    }
}

#[test]
fn bytes_that_end_early_are_told() {
    let (fake, folder) = (Fake::start(Some(Fault::CutBodies)), tempfile::tempdir().unwrap());
    let far = open(&servers::s3_config(folder.path(), fake.address));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        far.put("a", Bytes::from(vec![1; 100_000])).await.unwrap();
        let mut got = 0;
        let read = far.read_range("a", 0..100_000, |piece| got += piece.len()).await;
        assert!(matches!(read, Err(FarError::Unavailable(_))), "{read:?}");
        // What ended early is asked for again from there, and ends early again.
        assert!(got > 50_000 && got < 100_000, "{got}");
        assert!(far.read("a", 100_000).await.is_err());
    });
}
