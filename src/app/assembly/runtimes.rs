//! The two runtimes (architecture, 'Threads'): the data path on one, everything
//! else on the other, so that nothing there can delay a query.
//!
//! With one worker the data path runs on tokio's single-threaded scheduler:
//! there is nobody to steal from or to be woken by, and a transaction costs
//! less (`benches/README.md`).

use std::io;
use std::num::NonZeroUsize;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::app::Failure;
use crate::control::config::Settings;

/// Threads of everything that is not the data path.
const CONTROL_THREADS: usize = 2;
/// What the data path's threads are called.
const DATA_THREAD: &str = "data";

/// The two runtimes.
pub struct Runtimes {
    data: DataRuntime,
    /// Everything but sessions.
    pub control: Runtime,
}

impl Runtimes {
    /// Starts both.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn new(settings: &Settings) -> Result<Self, Failure> {
        let data = DataRuntime::start(settings.runtime.workers)?;
        let mut control = Builder::new_multi_thread();
        let control = control.worker_threads(CONTROL_THREADS).enable_all().thread_name("control");
        Ok(Self { data, control: control.build()? })
    }

    /// Stops both without waiting for what runs on them.
    pub fn shutdown_background(self) {
        match self.data {
            DataRuntime::Many(runtime) => runtime.shutdown_background(),
            DataRuntime::One(mut worker) => worker.detach(),
        }
        self.control.shutdown_background();
    }

    /// Where sessions run.
    #[must_use]
    pub fn data(&self) -> &Handle {
        match &self.data {
            DataRuntime::Many(runtime) => runtime.handle(),
            DataRuntime::One(worker) => &worker.handle,
        }
    }
}

/// The data path's runtime.
enum DataRuntime {
    Many(Runtime),
    One(Worker),
}

impl DataRuntime {
    /// As many workers as configured, or one per core.
    fn start(workers: Option<NonZeroUsize>) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        match workers.unwrap_or(cores) {
            NonZeroUsize::MIN => Worker::start().map(Self::One),
            workers => {
                let mut builder = Builder::new_multi_thread();
                builder.worker_threads(workers.get()).thread_name(DATA_THREAD);
                builder.enable_all().build().map(Self::Many)
            }
        }
    }
}

/// One thread that drives a runtime of its own until this is dropped.
struct Worker {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            let _ = runtime.block_on(stopped);
        };
        let thread = std::thread::Builder::new().name(DATA_THREAD.to_owned()).spawn(run)?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Lets the thread end by itself.
    fn detach(&mut self) {
        drop(self.thread.take());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
