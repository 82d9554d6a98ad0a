//! Who can have the configuration read again, which is told from outside, and who waits for it.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::last_reload::LastReload;
use crate::limits;

/// Who can read the configuration again.
pub trait Reload: Send + Sync {
    /// Has it read, and put in force if it is good: once for all who ask before that begins. Gives
    /// nothing if it is not done.
    fn reload(self: Arc<Self>) -> Pin<Box<dyn Future<Output = Option<Arc<LastReload>>> + Send>>;

    /// What became of the last reload, whoever asked for it; `None` before the first.
    fn last_reload(&self) -> Option<Arc<LastReload>>;
}

/// The way to who reloads, and how many may wait for that.
pub struct Reloads {
    control: OnceLock<Weak<dyn Reload>>,
    waiting: Semaphore,
}

impl Reloads {
    /// From now on `control` is asked; the first one that is named stays.
    pub fn attend(&self, control: Weak<dyn Reload>) {
        self.control.get_or_init(|| control);
    }

    /// Who reloads; `None` before there is anybody, and at the end.
    pub(super) fn control(&self) -> Option<Arc<dyn Reload>> {
        self.control.get()?.upgrade()
    }

    /// A place among those who wait, if there is one.
    pub(super) fn queue(&self) -> Option<SemaphorePermit<'_>> {
        self.waiting.try_acquire().ok()
    }
}

impl Default for Reloads {
    fn default() -> Self {
        let waiting = Semaphore::new(limits::MAX_WAITING_RELOADS + 1);
        Self { control: OnceLock::new(), waiting }
    }
}

impl fmt::Debug for Reloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reloads(..)")
    }
}
