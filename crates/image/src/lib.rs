//! `image` is the cluster's metadata as a value. It decides what a sequence of metadata records means:
//! [`Image::replay`] is the only writer, [`Delta`] says what a stretch of records changed, [`Loader`] turns committed
//! batches and snapshots into published images (never in the middle of a metadata transaction), and
//! [`Image::to_records`] is the snapshot. It never decides what should change (that is `controller`), reads no clock
//! and performs no I/O.
//!
//! An [`Image`] is made of persistent maps: a clone costs a few reference counts, so readers hold one as long as they
//! like. Broker ids are plain `i32`, as in the records; −1 is "none". Every kind of record is kept, also those whose
//! features are not served yet; an unknown kind does not even decode, so it stops the node instead of being skipped.
//!
//! Start at [`Image`]; the levels of `metadata.version` and the feature table are in [`MetadataVersion`] and
//! [`FEATURES`].
#![forbid(unsafe_code)]

mod changes;
mod cluster;
mod configs;
mod delta;
mod error;
mod features;
mod image;
mod loader;
mod metadata_version;
mod partition;
mod quotas;
mod security;
mod topics;

pub use changes::Changes;
pub use cluster::{Broker, Cluster, ControllerNode, Endpoint, VersionRange};
pub use configs::{ConfigResource, Configs};
pub use delta::{Delta, PartitionDelta};
pub use error::{Loss, ReplayError};
pub use features::{
    ELR_VERSION, FEATURES, Feature, FeatureLevel, Features, GROUP_VERSION, KRAFT_VERSION,
    METADATA_VERSION, SHARE_VERSION, STREAMS_VERSION, TRANSACTION_VERSION, feature,
    supported_features,
};
pub use image::{Image, Provenance, VersionedRecord};
pub use loader::{Loaded, Loader};
pub use metadata_version::MetadataVersion;
pub use partition::{LeaderRecoveryState, NO_LEADER, NO_LEADER_CHANGE, Partition};
pub use quotas::{QuotaEntity, Quotas};
pub use security::Security;
pub use topics::{Topic, Topics};
