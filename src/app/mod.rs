//! Everything is put together here, once. The [`App`] owns the storage, the fetchers, the
//! upstreams, the pull, the collector and their tasks, and the order in which they stop. `main`
//! calls [`serve`].
//!
//! Start: storage → fetchers → upstreams → pull, push → access → background tasks → administration
//! → listeners. No upstream is asked, so a machine without a route starts too.
//!
//! Stop: the listeners drain → the administration ends → fills end or are parked → collector and
//! probes stop → fetchers stop → the index is flushed and marked clean.

mod admin_server;
mod allocator;
mod background;
mod banner;
mod check;
mod log;
mod sample;

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
    metrics::Metrics,
    names::Names,
    oci::UpstreamName,
    pull::{self, PullThrough},
    push::{self, Push},
    retention::{Collector, Scrub},
    runtime::{BlockingPool, Tasks},
    storage::{Limits, Storage},
    upstream::{
        Upstreams,
        fetcher::{FetcherError, Fetchers},
    },
};

pub use check::check;

/// The result of [`check()`].
pub use crate::storage::{CheckError, CheckReport, Mended, OpenError};

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
    /// The certificate or its key cannot be used.
    #[error("tls: {0}")]
    Tls(#[from] TlsError),
    /// A fetcher cannot be set up for the configuration of an upstream.
    #[error(transparent)]
    Upstreams(#[from] FetcherError),
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
    /// Runs everything that goes on without a client. The workers of the HTTP server have runtimes
    /// of their own.
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
/// It cannot start, or the server failed. The error is one line that says what to do.
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
        // The address first: a taken port should fail before the data folder is looked through.
        let listener = http::bind(config.listen, "--listen")?;
        let mirror = config.mirror_listen.map(|address| http::bind(address, "mirror_listen")).transpose()?;
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let background = background()?;
        let one_thread = || BlockingPool::new(background.handle().clone(), 1);
        let certificate = config.tls.as_ref().map(|files| Certificate::open(files, one_thread())).transpose()?;
        let disk = BlockingPool::new(background.handle().clone(), cores * 4);
        let storage = open_storage(config, &disk)?;
        let fetchers = Fetchers::start(cores.div_ceil(4))?;
        let upstreams = Arc::new(Upstreams::new(config, &fetchers, background.handle())?);
        let metrics = Arc::new(Metrics::new(&upstream_names(config)));
        let tasks = Tasks::new(background.handle().clone());
        let names = names(config);
        let deps = pull::Deps {
            storage: Arc::clone(&storage),
            disk,
            upstreams: Arc::clone(&upstreams),
            metrics: Arc::clone(&metrics),
            tasks: tasks.clone(),
        };
        let (pull, push) = pull_and_push(config, deps, &names);
        // One thread each: collection and scrub can wait for requests.
        let scrub = Scrub::new(&storage, one_thread(), config.scrub_every);
        let collector = Collector::new(&storage, one_thread());
        let ready = Arc::new(AtomicBool::new(true));
        // At most half of the processors check passwords, so that the others serve.
        let passwords = BlockingPool::new(background.handle().clone(), cores.div_ceil(2));
        let access = Arc::new(Access::new(config, passwords)?);
        let services = Services {
            access,
            site: Arc::new(Site::new(config, certificate.clone())),
            role: ListenerRole::Full,
            names,
            sample: sample::sample(&storage, &upstreams, &pull, &scrub),
            pull,
            push,
            metrics,
            ready: Arc::clone(&ready),
            admin: None,
        };
        let background_tasks = BackgroundTasks::start(&collector, &scrub, background.handle());
        let admin_server = AdminServer::bind(config, listener.local_addr()?, services.clone(), collector, scrub);
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
        let App { background, storage, fetchers, upstreams, tasks, background_tasks, admin_server, .. } = self;
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
        storage.close();
        background.shutdown_timeout(PARK);
        tracing::info!(parked, "stopped");
        ended
    }
}

/// The runtime of everything that goes on without a client: two threads.
fn background() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("background").enable_all().build()
}

fn open_storage(config: &Config, disk: &BlockingPool) -> Result<Arc<Storage>, OpenError> {
    let limits = Limits { max_size: config.cache.max_size, min_free: config.cache.min_free };
    let storage = Arc::new(Storage::open(&config.data_dir, limits, disk.clone())?);
    storage.set_grace(config.hosted.gc_grace);
    if storage.writable() && !storage.has_room() {
        tracing::warn!("cache.max_size or cache.min_free is reached: new content is passed on and not kept");
    }
    Ok(storage)
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
