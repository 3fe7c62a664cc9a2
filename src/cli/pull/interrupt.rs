//! Ctrl-C while `pull` waits: a thread of its own ends the connection, and the command then says
//! what goes on. [`Interrupt`] owns the thread and ends it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

/// Listens for Ctrl-C until it is dropped.
pub(super) struct Interrupt {
    pressed: Arc<AtomicBool>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Interrupt {
    /// Listens from now on. At Ctrl-C, `hang_up` is called once.
    ///
    /// # Errors
    /// The system gives no thread, or no signals.
    pub(super) fn listen(hang_up: impl FnOnce() + Send + 'static) -> io::Result<Interrupt> {
        let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
        let mut interrupts = {
            let _entered = runtime.enter();
            signal(SignalKind::interrupt())?
        };
        let (end, ended) = oneshot::channel();
        let pressed = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&pressed);
        let listen = move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = ended => {}
                    _ = interrupts.recv() => {
                        told.store(true, Ordering::Release);
                        hang_up();
                    }
                }
            });
        };
        let thread = thread::Builder::new().name("lanyard-interrupt".to_owned()).spawn(listen)?;
        Ok(Interrupt { pressed, end: Some(end), thread: Some(thread) })
    }

    /// Whether Ctrl-C was pressed.
    pub(super) fn pressed(&self) -> bool {
        self.pressed.load(Ordering::Acquire)
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
