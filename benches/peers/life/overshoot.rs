//! 200 downloads that begin at once, into a cache that is full.

use std::{thread, time::Instant};

use super::{
    blobs::{Blobs, LARGE, LARGE_SIZE},
    client::{Client, Tally, get_all},
    proxies::{Cache, Proxy},
    replay, sampler,
    upstream::Upstream,
};
use crate::{measuring::Cpus, report::Section};

/// How many downloads begin at once. As many blobs as are left fill the cache before.
const AT_ONCE: usize = 200;
const BEFORE: usize = LARGE - AT_ONCE;

/// The rate of the upstream, in bytes per second and connection: so all downloads are under way
/// together.
const RATE: u64 = 5_000_000;

pub(crate) fn run(blobs: &Blobs, cpus: &Cpus) -> Section {
    let cap = BEFORE as u64 * LARGE_SIZE;
    let kinds = Proxy::here(&[Proxy::Lanyard, Proxy::Nginx]);
    let rows = kinds.into_iter().map(|proxy| row(proxy, blobs, cap, cpus)).collect();
    let head = [
        "server",
        "errors",
        "wrong bodies",
        "seconds",
        "most over the cap, MB",
        "by blocks",
        "in one walk",
        "by its own count",
        "looks",
        "ms until at the cap",
        "waits for room",
        "of them refused",
    ];
    let title = format!(
        "{AT_ONCE} downloads of {} MB at once into a full cache of {:.1} GB, the upstream sends {} MB/s to each",
        LARGE_SIZE / 1_000_000,
        cap as f64 / 1e9,
        RATE / 1_000_000,
    );
    Section { title, head: head.map(str::to_owned).to_vec(), rows }
}

fn row(proxy: Proxy, blobs: &Blobs, cap: u64, cpus: &Cpus) -> Vec<String> {
    let upstream = Upstream::start(blobs, Some(RATE), &cpus.all);
    let cache = Cache::start(proxy, upstream.port(), cap, AT_ONCE, &cpus.all);
    let (before, at_once) = blobs.digests.split_at(BEFORE);
    let filled = get_all(cache.server.port, before.iter(), 50);
    assert_eq!(filled.errors + filled.wrong, 0, "{} does not fill its cache", proxy.name());
    let waits = |outcome: &str| cache.metric(&format!("lanyard_room_waits_total{{outcome=\"{outcome}"));
    let began = Instant::now();
    let (most, (tally, seconds), freed) = sampler::while_running(&cache, cap, || {
        let port = cache.server.port;
        let tally = thread::scope(|scope| {
            let get = |digest| scope.spawn(move || Client::new(port).get(digest));
            let all: Vec<_> = at_once.iter().map(get).collect();
            let mut tally = Tally::default();
            all.into_iter().for_each(|one| tally.add(&one.join().unwrap()));
            tally
        });
        (tally, began.elapsed().as_secs_f64())
    });
    let mut row = vec![proxy.name(), tally.errors.to_string(), tally.wrong.to_string(), format!("{seconds:.1}")];
    row.extend(replay::over(proxy, &most, cap));
    row.push(most.looks.to_string());
    row.push(freed.map_or("never".to_owned(), |time| format!("{:.0}", time.as_secs_f64() * 1e3)));
    let (granted, refused) = (waits("granted"), waits("refused"));
    row.extend(match proxy {
        Proxy::Lanyard => [(granted + refused).to_string(), refused.to_string()],
        _ => [String::new(), String::new()],
    });
    row
}
