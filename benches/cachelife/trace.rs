//! What is replayed: the digest of each request in order, and a size for each digest.
//!
//! The requests are those of a file, or made up with the same published numbers (requests, digests,
//! the share asked for once). Sizes are drawn independent of popularity, by a mixture fitted to the
//! published sizes of the IBM registries (mean 14.4 MB; above 64 MiB 6 % of requests). Everything
//! is drawn from seeds, so that a run can be repeated exactly.

use std::{collections::HashMap, f64::consts::TAU, fs::File, io::Read as _};

use ruzstd::decoding::StreamingDecoder;

/// The blob requests of a trace; digests are numbers from 0 on.
pub(crate) struct Trace {
    pub(crate) name: String,
    pub(crate) requests: Vec<u32>,
    pub(crate) digests: usize,
}

/// The size of each digest, in bytes.
pub(crate) type Sizes = Vec<u64>;

/// The published numbers: requests, digests, and the share of digests that is asked for once.
const REQUESTS: f64 = 256_298.0;
const DIGESTS: usize = 80_432;
const ONCE: f64 = 0.68;

impl Trace {
    /// Reads the blob requests (`v2/USER/REPOSITORY/blobs/DIGEST`) of a file of one path a line,
    /// compressed with zstd.
    pub(crate) fn read(path: &str) -> Trace {
        let mut text = String::new();
        StreamingDecoder::new(File::open(path).unwrap()).unwrap().read_to_string(&mut text).unwrap();
        let mut numbers = HashMap::new();
        let mut requests = Vec::new();
        for line in text.lines() {
            if let &[_, _, _, "blobs", digest] = &line.split('/').collect::<Vec<_>>()[..] {
                let next = numbers.len() as u32;
                requests.push(*numbers.entry(digest).or_insert(next));
            }
        }
        let name = path.rsplit('/').next().unwrap_or(path).to_owned();
        Trace { name, requests, digests: numbers.len() }
    }

    /// Makes up a trace: each digest has a number of uses, and spreads them with gaps of a
    /// lognormal distribution over a part of the whole time. The parts are fitted to the published
    /// reuse distances.
    pub(crate) fn synthetic() -> Trace {
        let counts = counts();
        let mut random = Random(1);
        let mut events = Vec::new();
        for (digest, count) in (0_u32..).zip(counts.iter().copied()) {
            let part: f64 = match count {
                1 => 0.0,
                2..4 => 0.09,
                4..20 => 0.25,
                _ => 0.8,
            };
            let span = part * random.unit().sqrt();
            let mut at = random.unit() * (1.0 - span);
            let gaps: Vec<f64> = (1..count).map(|_| random.lognormal(1.0, 1.6)).collect();
            let whole: f64 = gaps.iter().sum();
            events.push((at, digest));
            for gap in gaps {
                at += gap * span / whole;
                events.push((at, digest));
            }
        }
        events.sort_by(|(a, one), (b, other)| a.total_cmp(b).then(one.cmp(other)));
        let requests = events.into_iter().map(|(_, digest)| digest).collect();
        Trace { name: "**synthetic**".to_owned(), requests, digests: counts.len() }
    }

    /// Its numbers in words, to compare with the published ones.
    pub(crate) fn numbers(&self) -> String {
        let mut uses = vec![0_u32; self.digests];
        let mut last = vec![None; self.digests];
        let mut distances = Vec::new();
        for (at, digest) in self.requests.iter().enumerate() {
            uses[*digest as usize] += 1;
            distances.extend(last[*digest as usize].replace(at).map(|before| at - before));
        }
        uses.sort_unstable_by(|a, b| b.cmp(a));
        distances.sort_unstable();
        let drawn = |part: usize| {
            let of_top: u32 = uses[..self.digests / part].iter().sum();
            100.0 * f64::from(of_top) / self.requests.len() as f64
        };
        let once = uses.iter().filter(|uses| **uses == 1).count();
        let distance = |percent: usize| distances[distances.len() * percent / 100];
        format!(
            "{} requests for {} digests, of which {:.0} % once; the top 1 % draw {:.0} %, 10 % draw {:.0} %; \
             reuse distance median {}, p75 {}, p90 {}",
            self.requests.len(),
            self.digests,
            100.0 * once as f64 / self.digests as f64,
            drawn(100),
            drawn(10),
            distance(50),
            distance(75),
            distance(90),
        )
    }

    /// Draws the size of each digest.
    pub(crate) fn sizes(&self, seed: u64) -> Sizes {
        let mut random = Random(seed);
        (0..self.digests).map(|_| random.size()).collect()
    }

    /// For each request, the position of the next one for the same digest.
    pub(crate) fn next_uses(&self) -> Vec<Option<u32>> {
        let mut next = vec![None; self.digests];
        let mut uses: Vec<_> = (0_u32..).zip(&self.requests).collect();
        uses.reverse();
        let mut found: Vec<_> = uses.into_iter().map(|(at, digest)| next[*digest as usize].replace(at)).collect();
        found.reverse();
        found
    }
}

/// How often each digest is used, the most popular first: three power laws that meet, then ones.
fn counts() -> Vec<u32> {
    let (hot, warm, again) = (DIGESTS / 100, DIGESTS / 10, (DIGESTS as f64 * (1.0 - ONCE)) as usize);
    let once = DIGESTS - again;
    let mut counts = power_law(0, hot, 20.0, 0.44 * REQUESTS);
    counts.extend(power_law(hot, warm, 4.0, 0.18 * REQUESTS));
    counts.extend(power_law(warm, again, 2.0, 0.38 * REQUESTS - once as f64));
    counts.extend(std::iter::repeat_n(1, once));
    counts
}

/// The counts of the ranks `from..to`, which fall to `least` and have this sum.
fn power_law(from: usize, to: usize, least: f64, sum: f64) -> Vec<u32> {
    let count = |rank: usize, power: f64| least * ((to as f64 + 8.0) / (rank as f64 + 9.0)).powf(power);
    let (mut low, mut high) = (0.0, 9.0);
    for _ in 0..50 {
        let middle = (low + high) / 2.0;
        let reached: f64 = (from..to).map(|rank| count(rank, middle)).sum();
        *(if reached < sum { &mut low } else { &mut high }) = middle;
    }
    let mut rest = 0.0;
    let whole = |rank| {
        rest += count(rank, low);
        let whole = f64::floor(rest);
        rest -= whole;
        whole as u32
    };
    (from..to).map(whole).collect()
}

/// Numbers that are the same with every version of every crate (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Evenly distributed over 0 to 1, without 0.
    pub(crate) fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((bits ^ (bits >> 31)) >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        ((self.unit() * end as f64) as usize).min(end - 1)
    }

    /// The size of a blob, in bytes.
    pub(crate) fn size(&mut self) -> u64 {
        let megabytes = if self.unit() < 0.35 { self.lognormal(23.2, 1.128) } else { self.lognormal(0.05, 1.5) };
        (megabytes.min(8_000.0) * 1e6).max(200.0) as u64
    }

    /// Lognormal with this median, by Box and Muller's method.
    fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        let radius = (-2.0 * self.unit().ln()).sqrt();
        median * (sigma * radius * (TAU * self.unit()).cos()).exp()
    }
}
