//! A registry of metrics for one role.

use super::exposition;
use super::process::ProcessCollector;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::{Arc, Mutex};

/// Metrics of one role in this process, each labelled with the role and its name. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

/// What begins the names of all metrics.
const PREFIX: &str = "store";

impl Metrics {
    /// An empty registry. Metrics are called `store_…` and labelled `role` and `name`.
    pub fn new(role: &str, name: &str) -> Self {
        let labels =
            [("role", role), ("name", name)].map(|(k, v)| (k.into(), v.to_string().into()));
        let registry = Registry::with_prefix_and_labels(PREFIX, labels.into_iter());
        Metrics { registry: Arc::new(Mutex::new(registry)) }
    }

    /// Metrics of the process itself (memory, processor time, open files); once per process.
    pub fn process() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessCollector));
        Metrics { registry: Arc::new(Mutex::new(registry)) }
    }

    /// Adds metrics: `metrics.register(|registry| registry.register("puts", "Objects put", counter.clone()))`.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    }

    /// All of them as OpenMetrics text.
    fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        let registry = self.registry.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        text::encode(&mut out, &registry)?;
        Ok(out)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// Several registries as one page, either as OpenMetrics or in Prometheus' older text form.
pub(super) fn page(all: &[Metrics], open_metrics: bool) -> Result<String, fmt::Error> {
    let texts = all.iter().map(Metrics::encode).collect::<Result<Vec<_>, _>>()?;
    Ok(exposition::merge(&texts, open_metrics))
}
