//! What the reader of a connection tells the one who answers its requests: which message is the
//! first that must not pass. It counts messages, and knows nothing of what is in them.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Fault;

/// What the reader found, for the one who answers: message by message, in order.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    answered: AtomicU64,
    /// One more than the index of the message that is at fault; 0 for none.
    fault_at: AtomicU64,
    fault: OnceLock<Fault>,
    /// The connection has become something else: what comes now is no HTTP.
    upgraded: AtomicBool,
}

impl Verdict {
    /// Called once for each request that hyper hands on, in order: whether its head was fine.
    pub(crate) fn next(&self) -> Result<(), Fault> {
        let message = self.answered.fetch_add(1, Ordering::Relaxed) + 1;
        let fault_at = self.fault_at.load(Ordering::Acquire);
        // Nothing behind a fault was judged, so nothing behind it passes.
        if fault_at != 0 && message >= fault_at {
            return Err(self.fault.get().copied().unwrap_or("the message is framed wrongly"));
        }
        Ok(())
    }

    /// The last message was agreed to be the last: nothing behind it is judged.
    pub(in crate::accept) fn upgraded(&self) {
        self.upgraded.store(true, Ordering::Release);
    }

    /// Whether what comes is no HTTP any more.
    pub(in crate::accept) fn is_over(&self) -> bool {
        self.upgraded.load(Ordering::Acquire)
    }

    /// Takes in what the reader found.
    ///
    /// # Errors
    ///
    /// A fault in a body: nothing more may be read.
    pub(in crate::accept) fn take(&self, found: &Found) -> io::Result<()> {
        match *found {
            Found::InHead { message, fault } => {
                self.condemn(message, fault);
                Ok(())
            }
            Found::InBody(fault) => Err(io::Error::new(io::ErrorKind::InvalidData, fault)),
        }
    }

    fn condemn(&self, message: u64, fault: Fault) {
        self.fault.get_or_init(|| fault);
        self.fault_at.store(message + 1, Ordering::Release);
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(in crate::accept) enum Found {
    InHead { message: u64, fault: Fault },
    InBody(Fault),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_counts_requests() {
        let verdict = Verdict::default();
        assert_eq!(verdict.next(), Ok(()));
        verdict.condemn(2, "broken");
        assert_eq!(verdict.next(), Ok(()));
        assert_eq!(verdict.next(), Err("broken"));
        assert_eq!(verdict.next(), Err("broken"));
    }
}
