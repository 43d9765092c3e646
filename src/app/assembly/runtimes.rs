//! The runtimes (architecture, 'Threads'): the data path's, and one for
//! everything else, so that nothing there can delay a query.
//!
//! Each worker of the data path is a thread that drives a single-threaded
//! runtime of its own: there is nobody to steal from or to be woken by, and a
//! transaction costs less (`docs/decisions/0016-a-runtime-for-each-worker.md`).

use std::io;
use std::num::NonZeroUsize;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::app::Failure;
use crate::control::config::Settings;
use crate::net::Worker;

/// Threads of everything that is not the data path.
const CONTROL_THREADS: usize = 2;
/// What the data path's threads are called.
const DATA_THREAD: &str = "data";

/// All of them.
pub struct Runtimes {
    /// The data path's, at least one.
    workers: Vec<WorkerThread>,
    /// Everything but sessions.
    pub control: Runtime,
}

impl Runtimes {
    /// Starts them: as many workers as configured, or one per core.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn new(settings: &Settings) -> Result<Self, Failure> {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let count = settings.runtime.workers.unwrap_or(cores).get();
        let numbers = (0..count).map(|number| Worker(u16::try_from(number).unwrap_or(u16::MAX)));
        let workers = numbers.map(WorkerThread::start).collect::<io::Result<_>>()?;
        let mut control = Builder::new_multi_thread();
        let control = control.worker_threads(CONTROL_THREADS).enable_all().thread_name("control");
        Ok(Self { workers, control: control.build()? })
    }

    /// Stops them without waiting for what runs on them.
    pub fn shutdown_background(self) {
        for mut worker in self.workers {
            worker.detach();
        }
        self.control.shutdown_background();
    }

    /// Where sessions run.
    pub fn workers(&self) -> impl Iterator<Item = &Handle> {
        self.workers.iter().map(|worker| &worker.handle)
    }

    /// Where the data path's other tasks run: the first worker.
    ///
    /// # Panics
    /// Never: there is a worker.
    #[must_use]
    pub fn data(&self) -> &Handle {
        self.workers().next().expect("there is a worker")
    }
}

/// One thread that drives a runtime of its own until this is dropped.
struct WorkerThread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl WorkerThread {
    fn start(worker: Worker) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            worker.enter();
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

impl Drop for WorkerThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
