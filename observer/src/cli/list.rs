//! `observer list`.

use clap::Args;

use super::names;
use super::output::{self, Format};
use crate::export::{json, text};
use crate::pipeline::{Options, Pipeline};

#[derive(Args)]
pub(super) struct Arguments {
    /// How to show it
    #[arg(long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    names: names::NameArguments,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut pipeline =
        Pipeline::new(Options { probes: false, names: arguments.names.options(), ..Options::default() });
    pipeline.scan();
    pipeline.await_names(names::PATIENCE);
    let view = pipeline.tick();
    match arguments.output {
        Format::Json => output::json(&json::list(&view), true),
        Format::Table if view.targets.is_empty() => {
            output::note("there is no Go process here that these privileges can see");
            Ok(())
        }
        Format::Table => Ok(output::print(&text::list(&view, output::layout()))?),
    }
}
