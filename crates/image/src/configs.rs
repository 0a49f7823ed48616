//! Dynamic configuration: what was set, by resource. Which keys exist and what they default to is `config`'s affair.

use imbl::OrdMap;
use milena_protocol::{ConfigRecord, MetadataRecord, Str};

use crate::image::VersionedRecord;

/// What is configured: a kind (Kafka's numbers) and a name; the empty name of a broker is the cluster-wide default.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigResource {
    pub kind: i8,
    pub name: Str,
}

impl ConfigResource {
    pub const TOPIC: i8 = 2;
    pub const BROKER: i8 = 4;
    pub const BROKER_LOGGER: i8 = 8;
    pub const CLIENT_METRICS: i8 = 16;
    pub const GROUP: i8 = 32;

    pub fn new(kind: i8, name: Str) -> ConfigResource {
        ConfigResource { kind, name }
    }

    pub fn topic(name: &str) -> ConfigResource {
        ConfigResource::new(ConfigResource::TOPIC, Str::copy(name))
    }

    pub fn broker(id: i32) -> ConfigResource {
        ConfigResource::new(ConfigResource::BROKER, Str::from(id.to_string()))
    }

    /// The cluster-wide defaults of brokers.
    pub fn default_broker() -> ConfigResource {
        ConfigResource::new(ConfigResource::BROKER, Str::EMPTY)
    }

    pub fn group(name: &str) -> ConfigResource {
        ConfigResource::new(ConfigResource::GROUP, Str::copy(name))
    }
}

/// Values that were set. Invariant: no resource without values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Configs(OrdMap<ConfigResource, OrdMap<Str, Str>>);

/// Values may be secret, so only the names are shown.
impl std::fmt::Debug for Configs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = |(resource, values): (&ConfigResource, &OrdMap<Str, Str>)| {
            (resource.clone(), values.keys().cloned().collect::<Vec<_>>())
        };
        f.debug_map().entries(self.0.iter().map(names)).finish()
    }
}

impl Configs {
    /// What is set for a resource; empty where nothing is.
    pub fn get(&self, resource: &ConfigResource) -> OrdMap<Str, Str> {
        self.0.get(resource).cloned().unwrap_or_default()
    }

    pub fn value(&self, resource: &ConfigResource, key: &str) -> Option<&Str> {
        self.0.get(resource)?.get(key)
    }

    /// Every resource with values, by kind and name.
    pub fn iter(&self) -> impl Iterator<Item = (&ConfigResource, &OrdMap<Str, Str>)> {
        self.0.iter()
    }

    pub(crate) fn replay(&mut self, record: &ConfigRecord) {
        let name = record.resource_name.detached();
        let resource = ConfigResource::new(record.resource_type, name);
        let mut values = self.get(&resource);
        match &record.value {
            Some(value) => values.insert(record.name.detached(), value.detached()),
            None => values.remove(&record.name),
        };
        if values.is_empty() {
            self.0.remove(&resource);
        } else {
            self.0.insert(resource, values);
        }
    }

    pub(crate) fn remove_topic(&mut self, name: &str) {
        self.0.remove(&ConfigResource::topic(name));
    }

    pub(crate) fn write(&self, out: &mut dyn FnMut(VersionedRecord)) {
        for (resource, values) in &self.0 {
            for (name, value) in values {
                let record = ConfigRecord {
                    resource_type: resource.kind,
                    resource_name: resource.name.clone(),
                    name: name.clone(),
                    value: Some(value.clone()),
                };
                out((MetadataRecord::Config(record), 0));
            }
        }
    }

    pub(crate) fn map(&self) -> &OrdMap<ConfigResource, OrdMap<Str, Str>> {
        &self.0
    }
}
