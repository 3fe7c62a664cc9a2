//! What came of a pull: the numbers of its result, what goes on after Ctrl-C, and the exit code.
//! Pure; `mod.rs` notes every event.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
};

use super::super::{
    exit::{FAILED, SUSPENDED},
    manage::size,
};
use crate::admin::{BlobEvent, ImageEvent, ImageState, PullCause, PullEvent};

/// See the module.
pub(super) struct Summary {
    dry_run: bool,
    whole: HashSet<String>,
    failed: Vec<PullCause>,
    /// The images of a dry run that end well.
    planned: Vec<String>,
    /// Each blob once, however many images need it.
    blobs: HashMap<String, Blob>,
    /// In a dry run, the blobs of the images that have not ended.
    looked_at: HashMap<String, Vec<BlobEvent>>,
}

/// What was told of a blob first and last.
struct Blob {
    outcome: String,
    bytes: u64,
    of: u64,
    whole: bool,
}

impl Summary {
    pub(super) fn new(dry_run: bool) -> Summary {
        let (whole, blobs, looked_at) = Default::default();
        Summary { dry_run, whole, failed: Vec::new(), planned: Vec::new(), blobs, looked_at }
    }

    pub(super) fn note(&mut self, event: &PullEvent) {
        match event {
            PullEvent::Image(image) => self.image(image),
            PullEvent::Blob(blob) => {
                if self.dry_run {
                    self.looked_at.entry(blob.image.clone()).or_default().push(blob.clone());
                }
                let BlobEvent { outcome, bytes, of, whole, .. } = blob;
                let known = self.blobs.entry(blob.digest.clone());
                let known = known.or_insert_with(|| Blob { outcome: outcome.clone(), bytes: 0, of: 0, whole: false });
                (known.bytes, known.of, known.whole) = (*bytes, *of, known.whole || *whole);
            }
            PullEvent::End { .. } => {}
        }
    }

    fn image(&mut self, event: &ImageEvent) {
        match event.state {
            ImageState::Resolving | ImageState::Fetching => {}
            ImageState::Whole => drop(self.whole.insert(event.image.clone())),
            ImageState::Planned => {
                let blobs = self.looked_at.remove(&event.image).unwrap_or_default();
                self.planned.push(plan(event, &blobs));
            }
            ImageState::Failed => {
                // It may have been whole until others came.
                self.whole.remove(&event.image);
                self.failed.push(event.cause.unwrap_or(PullCause::Failed));
            }
        }
    }

    /// 0; or 75 where trying again may help with all that failed; or 1.
    pub(super) fn code(&self) -> u8 {
        match self.failed.as_slice() {
            [] => 0,
            failed if failed.iter().all(|cause| cause.may_pass()) => SUSPENDED,
            _ => FAILED,
        }
    }

    /// The result.
    pub(super) fn text(&self) -> String {
        let mut text = self.planned.concat();
        let images = |n: usize| format!("{n} {}", if n == 1 { "image" } else { "images" });
        let failed = if self.failed.is_empty() { String::new() } else { format!(", {} failed", self.failed.len()) };
        match self.dry_run {
            true => {
                let (missing, bytes) = self.count("filled");
                let looked = images(self.planned.len());
                let _ = writeln!(text, "{looked}{failed}: {missing} blobs would be fetched, {}.", size(bytes));
            }
            false => {
                let _ = writeln!(text, "{} whole{failed}.", images(self.whole.len()));
                let told = [("filled", "fetched"), ("joined", "joined under way"), ("hit", "here already")];
                for (outcome, what) in told {
                    let (blobs, bytes) = self.count(outcome);
                    if blobs > 0 {
                        let _ = writeln!(text, "  {blobs} blobs {what}, {}", size(bytes));
                    }
                }
            }
        }
        text
    }

    /// How many blobs had this outcome, and their bytes.
    fn count(&self, outcome: &str) -> (usize, u64) {
        let blobs: Vec<_> = self.blobs.values().filter(|blob| blob.whole && blob.outcome == outcome).collect();
        (blobs.len(), blobs.iter().map(|blob| blob.of.max(blob.bytes)).fold(0, u64::saturating_add))
    }

    /// What goes on after Ctrl-C.
    pub(super) fn interrupted(&self) -> String {
        let under_way: HashSet<_> = self.under_way().collect();
        let going = match under_way.len() {
            0 => "no download is under way".to_owned(),
            1 => "1 download under way goes on in the running lanyard".to_owned(),
            n => format!("{n} downloads under way go on in the running lanyard"),
        };
        format!("lanyard: stopped; {going}, and nothing new begins. {} images are whole.\n", self.whole.len())
    }

    /// What was done before the connection broke.
    pub(super) fn broken(&self) -> String {
        format!("lanyard: {} images are whole, {} failed, and then:\n", self.whole.len(), self.failed.len())
    }

    fn under_way(&self) -> impl Iterator<Item = &str> {
        self.blobs.iter().filter(|(_, blob)| !blob.whole).map(|(digest, _)| digest.as_str())
    }
}

/// What a dry run says of one image.
fn plan(event: &ImageEvent, blobs: &[BlobEvent]) -> String {
    let here = blobs.iter().filter(|blob| blob.outcome == "hit").count();
    let missing = blobs.iter().filter(|blob| blob.outcome != "hit").map(|blob| blob.of).fold(0, u64::saturating_add);
    let mut text =
        format!("{}: {here} of {} blobs are here, {} would be fetched\n", event.image, blobs.len(), size(missing));
    for BlobEvent { digest, outcome, of, .. } in blobs {
        let what = if outcome == "hit" { "here" } else { "would be fetched" };
        let _ = writeln!(text, "  {digest}  {:>10}  {what}", size(*of));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str, state: ImageState, cause: Option<PullCause>) -> PullEvent {
        let (image, error) = (name.to_owned(), cause.map(|_| "no".to_owned()));
        let (digest, outcome) = (None, None);
        PullEvent::Image(ImageEvent { image, state, digest, outcome, bytes: 0, of: 0, pinned: false, error, cause })
    }

    fn blob(digest: &str, outcome: &str, bytes: u64, whole: bool) -> PullEvent {
        let (image, digest, outcome) = ("a".to_owned(), digest.to_owned(), outcome.to_owned());
        PullEvent::Blob(BlobEvent { image, digest, outcome, bytes, of: 1024, whole })
    }

    #[test]
    fn a_blob_of_two_images_counts_once_as_it_was_first_had() {
        let mut summary = Summary::new(false);
        for event in [
            blob("x", "filled", 0, false),
            blob("x", "filled", 1024, true),
            blob("x", "hit", 1024, true),
            blob("y", "joined", 1024, true),
            blob("z", "hit", 1024, true),
            image("a", ImageState::Whole, None),
        ] {
            summary.note(&event);
        }
        let text = summary.text();
        for line in ["1 image whole.", "1 blobs fetched, 1.0 KiB", "1 blobs joined under way", "1 blobs here already"] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert_eq!(summary.code(), 0);
    }

    #[test]
    fn the_exit_code_says_whether_trying_again_may_help() {
        for (causes, code) in [
            (&[][..], 0),
            (&[PullCause::NoRoom], 75),
            (&[PullCause::Offline, PullCause::Unreachable, PullCause::Stopping], 75),
            (&[PullCause::Failed], 1),
            (&[PullCause::NoRoom, PullCause::Failed], 1),
        ] {
            let mut summary = Summary::new(false);
            causes.iter().for_each(|cause| summary.note(&image("a", ImageState::Failed, Some(*cause))));
            assert_eq!(summary.code(), code, "{causes:?}");
        }
    }

    #[test]
    fn an_image_that_others_pushed_out_is_no_whole_one() {
        let mut summary = Summary::new(false);
        summary.note(&image("a", ImageState::Whole, None));
        summary.note(&image("b", ImageState::Whole, None));
        summary.note(&image("a", ImageState::Failed, Some(PullCause::NoRoom)));
        assert!(summary.text().starts_with("1 image whole, 1 failed."), "{}", summary.text());
        assert_eq!(summary.code(), 75);
    }

    #[test]
    fn ctrl_c_says_what_goes_on() {
        let mut summary = Summary::new(false);
        summary.note(&blob("x", "filled", 1, false));
        summary.note(&blob("y", "joined", 1, false));
        summary.note(&blob("z", "filled", 1024, true));
        assert!(summary.interrupted().contains("2 downloads under way go on"), "{}", summary.interrupted());
    }
}
