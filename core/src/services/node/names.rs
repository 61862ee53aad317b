//! The service names of this node: which type holds each.
//!
//! A name belongs to a type from its first start until it is stopped or given up. So a restart writes nothing
//! before the keeper starts the instance.

use alloc::collections::BTreeMap;

use crate::keeper::name::{InstanceId, ServiceName};
use crate::services::model::name::TypeName;
use crate::services::model::record::NameRecord;

/// All names with a holder.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<ServiceName, Name>);

/// One name.
#[derive(Debug)]
pub(super) struct Name {
    /// The record in Consul, and its index. Zero means that there is none.
    pub(super) stored: Option<NameRecord>,
    pub(super) index: u64,
    /// The record as it is to be. None means that the name is to be free.
    pub(super) wanted: Option<NameRecord>,
    /// A record of a later version, which is left as it is.
    pub(super) is_frozen: bool,
}

impl Name {
    /// Returns whether Consul does not hold the name as it is to be.
    pub(super) fn is_dirty(&self) -> bool {
        !self.is_frozen && self.wanted != self.stored
    }

    /// Returns the type that holds the name, or is about to.
    fn holder(&self) -> Option<&TypeName> {
        self.wanted.as_ref().or(self.stored.as_ref()).map(|record| &record.kind)
    }
}

/// The answer to a demand for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// The type holds the name, and Consul knows it.
    Held,
    /// The name is being acquired.
    Pending,
    /// Another type holds it.
    Other(TypeName, Option<InstanceId>),
    /// A record of a later version is in the way.
    Frozen,
}

impl Names {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Records what Consul holds of a name. A record that cannot be read has none.
    pub(super) fn on_read(&mut self, name: ServiceName, record: Option<NameRecord>, index: u64) {
        let is_frozen = record.is_none();
        let name_of = Name { wanted: record.clone(), stored: record, index, is_frozen };
        self.0.insert(name, name_of);
    }

    /// Demands a name for a type.
    pub(super) fn demand(&mut self, name: &ServiceName, record: NameRecord) -> Demand {
        let free = || Name { stored: None, index: 0, wanted: None, is_frozen: false };
        let of = self.0.entry(name.clone()).or_insert_with(free);
        if of.is_frozen {
            return Demand::Frozen;
        }
        match of.holder() {
            Some(kind) if *kind != record.kind => {
                let holder = of.wanted.as_ref().or(of.stored.as_ref());
                Demand::Other(kind.clone(), holder.and_then(|record| record.instance.clone()))
            }
            _ => {
                // A name that is to be free may be on its way out of Consul.
                let stored = of.stored.as_ref().filter(|_| of.wanted.is_some());
                let is_kept = stored.is_some_and(|stored| stored.kind == record.kind);
                of.wanted = Some(record);
                // The record of a name that has been held throughout follows with the next observation.
                if is_kept { Demand::Held } else { Demand::Pending }
            }
        }
    }

    /// Returns whether Consul knows that a type holds a name.
    pub(super) fn is_held(&self, name: &ServiceName, kind: &TypeName) -> bool {
        self.0.get(name).and_then(|of| of.stored.as_ref()).is_some_and(|of| of.kind == *kind)
    }

    /// Returns whether nobody has a name, or is about to.
    pub(super) fn is_free(&self, name: &ServiceName) -> bool {
        self.0.get(name).is_none_or(|of| !of.is_frozen && of.holder().is_none())
    }

    /// Returns whether a record cannot be used.
    pub(super) fn has_frozen(&self) -> bool {
        self.0.values().any(|of| of.is_frozen)
    }

    /// Frees the names for which `keeps` says no.
    pub(super) fn free_where(&mut self, keeps: impl Fn(&ServiceName, &NameRecord) -> bool) {
        for (name, of) in &mut self.0 {
            if of.wanted.as_ref().is_some_and(|record| !keeps(name, record)) {
                of.wanted = None;
            }
        }
    }

    /// Returns the names that have to be written.
    pub(super) fn dirty(&self) -> impl Iterator<Item = (&ServiceName, &Name)> {
        self.0.iter().filter(|(_, of)| of.is_dirty())
    }

    /// Records that Consul holds a name as it was written.
    pub(super) fn on_written(
        &mut self,
        name: &ServiceName,
        record: Option<NameRecord>,
        index: u64,
    ) {
        if let Some(of) = self.0.get_mut(name) {
            (of.stored, of.index) = (record, index);
        }
        self.0.retain(|_, of| of.stored.is_some() || of.wanted.is_some() || of.is_frozen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::model::form;

    fn record(kind: &str, nth: u32) -> NameRecord {
        let instance = InstanceId::new(&alloc::format!("{kind}.n.1-{nth}.1"));
        let kind = TypeName::new(kind).unwrap();
        NameRecord { v: form(), kind, instance, boot: "b".into(), generation: 1 }
    }

    #[test]
    fn h40_h41_a_name_has_one_holder_and_the_second_is_told_who_it_is() {
        let (mut names, db) = (Names::default(), ServiceName::new("db").unwrap());
        let (a, b) = (record("a", 1), record("b", 1));
        assert_eq!(names.demand(&db, a.clone()), Demand::Pending);
        // The name counts as held from the demand on.
        let other = Demand::Other(a.kind.clone(), a.instance.clone());
        assert_eq!(names.demand(&db, b.clone()), other);
        assert_eq!(names.dirty().count(), 1);
        names.on_written(&db, Some(a.clone()), 7);
        assert_eq!(names.dirty().count(), 0);
        // A restart keeps it, and the record follows.
        assert_eq!(names.demand(&db, record("a", 2)), Demand::Held);
        assert_eq!(names.dirty().count(), 1);
        names.free_where(|_, record| record.kind != a.kind);
        assert_eq!(names.demand(&db, b.clone()), other, "not free before Consul knows it");
        names.on_written(&db, None, 0);
        assert_eq!(names.demand(&db, b), Demand::Pending);
    }

    #[test]
    fn h40_a_name_that_is_given_up_is_not_held_when_it_is_demanded_again() {
        let (mut names, db) = (Names::default(), ServiceName::new("db").unwrap());
        names.on_read(db.clone(), Some(record("a", 1)), 7);
        assert_eq!(names.demand(&db, record("a", 2)), Demand::Held);
        names.free_where(|_, _| false);
        // Its deletion may be on its way.
        assert_eq!(names.demand(&db, record("a", 3)), Demand::Pending);
        names.on_written(&db, None, 0);
        assert!(!names.is_held(&db, &record("a", 3).kind));
        assert_eq!(names.dirty().count(), 1);
    }
}
