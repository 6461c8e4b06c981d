//! What policies make of exchanges and queues: AMQP does not show it, RabbitMQ's management API does.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use topology::{ArgumentValue, Topology};

/// How long the management API may take to answer, in seconds.
const ANSWER_S_MAX: u64 = 30;
/// Keys by which a policy loses no message, refuses none and sends none elsewhere.
const HARMLESS: &[&str] = &[
    "queue-leader-locator",
    "queue-master-locator",
    "max-in-memory-length",
    "max-in-memory-bytes",
    "ha-mode",
    "ha-params",
    "ha-sync-mode",
];
/// What a policy may set of an exchange.
const ALTERNATE_EXCHANGE: &str = "alternate-exchange";

/// A queue or an exchange, as the API lists it; only queues come with what all policies together set.
#[derive(Debug, Deserialize)]
struct Listed {
    name: String,
    policy: Option<String>,
    operator_policy: Option<String>,
    #[serde(default)]
    effective_policy_definition: Value,
}

#[derive(Debug, Deserialize)]
struct Policy {
    name: String,
    definition: Value,
}

/// Asks the management API at `base` what policies set otherwise than `topology`, in lines for people.
///
/// # Errors
///
/// If it does not answer, or does not let the user of its URL look.
pub(super) async fn drift(base: &str, virtual_host: &str, topology: &Topology) -> anyhow::Result<Vec<String>> {
    let base = reqwest::Url::parse(base).context("`broker.management_url` is no URL")?;
    let client = reqwest::Client::builder().timeout(Duration::from_secs(ANSWER_S_MAX)).no_proxy().build()?;
    let ask = Asking { client, base, virtual_host };
    Ok(found(topology, &ask.list("queues").await?, &ask.list("exchanges").await?, &ask.list("policies").await?))
}

struct Asking<'a> {
    client: reqwest::Client,
    base: reqwest::Url,
    virtual_host: &'a str,
}

impl Asking<'_> {
    async fn list<T: DeserializeOwned>(&self, what: &str) -> anyhow::Result<Vec<T>> {
        let mut url = self.base.clone();
        // The virtual host `/` is one segment, percent-encoded.
        let segments = ["api", what, self.virtual_host];
        url.path_segments_mut().ok().context("`broker.management_url` is no HTTP URL")?.pop_if_empty().extend(segments);
        let answer = self.client.get(url).send().await.and_then(reqwest::Response::error_for_status);
        // An error quotes the URL, with its password.
        let answer = answer.map_err(reqwest::Error::without_url);
        let answer = answer.with_context(|| format!("RabbitMQ's management API did not list {what}"))?;
        answer
            .json()
            .await
            .map_err(reqwest::Error::without_url)
            .with_context(|| format!("its {what} are not understood"))
    }
}

fn found(topology: &Topology, queues: &[Listed], exchanges: &[Listed], policies: &[Policy]) -> Vec<String> {
    let definitions: BTreeMap<&str, &Value> =
        policies.iter().map(|policy| (policy.name.as_str(), &policy.definition)).collect();
    let mut lines = Vec::new();
    for queue in queues {
        let Some(declared) = topology.queues.iter().find(|declared| declared.name == queue.name) else { continue };
        let set = queue.effective_policy_definition.as_object().into_iter().flatten();
        for (key, value) in set.filter(|(key, _)| !HARMLESS.contains(&key.as_str())) {
            let argument = declared.arguments.get(&format!("x-{key}"));
            if !argument.is_some_and(|argument| is_equal(argument, value)) {
                lines.push(format!("queue {}: {} sets {key} to {value}", queue.name, queue.policies()));
            }
        }
    }
    for exchange in exchanges {
        let Some(declared) = topology.exchanges.iter().find(|declared| declared.name == exchange.name) else {
            continue;
        };
        let definition = exchange.policy.as_deref().and_then(|policy| definitions.get(policy));
        let alternate = definition.and_then(|definition| definition.get(ALTERNATE_EXCHANGE));
        if let Some(alternate) =
            alternate.filter(|alternate| alternate.as_str() != declared.alternate_exchange.as_deref())
        {
            let policies = exchange.policies();
            lines.push(format!("exchange {}: {policies} sets {ALTERNATE_EXCHANGE} to {alternate}", exchange.name));
        }
    }
    lines.sort();
    lines
}

impl Listed {
    fn policies(&self) -> String {
        let kinds = [("policy", &self.policy), ("operator policy", &self.operator_policy)];
        let named = kinds.into_iter().filter_map(|(kind, name)| Some(format!("{kind} `{}`", name.as_deref()?)));
        named.collect::<Vec<_>>().join(" with ")
    }
}

fn is_equal(argument: &ArgumentValue, value: &Value) -> bool {
    match argument {
        ArgumentValue::Int(number) => value.as_i64() == Some(*number),
        ArgumentValue::Text(text) => value.as_str() == Some(text),
        ArgumentValue::Bool(truth) => value.as_bool() == Some(*truth),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read<T: DeserializeOwned>(rows: Value) -> Vec<T> {
        serde_json::from_value(rows).expect("rows")
    }

    #[test]
    fn what_policies_set_otherwise_is_found_and_nothing_else() {
        let topology = Topology::embedded().expect("valid");
        let queues = read(json!([
            {"name": "jobs.cpu.high", "policy": "limit", "operator_policy": null,
             "effective_policy_definition": {"overflow": "drop-head", "delivery-limit": 20, "ha-mode": "all"}},
            {"name": "jobs.cpu.low", "policy": "limit", "operator_policy": "cap",
             "effective_policy_definition": {"message-ttl": 60_000}},
            // RabbitMQ has no empty object.
            {"name": "jobs.cpu.normal", "policy": null, "effective_policy_definition": []},
            {"name": "results", "policy": "same", "effective_policy_definition": {"max-length-bytes": 20_000_000_000_u64}},
            {"name": "somebody's", "policy": "limit", "effective_policy_definition": {"overflow": "drop-head"}},
        ]));
        let exchanges = read(json!([
            {"name": "jobs", "policy": "elsewhere"},
            {"name": "jobs.due", "policy": "as declared"},
            {"name": "results", "policy": "limit"},
        ]));
        let policies = read(json!([
            {"name": "elsewhere", "definition": {"alternate-exchange": "nowhere"}},
            {"name": "as declared", "definition": {"alternate-exchange": "unroutable"}},
            {"name": "limit", "definition": {"overflow": "drop-head"}},
        ]));
        assert_eq!(
            found(&topology, &queues, &exchanges, &policies),
            [
                "exchange jobs: policy `elsewhere` sets alternate-exchange to \"nowhere\"",
                "queue jobs.cpu.high: policy `limit` sets overflow to \"drop-head\"",
                "queue jobs.cpu.low: policy `limit` with operator policy `cap` sets message-ttl to 60000",
            ]
        );
    }
}
