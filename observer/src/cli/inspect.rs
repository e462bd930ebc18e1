//! `observer inspect`.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::output::{self, Format};
use crate::discover::process;
use crate::gobin::GoBinary;
use crate::pipeline::executables::{self, Recognised};
use crate::text::printable;

#[derive(Args)]
pub(super) struct Arguments {
    /// Process id, or path of an executable
    #[arg(value_name = "PID|FILE")]
    what: OsString,
    /// How to show it
    #[arg(long, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Serialize)]
struct Report {
    go_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<String>,
    build_settings: Vec<Setting>,
    position_independent: bool,
    has_section_headers: bool,
    pclntab: Pclntab,
    moduledata: Moduledata,
    layout: String,
    globals: Vec<Global>,
    globals_missing: Vec<String>,
    probe_sites: Vec<Site>,
    probe_sites_missing: Vec<String>,
}

#[derive(Serialize)]
struct Setting {
    key: String,
    value: String,
}

#[derive(Serialize)]
struct Pclntab {
    address: u64,
    functions: u64,
    format: &'static str,
}

#[derive(Serialize)]
struct Moduledata {
    address: u64,
    text: u64,
    text_end: u64,
    data: u64,
    data_end: u64,
}

#[derive(Serialize)]
struct Global {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<u64>,
}

#[derive(Serialize)]
struct Site {
    probe: String,
    function: &'static str,
    address: u64,
    file_offset: u64,
    bytes: String,
    instruction: &'static str,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // The name of a file need not be UTF-8; that of a process is a number.
    let path = match arguments.what.to_str().and_then(|text| text.parse::<u32>().ok()) {
        Some(pid) if !std::path::Path::new(&arguments.what).exists() => {
            crate::pipeline::go_process::require(pid)?;
            process::exe_path(pid)
        }
        _ => PathBuf::from(&arguments.what),
    };
    if !path.exists() {
        bail!("there is no file {}", path.display());
    }
    match executables::read(&path) {
        Recognised::Go(executable) => show(&report(&executable.binary), arguments.output),
        Recognised::Foreign => bail!("{} is no Go executable", path.display()),
        Recognised::Refused { reason, .. } => bail!("{}: {reason}", path.display()),
    }
}

fn show(report: &Report, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => output::json(report, true),
        Format::Table => Ok(output::print(&table(report))?),
    }
}

fn report(binary: &GoBinary) -> Report {
    let module = &binary.module;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    Report {
        go_version: safe(&binary.build.version),
        path: binary.build.path.as_deref().map(safe),
        module: binary.build.module.as_deref().map(safe),
        build_settings: binary
            .build
            .settings
            .iter()
            .map(|(key, value)| Setting { key: safe(key), value: safe(value) })
            .collect(),
        position_independent: binary.image.pie,
        has_section_headers: !binary.image.sections.is_empty(),
        pclntab: Pclntab {
            address: binary.table.address,
            functions: binary.table.functions,
            format: binary.table.format(),
        },
        moduledata: Moduledata {
            address: module.address,
            text: module.text,
            text_end: module.text_end,
            data: module.data,
            data_end: module.data_end,
        },
        layout: binary.layouts.describe(binary.version),
        globals: binary.globals.named().map(|(name, address)| Global { name, address }).collect(),
        globals_missing: binary.globals.missing.clone(),
        probe_sites: binary
            .sites
            .found
            .iter()
            .map(|site| Site {
                probe: format!("{:?}", site.probe),
                function: site.function,
                address: site.address,
                file_offset: site.file_offset,
                bytes: hex(&site.bytes),
                instruction: site.instruction,
            })
            .collect(),
        probe_sites_missing: binary.sites.missing.iter().map(|missing| missing.reason.clone()).collect(),
    }
}

fn table(report: &Report) -> String {
    let mut text = String::new();
    let none = || "-".to_owned();
    _ = writeln!(text, "Go version   {}", report.go_version);
    _ = writeln!(text, "path         {}", report.path.clone().unwrap_or_else(none));
    _ = writeln!(text, "module       {}", report.module.clone().unwrap_or_else(none));
    for setting in &report.build_settings {
        _ = writeln!(text, "build        {}={}", setting.key, setting.value);
    }
    _ = writeln!(
        text,
        "position     {}",
        if report.position_independent { "independent (PIE)" } else { "fixed" }
    );
    let table = &report.pclntab;
    _ = writeln!(
        text,
        "pclntab      {:#x}, {} functions, format {}",
        table.address, table.functions, table.format
    );
    let module = &report.moduledata;
    _ = writeln!(
        text,
        "moduledata   {:#x}, text {:#x}-{:#x}, data {:#x}-{:#x}",
        module.address, module.text, module.text_end, module.data, module.data_end
    );
    _ = writeln!(text, "layout       {}", report.layout);
    for global in &report.globals {
        let address = global.address.map_or_else(none, |address| format!("{address:#x}"));
        _ = writeln!(text, "global       {:<26} {address}", global.name);
    }
    for site in &report.probe_sites {
        _ = writeln!(
            text,
            "probe site   {:<16} {:#x} in {}: {} ({})",
            site.probe, site.address, site.function, site.instruction, site.bytes
        );
    }
    for missing in report.globals_missing.iter().chain(&report.probe_sites_missing) {
        _ = writeln!(text, "missing      {missing}");
    }
    text
}

fn safe(text: &str) -> String {
    printable(text).into_owned()
}
