//! Runs the simulator: whole shards on a simulated disk and clock, one seed after another.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use postdate::sim::{Report, World};

/// Whole shards of the real engine, journal and store on virtual time, a simulated disk and
/// simulated sessions, with faults; a model holds what comes out against what was promised.
#[derive(Parser)]
#[command(
    name = "sim",
    after_help = "\
Examples:
  sim --seeds 0..1000            a thousand seeds
  sim --minutes 10 --seed 7      seeds from 7 on, for ten minutes
  sim --seed 42 --twice          one seed, two times: the traces must be the same
  sim --replay tests/seeds/42    the seeds of a file, one a line"
)]
struct Args {
    /// One seed, or the first one with --minutes
    #[arg(long)]
    seed: Option<u64>,
    /// Seeds from A up to B, without B
    #[arg(long, value_name = "A..B")]
    seeds: Option<String>,
    /// Go on for so long
    #[arg(long, value_name = "M")]
    minutes: Option<u64>,
    /// Seeds of a file: the first word of each line; # begins a comment
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Run each seed twice and compare the traces
    #[arg(long)]
    twice: bool,
    /// Go on after a violation
    #[arg(long)]
    keep_going: bool,
    /// Tell everything that happens
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match seeds(&args) {
        Ok(seeds) => run(&args, seeds),
        Err(why) => {
            eprintln!("sim: {why}");
            ExitCode::from(2)
        }
    }
}

fn seeds(args: &Args) -> Result<Box<dyn Iterator<Item = u64>>, String> {
    if let Some(file) = &args.replay {
        let text =
            std::fs::read_to_string(file).map_err(|why| format!("{}: {why}", file.display()))?;
        let mut seeds = Vec::new();
        for line in text.lines() {
            let Some(word) = line.split('#').next().and_then(|own| own.split_whitespace().next())
            else {
                continue;
            };
            seeds.push(word.parse().map_err(|_| format!("{word} is not a seed"))?);
        }
        return Ok(Box::new(seeds.into_iter()));
    }
    if let Some(range) = &args.seeds {
        let bad = || format!("{range} is not a range like 0..1000");
        let (from, to) = range.split_once("..").ok_or_else(bad)?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| bad());
        return Ok(Box::new(number(from)?..number(to)?));
    }
    let first = args.seed.unwrap_or(0);
    let count = if args.minutes.is_some() { u64::MAX } else { 1 };
    Ok(Box::new((first..).take(usize::try_from(count).unwrap_or(usize::MAX))))
}

fn run(args: &Args, seeds: Box<dyn Iterator<Item = u64>>) -> ExitCode {
    let begun = Instant::now();
    let most = args.minutes.map(|minutes| Duration::from_secs(minutes * 60));
    let (mut total, mut bad, mut told) = (Report::default(), 0, begun);
    for seed in seeds {
        if most.is_some_and(|most| begun.elapsed() > most) {
            break;
        }
        match one(seed, args) {
            Ok(report) => total.add(&report),
            Err(why) => {
                bad += 1;
                eprintln!("VIOLATION {why}\n  again: sim --seed {seed} --trace");
                if !args.keep_going {
                    return ExitCode::FAILURE;
                }
            }
        }
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            let (seeds, s) = (total.seeds, begun.elapsed().as_secs());
            eprintln!("{s} s: {seeds} seeds, {bad} violations, at seed {seed}");
        }
    }
    println!("{total}");
    println!("took             {:.1} s", begun.elapsed().as_secs_f64());
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(seed: u64, args: &Args) -> Result<Report, String> {
    let once = || {
        // A panic of the engine is a violation like any other.
        catch_unwind(AssertUnwindSafe(|| World::run(seed, args.trace)))
            .map_err(|_| format!("seed {seed}: a panic"))?
            .map_err(|violation| violation.to_string())
    };
    let first = once()?;
    if args.twice && once()?.hash != first.hash {
        return Err(format!("seed {seed}: two runs differ"));
    }
    Ok(first)
}
