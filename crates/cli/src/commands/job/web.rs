//! `augur job submit --kind web`: one benchmark for browsers.

use anyhow::bail;
use clap::Args;
use messages::{Device, Platform, WebSpec};
use pipeline::CaseSpec;

use super::SubmitArguments;
use crate::context::Context;

/// What only jobs for browsers have.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct BrowsingArguments {
    /// Platforms of a web job that will do, the preferred one first: webgpu, webnn, wasm.
    #[arg(long, value_delimiter = ',', default_value = "wasm", value_name = "PLATFORMS")]
    platforms: Vec<Platform>,
    /// Browsers of a web job that will do, the preferred one first; any if not given.
    #[arg(long, value_delimiter = ',', value_name = "BROWSERS")]
    browsers: Vec<String>,
    /// Memory that the browser may need for a web job, in MB (10^6 bytes).
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..))]
    memory_mb: Option<u64>,
}

/// The name of the case, and the benchmark.
pub(super) fn case(arguments: &SubmitArguments, context: &Context) -> anyhow::Result<(String, CaseSpec)> {
    let BrowsingArguments { platforms, browsers, memory_mb } = arguments.browsing.clone();
    let Some((preferred, others)) = platforms.split_first() else { bail!("a web job needs a platform") };
    let mut benchmark = super::measured(arguments, context, *preferred)?;
    if arguments.predict {
        // Which adapter a browser will use is not known before; WebAssembly is the processor's.
        if platforms != [Platform::Wasm] {
            bail!("what a browser computes on is known beforehand for wasm only; leave --predict out");
        }
        let processor = crate::commands::device::of_platform(context, Platform::Cpu)?;
        let device = Device { platform: Platform::Wasm, ..processor };
        benchmark.prediction = Some(super::predicted(&benchmark.configuration, device, context)?);
    }
    let mut web = WebSpec::new(benchmark, browsers);
    web.platforms = others.to_vec();
    web.memory_mb = memory_mb;
    web.validate()?;
    Ok((web.benchmark.configuration.to_string(), CaseSpec::Web(Box::new(web))))
}
