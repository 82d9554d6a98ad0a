//! A place where a scripted peer waits until the test lets it go on.

use std::sync::Arc;

use tokio::sync::watch;

/// Closed at first. Clones are the same gate; once open it stays open.
#[derive(Clone, Debug)]
pub struct Gate {
    open: Arc<watch::Sender<bool>>,
    waiting: Arc<watch::Sender<usize>>,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self { open: Arc::new(watch::Sender::new(false)), waiting: Arc::new(watch::Sender::new(0)) }
    }

    /// Lets everyone through, those who come later too.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until `count` peers have come to the gate.
    pub async fn arrived(&self, count: usize) {
        let mut waiting = self.waiting.subscribe();
        super::within("peers at the gate", waiting.wait_for(|waiting| *waiting >= count))
            .await
            .unwrap();
    }

    /// Comes to the gate and waits until it is open.
    pub async fn pass(&self) {
        self.waiting.send_modify(|waiting| *waiting += 1);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
    }
}
