//! Publishing a file of lines: a thread reads and judges batches, a few are on their way at once,
//! results are told in the order of the lines. Memory does not grow with the file.

use std::collections::VecDeque;
use std::fs::File;
use std::future::pending;
use std::io::{self, Read};
use std::time::Instant;

use indicatif::ProgressBar;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::base::command::Produced;
use crate::base::error::ClientError;
use crate::cli::failure::Failure;
use crate::cli::lines::{self, Batch, Batches, Rules};
use crate::cli::output::{Out, PublishedLine, count_of, show_count};
use crate::cli::progress;
use crate::client::{Client, Error};

/// Batches on their way at once: enough to keep a server busy while it syncs.
const IN_FLIGHT: usize = 8;
/// Refused lines that are told one by one to a person; the rest is counted.
const REFUSALS_SHOWN: u64 = 10;

/// A batch on its way.
struct Sent {
    first_line: u64,
    count: u64,
    bytes_read: u64,
    results: JoinHandle<Result<Results, Error>>,
}

impl Sent {
    fn last_line(&self) -> u64 {
        self.first_line + self.count - 1
    }
}

type Results = Vec<Result<Produced, Box<ClientError>>>;

/// What became of the lines so far.
#[derive(Debug, Default)]
struct Tally {
    published: u64,
    duplicates: u64,
    refused: u64,
}

/// Publishes every line of `path`; `-` is stdin.
pub(super) async fn publish(
    client: &Client,
    destination: &str,
    path: &str,
    rules: Rules,
    out: Out,
) -> Result<(), Failure> {
    let started = Instant::now();
    let (source, length) = open(path)?;
    let bar = progress::bytes("publishing", length);
    let mut work = Work { destination, out, tally: Tally::default(), bar, stdout_open: true };
    let outcome = work.pump(client, read(source, rules)).await;
    work.bar.finish_and_clear();
    if work.stdout_open {
        work.out.flush().or_else(ignore_broken_pipe)?;
    }
    work.summary(started);
    outcome?;
    if work.tally.refused > 0 { Err(Failure::Said(1)) } else { Ok(()) }
}

fn open(path: &str) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    if path == "-" {
        return Ok((Box::new(io::stdin()), None));
    }
    let cannot = |error: io::Error| Failure::Failed(format!("cannot read {path}: {error}"));
    let file = File::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if metadata.is_dir() {
        return Err(Failure::Failed(format!("cannot read {path}: it is a directory")));
    }
    let length = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(file), length))
}

/// Reads on a thread of its own, which ends with the process when nobody takes its batches.
fn read(source: Box<dyn Read + Send>, rules: Rules) -> mpsc::Receiver<Result<Batch, Failure>> {
    let (sender, receiver) = mpsc::channel(2);
    std::thread::spawn(move || {
        let mut batches = Batches::new(source, rules);
        while let Some(batch) = batches.next().transpose() {
            let last = batch.is_err();
            if sender.blocking_send(batch).is_err() || last {
                return;
            }
        }
    });
    receiver
}

fn ignore_broken_pipe(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

struct Work<'a> {
    destination: &'a str,
    out: Out,
    tally: Tally,
    bar: ProgressBar,
    /// Whether somebody still reads stdout. Publishing goes on without a reader: lines of the
    /// file matter more than lines of the report.
    stdout_open: bool,
}

impl Work<'_> {
    /// Sends everything; after a failure nothing more is sent, and what is on its way is awaited.
    async fn pump(
        &mut self,
        client: &Client,
        mut input: mpsc::Receiver<Result<Batch, Failure>>,
    ) -> Result<(), Failure> {
        let mut sent: VecDeque<Sent> = VecDeque::new();
        let mut reading = true;
        let mut outcome = Ok(());
        loop {
            let free = reading && sent.len() < IN_FLIGHT;
            tokio::select! {
                batch = input.recv(), if free => match batch {
                    Some(Ok(batch)) => sent.push_back(self.send(client, batch)),
                    Some(Err(failure)) => {
                        reading = false;
                        outcome = outcome.and(Err(failure));
                    }
                    None => reading = false,
                },
                results = front(&mut sent), if !sent.is_empty() => {
                    let Some(batch) = sent.pop_front() else { continue };
                    // Batches follow each other without waiting: what is lost is lost to the last.
                    let last_sent = sent.back().unwrap_or(&batch).last_line();
                    if let Err(failure) = self.answered(&batch, last_sent, results) {
                        reading = false;
                        outcome = outcome.and(Err(failure));
                    }
                }
                else => return outcome,
            }
        }
    }

    fn send(&self, client: &Client, batch: Batch) -> Sent {
        let (client, destination) = (client.clone(), self.destination.to_owned());
        let Batch { first_line, messages, bytes_read } = batch;
        let count = messages.len() as u64;
        let results =
            tokio::spawn(async move { client.produce_batch(&destination, &messages).await });
        Sent { first_line, count, bytes_read, results }
    }

    fn answered(
        &mut self,
        batch: &Sent,
        last_sent: u64,
        results: Result<Results, Error>,
    ) -> Result<(), Failure> {
        self.bar.set_position(batch.bytes_read);
        let first = batch.first_line;
        let of_lines = |text: String| {
            format!("lines {first} to {last_sent}: {text}; nothing after line {last_sent} was sent")
        };
        let results = results.map_err(|error| match Failure::from(error) {
            Failure::OutcomeUnknown(text) => Failure::OutcomeUnknown(of_lines(text)),
            Failure::Connect(text) => Failure::Connect(of_lines(text)),
            other => other,
        })?;
        for (line, result) in (first..).zip(results) {
            match result {
                Ok(produced) => {
                    self.tally.published += 1;
                    self.tally.duplicates += u64::from(produced.duplicate);
                    self.tell(&produced)?;
                }
                Err(error) => {
                    self.tally.refused += 1;
                    if self.out.json || self.tally.refused <= REFUSALS_SHOWN {
                        let failure = lines::at(line, *error);
                        self.bar.suspend(|| failure.say(self.out.json));
                    }
                }
            }
        }
        self.flush()
    }

    /// Programs get a line for each message; a person gets the summary.
    fn tell(&mut self, produced: &Produced) -> Result<(), Failure> {
        if !self.out.json || !self.stdout_open {
            return Ok(());
        }
        let written = self.out.object(&PublishedLine {
            id: produced.id.to_string(),
            destination: self.destination,
            due_ms: produced.id.due_ms(),
        });
        self.check(written)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if !self.stdout_open {
            return Ok(());
        }
        let flushed = self.out.flush();
        self.check(flushed)
    }

    fn check(&mut self, written: io::Result<()>) -> Result<(), Failure> {
        self.stdout_open &= written.is_ok();
        Ok(written.or_else(ignore_broken_pipe)?)
    }

    fn summary(&self, started: Instant) {
        if self.out.json {
            return;
        }
        let Tally { published, duplicates, refused } = self.tally;
        let seconds = started.elapsed().as_secs_f64();
        let rate = (published as f64 / seconds.max(0.001)) as u64;
        let mut text = format!(
            "published {} to {} in {seconds:.1} s ({} a second)",
            count_of(published, "message"),
            self.destination,
            show_count(rate)
        );
        if duplicates > 0 {
            text.push_str(&format!(", {} of them before", show_count(duplicates)));
        }
        if refused > 0 {
            text.push_str(&format!(", {} refused", count_of(refused, "message")));
        }
        eprintln!("{text}");
    }
}

/// The results of the oldest batch on its way.
async fn front(sent: &mut VecDeque<Sent>) -> Result<Results, Error> {
    match sent.front_mut() {
        // A task that panicked has no results; that is a bug here, and its outcome unknown.
        Some(batch) => (&mut batch.results).await.unwrap_or(Err(Error::OutcomeUnknown)),
        None => pending().await,
    }
}
