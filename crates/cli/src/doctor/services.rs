//! What Augur talks to: the broker, its topology, and the aggregator.

use std::{path::Path, time::Duration};

use broker::AmqpUrl;
use topology::{Action, Observed, Plan, ServerVersion, Topology};

use super::{Finding, FindingState, chain};

const AREA: &str = "broker";
/// The server of Debian's package; the one in `/usr/sbin` changes user and directory and cannot be private.
const PRIVATE_SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// How long looking at the broker may take in all, in seconds.
const BROKER_S_MAX: u64 = 30;
/// How long the aggregator may take to answer, in seconds.
const AGGREGATOR_S_MAX: u64 = 2;

/// The configured broker and its topology.
pub(super) async fn broker(url: Option<&AmqpUrl>) -> Vec<Finding> {
    let Some(url) = url else {
        let finding = Finding::new(AREA, "server", FindingState::Missing, "none is configured");
        return vec![finding.remedy("set AUGUR_AMQP_URL, or let `augur up` start a private node")];
    };
    let look = async {
        let (mut findings, versions): (Vec<_>, Vec<_>) = servers(url).await.into_iter().unzip();
        // The nodes of a cluster share their queues: one that answers is enough to look at them.
        if let Some(version) = versions.into_iter().flatten().min() {
            findings.push(observed(url, &version).await);
        }
        findings
    };
    match tokio::time::timeout(Duration::from_secs(BROKER_S_MAX), look).await {
        Ok(findings) => findings,
        Err(_) => vec![
            Finding::new(AREA, "server", FindingState::Broken, format!("{url} did not answer within {BROKER_S_MAX} s"))
                .remedy("look at the broker's alarms and its log"),
        ],
    }
}

/// Every address of the URL, tried at the same time; several are told apart by their names.
async fn servers(url: &AmqpUrl) -> Vec<(Finding, Option<ServerVersion>)> {
    let addresses = url.authorities();
    let subject = |host: &str, port: u16| match addresses.len() {
        1 => "server".to_owned(),
        _ => format!("server {host}:{port}"),
    };
    let tried = addresses.iter().map(|&(host, port)| server(subject(host, port), url.at(host, port)));
    futures_util::future::join_all(tried).await
}

async fn server(subject: String, url: AmqpUrl) -> (Finding, Option<ServerVersion>) {
    let finding = |state, detail: String| Finding::new(AREA, subject, state, detail);
    if url.is_tls() {
        let detail = format!("{url} was not tried: its version, which the rest depends on, is not shown over TLS");
        return (finding(FindingState::Unknown, detail), None);
    }
    match broker::server_version(&url).await {
        Ok(version) => (finding(FindingState::Works, format!("RabbitMQ {version} at {url}")), Some(version)),
        Err(error) => {
            let finding = finding(FindingState::Broken, chain(&error));
            (finding.remedy("check that it runs, and the host and port in AUGUR_AMQP_URL"), None)
        }
    }
}

async fn observed(url: &AmqpUrl, version: &ServerVersion) -> Finding {
    let broken = |detail: String| Finding::new(AREA, "topology", FindingState::Broken, detail);
    let topology = match Topology::embedded() {
        Ok(topology) => topology,
        Err(error) => return broken(chain(&error)),
    };
    match broker::observe(url, &topology).await {
        Ok(observed) => compared(&topology, version, &observed),
        Err(error) => {
            broken(chain(&error)).remedy("check user, password and virtual host in AUGUR_AMQP_URL, and the permissions")
        }
    }
}

/// Whether a server has what the topology declares.
fn compared(topology: &Topology, version: &ServerVersion, observed: &Observed) -> Finding {
    let plan = match topology::plan(topology, version, observed) {
        Ok(plan) => plan,
        Err(error) => {
            let finding = Finding::new(AREA, "topology", FindingState::Broken, chain(&error));
            return finding.remedy("use a RabbitMQ that supports what `augur topology show` lists");
        }
    };
    let objects = topology.exchanges.len() + topology.queues.len();
    let missing = plan.steps.iter().filter(|step| step.action == Action::Create).count();
    if plan.has_drift() {
        let detail = format!("differs from its declaration: {}", drifted(&plan));
        let remedy = "see `augur topology plan`; a queue that differs must be emptied and deleted first";
        Finding::new(AREA, "topology", FindingState::Broken, detail).remedy(remedy)
    } else if missing > 0 {
        let detail = format!("{missing} of {objects} exchanges and queues are not declared");
        Finding::new(AREA, "topology", FindingState::Missing, detail).remedy("augur topology apply")
    } else {
        Finding::new(AREA, "topology", FindingState::Works, format!("{objects} exchanges and queues as declared"))
    }
}

fn drifted(plan: &Plan) -> String {
    let steps = plan.steps.iter().filter(|step| matches!(step.action, Action::Drift { .. }));
    steps.map(|step| format!("`{}`", step.object.name())).collect::<Vec<_>>().join(", ")
}

/// Whether `augur up` can start a node of its own.
pub(super) fn private_broker() -> Finding {
    if Path::new(PRIVATE_SERVER).exists() {
        Finding::new(AREA, "private node", FindingState::Works, format!("installed at {PRIVATE_SERVER}"))
    } else {
        let detail = format!("no {PRIVATE_SERVER}; only needed where no broker is configured");
        Finding::new(AREA, "private node", FindingState::Missing, detail).remedy("apt-get install rabbitmq-server")
    }
}

/// Whether the aggregator's HTTP API answers.
pub(super) async fn aggregator(url: &str) -> Finding {
    let finding = |state, detail: String| Finding::new("aggregator", "HTTP API", state, detail);
    let start = "start it with `augur aggregator start` or `augur up`, or correct the setting `aggregator_url`";
    let client = reqwest::Client::builder().timeout(Duration::from_secs(AGGREGATOR_S_MAX)).no_proxy().build();
    let asked = match client {
        Ok(client) => client.get(format!("{}/api/health", url.trim_end_matches('/'))).send().await,
        Err(error) => Err(error),
    };
    match asked {
        Ok(answer) if answer.status().is_success() => finding(FindingState::Works, format!("answers at {url}")),
        Ok(answer) => finding(FindingState::Broken, format!("{url} answers {}", answer.status()))
            .remedy("look at the aggregator's log, or correct the setting `aggregator_url`"),
        Err(error) if error.is_connect() => {
            finding(FindingState::Missing, format!("nobody answers at {url}")).remedy(start)
        }
        Err(error) => finding(FindingState::Broken, chain(&error)).remedy(start),
    }
}

#[cfg(test)]
mod tests {
    use topology::ObservedState;

    use super::*;

    fn check(prepare: impl FnOnce(&Topology, &mut Observed), state: FindingState, detail: &str) {
        let topology = Topology::embedded().expect("embedded topology");
        let mut observed = Observed::new();
        for exchange in &topology.exchanges {
            observed.set_exchange(&exchange.name, ObservedState::Same);
        }
        for queue in &topology.queues {
            observed.set_queue(&queue.name, ObservedState::Same);
        }
        prepare(&topology, &mut observed);
        let finding = compared(&topology, &ServerVersion::OLDEST, &observed);
        assert_eq!(finding.state, state, "{finding:?}");
        assert!(finding.detail.contains(detail), "{finding:?}");
        assert_eq!(finding.remedy.is_none(), state == FindingState::Works, "{finding:?}");
    }

    #[test]
    fn a_server_with_everything_is_as_declared() {
        check(|_, _| (), FindingState::Works, "as declared");
    }

    #[test]
    fn a_queue_that_is_not_there_is_counted() {
        let absent = |topology: &Topology, observed: &mut Observed| {
            observed.set_queue(&topology.queues[0].name, ObservedState::Absent);
        };
        check(absent, FindingState::Missing, "1 of ");
    }

    #[test]
    fn a_queue_that_differs_is_named() {
        let name = Topology::embedded().expect("embedded topology").queues[0].name.clone();
        let differs = |topology: &Topology, observed: &mut Observed| {
            let detail = "inequivalent arg".to_owned();
            observed.set_queue(&topology.queues[0].name, ObservedState::Differs { detail });
        };
        check(differs, FindingState::Broken, &format!("`{name}`"));
    }

    #[test]
    fn a_server_that_is_too_old_is_broken() {
        let topology = Topology::embedded().expect("embedded topology");
        let version = "3.8.9".parse().expect("version");
        let finding = compared(&topology, &version, &Observed::absent(&topology));
        assert_eq!(finding.state, FindingState::Broken, "{finding:?}");
    }

    #[tokio::test]
    async fn a_broker_that_is_not_there_is_broken_and_its_password_is_not_shown() {
        let url = "amqp://someone:secret@127.0.0.1:1/%2f".parse().expect("URL");
        let findings = broker(Some(&url)).await;
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].state, FindingState::Broken);
        assert!(!format!("{findings:?}").contains("secret"), "{findings:?}");
    }

    #[tokio::test]
    async fn each_address_of_a_cluster_is_tried() {
        let url = "amqp://someone:secret@127.0.0.1:1,127.0.0.2:1/%2f".parse().expect("URL");
        let findings = broker(Some(&url)).await;
        let subjects: Vec<_> = findings.iter().map(|finding| finding.subject.as_str()).collect();
        assert_eq!(subjects, ["server 127.0.0.1:1", "server 127.0.0.2:1"], "{findings:?}");
        assert!(findings.iter().all(|finding| finding.state == FindingState::Broken), "{findings:?}");
    }
}
