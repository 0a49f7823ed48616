//! Client quotas, kept as set; enforcing them is not this crate's affair.

use imbl::OrdMap;
use milena_protocol::client_quota_record::EntityData;
use milena_protocol::{ClientQuotaRecord, MetadataRecord, Str};

use crate::image::VersionedRecord;

/// Whom a quota is for: entity types with names, ordered by type; the name `None` is that type's default.
pub type QuotaEntity = Vec<(Str, Option<Str>)>;

/// Invariant: no entity without values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quotas(OrdMap<QuotaEntity, OrdMap<Str, f64>>);

impl Quotas {
    pub fn get(&self, entity: &QuotaEntity) -> Option<&OrdMap<Str, f64>> {
        self.0.get(entity)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&QuotaEntity, &OrdMap<Str, f64>)> {
        self.0.iter()
    }

    pub(crate) fn entity(record: &ClientQuotaRecord) -> QuotaEntity {
        let part = |e: &EntityData| {
            let name = e.entity_name.as_ref().map(Str::detached);
            (e.entity_type.detached(), name)
        };
        let mut entity: QuotaEntity = record.entity.iter().map(part).collect();
        entity.sort();
        entity.dedup_by(|a, b| a.0 == b.0);
        entity
    }

    pub(crate) fn replay(&mut self, record: &ClientQuotaRecord) {
        let entity = Quotas::entity(record);
        let mut values = self.0.get(&entity).cloned().unwrap_or_default();
        if record.remove {
            values.remove(&record.key);
        } else {
            values.insert(record.key.detached(), record.value);
        }
        if values.is_empty() {
            self.0.remove(&entity);
        } else {
            self.0.insert(entity, values);
        }
    }

    pub(crate) fn write(&self, out: &mut dyn FnMut(VersionedRecord)) {
        let part = |(kind, name): &(Str, Option<Str>)| EntityData {
            entity_type: kind.clone(),
            entity_name: name.clone(),
        };
        for (entity, values) in &self.0 {
            for (key, value) in values {
                let record = ClientQuotaRecord {
                    entity: entity.iter().map(part).collect(),
                    key: key.clone(),
                    value: *value,
                    remove: false,
                };
                out((MetadataRecord::ClientQuota(record), 0));
            }
        }
    }

    pub(crate) fn map(&self) -> &OrdMap<QuotaEntity, OrdMap<Str, f64>> {
        &self.0
    }
}
