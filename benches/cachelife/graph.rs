//! Which images stay whole: a made-up graph of images, and pulls of them.
//!
//! 2,000 repositories with one tag each are pulled once a minute for 60 days, by a Zipf
//! distribution with exponent 0.9. An image has 3 to 25 layers. 30 % of the repositories begin with
//! layers of one of 20 bases. Every 10 days a tag has a new digest, and half of the layers above
//! the base are new. A fifth of the pulls ask for the manifest alone, since that client has the
//! layers; only where the image was pulled before. All others ask for each layer.
//!
//! The trace of requests cannot answer this: it does not say which layers a manifest names.

use crate::{
    policies::{Cache, Lru, Memory, Room, Turns},
    trace::{Random, Sizes},
};

const REPOSITORIES: usize = 2_000;
const EXPONENT: f64 = 0.9;
const BASES: usize = 20;
const ON_BASE: f64 = 0.3;
const MANIFEST_ONLY: f64 = 0.2;

const DAY: u32 = 24 * 60;
const DAYS: u32 = 60;
/// A tag has a new digest after so many days.
const MOVES: u32 = 10;
/// The first look at what is whole, when each cache is long full, and how often it is looked.
const SETTLED: u32 = 20 * DAY;
const EVERY: u32 = 6 * 60;

/// The cache in percent of the footprint.
const CACHES: [u64; 3] = [5, 10, 20];

/// The goal: at most so many percent of the images are partial.
const MOST_PARTIAL: f64 = 2.0;

/// A cache of images.
trait ImageCache: Cache {
    fn has(&self, blob: u32) -> bool;

    /// A manifest that names the blob is given out.
    fn named(&mut self, blob: u32, now: u32);
}

impl ImageCache for Lru<'_> {
    fn has(&self, blob: u32) -> bool {
        Lru::has(self, blob)
    }

    fn named(&mut self, _: u32, _: u32) {}
}

impl ImageCache for Turns<'_> {
    fn has(&self, blob: u32) -> bool {
        Turns::has(self, blob)
    }

    fn named(&mut self, blob: u32, now: u32) {
        Turns::named(self, blob, now);
    }
}

/// Turns where the use of a manifest is no use of its parts.
struct ByItself<'a>(Turns<'a>);

impl Cache for ByItself<'_> {
    fn ask(&mut self, blob: u32, now: u32) -> bool {
        self.0.ask(blob, now)
    }
}

impl ImageCache for ByItself<'_> {
    fn has(&self, blob: u32) -> bool {
        self.0.has(blob)
    }

    fn named(&mut self, _: u32, _: u32) {}
}

/// The images of all days, and the pulls.
struct Graph {
    sizes: Sizes,
    /// Of each repository, the layers of each of its digests, and the minute of the first move.
    images: Vec<(Vec<Vec<u32>>, u32)>,
    /// Of each minute, the repository, and whether the manifest alone is asked for.
    pulls: Vec<(usize, bool)>,
}

impl Graph {
    fn new(seed: u64) -> Graph {
        let mut random = Random(seed);
        let mut sizes = Sizes::new();
        let bases: Vec<Vec<u32>> = (0..BASES).map(|_| layers(2 + random.below(7), &mut random, &mut sizes)).collect();
        let images = (0..REPOSITORIES).map(|_| {
            let count = 3 + random.below(23);
            let mut image: Vec<u32> = Vec::new();
            if random.unit() < ON_BASE {
                image.extend(&bases[random.below(BASES)][..]);
                image.truncate(count - 1);
            }
            let base = image.len();
            image.extend(layers(count - base, &mut random, &mut sizes));
            let mut digests = vec![image.clone()];
            for _ in 0..=DAYS / MOVES {
                let new = (count - base).div_ceil(2);
                image.truncate(count - new);
                image.extend(layers(new, &mut random, &mut sizes));
                digests.push(image.clone());
            }
            (digests, random.below((MOVES * DAY) as usize) as u32)
        });
        let images = images.collect();
        let shares: Vec<f64> = (1..=REPOSITORIES)
            .scan(0.0, |sum, rank| {
                *sum += (rank as f64).powf(-EXPONENT);
                Some(*sum)
            })
            .collect();
        let whole = shares[REPOSITORIES - 1];
        let pull = |_| {
            let drawn = random.unit() * whole;
            (shares.partition_point(|sum| *sum < drawn), random.unit() < MANIFEST_ONLY)
        };
        let pulls = (0..DAYS * DAY).map(pull).collect();
        Graph { sizes, images, pulls }
    }

    /// The digest of a repository's tag, by its number.
    fn tagged(&self, repository: usize, now: u32) -> usize {
        let first = self.images[repository].1;
        if now < first { 0 } else { 1 + ((now - first) / (MOVES * DAY)) as usize }
    }

    /// Replays the pulls. At each look, `turn` says how old a pull may be; the images that were
    /// pulled since are counted.
    fn replay<C: ImageCache>(&self, cache: &mut C, mut turn: impl FnMut(&C, usize) -> u32) -> Seen {
        let mut pulled: Vec<Option<Pulled>> = vec![None; REPOSITORIES];
        let mut seen = Seen::default();
        for (now, (repository, manifest_only)) in (0..).zip(&self.pulls) {
            let digest = self.tagged(*repository, now);
            let image = &self.images[*repository].0[digest];
            let was_pulled = pulled[*repository].is_some_and(|before| before.digest == digest);
            image.iter().for_each(|blob| cache.named(*blob, now));
            if !(*manifest_only && was_pulled) {
                for blob in image {
                    let hit = cache.ask(*blob, now);
                    seen.ask(self.sizes[*blob as usize], hit, now >= SETTLED);
                }
            }
            let whole = image.iter().all(|blob| cache.has(*blob));
            pulled[*repository] = Some(Pulled { digest, at: now, whole });
            if now >= SETTLED && now % EVERY == 0 {
                let turn = turn(cache, seen.turns.len());
                seen.turns.push(turn);
                let all = pulled.iter().enumerate().filter_map(|(repository, pulled)| Some((repository, (*pulled)?)));
                for (repository, Pulled { digest, whole, .. }) in all.filter(|(_, pulled)| now - pulled.at <= turn) {
                    let image = &self.images[repository].0[digest];
                    seen.count(image.iter().filter(|blob| cache.has(**blob)).count(), image.len(), whole);
                }
            }
        }
        seen
    }
}

/// The last pull of a repository's tag.
#[derive(Clone, Copy)]
struct Pulled {
    /// What the tag named, by its number.
    digest: usize,
    at: u32,
    /// Whether all of it was here after the pull.
    whole: bool,
}

fn layers(count: usize, random: &mut Random, sizes: &mut Sizes) -> Vec<u32> {
    let layer = |_| {
        sizes.push(random.size());
        sizes.len() as u32 - 1
    };
    (0..count).map(layer).collect()
}

/// The images that were looked at, and the bytes from the first look on.
#[derive(Default)]
struct Seen {
    images: u64,
    partial: u64,
    /// Of the partial ones, those that were whole after their last pull.
    broken: u64,
    gone: u64,
    asked: u64,
    hits: u64,
    /// The turn at each look, in minutes.
    turns: Vec<u32>,
}

impl Seen {
    fn ask(&mut self, size: u64, hit: bool, counts: bool) {
        if counts {
            self.asked += size;
            self.hits += if hit { size } else { 0 };
        }
    }

    fn count(&mut self, here: usize, layers: usize, was_whole: bool) {
        self.images += 1;
        self.gone += u64::from(here == 0);
        let is_partial = here > 0 && here < layers;
        self.partial += u64::from(is_partial);
        self.broken += u64::from(is_partial && was_whole);
    }

    fn percent(&self, images: u64) -> f64 {
        100.0 * images as f64 / self.images as f64
    }
}

/// The table: for each size of cache and each order, what is partial of the images that were used
/// within a turn of **turns**.
pub(crate) fn table() -> String {
    let graph = Graph::new(1);
    let footprint: u64 = graph.sizes.iter().sum();
    let mut table = format!(
        "Images: {REPOSITORIES} repositories, {} layers, {} GB; {} pulls.\n\n\
         | cache | order | byte hits | a turn, days | images used within it | partial | of them whole at their last use | gone |\n|{}\n",
        graph.sizes.len(),
        footprint / crate::GB,
        graph.pulls.len(),
        "---|".repeat(8),
    );
    for percent in CACHES {
        let room = || Room::new(&graph.sizes, footprint / 100 * percent);
        let turns = || Turns::new(room(), Memory::FourTurns);
        let known = |cache: &Turns, _| cache.turn().unwrap_or_default() as u32;
        let ours = graph.replay(&mut turns(), known);
        let by_itself = graph.replay(&mut ByItself(turns()), |_, look| ours.turns[look]);
        let lru = graph.replay(&mut Lru::new(room()), |_, look| ours.turns[look]);
        for (name, seen) in [("**turns**", &ours), ("turns, parts by themselves", &by_itself), ("LRU of blobs", &lru)] {
            let days = f64::from(seen.turns.iter().sum::<u32>()) / f64::from(DAY) / seen.turns.len() as f64;
            let partial = seen.percent(seen.partial);
            let met = if partial <= MOST_PARTIAL { "met:" } else { "**missed**:" };
            let goal = if name == "**turns**" { format!(" {met} ≤ {MOST_PARTIAL}") } else { String::new() };
            table.push_str(&format!(
                "| {percent} % | {name} | {:.3} | {days:.1} | {:.0} | {partial:.2} %{goal} | {:.2} % | {:.2} % |\n",
                seen.hits as f64 / seen.asked as f64,
                seen.images as f64 / seen.turns.len() as f64,
                seen.percent(seen.broken),
                seen.percent(seen.gone),
            ));
        }
    }
    table
}
