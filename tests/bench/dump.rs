//! What a profile with all stacks costs, beside the target's own profiles: in time, and in what the target's
//! goroutines feel of it.

use crate::child::{self, MEBIBYTE, Ran};
use crate::report::{Goal, Report, median};
use anyhow::{Context, Result, ensure};
use observer_tests::build::{Variant, build};
use observer_tests::fixture::Fixture;
use observer_tests::go::Go;
use std::thread::sleep;
use std::time::Duration;

const BENCH: &str = "dump";
const SIZES: [u32; 2] = [200_000, 1_000_000];
/// In short mode.
const SMALL: [u32; 1] = [20_000];
/// How long the target's own profile may take it.
const PATIENCE: Duration = Duration::from_secs(900);
/// How long the target is left alone to see its gaps without a profile.
const UNDISTURBED: Duration = Duration::from_secs(1);

pub(crate) fn run(report: &mut Report, short: bool) -> Result<()> {
    let (rounds, sizes) = if short { (1, &SMALL[..]) } else { (9, &SIZES[..]) };
    let executable = build("many", Go::NEWEST, Variant::Static)?;
    let idle = {
        let small = Fixture::run(&executable, &["-n", "10"])?;
        median((0..rounds).map(|_| Ok(dump(&small.pid_text(), &[])?.peak_bytes)).collect::<Result<_>>()?)?
    };
    for n in sizes {
        let mut target = Fixture::run(&executable, &["-n", &n.to_string()])?;
        let mut figures = Figures::default();
        // Its own profiles leave garbage behind: the collections that follow belong to neither side.
        for _ in 0..rounds {
            figures.round(&mut target, *n)?;
        }
        figures.tell(report, *n, idle)?;
    }
    Ok(())
}

/// Seconds, and for each also the longest gap of the target's heartbeat meanwhile.
#[derive(Default)]
struct Figures {
    undisturbed: Vec<f64>,
    debug0: Vec<(f64, f64)>,
    /// Once: it takes so long.
    debug2: Vec<(f64, f64)>,
    first: Vec<(f64, f64)>,
    repeated: Vec<f64>,
    peak_bytes: Vec<f64>,
}

impl Figures {
    fn round(&mut self, target: &mut Fixture, n: u32) -> Result<()> {
        gap(target)?;
        sleep(UNDISTURBED);
        self.undisturbed.push(gap(target)?);
        self.debug0.push(own(target, 0)?);
        if self.debug2.is_empty() {
            self.debug2.push(own(target, 2)?);
        }
        target.ask("gc")?;
        gap(target)?;
        let first = dump(&target.pid_text(), &[])?;
        self.first.push((first.seconds, gap(target)?));
        let repeated = dump(&target.pid_text(), &["--watch", "200ms"])?;
        self.repeated.push(read_seconds(&repeated, n)?);
        self.peak_bytes.push(repeated.peak_bytes);
        Ok(())
    }

    fn tell(self, report: &mut Report, n: u32, idle: f64) -> Result<()> {
        let column =
            |rows: &[(f64, f64)], pick: fn(&(f64, f64)) -> f64| median(rows.iter().map(pick).collect());
        let seconds = |rows: &[(f64, f64)]| column(rows, |row| row.0);
        let gaps = |rows: &[(f64, f64)]| column(rows, |row| row.1);
        let (debug0, debug2, first) = (seconds(&self.debug0)?, seconds(&self.debug2)?, seconds(&self.first)?);
        let (repeated, undisturbed) = (median(self.repeated)?, median(self.undisturbed)?);
        let what = |text: &str| format!("{n} goroutines: {text}");
        let mut add = |text: &str, value: f64, unit| report.add(BENCH, what(text), value, unit);
        add("the target's pprof debug=0", debug0 * 1e3, "ms");
        add("the target's pprof debug=2", debug2 * 1e3, "ms");
        add("dump, from start to end", first * 1e3, "ms");
        add("dump, repeated and nothing moved", repeated * 1e3, "ms");
        add("longest gap of a heartbeat, undisturbed", undisturbed * 1e3, "ms");
        add("longest gap during debug=0", gaps(&self.debug0)? * 1e3, "ms");
        add("longest gap during debug=2", gaps(&self.debug2)? * 1e3, "ms");
        add("longest gap during dump", gaps(&self.first)? * 1e3, "ms");
        let mut goal = |text: &str, value: f64, unit, goal| report.goal(BENCH, what(text), value, unit, goal);
        goal("times faster than debug=0", debug0 / first, "", Goal::AtLeast(3.0));
        goal("times faster than debug=2", debug2 / first, "", Goal::AtLeast(20.0));
        goal("repeated, times faster than debug=0", debug0 / repeated, "", Goal::AtLeast(10.0));
        let stretched = gaps(&self.first)? / undisturbed;
        goal("gap during dump / undisturbed", stretched, "", Goal::AtMost(1.5));
        let more = (median(self.peak_bytes)? - idle) / MEBIBYTE;
        goal("peak memory, more than for 10", more, "MiB", Goal::AtMost(64.0));
        Ok(())
    }
}

fn dump(pid: &str, options: &[&str]) -> Result<Ran> {
    child::run(&[&["dump", pid, "--format", "summary"], options].concat())
}

/// How long the second look took, as the summary's first line says, which also says that it saw everybody.
fn read_seconds(ran: &Ran, n: u32) -> Result<f64> {
    let text = String::from_utf8_lossy(&ran.stdout);
    let head = text.lines().next().unwrap_or_default();
    let seen = head.split_once(" goroutines").and_then(|(before, _)| before.rsplit(' ').next()?.parse().ok());
    ensure!(seen.is_some_and(|seen: u32| (n..n + 10).contains(&seen)), "not {n} goroutines: {head:?}");
    let milliseconds = head.rsplit_once(", read in ").and_then(|(_, rest)| rest.strip_suffix(" ms"));
    Ok(milliseconds.with_context(|| format!("no time in {head:?}"))?.parse::<f64>()? / 1e3)
}

/// Seconds that the target's own profile takes it, and the longest gap of its heartbeat meanwhile.
fn own(target: &mut Fixture, debug: u32) -> Result<(f64, f64)> {
    gap(target)?;
    let answer = target.ask_patiently(&format!("pprof {debug}"), PATIENCE)?;
    Ok((answer["seconds"].as_f64().context("no figure")?, gap(target)?))
}

/// The longest gap of the target's heartbeat since this was asked last, seconds.
fn gap(target: &mut Fixture) -> Result<f64> {
    target.ask("gap")?["seconds"].as_f64().context("no gap")
}
