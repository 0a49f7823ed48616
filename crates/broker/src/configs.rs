//! The node's configuration as it is now: the file, and over it what the metadata says for all brokers and for this
//! one.

use std::collections::BTreeMap;
use std::sync::Arc;

use milena_config::{Layers, TopicSettings};
use milena_image::{ConfigResource, Image};
use tracing::warn;

use crate::broker::Broker;

/// A resource's own configs.
pub(crate) type Own = BTreeMap<String, String>;

/// What the metadata sets for a resource.
pub(crate) fn own(image: &Image, resource: &ConfigResource) -> Own {
    let set = image.configs.get(resource);
    set.iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect()
}

impl Broker {
    /// The layers of this node's configuration.
    pub fn layers(&self) -> Arc<Layers> {
        self.layers.load_full()
    }

    /// Takes over dynamic broker configs. A value that can't be read is passed over and said.
    pub(crate) fn relayer(&self, image: &Image) {
        let default = own(image, &ConfigResource::default_broker());
        let mine = own(image, &ConfigResource::broker(self.node().0));
        let (layers, warnings) = self.layers.load().with_dynamic(&default, &mine);
        for warning in warnings {
            warn!("a stored broker config is passed over: {}", warning.0);
        }
        self.layers.store(Arc::new(layers));
    }

    /// A topic's settings on this broker.
    pub(crate) fn topic_settings(&self, image: &Image, topic: &str) -> TopicSettings {
        let own = own(image, &ConfigResource::topic(topic));
        let layers = self.layers.load();
        let (settings, refused) = TopicSettings::resolve_lenient(layers.current(), &own);
        for invalid in refused {
            warn!(topic, "a stored topic config is passed over: {}", invalid.0);
        }
        settings
    }
}
