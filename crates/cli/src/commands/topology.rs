//! `augur topology plan|apply|check|show`.

mod policies;

use anyhow::Context as _;
use broker::AmqpUrl;
use clap::Subcommand;
use topology::{Plan, ServerVersion, Topology};

use crate::{context::Context, exit::Exit, output};

#[derive(Debug, Subcommand)]
pub(crate) enum TopologyCommand {
    /// Shows what `apply` would do; changes nothing.
    #[command(after_help = "Example: augur topology plan")]
    Plan,
    /// Declares what is missing on the broker.
    #[command(after_help = "Example: AUGUR_AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f augur topology apply")]
    Apply {
        /// Shows the plan and changes nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Fails (exit 1) if the broker lacks something or has it otherwise, or a policy makes it otherwise.
    #[command(after_help = "Example: augur topology check")]
    Check,
    /// Shows the topology that this program was built with.
    #[command(after_help = "Example: augur topology show > queues.yaml")]
    Show,
}

pub(crate) async fn run(command: TopologyCommand, context: &Context) -> anyhow::Result<Exit> {
    if matches!(command, TopologyCommand::Show) {
        output::print(Topology::EMBEDDED_YAML.trim_end())?;
        return Ok(Exit::Done);
    }
    let url = context.amqp_url()?;
    let (version, plan) = plan(&url).await?;
    let heading = format!("RabbitMQ {version} at {url}");
    match command {
        TopologyCommand::Plan | TopologyCommand::Apply { dry_run: true } => {
            output::print(&format!("{heading}\n{plan}"))?;
            Ok(Exit::Done)
        }
        TopologyCommand::Apply { dry_run: false } => {
            output::print(&format!("{heading}\n{plan}"))?;
            apply(&url, &plan).await
        }
        TopologyCommand::Check => {
            let policies = policies(&url, context).await;
            if plan.is_clean() && policies.as_ref().is_ok_and(Vec::is_empty) {
                output::print(&format!("{heading}: everything is as declared"))?;
                return Ok(Exit::Done);
            }
            output::print(&format!("{heading}\n{plan}"))?;
            policies?.iter().try_for_each(|line| output::print(line))?;
            Ok(Exit::Unwelcome)
        }
        TopologyCommand::Show => unreachable!("answered above"),
    }
}

/// What policies set otherwise than the embedded topology, where the settings say whom to ask.
async fn policies(url: &AmqpUrl, context: &Context) -> anyhow::Result<Vec<String>> {
    let management_url = &context.loaded.settings.broker.management_url;
    if management_url.is_empty() {
        eprintln!("policies were not looked at, since AMQP does not show them: set broker.management_url");
        return Ok(Vec::new());
    }
    policies::drift(management_url, url.virtual_host(), &Topology::embedded()?).await
}

/// Carries a plan out; drift is left alone and is an unwelcome answer.
pub(crate) async fn apply(url: &AmqpUrl, plan: &Plan) -> anyhow::Result<Exit> {
    broker::apply(url, plan).await?;
    if plan.has_drift() {
        output::print(
            "what differs was left as it is: queues cannot be changed, only drained, deleted and declared again",
        )?;
        return Ok(Exit::Unwelcome);
    }
    Ok(Exit::Done)
}

/// Compares the broker with the embedded topology.
pub(crate) async fn plan(url: &AmqpUrl) -> anyhow::Result<(ServerVersion, Plan)> {
    let topology = Topology::embedded().context("the embedded queues.yaml is not valid")?;
    let version = broker::server_version(url).await?;
    let observed = broker::observe(url, &topology).await?;
    let plan = topology::plan(&topology, &version, &observed)?;
    Ok((version, plan))
}
