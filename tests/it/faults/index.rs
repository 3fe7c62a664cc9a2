//! The index is never needed: when it is lost, damaged or replaced, no answer changes and no start
//! fails.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::{
    figure,
    index_cases::{Damage, damage},
    rounds,
    shelf::{cached, copy, images, keep, list, pull},
};
use crate::{
    hub::{Hub, Image},
    lanyard::Lanyard,
    pull::mirror_with,
    wire::{eventually, get, manifest},
};

/// How many servers run at a time.
const LANES: usize = 4;
const CONFIG: &str = "[cache]\nmin_free = \"0%\"\n";

/// A copy of the parts of a data folder that are the index.
struct Copy(tempfile::TempDir);

impl Copy {
    fn of(data: &Path) -> Copy {
        let kept = tempfile::tempdir().unwrap();
        copy(&data.join("index"), &kept.path().join("index"));
        for file in ["index.clean", "LOCK"] {
            fs::copy(data.join(file), kept.path().join(file)).expect("an orderly stop leaves a clean mark");
        }
        Copy(kept)
    }

    fn folder(&self, data: &Path) {
        let _ = fs::remove_dir_all(data.join("index"));
        copy(&self.0.path().join("index"), &data.join("index"));
    }

    /// Puts the mark of a clean stop there, and the file that says which process made it. Together
    /// they make the index believed.
    fn put_mark(&self, data: &Path) {
        self.mark(data);
        fs::copy(self.0.path().join("LOCK"), data.join("LOCK")).unwrap();
    }

    fn mark(&self, data: &Path) {
        fs::copy(self.0.path().join("index.clean"), data.join("index.clean")).unwrap();
    }
}

/// Every answer is right, again and again while the index opens, is filled, or gives up.
fn right(lanyard: &Lanyard, all: &[Image], what: &str) {
    let until = Instant::now() + Duration::from_millis(80);
    let mut tags: Vec<_> = all.iter().map(|image| image.tag.clone()).collect();
    tags.sort();
    loop {
        for image in all {
            let outcomes = pull(lanyard.port(), image).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(cached(&outcomes), "{what}: {outcomes:?}");
        }
        let listed = get(lanyard.port(), "/v2/library/busybox/tags/list").json();
        assert_eq!(listed["tags"], serde_json::json!(tags), "{what}");
        if Instant::now() > until {
            break;
        }
    }
    assert!(lanyard.pid().is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists()), "{what}: it died");
}

fn starts(lanyard: &mut Lanyard, what: &str) {
    let began = Instant::now();
    lanyard.restart();
    assert!(began.elapsed() < Duration::from_secs(5), "{what}: started after {:?}", began.elapsed());
}

/// Bit flips and truncations in sled's files, of an index that was closed in order and is therefore
/// believed.
#[test]
fn a_damaged_index_changes_no_answer() {
    let count = rounds(50, 500);
    thread::scope(|scope| {
        for lane in 0..LANES {
            scope.spawn(move || damaged((lane..count).step_by(LANES)));
        }
    });
    figure(&format!("{count} damaged indexes"));
}

fn damaged(rounds: impl Iterator<Item = usize>) {
    let hub = Hub::start();
    let all = images(&hub, "tag", 4, &[1000]);
    let mut lanyard = mirror_with(&hub, CONFIG);
    all.iter().for_each(|image| keep(lanyard.port(), image));
    assert!(lanyard.stop().success());
    let kept = Copy::of(&lanyard.data_dir());
    hub.go_down();
    for round in rounds {
        let data = lanyard.data_dir();
        kept.folder(&data);
        kept.put_mark(&data);
        let files: Vec<PathBuf> = list(&data.join("index")).into_iter().filter(|path| path.is_file()).collect();
        let what = damage(&files, round);
        starts(&mut lanyard, &what);
        right(&lanyard, &all, &what);
        lanyard.kill9();
    }
}

/// Every file of the index in turn: gone, empty, or with other bytes.
#[test]
fn an_index_with_a_file_gone_changes_no_answer() {
    let hub = Hub::start();
    let all = images(&hub, "tag", 3, &[1000]);
    let mut lanyard = mirror_with(&hub, CONFIG);
    all.iter().for_each(|image| keep(lanyard.port(), image));
    assert!(lanyard.stop().success());
    let data = lanyard.data_dir();
    let kept = Copy::of(&data);
    hub.go_down();
    let names = list(&data.join("index")).into_iter().filter(|path| path.is_file()).collect::<Vec<_>>();
    for file in names {
        for damage in [Damage::Gone, Damage::Empty, Damage::Rubbish, Damage::Folder] {
            kept.folder(&data);
            kept.put_mark(&data);
            damage.apply(&file);
            let what = format!("{damage:?} {}", file.display());
            starts(&mut lanyard, &what);
            right(&lanyard, &all, &what);
            lanyard.kill9();
        }
    }
}

/// Deleted under a running server, and deleted while it is stopped.
#[test]
fn a_deleted_index_loses_nothing() {
    let hub = Hub::start();
    let mut all = images(&hub, "tag", 4, &[1000, 2000]);
    let mut lanyard = mirror_with(&hub, CONFIG);
    all.iter().for_each(|image| keep(lanyard.port(), image));
    for round in 0..rounds(4, 40) {
        fs::remove_dir_all(lanyard.data_dir().join("index")).unwrap();
        let more = images(&hub, &format!("more{round}-"), 1, &[1500]);
        // Upstream was down in the last round, and is asked again after a while.
        eventually("upstream is asked again", || pull(lanyard.port(), &more[0]).is_ok());
        keep(lanyard.port(), &more[0]);
        all.extend(more);
        hub.go_down();
        right(&lanyard, &all, "deleted while running");
        if round % 2 == 0 {
            assert!(lanyard.stop().success())
        } else {
            lanyard.kill9()
        }
        if round % 4 < 2 {
            let _ = fs::remove_dir_all(lanyard.data_dir().join("index"));
        }
        starts(&mut lanyard, "after the index was deleted");
        right(&lanyard, &all, "after the index was deleted");
        hub.come_back();
    }
    assert!(!lanyard.logs().contains("panicked at 'src"), "a panic of ours");
}

/// An old copy of the index over newer files: the files win, and no old tag comes back.
#[test]
fn a_stale_index_brings_no_old_tag_back() {
    for (what, mark, running) in [
        ("the folder", false, false),
        ("the folder and its mark", true, false),
        ("the folder while running", false, true),
    ] {
        let hub = Hub::start();
        let old = images(&hub, "old", 1, &[1000]).remove(0);
        let new = images(&hub, "new", 1, &[2000]).remove(0);
        hub.move_tag(&old.repo, "latest", &old.digest);
        let mut lanyard = mirror_with(&hub, "[cache]\nmin_free = \"0%\"\ntag_ttl = \"0s\"\n");
        let path = manifest(&old.repo, "latest");
        let digest = |lanyard: &Lanyard| get(lanyard.port(), &path).header("docker-content-digest").unwrap().to_owned();
        pull(lanyard.port(), &old).unwrap();
        pull(lanyard.port(), &new).unwrap();
        assert_eq!(digest(&lanyard), old.digest);
        assert!(lanyard.stop().success());
        let kept = Copy::of(&lanyard.data_dir());
        lanyard.restart();
        hub.move_tag(&old.repo, "latest", &new.digest);
        assert_eq!(digest(&lanyard), new.digest);
        hub.go_down();
        if running {
            kept.folder(&lanyard.data_dir());
            assert_eq!(digest(&lanyard), new.digest, "{what}");
        }
        assert!(lanyard.stop().success());
        if !running {
            kept.folder(&lanyard.data_dir());
        }
        if mark {
            kept.mark(&lanyard.data_dir());
        }
        starts(&mut lanyard, what);
        let until = Instant::now() + Duration::from_millis(300);
        while Instant::now() < until {
            assert_eq!(digest(&lanyard), new.digest, "an old copy of {what} brought an old tag back");
        }
    }
}
