//! Everything put together, once: the [`App`] owns the disk, the fetchers, the upstreams, the pull, the upkeep and their
//! tasks, and the order in which they stop.
//!
//! Start: disk → fetchers → upstreams → pull → upkeep → administration → listener. Nothing upstream is asked, so a machine
//! without a route starts too.
//! Stop: the listener drains → the administration ends → fills end or are parked → upkeep and probes stop → fetchers stop →
//! the index is flushed and marked clean.

mod banner;
mod log;

use std::{
    io::{self, Write as _},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::{runtime::Runtime, signal::unix::SignalKind, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, Loaded},
    http::{self, Admin, AdminSocket, BindError, Face, Started},
    metrics::{Metrics, Sample, UpstreamSample},
    names::Names,
    oci::{Namespace, Repository, RepositoryName},
    pull::{Parts, PullThrough, Tasks},
    storage::{DiskThreads, Limits, OpenError, Storage},
    upkeep::{self, Upkeep},
    upstream::{
        Health, Upstreams,
        fetcher::{FetcherError, Fetchers},
    },
};

pub use http::{SOCKET, Status};

/// How long fills and probes may take to put down what they hold.
const PARK: Duration = Duration::from_secs(10);

/// Why lanyard did not start, or did not stop in order. Each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The data folder.
    #[error(transparent)]
    Storage(#[from] OpenError),
    /// The address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// An upstream's settings.
    #[error(transparent)]
    Upstreams(#[from] FetcherError),
    /// Threads, signals: the machine.
    #[error("the machine refused: {0}")]
    Machine(#[from] io::Error),
}

/// A running lanyard.
pub struct App {
    /// For everything that goes on without a client; the workers of the HTTP server have runtimes of their own.
    background: Runtime,
    storage: Arc<Storage>,
    fetchers: Fetchers,
    upstreams: Arc<Upstreams>,
    tasks: Tasks,
    keeping: Keeping,
    admin: Admin,
    /// None where there can be none, which the log has said.
    socket: Option<AdminSocket>,
    listener: TcpListener,
    ready: Arc<AtomicBool>,
}

/// The collector's task, and the word that ends it.
struct Keeping {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

/// Runs the registry until SIGTERM or SIGINT, and stops it in order.
///
/// # Errors
/// Whatever keeps it from running, in one line that says what to do.
pub fn serve(loaded: Loaded) -> Result<(), AppError> {
    let Loaded { config, .. } = loaded;
    log::begin(config.log);
    let app = App::start(&config)?;
    let banner = banner::banner(&config, app.listener.local_addr()?);
    app.run(&banner)
}

impl App {
    fn start(config: &Config) -> Result<App, AppError> {
        // The address first: a taken port should not cost a look through the data folder.
        let listener = http::bind(config.listen)?;
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let background = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("background")
            .enable_all()
            .build()?;
        let limits = Limits { max_size: config.cache.max_size, min_free: config.cache.min_free };
        let storage = Arc::new(Storage::open(&config.data_dir, limits)?);
        let fetchers = Fetchers::start(cores.div_ceil(4))?;
        let upstreams = Arc::new(Upstreams::new(config, &fetchers, background.handle())?);
        let names: Vec<_> = config.upstreams.iter().map(|upstream| upstream.name.clone()).collect();
        let metrics = Arc::new(Metrics::new(&names));
        let tasks = Tasks::new(background.handle().clone());
        let pull = PullThrough::new(
            config,
            Parts {
                storage: Arc::clone(&storage),
                disk: DiskThreads::new(background.handle().clone(), cores * 4),
                upstreams: Arc::clone(&upstreams),
                metrics: Arc::clone(&metrics),
                tasks: tasks.clone(),
            },
        );
        let ready = Arc::new(AtomicBool::new(true));
        let hosted = config.hosted.namespaces.clone();
        let face = Face {
            names: Arc::new(Names::new(names, config.default_upstream.clone(), move |name| {
                hosted.iter().any(|pattern| pattern.matches(name))
            })),
            sample: sample(&storage, &upstreams, &pull),
            hosted_exists: hosted_exists(&storage),
            pull,
            metrics,
            ready: Arc::clone(&ready),
        };
        // One thread: what is collected can wait for what is served.
        let upkeep = Upkeep::new(Arc::clone(&storage), DiskThreads::new(background.handle().clone(), 1));
        let stop = CancellationToken::new();
        let task = background.spawn(Arc::clone(&upkeep).run(upkeep::EVERY, stop.clone()));
        let started = Arc::new(Started {
            listening: listener.local_addr()?,
            data_dir: std::path::absolute(&config.data_dir).unwrap_or_else(|_| config.data_dir.clone()),
            at: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
        });
        let socket = AdminSocket::bind(&config.data_dir)
            .inspect_err(|error| tracing::warn!("`lanyard gc` and `lanyard status` cannot reach this process: {error}"))
            .ok();
        let keeping = Keeping { task, stop };
        let admin = Admin { face, upkeep, started };
        Ok(App { background, storage, fetchers, upstreams, tasks, keeping, admin, socket, listener, ready })
    }

    /// Says `banner` as soon as it can be reached, and stopped.
    fn run(self, banner: &str) -> Result<(), AppError> {
        let App { background, storage, fetchers, upstreams, tasks, keeping, admin, socket, listener, ready } = self;
        actix_web::rt::System::new().block_on(async move {
            let (server, handle) = http::run(listener, admin.face.clone(), http::Limits::default())?;
            let administration = socket.map(|socket| socket.run(admin)).transpose()?;
            let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
            let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt())?;
            let server = actix_web::rt::spawn(server);
            let administration =
                administration.map(|(server, handle, file)| (actix_web::rt::spawn(server), handle, file));
            // Whoever started lanyard without a terminal has the log.
            let _ = std::io::stdout().write_all(banner.as_bytes());
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping: answers under way are finished, nothing new is taken");
            ready.store(false, Ordering::Relaxed);
            handle.stop(true).await;
            if let Some((server, handle, file)) = administration {
                drop(file);
                handle.stop(true).await;
                // It has said what there was to say; the registry's own end is what counts.
                let _ = server.await;
            }
            match server.await {
                Ok(ended) => ended,
                Err(panicked) => Err(io::Error::other(panicked)),
            }
        })?;
        let parked = background.block_on(tasks.stop(PARK));
        keeping.stop.cancel();
        let ended = background.block_on(async { tokio::time::timeout(PARK, keeping.task).await });
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!("the collection of unneeded content did not end in order");
        }
        background.block_on(upstreams.stop());
        fetchers.stop(PARK);
        storage.close();
        background.shutdown_timeout(PARK);
        tracing::info!(parked, "stopped");
        Ok(())
    }
}

/// What the metrics page reads off the running parts.
fn sample(
    storage: &Arc<Storage>,
    upstreams: &Arc<Upstreams>,
    pull: &Arc<PullThrough>,
) -> Arc<dyn Fn() -> Sample + Send + Sync> {
    let (storage, upstreams, pull) = (Arc::clone(storage), Arc::clone(upstreams), Arc::clone(pull));
    Arc::new(move || {
        let usage = storage.usage();
        Sample {
            cache_bytes: usage.bytes,
            cache_blobs: usage.blobs,
            fills_active: pull.active_fills() as u64,
            upstreams: upstreams
                .iter()
                .map(|upstream| UpstreamSample {
                    name: upstream.name().clone(),
                    rate_limit: upstream.budget().map(|budget| (budget.limit, budget.remaining)),
                    circuit_open: upstream.health() == Health::Open,
                })
                .collect(),
        }
    })
}

/// Nothing can be pushed yet, so the answer is no unless an earlier or later lanyard left something.
fn hosted_exists(storage: &Arc<Storage>) -> Arc<dyn Fn(&RepositoryName) -> bool + Send + Sync> {
    let storage = Arc::clone(storage);
    Arc::new(move |name| {
        storage.catalog.has_repository(&Repository { namespace: Namespace::Hosted, name: name.clone() })
    })
}
