//! Stopping in order: one handle that every part of a process waits on.

use std::io;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// "Please stop", said once and seen by all clones.
#[derive(Clone, Debug)]
pub struct Shutdown {
    said: Arc<watch::Sender<bool>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// Not yet said.
    pub fn new() -> Self {
        Shutdown { said: Arc::new(watch::Sender::new(false)) }
    }

    /// Says it. More than once does nothing more.
    pub fn trigger(&self) {
        self.said.send_replace(true);
    }

    /// Whether it was said.
    pub fn is_triggered(&self) -> bool {
        *self.said.borrow()
    }

    /// Waits until it is said; returns at once if it was.
    pub async fn wait(&self) {
        let mut seen = self.said.subscribe();
        // The sender lives in `self`, so the wait ends only when it is said.
        let _ = seen.wait_for(|said| *said).await;
    }

    /// Triggers this handle at the first SIGTERM or SIGINT. A binary that is a container's first process must
    /// do this: the kernel gives process 1 no default action. Call it within the runtime.
    pub fn on_signals(&self) -> io::Result<()> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = self.clone();
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "stopping");
            shutdown.trigger();
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_sees_it() {
        let shutdown = Shutdown::new();
        let clone = shutdown.clone();
        let waiting = tokio::spawn(async move { clone.wait().await });
        assert!(!shutdown.is_triggered());
        shutdown.trigger();
        waiting.await.expect("the waiter ends");
        shutdown.wait().await;
        assert!(shutdown.is_triggered());
    }
}
