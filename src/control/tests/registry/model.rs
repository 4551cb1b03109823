//! Random changes by two replicas, against a model that knows no revisions, no watch and no cache.

use super::{ALL, put_user, run, schema, station, until};
use crate::{
    api::{keys::NewKey, users::ChangeUser},
    control::tests::support::{Memory, Replica},
    directory::contracts::Contracts,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// One change, by one of two replicas. Small numbers stand for names and versions.
#[derive(Debug, Clone)]
enum Step {
    AddSchema(u8, u8),
    Activate(u8, u32),
    RemoveSchema(u8),
    Create(u8),
    RemoveStation(u8),
    Attach(u8, u8),
    Detach(u8),
    Rights(u8),
    CreateKey,
    RevokeKey(usize),
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let (schemas, stations) = (0..3_u8, 0..3_u8);
    let step = prop_oneof![
        3 => (schemas.clone(), 0..4_u8).prop_map(|(schema, text)| Step::AddSchema(schema, text)),
        3 => (schemas.clone(), 1..4_u32).prop_map(|(schema, version)| Step::Activate(schema, version)),
        1 => schemas.clone().prop_map(Step::RemoveSchema),
        2 => stations.clone().prop_map(Step::Create),
        1 => stations.clone().prop_map(Step::RemoveStation),
        4 => (stations.clone(), schemas).prop_map(|(station, schema)| Step::Attach(station, schema)),
        1 => stations.prop_map(Step::Detach),
        1 => (0..5_u8).prop_map(Step::Rights),
        1 => Just(Step::CreateKey),
        1 => (0..4_usize).prop_map(Step::RevokeKey),
    ];
    (0..2_usize, step)
}

/// What two replicas should agree on.
#[derive(Debug, Default)]
struct Model {
    /// Texts of the versions, and the active one.
    schemas: BTreeMap<u8, (Vec<u8>, u32)>,
    stations: BTreeMap<u8, Option<u8>>,
    /// Stations that were removed.
    removed: BTreeSet<u8>,
    rights: Option<u8>,
    keys: Vec<String>,
}

const TEXTS: [&str; 4] = ["\"int\"", "\"long\"", "\"string\"", "\"boolean\""];

impl Model {
    /// Makes a change on a replica and in the model, which both take or both refuse.
    async fn take(&mut self, replica: &Replica, step: &Step) {
        let service = &replica.service;
        let (schema_name, station_name) =
            (|schema: &u8| format!("schema{schema}"), |station: &u8| format!("station{station}"));
        let (done, may) = match step {
            Step::AddSchema(number, text) => {
                let new = schema(&schema_name(number), TEXTS[usize::from(*text)]);
                let may = self.schemas.get(number).is_none_or(|(texts, _)| texts.last() != Some(text));
                if may {
                    self.schemas.entry(*number).or_insert((Vec::new(), 1)).0.push(*text);
                }
                (service.add_schema(new, "ann").await.map(drop), may)
            }
            Step::Activate(number, version) => {
                let known = self.schemas.get_mut(number).filter(|(texts, _)| texts.len() >= *version as usize);
                let may = known.map(|(_, active)| *active = *version).is_some();
                (service.activate_schema(&schema_name(number), *version, None).await.map(drop), may)
            }
            Step::RemoveSchema(number) => {
                let attached = self.stations.values().any(|schema| schema.as_ref() == Some(number));
                let may = !attached && self.schemas.remove(number).is_some();
                (service.remove_schema(&schema_name(number), None).await, may)
            }
            Step::Create(number) => {
                // Making it again is no error, unless it has a schema, which was not asked for.
                let may = self.stations.get(number).is_none_or(Option::is_none);
                self.stations.entry(*number).or_default();
                (service.create_station(station(&station_name(number))).await.map(drop), may)
            }
            Step::RemoveStation(number) => {
                let done = service.remove_station(&station_name(number), None).await;
                let known = self.stations.remove(number).is_some();
                // A replica that gets no answer of the registry in time removes once more what the other one has
                // removed.
                let again = !known && done.is_ok() && self.removed.contains(number);
                if known {
                    self.removed.insert(*number);
                }
                (done, known || again)
            }
            Step::Attach(number, schema) => {
                let known = self.stations.get_mut(number).filter(|_| self.schemas.contains_key(schema));
                let may = known.map(|attached| *attached = Some(*schema)).is_some();
                (service.attach_schema(&station_name(number), &schema_name(schema), None).await.map(drop), may)
            }
            Step::Detach(number) => {
                let may = self.stations.get_mut(number).map(|attached| *attached = None).is_some();
                (service.detach_schema(&station_name(number), None).await.map(drop), may)
            }
            Step::Rights(number) => {
                self.rights = Some(*number);
                let change = ChangeUser { produce: Some(vec![station_name(number)]), consume: None };
                (service.change_user("ann", change, None).await.map(drop), true)
            }
            Step::CreateKey => {
                let made = service.create_key(NewKey::default()).await;
                (made.map(|made| self.keys.push(made.view.id)), true)
            }
            Step::RevokeKey(at) => {
                let id = if *at < self.keys.len() { Some(self.keys.remove(*at)) } else { None };
                (service.revoke_key(id.as_deref().unwrap_or("none"), None).await, id.is_some())
            }
        };
        assert_eq!(done.is_ok(), may, "{step:?}: {done:?}\n{self:?}");
    }

    /// Whether a replica shows all of it.
    async fn is_shown_by(&self, replica: &Replica) -> bool {
        let service = &replica.service;
        let schemas = service.schemas(&ALL).await.expect("listed").items;
        let schemas: BTreeMap<String, (Vec<String>, u32)> = schemas
            .into_iter()
            .map(|schema| {
                let texts = schema.versions.into_iter().map(|version| version.schema).collect();
                (schema.name, (texts, schema.active_version))
            })
            .collect();
        let stations = service.stations(&ALL).await.expect("listed").items;
        let stations: BTreeMap<String, Option<String>> =
            stations.into_iter().map(|station| (station.name, station.schema)).collect();
        let keys = service.keys(&ALL).await.expect("listed").items.into_iter().map(|key| key.id);
        let rights = service.user("ann").await.expect("there").value.produce;
        let expect: BTreeMap<String, (Vec<String>, u32)> = self
            .schemas
            .iter()
            .map(|(schema, (texts, active))| {
                let texts = texts.iter().map(|text| TEXTS[usize::from(*text)].to_owned()).collect();
                (format!("schema{schema}"), (texts, *active))
            })
            .collect();
        let expect_stations: BTreeMap<String, Option<String>> = self
            .stations
            .iter()
            .map(|(station, schema)| (format!("station{station}"), schema.map(|schema| format!("schema{schema}"))))
            .collect();
        let right = self.rights.map_or("*".to_owned(), |number| format!("station{number}"));
        schemas == expect
            && stations == expect_stations
            && keys.collect::<BTreeSet<_>>() == self.keys.iter().cloned().collect()
            && rights == [right]
    }

    /// Whether a shard with these contracts validates records by the right schemas.
    fn is_in_force(&self, contracts: &Contracts) -> bool {
        (0..3).all(|number| {
            let schema = self.stations.get(&number).copied().flatten();
            let expect = schema.map(|schema| (format!("schema{schema}"), self.schemas[&schema].1));
            Replica::in_force(contracts, &format!("station{number}")) == expect
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn two_replicas_do_what_one_model_does(steps in proptest::collection::vec(step(), 1..40)) {
        run(async {
            let memory = Memory::default();
            put_user(&memory).await;
            let replicas = [Replica::of(&memory), Replica::of(&memory)];
            let mut model = Model::default();
            let mut told = [None, None];
            for (at, step) in &steps {
                // Whatever the other has done is known here, or the change is refused for old reasons.
                until("known", || model.is_shown_by(&replicas[*at])).await;
                model.take(&replicas[*at], step).await;
                // The replica that made the change has sent it to its shards before it answered.
                told[*at] = replicas[*at].contracts().await.or(told[*at].take());
                let contracts = told[*at].as_ref().expect("told at the start");
                assert!(model.is_in_force(contracts), "{step:?}\n{model:?}\n{contracts:?}");
            }
            for (replica, told) in replicas.iter().zip(&mut told) {
                until("shown", || model.is_shown_by(replica)).await;
                *told = replica.contracts().await.or(told.take());
                assert!(model.is_in_force(told.as_ref().expect("told")), "{model:?}");
            }
        });
    }
}
