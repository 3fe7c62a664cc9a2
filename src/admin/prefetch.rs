//! The operator's order to fetch images (`lanyard pull`): which images are meant, how many at once,
//! and the events that tell how it goes.
//!
//! Images of an order may push each other out of a small cache. What was whole and is so no more at
//! the end is told then, as an image that failed.
//!
//! The work is done while the events are asked for, and only then: an operator who leaves, or stops
//! reading, begins nothing more. Downloads under way go on, since they belong to nobody (F5). When
//! lanyard stops, the images that are not whole fail, so that no stop waits for them. Callers:
//! `/api/v1/pull`.

use std::{
    collections::HashSet,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};

use super::{
    Admin, PinOptions, RetentionError,
    pull_events::{BlobEvent, ImageEvent, ImageState, PullCause, PullEvent, PullOrder},
};
use crate::{
    names::Image,
    oci::{Digest, ErrorCode, Outcome, Platforms, RegistryError, Repository},
    pull::{PrefetchError, PrefetchOptions, PrefetchStep, PullError},
    storage::StorageError,
};

/// The most images of one order.
const MOST_IMAGES: usize = 10_000;
/// How many blobs are fetched at once, if the order does not say.
const JOBS: usize = 3;
/// The most blobs that are fetched at once.
const MOST_JOBS: usize = 64;
/// The longest name of an operator, in bytes.
const LONGEST_BY: usize = 100;
/// How often it is looked whether lanyard is stopping.
const LOOK: Duration = Duration::from_millis(200);

/// The events of an order, and the work that makes them.
pub struct PullEvents {
    told: mpsc::UnboundedReceiver<PullEvent>,
    work: Pin<Box<dyn Future<Output = ()>>>,
    over: bool,
}

impl PullEvents {
    /// The next event; `None` after [`PullEvent::End`].
    pub async fn next(&mut self) -> Option<PullEvent> {
        loop {
            tokio::select! {
                biased;
                // Closed when the work is over.
                event = self.told.recv() => return event,
                () = &mut self.work, if !self.over => self.over = true,
            }
        }
    }
}

/// An image of an order.
enum Wanted {
    Image(Image),
    /// No image here has this name.
    Unknown(String, RegistryError),
}

impl Admin {
    /// Begins to fetch images, each once. A name whose upstream is not configured is an image that
    /// fails.
    ///
    /// # Errors
    /// The order's, all of status 400: what is no image or no platform, too many images, no number
    /// of blobs.
    pub fn pull(self: &Arc<Self>, order: &PullOrder) -> Result<PullEvents, RegistryError> {
        let bad = |message: String| RegistryError::new(ErrorCode::Unsupported, message).with_status(400);
        let platforms = Platforms::parse(order.platforms.iter().map(String::as_str));
        let platforms = platforms.map_err(|error| bad(error.to_string()))?;
        let jobs = order.jobs.unwrap_or(JOBS);
        if !(1..=MOST_JOBS).contains(&jobs) {
            return Err(bad(format!("{jobs} at once: it must be 1 to {MOST_JOBS}")));
        }
        if order.by.len() > LONGEST_BY {
            return Err(bad(format!("by has at most {LONGEST_BY} bytes")));
        }
        if order.images.is_empty() || order.images.len() > MOST_IMAGES {
            return Err(bad(format!("{} images: it must be 1 to {MOST_IMAGES}", order.images.len())));
        }
        let mut seen = HashSet::new();
        let (mut wanted, mut wrong) = (Vec::new(), Vec::new());
        for text in &order.images {
            match self.image(text) {
                Ok(image) if seen.insert(image.clone()) => wanted.push(Wanted::Image(image)),
                Ok(_) => {}
                Err(error) if error.code == ErrorCode::NameUnknown => {
                    wanted
                        .push(Wanted::Unknown(text.chars().take(500).flat_map(char::escape_default).collect(), error));
                }
                Err(error) => wrong.push(error.message),
            }
        }
        if !wrong.is_empty() {
            let more = if wrong.len() > 20 { format!("\nand {} more", wrong.len() - 20) } else { String::new() };
            wrong.truncate(20);
            return Err(bad(wrong.join("\n") + &more));
        }
        let options = PrefetchOptions { platforms, referrers: order.referrers, dry_run: order.dry_run, jobs };
        let (tell, told) = mpsc::unbounded_channel();
        let pins = (order.pin && !order.dry_run).then(|| PinOptions {
            platforms: options.platforms.names(),
            note: String::new(),
            by: order.by.clone(),
        });
        let run = Run {
            admin: Arc::clone(self),
            options,
            pins,
            permits: Semaphore::new(jobs),
            tell,
            whole: Mutex::default(),
        };
        Ok(PullEvents { told, work: Box::pin(run.all(wanted)), over: false })
    }
}

/// One order under way.
struct Run {
    admin: Arc<Admin>,
    options: PrefetchOptions,
    /// How images are pinned that are whole, if they are.
    pins: Option<PinOptions>,
    permits: Semaphore,
    tell: mpsc::UnboundedSender<PullEvent>,
    /// The images that were whole and are not pinned, with their blobs.
    whole: Mutex<Vec<(Told, Vec<Digest>)>>,
}

impl Run {
    async fn all(self, images: Vec<Wanted>) {
        let whole = stream::iter(images).map(|wanted| self.one(wanted)).buffer_unordered(self.options.jobs);
        let failed = whole.filter(|whole| std::future::ready(!whole)).count().await;
        let gone = self.tell_of_gone().await;
        self.tell(PullEvent::End { failed: failed + gone });
    }

    /// Tells which images were whole and are so no more, and says how many.
    async fn tell_of_gone(&self) -> usize {
        let (whole, mut gone) = (std::mem::take(&mut *self.whole.lock()), 0);
        for (told, blobs) in whole {
            if !self.are_here(&blobs).await {
                let error = "it was whole, and some of it was let go for others: they do not fit together".to_owned();
                self.image(&told, ImageState::Failed, Some((error, PullCause::NoRoom)));
                gone += 1;
            }
        }
        gone
    }

    async fn are_here(&self, blobs: &[Digest]) -> bool {
        for digest in blobs {
            // If it cannot be told, the next pull will tell.
            if matches!(self.admin.storage.size(digest).await, Ok(None)) {
                return false;
            }
        }
        true
    }

    /// Says whether all went well.
    async fn one(&self, wanted: Wanted) -> bool {
        let image = match wanted {
            Wanted::Image(image) => image,
            Wanted::Unknown(text, error) => {
                let told = Told::new(text);
                self.image(&told, ImageState::Failed, Some((error.message, PullCause::Failed)));
                return false;
            }
        };
        let told = Told::new(image.to_string());
        self.image(&told, ImageState::Resolving, None);
        let fetched = async {
            let reference = image.reference().ok_or(PrefetchError::Nameless)?;
            let step = |step| self.step(&told, step);
            self.admin.pull.prefetch(&image.repository, &reference, &self.options, &self.permits, &step).await
        };
        let fetched = tokio::select! {
            biased;
            () = self.stopping() => Err(("lanyard is stopping".to_owned(), PullCause::Stopping)),
            fetched = fetched => fetched.map_err(|error| (error.to_string(), self.cause(&image.repository, &error))),
        };
        // Nothing of the image is evicted before it is pinned.
        let fetched = match (fetched, &self.pins) {
            (Ok(fetched), Some(pins)) => self.pin(&told, &image, pins).await.map(|()| fetched),
            (fetched, _) => fetched,
        };
        let state = match &fetched {
            Ok(_) if self.options.dry_run => ImageState::Planned,
            Ok(_) => ImageState::Whole,
            Err(_) => ImageState::Failed,
        };
        if let Err((error, _)) = &fetched {
            tracing::info!(image = %image, "an image is not fetched: {error}");
        }
        self.image(&told, state, fetched.as_ref().err().cloned());
        match fetched {
            Ok(fetched) if self.pins.is_none() => {
                self.whole.lock().push((told, fetched.blobs));
                true
            }
            fetched => fetched.is_ok(),
        }
    }

    async fn pin(&self, told: &Told, image: &Image, pins: &PinOptions) -> Result<(), (String, PullCause)> {
        let pinned = self.admin.add_pin(image, pins.clone()).await;
        pinned.map_err(|error| {
            let cause = match &error {
                RetentionError::Lost => PullCause::Stopping,
                RetentionError::Storage(StorageError::NoSpace { .. } | StorageError::ReadOnly) => PullCause::NoRoom,
                RetentionError::Storage(_) | RetentionError::Offline => PullCause::Failed,
            };
            (format!("it is whole, and cannot be pinned: {error}"), cause)
        })?;
        told.0.lock().pinned = true;
        Ok(())
    }

    async fn stopping(&self) {
        while self.admin.ready.load(Ordering::Acquire) {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn cause(&self, repository: &Repository, error: &PrefetchError) -> PullCause {
        match error {
            PrefetchError::NoRoom => PullCause::NoRoom,
            PrefetchError::Pull(PullError::Unknown { .. } | PullError::Away { .. })
                if self.admin.pull.is_offline(repository) =>
            {
                PullCause::Offline
            }
            PrefetchError::Pull(error) if error.is_outage() => PullCause::Unreachable,
            PrefetchError::Nameless
            | PrefetchError::Pull(_)
            | PrefetchError::Platforms(_)
            | PrefetchError::OtherPlatform(_)
            | PrefetchError::Manifest(..)
            | PrefetchError::Referrers(_)
            | PrefetchError::TooMany => PullCause::Failed,
        }
    }

    fn step(&self, told: &Told, step: PrefetchStep) {
        match step {
            PrefetchStep::Planned { digest, outcome, of } => {
                told.0.lock().plan = Some((digest, outcome, of));
                self.image(told, ImageState::Fetching, None);
            }
            PrefetchStep::Blob { digest, outcome, bytes, of, whole } => {
                let image = {
                    let mut told = told.0.lock();
                    told.bytes += if whole { bytes } else { 0 };
                    told.image.clone()
                };
                let (digest, outcome) = (digest.to_string(), outcome.to_string());
                self.tell(PullEvent::Blob(BlobEvent { image, digest, outcome, bytes, of, whole }));
            }
        }
    }

    fn image(&self, told: &Told, state: ImageState, failed: Option<(String, PullCause)>) {
        let told = told.0.lock().clone();
        let (error, cause) = failed.unzip();
        let (digest, outcome) = (told.plan.map(|plan| plan.0.to_string()), told.plan.map(|plan| plan.1.to_string()));
        // A manifest may understate its blobs.
        let of = told.plan.map_or(0, |plan| plan.2).max(told.bytes);
        let State { image, bytes, pinned, .. } = told;
        self.tell(PullEvent::Image(ImageEvent { image, state, digest, outcome, bytes, of, pinned, error, cause }));
    }

    /// Nobody may be listening any more.
    fn tell(&self, event: PullEvent) {
        let _ = self.tell.send(event);
    }
}

/// What was told of an image so far.
struct Told(Mutex<State>);

#[derive(Clone)]
struct State {
    image: String,
    plan: Option<(Digest, Outcome, u64)>,
    bytes: u64,
    pinned: bool,
}

impl Told {
    fn new(image: String) -> Told {
        Told(Mutex::new(State { image, plan: None, bytes: 0, pinned: false }))
    }
}
