//! Models, devices and graph costs that have a row already.

use std::collections::{HashMap, HashSet};

use duckdb::{Connection, OptionalExt, Result, params};
use messages::{Device, GraphCosts, JobId, JobResult, ModelRef};
use sha2::{Digest, Sha256};

use super::{appender, entries::uuid, moment, offset, take_keys};
use crate::json;

/// Keys remembered between batches; few models and devices exist beside many results.
pub(super) struct Known {
    models: HashMap<ModelRef, KnownModel>,
    /// By everything known of the device, as JSON: a device measured anew is another row.
    devices: HashMap<String, i64>,
    costs: HashSet<String>,
    /// Whether any job ever died: where none did, results need no second look.
    pub(super) any_dead: bool,
    /// Jobs whose quarantine was lifted, be it before their result came.
    pub(super) lifted: HashSet<JobId>,
}

struct KnownModel {
    model_id: i64,
    has_parameters: bool,
}

impl Known {
    /// Reads what the database has.
    pub(super) fn load(connection: &Connection) -> Result<Self> {
        let mut models = HashMap::new();
        let mut statement = connection.prepare(
            "SELECT model_name, version, model_id, parameters_million IS NOT NULL FROM models \
             WHERE model_name IS NOT NULL AND version IS NOT NULL ORDER BY model_id DESC",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            // A version that is no content hash belongs to a row that another program made.
            if let Ok(sha256) = row.get::<_, String>(1)?.parse() {
                let model = KnownModel { model_id: row.get(2)?, has_parameters: row.get(3)? };
                models.insert(ModelRef { name: row.get(0)?, sha256 }, model);
            }
        }
        let devices = connection
            .prepare(
                "SELECT metadata::VARCHAR, hardware_id FROM hardware_platforms \
                 WHERE metadata IS NOT NULL ORDER BY hardware_id DESC",
            )?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_>>()?;
        let costs = connection
            .prepare("SELECT costs_sha256 FROM graph_costs")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_>>()?;
        let any_dead = connection
            .query_row("SELECT 1 FROM attempts WHERE next = 'dead-letter' LIMIT 1", [], |_| Ok(()))
            .optional()?
            .is_some();
        let lifted = connection
            .prepare("SELECT job_id::VARCHAR FROM quarantine_lifts")?
            .query_map([], |row| row.get::<_, String>(0))?
            .map(|job| Ok(uuid(&job?)))
            .collect::<Result<_>>()?;
        Ok(Self { models, devices, costs, any_dead, lifted })
    }

    /// Key of a model that [`Self::learn`] saw.
    pub(super) fn model_id(&self, model: &ModelRef) -> Option<i64> {
        self.models.get(model).map(|known| known.model_id)
    }

    /// Key of a device that [`Self::learn`] saw.
    pub(super) fn hardware_id(&self, device: &Device) -> Option<i64> {
        self.devices.get(&json::device(device)).copied()
    }

    /// Stores the models and devices of these results that are new.
    pub(super) fn learn(&mut self, connection: &Connection, results: &[&JobResult]) -> Result<()> {
        self.learn_models(connection, results)?;
        self.learn_parameters(connection, results)?;
        self.learn_devices(connection, results)
    }

    fn learn_models(&mut self, connection: &Connection, results: &[&JobResult]) -> Result<()> {
        let mut new: Vec<(&ModelRef, &JobResult)> = Vec::new();
        let mut seen = HashSet::new();
        for result in results {
            if let Some(spec) = result.job.spec.benchmark() {
                let model = &spec.configuration.model;
                if !self.models.contains_key(model) && seen.insert(model) {
                    new.push((model, result));
                }
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let first = take_keys(connection, "model_id_seq", new.len())?;
        let mut rows = appender(connection, "models", &["model_id", "model_name", "version", "created_at"])?;
        for (index, (model, result)) in new.into_iter().enumerate() {
            let model_id = first + offset(index);
            let sha256 = model.sha256.to_string();
            rows.append_row(params![model_id, model.name, sha256, moment(result.finished_at)])?;
            self.models.insert(model.clone(), KnownModel { model_id, has_parameters: false });
        }
        rows.flush()
    }

    /// A model's size comes with its first measurement, which need not be its first result.
    fn learn_parameters(&mut self, connection: &Connection, results: &[&JobResult]) -> Result<()> {
        for result in results {
            let (Some(spec), Some(outcome)) = (result.job.spec.benchmark(), result.outcome.benchmark()) else {
                continue;
            };
            let Some(model) = self.models.get_mut(&spec.configuration.model) else { continue };
            if !model.has_parameters && outcome.costs.parameters > 0 {
                connection.execute(
                    "UPDATE models SET parameters_million = ? WHERE model_id = ?",
                    params![outcome.costs.parameters as f64 / 1e6, model.model_id],
                )?;
                model.has_parameters = true;
            }
        }
        Ok(())
    }

    fn learn_devices(&mut self, connection: &Connection, results: &[&JobResult]) -> Result<()> {
        let mut new: Vec<(String, &Device, &JobResult)> = Vec::new();
        for result in results {
            if let Some(device) = &result.device {
                let identity = json::device(device);
                if !self.devices.contains_key(&identity) && !new.iter().any(|(known, ..)| *known == identity) {
                    new.push((identity, device, result));
                }
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let first = take_keys(connection, "hardware_id_seq", new.len())?;
        let mut rows = appender(
            connection,
            "hardware_platforms",
            &[
                "hardware_id",
                "hardware_type",
                "device_name",
                "platform",
                "platform_version",
                "driver_version",
                "memory_gb",
                "compute_units",
                "created_at",
                "metadata",
            ],
        )?;
        for (index, (identity, device, result)) in new.into_iter().enumerate() {
            let hardware_id = first + offset(index);
            rows.append_row(params![
                hardware_id,
                device.platform.as_str(),
                device.name,
                device.platform.as_str(),
                device.platform_version,
                device.driver_version,
                device.memory_mb.map(|mb| mb / 1_000.0),
                device.compute_units,
                moment(result.finished_at),
                identity,
            ])?;
            self.devices.insert(identity, hardware_id);
        }
        rows.flush()
    }

    /// Stores the costs of these graphs that are new and gives each one's hash, in order.
    pub(super) fn costs<'a>(
        &mut self,
        connection: &Connection,
        graphs: impl Iterator<Item = &'a GraphCosts>,
    ) -> Result<Vec<String>> {
        let mut rows = connection.appender("graph_costs")?;
        let mut hashes = Vec::new();
        for graph in graphs {
            let operators = json::operators(graph);
            let hash = hash_of(graph.parameters, &operators);
            if self.costs.insert(hash.clone()) {
                rows.append_row(params![
                    hash,
                    graph.parameters,
                    graph.macs(),
                    graph.activation_elements(),
                    graph.weight_elements(),
                    graph.operator_count(),
                    operators,
                ])?;
            }
            hashes.push(hash);
        }
        rows.flush()?;
        Ok(hashes)
    }
}

fn hash_of(parameters: u64, operators: &str) -> String {
    let hash = Sha256::new().chain_update(parameters.to_le_bytes()).chain_update(operators).finalize();
    messages::ContentHash(hash.into()).to_string()
}
