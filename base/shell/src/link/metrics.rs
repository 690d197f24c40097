//! What links count. One set per process or per role; every clone counts into the same.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters of all links that were given this set.
#[derive(Clone, Debug, Default)]
pub struct LinkMetrics {
    /// Links that are open.
    pub links_open: Gauge,
    /// Hellos refused, by us or of us.
    pub hellos_refused: Counter,
    /// Links that were lost rather than closed.
    pub links_broken: Counter,
    /// Messages handed to HTTP/2.
    pub messages_sent: Counter,
    /// Bytes of those, with their prefixes.
    pub bytes_sent: Counter,
    /// DATA frames that carried them: messages per frame tell how well batching works.
    pub batches_sent: Counter,
    /// Messages taken by the receiving side's owner.
    pub messages_received: Counter,
    /// Bytes of those.
    pub bytes_received: Counter,
    /// Messages that came split and had to be put together by a copy.
    pub messages_reassembled: Counter,
    /// Sends that had to wait for the queue.
    pub sends_waited: Counter,
}

impl LinkMetrics {
    /// Adds the set to a registry, as `link_…`.
    pub fn register(&self, registry: &mut Registry) {
        let links = registry.sub_registry_with_prefix("link");
        links.register("open", "Links that are open", self.links_open.clone());
        for (name, help, counter) in [
            ("hellos_refused", "Hellos refused by either side", &self.hellos_refused),
            ("broken", "Links lost rather than closed", &self.links_broken),
            ("messages_sent", "Messages sent", &self.messages_sent),
            ("bytes_sent", "Bytes of messages sent", &self.bytes_sent),
            ("batches_sent", "DATA frames that carried the messages sent", &self.batches_sent),
            ("messages_received", "Messages received", &self.messages_received),
            ("bytes_received", "Bytes of messages received", &self.bytes_received),
            ("messages_reassembled", "Messages put together by a copy", &self.messages_reassembled),
            ("sends_waited", "Sends that waited for the queue", &self.sends_waited),
        ] {
            links.register(name, help, counter.clone());
        }
    }
}
