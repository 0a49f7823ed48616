//! Registered brokers and controllers.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use milena_base::Uuid;
use milena_protocol::{
    BrokerRegistrationChangeRecord, MetadataRecord, RegisterBrokerRecord, RegisterControllerRecord,
    Str, UnregisterBrokerRecord, UnregisterControllerRecord,
};
use milena_protocol::{register_broker_record, register_controller_record};

use crate::image::VersionedRecord;
use crate::{Loss, MetadataVersion, ReplayError};

/// Levels of a feature that a node supports, both ends included. The default is "only 0": not supported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VersionRange {
    pub min: i16,
    pub max: i16,
}

impl VersionRange {
    pub fn contains(self, level: i16) -> bool {
        (self.min..=self.max).contains(&level)
    }
}

/// Where a node listens, by listener name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub host: Str,
    pub port: u16,
    /// Kafka's number: 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
}

/// A broker's registration (Kafka's `BrokerRegistration`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub id: i32,
    /// Offset of the record with which this incarnation registered.
    pub epoch: i64,
    pub incarnation: Uuid,
    pub listeners: BTreeMap<Str, Endpoint>,
    pub features: BTreeMap<Str, VersionRange>,
    pub rack: Option<Str>,
    pub fenced: bool,
    pub in_controlled_shutdown: bool,
    pub migrating_zk: bool,
    /// Online log directories, in Kafka's order of ids. Empty where the broker never named any.
    pub directories: Vec<Uuid>,
    /// `None` while the broker has not said.
    pub cordoned_directories: Option<Vec<Uuid>>,
}

impl Broker {
    fn from_record(record: &RegisterBrokerRecord) -> Broker {
        let listener = |e: &register_broker_record::BrokerEndpoint| {
            let endpoint = Endpoint {
                host: e.host.detached(),
                port: e.port,
                security_protocol: e.security_protocol,
            };
            (e.name.detached(), endpoint)
        };
        let feature = |f: &register_broker_record::BrokerFeature| {
            let range = VersionRange {
                min: f.min_supported_version,
                max: f.max_supported_version,
            };
            (f.name.detached(), range)
        };
        Broker {
            id: record.broker_id,
            epoch: record.broker_epoch,
            incarnation: record.incarnation_id,
            listeners: record.end_points.iter().map(listener).collect(),
            features: record.features.iter().map(feature).collect(),
            rack: record.rack.as_ref().map(Str::detached),
            fenced: record.fenced,
            in_controlled_shutdown: record.in_controlled_shutdown,
            migrating_zk: record.is_migrating_zk_broker,
            directories: sorted(record.log_dirs.clone()),
            cordoned_directories: record.cordoned_log_dirs.clone(),
        }
    }

    /// Whether it may lead and join ISRs.
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }

    /// Whether a replica in this directory can be served (Kafka's `DirectoryId.isOnline`): unassigned and migrating
    /// ones count as online, lost ones do not; a broker that named no directories has all of them.
    pub fn has_online_dir(&self, directory: Uuid) -> bool {
        match directory {
            Uuid::DIRECTORY_UNASSIGNED | Uuid::DIRECTORY_MIGRATING => true,
            Uuid::DIRECTORY_LOST => false,
            _ => self.directories.is_empty() || self.directories.contains(&directory),
        }
    }

    /// Whether new replicas may be placed here (KIP-1066).
    pub fn has_uncordoned_dirs(&self) -> bool {
        let Some(cordoned) = &self.cordoned_directories else {
            return true;
        };
        self.directories.is_empty() || self.directories.iter().any(|d| !cordoned.contains(d))
    }

    fn to_record(&self, version: MetadataVersion) -> Result<VersionedRecord, Loss> {
        if !self.directories.is_empty() && !version.supports_directory_assignment() {
            let what = "the online log directories of one or more brokers";
            return Err(Loss(what.to_owned()));
        }
        if self.cordoned_directories.is_some() && !version.supports_cordoned_log_dirs() {
            let what = "the cordoned log directories of one or more brokers";
            return Err(Loss(what.to_owned()));
        }
        if self.migrating_zk && version < MetadataVersion::V3_4_IV0 {
            let what = "the isMigratingZkBroker state of one or more brokers";
            return Err(Loss(what.to_owned()));
        }
        let endpoint = |(name, e): (&Str, &Endpoint)| register_broker_record::BrokerEndpoint {
            name: name.clone(),
            host: e.host.clone(),
            port: e.port,
            security_protocol: e.security_protocol,
        };
        let feature = |(name, r): (&Str, &VersionRange)| register_broker_record::BrokerFeature {
            name: name.clone(),
            min_supported_version: r.min,
            max_supported_version: r.max,
        };
        let record = RegisterBrokerRecord {
            broker_id: self.id,
            is_migrating_zk_broker: self.migrating_zk,
            incarnation_id: self.incarnation,
            broker_epoch: self.epoch,
            end_points: self.listeners.iter().map(endpoint).collect(),
            features: self.features.iter().map(feature).collect(),
            rack: self.rack.clone(),
            fenced: self.fenced,
            in_controlled_shutdown: self.in_controlled_shutdown,
            log_dirs: self.directories.clone(),
            cordoned_log_dirs: self.cordoned_directories.clone(),
        };
        let version = version.register_broker_record_version();
        Ok((MetadataRecord::RegisterBroker(record), version))
    }
}

/// A controller's registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerNode {
    pub id: i32,
    pub incarnation: Uuid,
    pub zk_migration_ready: bool,
    pub listeners: BTreeMap<Str, Endpoint>,
    pub features: BTreeMap<Str, VersionRange>,
}

impl ControllerNode {
    fn from_record(record: &RegisterControllerRecord) -> ControllerNode {
        let listener = |e: &register_controller_record::ControllerEndpoint| {
            let endpoint = Endpoint {
                host: e.host.detached(),
                port: e.port,
                security_protocol: e.security_protocol,
            };
            (e.name.detached(), endpoint)
        };
        let feature = |f: &register_controller_record::ControllerFeature| {
            let range = VersionRange {
                min: f.min_supported_version,
                max: f.max_supported_version,
            };
            (f.name.detached(), range)
        };
        ControllerNode {
            id: record.controller_id,
            incarnation: record.incarnation_id,
            zk_migration_ready: record.zk_migration_ready,
            listeners: record.end_points.iter().map(listener).collect(),
            features: record.features.iter().map(feature).collect(),
        }
    }

    fn to_record(&self) -> VersionedRecord {
        let endpoint =
            |(name, e): (&Str, &Endpoint)| register_controller_record::ControllerEndpoint {
                name: name.clone(),
                host: e.host.clone(),
                port: e.port,
                security_protocol: e.security_protocol,
            };
        let feature =
            |(name, r): (&Str, &VersionRange)| register_controller_record::ControllerFeature {
                name: name.clone(),
                min_supported_version: r.min,
                max_supported_version: r.max,
            };
        let record = RegisterControllerRecord {
            controller_id: self.id,
            incarnation_id: self.incarnation,
            zk_migration_ready: self.zk_migration_ready,
            end_points: self.listeners.iter().map(endpoint).collect(),
            features: self.features.iter().map(feature).collect(),
        };
        (MetadataRecord::RegisterController(record), 0)
    }
}

/// The nodes of the cluster by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    pub brokers: OrdMap<i32, Arc<Broker>>,
    pub controllers: OrdMap<i32, Arc<ControllerNode>>,
}

impl Cluster {
    pub fn broker(&self, id: i32) -> Option<&Broker> {
        self.brokers.get(&id).map(|b| &**b)
    }

    pub fn controller(&self, id: i32) -> Option<&ControllerNode> {
        self.controllers.get(&id).map(|c| &**c)
    }

    pub(crate) fn register(&mut self, record: &RegisterBrokerRecord) {
        let broker = Broker::from_record(record);
        self.brokers.insert(broker.id, Arc::new(broker));
    }

    pub(crate) fn unregister(
        &mut self,
        record: &UnregisterBrokerRecord,
    ) -> Result<(), ReplayError> {
        self.broker_mut(record.broker_id, record.broker_epoch)?;
        self.brokers.remove(&record.broker_id);
        Ok(())
    }

    pub(crate) fn set_fenced(
        &mut self,
        id: i32,
        epoch: i64,
        fenced: bool,
    ) -> Result<(), ReplayError> {
        self.broker_mut(id, epoch)?.fenced = fenced;
        Ok(())
    }

    pub(crate) fn change(
        &mut self,
        record: &BrokerRegistrationChangeRecord,
    ) -> Result<(), ReplayError> {
        let fenced = match record.fenced {
            0 => None,
            1 => Some(true),
            -1 => Some(false),
            other => return Err(strange(record.broker_id, "fenced", other)),
        };
        let shutting_down = match record.in_controlled_shutdown {
            0 => None,
            1 => Some(true),
            other => return Err(strange(record.broker_id, "inControlledShutdown", other)),
        };
        let broker = self.broker_mut(record.broker_id, record.broker_epoch)?;
        broker.fenced = fenced.unwrap_or(broker.fenced);
        broker.in_controlled_shutdown = shutting_down.unwrap_or(broker.in_controlled_shutdown);
        if !record.log_dirs.is_empty() {
            broker.directories = sorted(record.log_dirs.clone());
        }
        if let Some(cordoned) = &record.cordoned_log_dirs {
            broker.cordoned_directories = Some(cordoned.clone());
        }
        Ok(())
    }

    pub(crate) fn register_controller(&mut self, record: &RegisterControllerRecord) {
        let controller = ControllerNode::from_record(record);
        self.controllers.insert(controller.id, Arc::new(controller));
    }

    pub(crate) fn unregister_controller(
        &mut self,
        record: &UnregisterControllerRecord,
    ) -> Result<(), ReplayError> {
        let removed = self.controllers.remove(&record.controller_id);
        removed.map(drop).ok_or_else(|| {
            ReplayError::new(format!(
                "controller {} is not registered",
                record.controller_id
            ))
        })
    }

    pub(crate) fn write(
        &self,
        version: MetadataVersion,
        out: &mut dyn FnMut(VersionedRecord),
    ) -> Result<(), Loss> {
        for broker in self.brokers.values() {
            out(broker.to_record(version)?);
        }
        if !self.controllers.is_empty() && !version.supports_controller_registration() {
            return Err(Loss("controller registration data".to_owned()));
        }
        for controller in self.controllers.values() {
            out(controller.to_record());
        }
        Ok(())
    }

    fn broker_mut(&mut self, id: i32, epoch: i64) -> Result<&mut Broker, ReplayError> {
        let broker = self.brokers.get_mut(&id);
        let broker =
            broker.ok_or_else(|| ReplayError::new(format!("broker {id} is not registered")))?;
        if broker.epoch != epoch {
            let text = format!("broker {id} has epoch {}, not {epoch}", broker.epoch);
            return Err(ReplayError::new(text));
        }
        Ok(Arc::make_mut(broker))
    }
}

fn strange(id: i32, field: &str, value: i8) -> ReplayError {
    ReplayError::new(format!("broker {id}: {value} is no value of {field}"))
}

/// Kafka orders ids by two signed numbers.
fn sorted(mut directories: Vec<Uuid>) -> Vec<Uuid> {
    directories.sort_by(kafka_order);
    directories
}

fn kafka_order(a: &Uuid, b: &Uuid) -> Ordering {
    let halves = |u: &Uuid| {
        let bits = u128::from_be_bytes(u.0);
        ((bits >> 64) as i64, bits as i64)
    };
    halves(a).cmp(&halves(b))
}
