//! Everything is put together here, once. The [`App`] owns the storage, the fetchers, the
//! upstreams, the pull, the collector and their tasks, and the order in which they stop. `main`
//! calls [`serve`].
//!
//! Start: storage → fetchers → upstreams → pull, push → access → background tasks → administration
//! → listeners. No upstream is asked, so a machine without a route starts too.
//!
//! Stop: the listeners drain → the administration ends → fills end or are parked → collector and
//! probes stop → fetchers stop → savings are noted → the index is flushed and marked clean.

mod admin_server;
mod allocator;
mod background;
mod banner;
mod check;
mod log;
mod reach;
mod sample;
mod tag_keeper;

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use admin_server::{AdminParts, AdminServer};
use background::BackgroundTasks;
use tag_keeper::RulesKeep;
use tokio::{runtime::Runtime, signal::unix::SignalKind};

use crate::{
    access::{Access, AccessError},
    admin::Savings,
    config::{Config, Loaded, LockFileError, Mode, StorageKind},
    http::{self, BindError, Certificate, ListenerRole, Services, Site, TlsError},
    metrics::Metrics,
    names::Names,
    oci::UpstreamName,
    pull::{self, PullThrough, TagRules},
    push::{self, Push},
    retention::{Collector, Evictor, Forgetter, KeptSet, Scrub, Source, TagKeeper},
    runtime::{BlockingPool, Tasks, run_quietly},
    storage::{self, Limits, Storage},
    upstream::{
        Upstreams,
        fetcher::{FetcherError, Fetchers},
    },
};

pub use check::check;
pub use reach::reach;

/// The result of [`check()`].
pub use crate::storage::{CheckError, CheckReport, Mended, OpenError};

/// The result of [`reach()`].
pub use crate::storage::{FarOpenError, Finding, Reach};

/// How long fills and tasks may take to stop in order; each step of the stop has as long.
const PARK: Duration = Duration::from_secs(10);

/// lanyard did not start, or did not stop in order. Shown as one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The data folder cannot be opened.
    #[error(transparent)]
    Storage(#[from] OpenError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The file of users is not one.
    #[error(transparent)]
    Users(#[from] AccessError),
    /// A rule of tags names a lock file that cannot be read.
    #[error(transparent)]
    LockFile(#[from] LockFileError),
    /// The certificate or its key cannot be used.
    #[error("tls: {0}")]
    Tls(#[from] TlsError),
    /// A fetcher cannot be set up for the configuration of an upstream.
    #[error(transparent)]
    Upstreams(#[from] FetcherError),
    /// Content cannot be kept where the configuration says.
    #[error("storage.kind {0:?} is not in this version, which keeps content in \"files\"")]
    Kind(&'static str),
    /// The operating system refused a thread, a signal or a socket.
    #[error("the operating system refused: {0}")]
    Machine(#[from] io::Error),
}

impl AppError {
    /// The exit code of the process: 2 if another process has the data folder, as a second try
    /// would fail too; else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            AppError::Storage(OpenError::Locked { .. }) => 2,
            AppError::Kind(_)
            | AppError::Storage(_)
            | AppError::Bind(_)
            | AppError::Upstreams(_)
            | AppError::Users(_)
            | AppError::LockFile(_)
            | AppError::Tls(_)
            | AppError::Machine(_) => 1,
        }
    }
}

/// A running lanyard.
pub struct App {
    /// Runs everything that goes on without a client. The workers of the HTTP server have runtimes
    /// of their own.
    background: Runtime,
    /// Its blocking threads do what can wait for requests.
    quiet: Runtime,
    storage: Arc<Storage>,
    fetchers: Fetchers,
    upstreams: Arc<Upstreams>,
    tasks: Tasks,
    background_tasks: BackgroundTasks,
    savings: Arc<Savings>,
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
/// It cannot start, or the server failed. The error is one line that says what to do.
pub fn serve(loaded: Loaded) -> Result<(), AppError> {
    let advice = loaded.advice();
    let Loaded { config, .. } = loaded;
    allocator::bound();
    log::begin(config.log);
    let app = App::start(&config)?;
    let mirror = app.mirror.as_ref().map(TcpListener::local_addr).transpose()?;
    let banner = banner::banner(&config, app.listening()?, mirror, &advice);
    app.run(async move {
        let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
        let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt())?;
        // The signal handlers come first: a program that waits for this line may stop lanyard right
        // after it. A failure is passed over: without a standard output there is the log.
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
    /// Takes the addresses, opens the data folder, and puts everything together. Clients queue
    /// until [`App::run`].
    ///
    /// # Errors
    /// As [`serve`].
    pub fn start(config: &Config) -> Result<App, AppError> {
        let kind = config.storage.kind;
        if kind != StorageKind::Files {
            return Err(AppError::Kind(kind.word()));
        }
        // The address first: a taken port should fail before the data folder is looked through.
        let listener = http::bind(config.listen, "--listen")?;
        let mirror = config.mirror_listen.map(|address| http::bind(address, "mirror_listen")).transpose()?;
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let background = background()?;
        let quiet = quiet()?;
        let one_thread = || BlockingPool::new(background.handle().clone(), 1);
        let one_quiet_thread = || BlockingPool::new(quiet.handle().clone(), 1);
        let certificate = config.tls.as_ref().map(|files| Certificate::open(files, one_thread())).transpose()?;
        let disk = BlockingPool::new(background.handle().clone(), cores * 4);
        let storage = open_storage(config, &disk)?;
        let fetchers = Fetchers::start(cores.div_ceil(4))?;
        let upstreams = Arc::new(Upstreams::new(config, &fetchers, background.handle())?);
        let metrics = Arc::new(Metrics::new(&upstream_names(config)));
        let tasks = Tasks::new(background.handle().clone());
        let names = names(config);
        let tag_rules = Arc::new(TagRules::open(config, one_thread)?);
        let deps = pull::Deps {
            storage: Arc::clone(&storage),
            disk,
            upstreams: Arc::clone(&upstreams),
            tag_rules: Arc::clone(&tag_rules),
            metrics: Arc::clone(&metrics),
            tasks: tasks.clone(),
        };
        let (pull, push) = pull_and_push(config, deps, &names);
        // One thread each: collection, scrub and eviction can wait for requests.
        let scrub = Scrub::new(&storage, one_quiet_thread(), config.scrub_every);
        let collector = Collector::new(&storage, one_quiet_thread());
        let mut sources = vec![Source::Pins, Source::Patterns(config.cache.keep.clone())];
        if tag_rules.keep_anything() {
            let rules: Arc<dyn TagKeeper> = Arc::new(RulesKeep(tag_rules));
            sources.extend([Source::Rules(Arc::clone(&rules)), Source::LockFiles(rules)]);
        }
        let kept = KeptSet::new(&storage, sources);
        let evictor = evictor(config, &storage, &upstreams, one_quiet_thread(), &kept);
        let forget_after = config.cache.forget_after.filter(|_| config.mode != Mode::Offline);
        let forgetter = forget_after.map(|after| Forgetter::new(&storage, one_quiet_thread(), &kept, after));
        let ready = Arc::new(AtomicBool::new(true));
        // At most half of the processors check passwords, so that the others serve.
        let passwords = BlockingPool::new(background.handle().clone(), cores.div_ceil(2));
        let access = Arc::new(Access::new(config, passwords)?);
        let sample = sample::sample(&storage, &upstreams, &pull, &scrub, &kept, evictor.as_ref());
        let savings = Savings::new(&storage, &metrics, &sample);
        let services = Services {
            access,
            site: Arc::new(Site::new(config, certificate.clone())),
            role: ListenerRole::Full,
            names,
            sample,
            pull,
            push,
            metrics,
            ready: Arc::clone(&ready),
            admin: None,
        };
        let background_tasks = BackgroundTasks::start(
            &collector,
            &scrub,
            evictor.clone(),
            forgetter,
            &savings,
            &services.pull,
            background.handle(),
        );
        let parts = AdminParts {
            collector,
            scrub,
            evictor,
            kept,
            storage: Arc::clone(&storage),
            savings: Arc::clone(&savings),
            max_size: max_size(config),
        };
        let admin_server = AdminServer::bind(config, listener.local_addr()?, services.clone(), parts);
        Ok(App {
            background,
            quiet,
            storage,
            fetchers,
            upstreams,
            tasks,
            background_tasks,
            savings,
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
    /// The operating system cannot name it.
    pub fn listening(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The storage, for tests and benchmarks.
    pub fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    /// Serves until `stop` ends, then stops in order. `stop` is first polled when requests are
    /// answered. It returns a second future: if that ends before the stop is over, answers under
    /// way are cut.
    ///
    /// # Errors
    /// The server failed, or `stop` did. Everything else is stopped in order all the same.
    pub fn run<H>(self, stop: impl Future<Output = io::Result<H>> + 'static) -> Result<(), AppError>
    where
        H: Future<Output = ()> + 'static,
    {
        let App {
            background, quiet, storage, fetchers, upstreams, tasks, background_tasks, savings, admin_server, ..
        } = self;
        let App { services, listener, certificate, mirror, ready, .. } = self;
        // However the server ends, the other parts are stopped in order below.
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
            // A second signal does not wait for slow clients: their answers end with the process.
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
        // No byte comes or goes any more.
        background.block_on(savings.note());
        storage.close();
        quiet.shutdown_timeout(PARK);
        background.shutdown_timeout(PARK);
        tracing::info!(parked, "stopped");
        ended
    }
}

/// The runtime of everything that goes on without a client: two threads.
fn background() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("background").enable_all().build()
}

/// The runtime whose blocking threads are quiet. It runs no task.
fn quiet() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().thread_name("quiet").on_thread_start(run_quietly).build()
}

fn open_storage(config: &Config, disk: &BlockingPool) -> Result<Arc<Storage>, OpenError> {
    let limits = Limits { max_size: max_size(config), min_free: config.cache.min_free };
    let storage = Arc::new(Storage::open(&config.data_dir, limits, disk.clone())?);
    storage.set_grace(config.hosted.gc_grace);
    if storage.writable() && !storage.has_room() {
        let usage = storage.usage();
        let evicts = config.mode != Mode::Offline && storage.lack(0).of_disk <= usage.bytes - usage.hosted;
        let then =
            if evicts { "cached content makes room for new content" } else { "new content is passed on and not kept" };
        tracing::warn!("cache.max_size or cache.min_free is reached: {then}");
    }
    Ok(storage)
}

/// `cache.max_size` in bytes. A disk that does not answer bounds nothing.
fn max_size(config: &Config) -> Option<u64> {
    let disk = || storage::disk_size(&config.data_dir).unwrap_or(u64::MAX);
    config.cache.max_size.map(|max| max.of(disk()))
}

/// The bytes below `cache.max_size` that the eviction keeps free, so that a download seldom waits.
fn headroom(config: &Config) -> u64 {
    max_size(config).map_or(0, |max| (max / 20).min(2 << 30))
}

/// None where lanyard is offline: what is evicted could not come again.
fn evictor(
    config: &Config,
    storage: &Storage,
    upstreams: &Arc<Upstreams>,
    pool: BlockingPool,
    kept: &Arc<KeptSet>,
) -> Option<Arc<Evictor>> {
    let upstreams = Arc::clone(upstreams);
    // What belongs to no upstream of the configuration is served to nobody: it need not come again.
    let answers = move |name: &UpstreamName| upstreams.get(name).map_or(Some(true), |upstream| upstream.answers());
    (config.mode != Mode::Offline).then(|| Evictor::new(storage, pool, headroom(config), Box::new(answers), kept))
}

fn upstream_names(config: &Config) -> Vec<UpstreamName> {
    config.upstreams.iter().map(|upstream| upstream.name.clone()).collect()
}

/// The mirrored and the hosted names of the configuration.
fn names(config: &Config) -> Arc<Names> {
    let hosted = config.hosted.namespaces.clone();
    Arc::new(Names::new(upstream_names(config), config.default_upstream.clone(), move |name| {
        hosted.iter().any(|pattern| pattern.matches(name))
    }))
}

/// Pushes use the pull for content that a mirrored repository of the same name holds.
fn pull_and_push(config: &Config, deps: pull::Deps, names: &Arc<Names>) -> (Arc<PullThrough>, Arc<Push>) {
    let (storage, disk, tasks) = (Arc::clone(&deps.storage), deps.disk.clone(), deps.tasks.clone());
    let pull = PullThrough::new(config, deps);
    let push_deps = push::Deps { storage, disk, pull: Arc::clone(&pull), names: Arc::clone(names), tasks };
    let push = Push::new(config.hosted.clone(), push_deps);
    (pull, push)
}
