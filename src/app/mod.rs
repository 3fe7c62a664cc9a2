//! Everything put together, once: the [`App`] owns the disk, the fetchers, the upstreams, the pull, the upkeep and their
//! tasks, and the order in which they stop.
//!
//! Start: disk → fetchers → upstreams → pull → upkeep → administration → listener. Nothing upstream is asked, so a machine
//! without a route starts too.
//! Stop: the listener drains → the administration ends → fills end or are parked → upkeep and probes stop → fetchers stop →
//! the index is flushed and marked clean.

mod admin_server;
mod allocator;
mod background;
mod banner;
mod check;
mod log;

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use admin_server::AdminServer;
use background::BackgroundTasks;
use tokio::{runtime::Runtime, signal::unix::SignalKind};

use crate::{
    access::{Access, AccessError},
    config::{Config, Loaded},
    http::{self, BindError, Certificate, ListenerRole, Services, Site, TlsError},
    metrics::{Metrics, Sample, UpstreamSample},
    names::Names,
    pull::{Parts, PullThrough},
    push::{self, Push},
    runtime::{BlockingPool, Tasks},
    storage::{Limits, RotCount, Storage},
    upkeep::{Scrub, Upkeep},
    upstream::{
        Health, Registry, RequestKind, Upstreams,
        fetcher::{FetcherError, Fetchers},
    },
};

pub use check::check;

/// What [`check()`] says.
pub use crate::storage::{CheckError, CheckReport, Mended, OpenError};

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
    /// The users.
    #[error(transparent)]
    Users(#[from] AccessError),
    /// The certificate.
    #[error("tls: {0}")]
    Tls(#[from] TlsError),
    /// An upstream's settings.
    #[error(transparent)]
    Upstreams(#[from] FetcherError),
    /// Threads, signals: the machine.
    #[error("the machine refused: {0}")]
    Machine(#[from] io::Error),
}

impl AppError {
    /// What the process leaves with: 2 where another process has the data folder, which needs no second try, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            AppError::Storage(OpenError::Locked { .. }) => 2,
            AppError::Storage(_)
            | AppError::Bind(_)
            | AppError::Upstreams(_)
            | AppError::Users(_)
            | AppError::Tls(_)
            | AppError::Machine(_) => 1,
        }
    }
}

/// A running lanyard.
pub struct App {
    /// For everything that goes on without a client; the workers of the HTTP server have runtimes of their own.
    background: Runtime,
    storage: Arc<Storage>,
    fetchers: Fetchers,
    upstreams: Arc<Upstreams>,
    tasks: Tasks,
    background_tasks: BackgroundTasks,
    admin_server: AdminServer,
    services: Services,
    listener: TcpListener,
    certificate: Option<Arc<Certificate>>,
    /// The listener that only pulls.
    mirror: Option<TcpListener>,
    ready: Arc<AtomicBool>,
}

/// Runs the registry until SIGTERM or SIGINT, and stops it in order.
///
/// # Errors
/// Whatever keeps it from running, in one line that says what to do.
pub fn serve(loaded: Loaded) -> Result<(), AppError> {
    let advice = loaded.advice();
    let Loaded { config, .. } = loaded;
    log::begin(config.log);
    let app = App::start(&config)?;
    let mirror = app.mirror.as_ref().map(TcpListener::local_addr).transpose()?;
    let banner = banner::banner(&config, app.listening()?, mirror, &advice);
    app.run(async move {
        let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
        let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt())?;
        // Whoever waits for this may stop lanyard right after it. Whoever started it without a terminal has the log.
        let _ = std::io::stdout().write_all(banner.as_bytes());
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
    })
}

impl App {
    /// Opens the data folder, takes the addresses, and puts everything together. Clients queue from then on.
    ///
    /// # Errors
    /// As [`serve`].
    pub fn start(config: &Config) -> Result<App, AppError> {
        // The address first: a taken port should not cost a look through the data folder.
        let listener = http::bind(config.listen, "--listen")?;
        let mirror = config.mirror_listen.map(|address| http::bind(address, "mirror_listen")).transpose()?;
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let background = background()?;
        let one_thread = || BlockingPool::new(background.handle().clone(), 1);
        let certificate = config.tls.as_ref().map(|files| Certificate::open(files, one_thread())).transpose()?;
        let limits = Limits { max_size: config.cache.max_size, min_free: config.cache.min_free };
        let storage = Arc::new(Storage::open(&config.data_dir, limits)?);
        storage.leases.set_grace(config.hosted.gc_grace);
        if storage.writable() && !storage.room_for(0) {
            tracing::warn!("cache.max_size or cache.min_free is reached: what is new is passed on and not kept");
        }
        let fetchers = Fetchers::start(cores.div_ceil(4))?;
        let upstreams = Arc::new(Upstreams::new(config, &fetchers, background.handle())?);
        let registries: Vec<_> = config.upstreams.iter().map(|upstream| upstream.name.clone()).collect();
        let metrics = Arc::new(Metrics::new(&registries));
        let tasks = Tasks::new(background.handle().clone());
        let disk = BlockingPool::new(background.handle().clone(), cores * 4);
        let hosted = config.hosted.namespaces.clone();
        let names = Arc::new(Names::new(registries, config.default_upstream.clone(), move |name| {
            hosted.iter().any(|pattern| pattern.matches(name))
        }));
        let pull = PullThrough::new(
            config,
            Parts {
                storage: Arc::clone(&storage),
                disk: disk.clone(),
                upstreams: Arc::clone(&upstreams),
                metrics: Arc::clone(&metrics),
                tasks: tasks.clone(),
            },
        );
        let push = Push::new(
            config.hosted.clone(),
            push::Parts {
                storage: Arc::clone(&storage),
                disk,
                pull: Arc::clone(&pull),
                names: Arc::clone(&names),
                tasks: tasks.clone(),
            },
        );
        // One thread each: what is collected and what is scrubbed can wait for what is served.
        let scrub = Scrub::new(Arc::clone(&storage), one_thread(), config.scrub_every);
        let upkeep = Upkeep::new(Arc::clone(&storage), one_thread());
        let ready = Arc::new(AtomicBool::new(true));
        // Half the machine may be busy with passwords and serves all the same.
        let passwords = BlockingPool::new(background.handle().clone(), cores.div_ceil(2));
        let access = Arc::new(Access::new(config, passwords)?);
        let services = Services {
            access,
            site: Arc::new(Site::new(config, certificate.clone())),
            role: ListenerRole::Full,
            names,
            sample: sample(&storage, &upstreams, &pull, &scrub),
            pull,
            push,
            metrics,
            ready: Arc::clone(&ready),
            admin: None,
        };
        let background_tasks = BackgroundTasks::start(&upkeep, &scrub, background.handle());
        let admin_server = AdminServer::bind(config, listener.local_addr()?, services.clone(), upkeep, scrub);
        Ok(App {
            background,
            storage,
            fetchers,
            upstreams,
            tasks,
            background_tasks,
            admin_server,
            services,
            listener,
            certificate,
            mirror,
            ready,
        })
    }

    /// The registry's address.
    ///
    /// # Errors
    /// The machine's.
    pub fn listening(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The disk, for whoever measures or tests.
    pub fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    /// Serves until `stop` ends, which begins once requests are answered; then stops in order. What `stop` brings back is
    /// awaited meanwhile: when it ends too, answers under way are cut.
    ///
    /// # Errors
    /// What ended the server, or `stop`'s own; the rest is stopped in order all the same.
    pub fn run<H>(self, stop: impl Future<Output = io::Result<H>> + 'static) -> Result<(), AppError>
    where
        H: Future<Output = ()> + 'static,
    {
        let App { background, storage, fetchers, upstreams, tasks, background_tasks, admin_server, .. } = self;
        let App { services, listener, certificate, mirror, ready, .. } = self;
        // Whatever ends the server, what is under way is put down in order.
        let ended: Result<(), AppError> = actix_web::rt::System::new().block_on(async move {
            let mut listeners = vec![(listener, services.clone())];
            listeners.extend(mirror.map(|listener| (listener, Services { role: ListenerRole::PullOnly, ..services })));
            let (server, handle) = http::run(listeners, certificate, http::ServerLimits::default())?;
            let admin_server = admin_server.run()?;
            let server = actix_web::rt::spawn(server);
            let stopped = stop.await;
            tracing::info!("stopping: answers under way are finished, nothing new is taken");
            ready.store(false, Ordering::Relaxed);
            let drained = async move {
                handle.stop(true).await;
                admin_server.end().await;
                match server.await {
                    Ok(ended) => ended,
                    Err(panicked) => Err(io::Error::other(panicked)),
                }
            };
            // Whoever asks twice does not want to wait for slow clients: their answers end with the process.
            let hurried = async move {
                match stopped {
                    Ok(hurry) => {
                        hurry.await;
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            };
            tokio::select! {
                ended = drained => ended.map_err(AppError::from),
                hurried = hurried => hurried.map_err(AppError::from),
            }
        });
        let parked = background.block_on(tasks.stop(PARK));
        background_tasks.end(&background, PARK);
        background.block_on(upstreams.stop());
        fetchers.stop(PARK);
        storage.close();
        background.shutdown_timeout(PARK);
        tracing::info!(parked, "stopped");
        ended
    }
}

/// The threads of everything that goes on without a client.
fn background() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("background").enable_all().build()
}

/// What the metrics page reads off the running parts.
fn sample(
    storage: &Arc<Storage>,
    upstreams: &Arc<Upstreams>,
    pull: &Arc<PullThrough>,
    scrub: &Arc<Scrub>,
) -> Arc<dyn Fn() -> Sample + Send + Sync> {
    let (storage, upstreams) = (Arc::clone(storage), Arc::clone(upstreams));
    let (pull, scrub) = (Arc::clone(pull), Arc::clone(scrub));
    Arc::new(move || {
        let usage = storage.usage();
        Sample {
            cache_bytes: usage.bytes - usage.hosted,
            cache_blobs: usage.blobs - usage.hosted_blobs,
            hosted_bytes: usage.hosted,
            hosted_blobs: usage.hosted_blobs,
            scrubbed: scrub.bytes_read(),
            rotten: rotten(&storage),
            fills_active: pull.active_fills() as u64,
            upstreams: upstreams.iter().map(|upstream| sample_of(upstream)).collect(),
        }
    })
}

fn rotten(storage: &Storage) -> Vec<(&'static str, &'static str, u64)> {
    let by_kind = |RotCount { by, cached, hosted }| [("cached", by.as_str(), cached), ("hosted", by.as_str(), hosted)];
    storage.rotten().into_iter().flat_map(by_kind).collect()
}

fn sample_of(upstream: &Registry) -> UpstreamSample {
    let seen = upstream.snapshot();
    UpstreamSample {
        name: upstream.name().clone(),
        rate_limit: upstream.budget().map(|budget| (budget.limit, budget.remaining)),
        circuit_open: upstream.health() == Health::Open,
        requests: RequestKind::ALL.map(|kind| (kind.as_str(), seen.requests(kind))).to_vec(),
        retries: seen.retries,
        errors: seen.errors,
        untrue: seen.untrue,
        received: seen.bytes_in,
    }
}
