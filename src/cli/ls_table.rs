//! The layout of `lanyard ls`: a line for each image, a second one where something is missing, the
//! tree below if it is asked for, and a last line with the sums.
//!
//! The columns are as wide as the first lines that are shown at once need; a longer word later
//! moves its line only. Called by `ls.rs`; `ls_digest.rs` and `pin.rs` use its words for times.

use std::{collections::HashSet, fmt::Write as _};

use super::manage::{saved, size};
use crate::{
    admin::{Completeness, ImageRow, PartRow, Status},
    oci::Digest,
};

const HEAD: [&str; 8] = ["IMAGE", "PLATFORMS", "HERE", "OF", "WHY", "LAST USED", "USES", "SAVED"];

/// Of these columns the words end at the same place.
const TO_THE_RIGHT: [bool; 8] = [false, false, true, false, false, false, true, true];

/// The table as far as it is shown.
pub(super) struct Table {
    tree: bool,
    /// In seconds since 1970.
    now: u64,
    widths: Option<[usize; 8]>,
    images: u64,
    /// Bytes here, a part counted in each image.
    here: u64,
    /// The same, a part counted once.
    once: u64,
    seen: HashSet<Digest>,
}

impl Table {
    pub(super) fn new(tree: bool, now: u64) -> Table {
        Table { tree, now, widths: None, images: 0, here: 0, once: 0, seen: HashSet::new() }
    }

    /// The lines of the next images, with the head before the first ones.
    pub(super) fn lines(&mut self, images: &[ImageRow]) -> String {
        if images.is_empty() {
            return String::new();
        }
        let rows: Vec<_> = images.iter().map(|image| cells(image, self.now)).collect();
        let mut text = String::new();
        let widths = self.widths.unwrap_or_else(|| {
            let widest = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
            let widths = std::array::from_fn(|at| widest(at).max(HEAD[at].len()));
            text = line(&HEAD.map(str::to_owned), &widths);
            widths
        });
        self.widths = Some(widths);
        for (image, row) in images.iter().zip(&rows) {
            text.push_str(&line(row, &widths));
            text.push_str(&missing(image));
            if self.tree {
                text.push_str(&tree(&image.parts));
                text.push_str(&other_platforms(image));
            }
            self.count(image);
        }
        text
    }

    fn count(&mut self, image: &ImageRow) {
        self.images += 1;
        self.here += image.here;
        for part in image.parts.iter().filter(|part| part.here) {
            if self.seen.insert(part.digest) {
                self.once += part.size;
            }
        }
    }

    /// Whether no image was shown.
    pub(super) fn is_empty(&self) -> bool {
        self.images == 0
    }

    /// The sums. `gone`: the images that are left out.
    pub(super) fn last_line(&self, status: &Status, gone: u64) -> String {
        let images = match self.images {
            0 => "no images".to_owned(),
            1 => "1 image".to_owned(),
            images => format!("{images} images"),
        };
        let mut words = vec![match self.here - self.once {
            0 => images,
            shared => format!("{images}, {} of {} shared", size(shared), size(self.here)),
        }];
        if gone > 0 {
            words.push(format!("{gone} gone (--gone lists them)"));
        }
        let cache = &status.cache;
        words.push(match cache.max_size {
            Some(max) => format!("{} of {} cached", size(cache.cached), size(max)),
            None => format!("{} cached", size(cache.cached)),
        });
        if let Some(turn) = cache.eviction.as_ref().and_then(|eviction| eviction.turn) {
            words.push(format!("a turn is {}", time_in_words(turn)));
        }
        if let Some(savings) = status.savings.as_ref().filter(|savings| savings.sent > 0) {
            words.push(format!("saved {}", saved(savings)));
        }
        format!("{}\n", words.join(" · "))
    }
}

fn line(cells: &[String; 8], widths: &[usize; 8]) -> String {
    let mut text = String::new();
    for (at, cell) in cells.iter().enumerate() {
        let gap = " ".repeat(widths[at].saturating_sub(cell.chars().count()));
        let (before, after) = if TO_THE_RIGHT[at] { (gap.as_str(), "") } else { ("", gap.as_str()) };
        let _ = write!(text, "{before}{cell}{after}  ");
    }
    format!("{}\n", text.trim_end())
}

fn cells(image: &ImageRow, now: u64) -> [String; 8] {
    let platforms: Vec<_> = image.platforms.iter().map(|name| name.strip_prefix("linux/").unwrap_or(name)).collect();
    [
        image.image.clone(),
        if platforms.is_empty() { "-".to_owned() } else { platforms.join(", ") },
        size(image.here),
        match image.of {
            Completeness::Whole => "whole",
            Completeness::Partial => "partial",
            Completeness::Gone => "gone",
        }
        .to_owned(),
        image.why.to_string(),
        image.last_used.map_or_else(|| "-".to_owned(), |used| ago(now.saturating_sub(used))),
        image.uses.to_string(),
        if image.saved == 0 { "0".to_owned() } else { size(image.saved) },
    ]
}

/// The line below an image that is not whole, or of which not all is known.
fn missing(image: &ImageRow) -> String {
    let ImageRow { here, let_go, never_fetched, problem, .. } = image;
    let of = size(here + let_go + never_fetched);
    let mut text = match (*let_go, *never_fetched) {
        (0, 0) => String::new(),
        (gone, 0) => format!("  {} here, {} of {of} were let go\n", size(*here), size(gone)),
        (0, absent) => format!("  {} here, {} of {of} were never fetched\n", size(*here), size(absent)),
        (gone, absent) => {
            format!("  {} here; of {of} {} were let go, {} never fetched\n", size(*here), size(gone), size(absent))
        }
    };
    if let Some(problem) = problem {
        let _ = writeln!(text, "  {problem}");
    }
    text
}

fn tree(parts: &[PartRow]) -> String {
    let mut text = String::new();
    // A part comes after the manifest that names it, so each one's children are looked for anew.
    let mut open: Vec<(usize, usize)> = parts.first().map(|_| (0, 1)).into_iter().collect();
    while let Some((at, depth)) = open.pop() {
        let PartRow { digest, kind, size: bytes, here, let_go, platform, .. } = &parts[at];
        let what = platform.as_deref().unwrap_or(kind);
        let state = match (here, let_go) {
            (true, _) => "here",
            (false, true) => "let go",
            (false, false) => "never fetched",
        };
        let _ = writeln!(text, "{}{digest}  {what}, {}, {state}", "  ".repeat(depth), size(*bytes));
        if depth < 8 {
            let children = parts.iter().enumerate().skip(at + 1).filter(|(_, part)| part.of == Some(at));
            let mut children: Vec<_> = children.map(|(child, _)| (child, depth + 1)).collect();
            children.reverse();
            open.append(&mut children);
        }
    }
    text
}

/// The line of the platforms whose manifests are not here.
fn other_platforms(image: &ImageRow) -> String {
    match image.other_platforms.as_slice() {
        [] => String::new(),
        others => format!("    not here: {}\n", others.join(", ")),
    }
}

/// A time that has passed, in its largest unit.
pub(super) fn ago(seconds: u64) -> String {
    if seconds < 60 { "now".to_owned() } else { format!("{} ago", time_in_words(seconds)) }
}

/// A time in its largest unit.
pub(super) fn time_in_words(seconds: u64) -> String {
    match seconds / 60 {
        0 => "less than 1 min".to_owned(),
        minutes @ 1..60 => format!("{minutes} min"),
        minutes @ 60..1440 => format!("{} h", minutes / 60),
        minutes => format!("{} d", minutes / 1440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Why;

    fn part(n: u8, kind: &str, size: u64, here: bool, of: Option<usize>) -> PartRow {
        PartRow {
            digest: Digest::Sha256([n; 32]),
            kind: kind.to_owned(),
            size,
            here,
            let_go: !here,
            platform: None,
            of,
        }
    }

    fn image(name: &str, parts: Vec<PartRow>) -> ImageRow {
        let sum = |here| parts.iter().filter(|part| part.here == here).map(|part| part.size).sum();
        ImageRow {
            image: name.to_owned(),
            digest: parts[0].digest,
            platforms: vec!["linux/amd64".to_owned(), "windows/amd64".to_owned()],
            other_platforms: Vec::new(),
            here: sum(true),
            let_go: sum(false),
            never_fetched: 0,
            of: if sum(false) == 0 { Completeness::Whole } else { Completeness::Partial },
            why: Why::Tagged,
            last_used: Some(1_000_000 - 180),
            uses: 41,
            saved: 5 << 30,
            problem: None,
            parts,
        }
    }

    #[test]
    fn lines_say_what_is_here_and_what_is_missing() {
        let mut table = Table::new(true, 1_000_000);
        let one = image("docker.io/library/x:1", vec![part(1, "manifest", 1024, true, None)]);
        let parts = vec![
            part(2, "index", 1024, true, None),
            part(3, "manifest", 1024, true, Some(0)),
            part(4, "layer", 3 << 20, false, Some(1)),
            part(1, "layer", 1024, true, Some(1)),
            PartRow { let_go: false, ..part(5, "config", 512, false, Some(1)) },
        ];
        let other_platforms = vec!["linux/arm64".to_owned(), "linux/s390x".to_owned()];
        let text = table.lines(&[one, ImageRow { other_platforms, ..image("y:2", parts) }]);
        let short = |n: u8| format!("sha256:{}", format!("{n:02x}").repeat(32));
        let expected = [
            "IMAGE                  PLATFORMS                HERE  OF       WHY     LAST USED  USES    SAVED"
                .to_owned(),
            "docker.io/library/x:1  amd64, windows/amd64  1.0 KiB  whole    tagged  3 min ago    41  5.0 GiB"
                .to_owned(),
            format!("  {}  manifest, 1.0 KiB, here", short(1)),
            "y:2                    amd64, windows/amd64  3.0 KiB  partial  tagged  3 min ago    41  5.0 GiB"
                .to_owned(),
            "  3.0 KiB here, 3.0 MiB of 3.0 MiB were let go".to_owned(),
            format!("  {}  index, 1.0 KiB, here", short(2)),
            format!("    {}  manifest, 1.0 KiB, here", short(3)),
            format!("      {}  layer, 3.0 MiB, let go", short(4)),
            format!("      {}  layer, 1.0 KiB, here", short(1)),
            format!("      {}  config, 512 bytes, never fetched", short(5)),
            "    not here: linux/arm64, linux/s390x".to_owned(),
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        assert_eq!((table.images, table.here, table.once), (2, 4096, 3072));
    }

    #[test]
    fn times_are_in_their_largest_unit() {
        for (seconds, text) in [(0, "now"), (59, "now"), (60, "1 min ago"), (7199, "1 h ago"), (200_000, "2 d ago")] {
            assert_eq!(ago(seconds), text);
        }
    }
}
