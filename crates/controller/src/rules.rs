//! The controller's port to the table of configuration keys.

use std::collections::BTreeMap;
use std::fmt;

use milena_image::ConfigResource;
use milena_protocol::Str;
use milena_protocol::create_topics_response::CreatableTopicConfigs;

use crate::Refusal;

/// What is known of keys and values.
pub trait ConfigRules: fmt::Debug + Send {
    /// Checks everything that a resource will have set against its keys, with Kafka's sentences; `old` is what it
    /// has now. The resource's kind and name are good.
    fn check(
        &self,
        resource: &ConfigResource,
        new: &BTreeMap<Str, Str>,
        old: &BTreeMap<Str, Str>,
    ) -> Result<(), Refusal>;

    /// Whether the key of this kind of resource holds a list.
    fn is_list(&self, kind: i8, key: &str) -> bool;

    /// The key's own default.
    fn default_value(&self, kind: i8, key: &str) -> Option<String>;

    /// A topic's configuration with sources, by name, secrets left out: `topic` over `node` over `cluster` over the
    /// static configuration.
    fn effective_topic(
        &self,
        topic: &BTreeMap<Str, Str>,
        node: &BTreeMap<Str, Str>,
        cluster: &BTreeMap<Str, Str>,
    ) -> Vec<CreatableTopicConfigs>;
}
