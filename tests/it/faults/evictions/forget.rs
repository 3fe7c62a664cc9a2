//! K4, K5, K6: SIGKILL at the Nth system call of the forgetting of names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::Arc,
    thread,
    time::Duration,
};

use lanyard::{
    app::App,
    config::{Config, Flags, Inputs},
    retention::{Forgetter, KeptSet, Source},
    runtime::BlockingPool,
};

use super::{
    KIB, REPO, cap, folder, give_order, hub, keep_image, names, pin, points, starts_with, tags_name_what_is_here, used,
};
use crate::{
    faults::{
        figure, rounds,
        shelf::{cached, check_blobs, copy, digests, pull},
        strace::{Ambush, available, died},
    },
    lanyard::{CONFIG, Lanyard},
    pull::config,
    wire::eventually,
};

const CALLS: &[&str] = &["unlink", "fsync", "openat", "rename", "fdatasync", "write", "pwrite64"];

/// The file beside the configuration with which the forgetting begins.
const GO: &str = "go";

/// A server that forgets every name at once that has no content and was last used two minutes ago,
/// as soon as it is told to.
#[test]
#[ignore = "run, and killed, by the test of this module"]
fn serve_and_forget() {
    let file = std::path::PathBuf::from(std::env::var_os(CONFIG).unwrap());
    let go = file.with_file_name(GO);
    let inputs = Inputs { file: Some(file), environment: Vec::new(), flags: Flags::default() };
    let app = App::start(&Config::load(&inputs).unwrap().config).unwrap();
    let storage = Arc::clone(app.storage());
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let kept = KeptSet::new(&storage, vec![Source::Pins]);
        let forgetter = Forgetter::new(&storage, BlockingPool::new(runtime.handle().clone(), 1), &kept, Duration::ZERO);
        while !go.exists() {
            thread::sleep(Duration::from_millis(1));
        }
        runtime.block_on(forgetter.run(Duration::from_millis(5), tokio_util::sync::CancellationToken::new()));
    });
    // The test harness has not ended its own line.
    println!("\nlistening on http://{}", app.listening().unwrap());
    app.run(std::future::pending::<Result<std::future::Pending<()>, std::io::Error>>()).unwrap();
}

/// Six names without content are forgotten, of images that share parts with each other and with a
/// pinned one, beside one that is here. Killed at any step, no tag is without its
/// manifest, what stays is whole, and the next start forgets the rest.
#[test]
fn k5_killed_at_any_step_of_forgetting_no_tag_is_without_its_manifest() {
    if !available() {
        return;
    }
    let hub = hub();
    let mut lanyard = Lanyard::prepare(&config(&hub, &cap("1 GiB")));
    lanyard.as_test("faults::evictions::forget::serve_and_forget");
    lanyard.restart();
    let (data, go) = (lanyard.data_dir(), lanyard.config_file().with_file_name(GO));
    let image = |tag: &str, platforms: &[&str]| {
        // What is here keeps the names of all that need it.
        let shared = if tag == "kept" { 8 } else { 7 };
        let image = hub.image(REPO, tag).layer_of(vec![shared; 20 * KIB]).layer(3000).platforms(platforms).publish();
        keep_image(&lanyard, &image);
        image
    };
    let pinned = image("pinned", &["linux/amd64", "linux/arm64"]);
    for n in 0..6 {
        image(&format!("old{n}"), if n % 2 == 0 { &[] } else { &["linux/amd64", "linux/arm64"] });
    }
    eventually("all content is let go", || {
        give_order(&data, "POST", "/api/v1/trim?to=0").unwrap();
        digests(&data).len() == 15
    });
    let kept = image("kept", &[]);
    assert_eq!(pin(&data, ":pinned"), Some(true));
    lanyard.stop();
    fs::remove_dir_all(data.join("index")).unwrap();
    // It ended by the signal alone, and left its socket.
    fs::remove_file(data.join("lanyard.sock")).unwrap();
    let before = lanyard.config_file().with_file_name("before");
    copy(&data, &before);
    let link = |digest: &str| digest.replace(':', "-");
    let manifests = pinned.platforms.iter().map(|platform| &*platform.digest);
    let all = kept.blobs().into_iter().chain(pinned.blobs()).chain(manifests).chain([&*kept.digest, &*pinned.digest]);
    let stays: BTreeSet<_> = all.map(link).collect();
    let wanted = rounds(6, 500);
    let (mut deaths, mut slowest) = (BTreeMap::new(), Duration::ZERO);
    for (call, nth) in points(CALLS, 24).take(wanted * 3) {
        let point = format!("{call} {nth}");
        fs::remove_dir_all(&data).unwrap();
        copy(&before, &data);
        all_used_an_hour_ago(&lanyard);
        lanyard.restart();
        let ambush = Ambush::lay(&lanyard, call, &format!("signal=KILL:when={nth}"));
        fs::write(&go, "").unwrap();
        let is_over = || names(&folder(&data, REPO).join("tags")).len() == 2;
        let mut dead = false;
        eventually(&format!("{point}: it dies or is done"), || {
            dead = died(&mut lanyard);
            dead || is_over()
        });
        dead = dead || died(&mut lanyard);
        drop(ambush);
        if dead {
            *deaths.entry(call).or_insert(0) += 1;
        } else {
            lanyard.kill9();
        }
        fs::remove_file(&go).unwrap();
        let blobs = check_blobs(&data);
        // The check has read them.
        all_used_an_hour_ago(&lanyard);
        slowest = slowest.max(starts_with(&mut lanyard, &data, blobs, &point));
        tags_name_what_is_here(&data, REPO, &point);
        fs::write(&go, "").unwrap();
        eventually(&format!("{point}: the rest is forgotten"), is_over);
        let tags = tags_name_what_is_here(&data, REPO, &point);
        assert_eq!(tags, BTreeSet::from(["kept".to_owned(), "pinned".to_owned()]), "{point}");
        let links = names(&folder(&data, REPO).join("links"));
        assert!(stays.is_subset(&links), "{point}: a link of another image is gone");
        let outcomes = pull(lanyard.port(), &kept).unwrap();
        assert!(cached(&outcomes), "{point}: what another image needs is gone: {outcomes:?}");
        lanyard.stop();
        fs::remove_file(&go).unwrap();
        check_blobs(&data);
        if deaths.values().sum::<usize>() >= wanted {
            break;
        }
    }
    figure(&format!("{deaths:?}, slowest start {slowest:?}"));
    assert!(deaths.values().sum::<usize>() >= wanted / 2, "hardly a call was met: {deaths:?}");
}

fn all_used_an_hour_ago(lanyard: &Lanyard) {
    digests(&lanyard.data_dir()).iter().for_each(|digest| used(lanyard, digest, 1));
}
