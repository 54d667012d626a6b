//! Ctrl-C and the stop of a unit: what runs is asked to end, and the run stops where it is.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use recipes::system::linux::Interrupter;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::Notify;

/// Knows when this process has been told to stop.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    told: AtomicBool,
    waiting: Notify,
    interrupter: Mutex<Option<Interrupter>>,
}

impl Stop {
    /// Listens for SIGINT and SIGTERM from now on.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        let stop = Self::default();
        let listener = stop.clone();
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        thread::spawn(move || {
            for _ in signals.forever() {
                listener.stop();
            }
        });
        Ok(stop)
    }

    /// Whether this process has been told to stop.
    pub fn is_told(&self) -> bool {
        self.0.told.load(Ordering::SeqCst)
    }

    /// Stops a run on a machine too.
    pub fn also(&self, interrupter: Interrupter) {
        if self.is_told() {
            interrupter.interrupt();
        }
        *self.0.interrupter.lock().unwrap_or_else(PoisonError::into_inner) = Some(interrupter);
    }

    /// Ends when this process has been told to stop.
    pub async fn told(&self) {
        while !self.is_told() {
            self.0.waiting.notified().await;
        }
    }

    fn stop(&self) {
        self.0.told.store(true, Ordering::SeqCst);
        self.0.waiting.notify_one();
        if let Some(interrupter) = &*self.0.interrupter.lock().unwrap_or_else(PoisonError::into_inner) {
            interrupter.interrupt();
        }
    }
}
