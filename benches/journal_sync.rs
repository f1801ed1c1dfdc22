//! How fast the three kinds of durable writes are on this machine, on recycled and on fresh files.
//!
//! Then how fast the journal itself appends and is read back. Prints medians and 99th percentiles.
//! Decides two defaults: the kind of `env::DurableWrites`, and whether a new segment is filled
//! with zeros before it is used.
//!
//! `cargo bench --bench journal_sync [-- DIR]`; the files are made in DIR or the directory for
//! temporary files, up to 700 MiB at once, and removed afterwards. With JOURNAL_ONLY set in the
//! environment only the second part runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use postdate::base::config::Durability;
use postdate::base::event::BatchMeta;
use postdate::codec::frame::{BatchBuffer, FrameHeader, HEADER_BYTES};
use postdate::env::{Disk, DiskFile, DurableWrites, OpenMode, OsDisk, OsDiskOptions};
use postdate::journal::{self, Journal, JournalError, JournalOptions};

const FILE_BYTES: u64 = 64 << 20;
const ROUNDS: u64 = 3;
const SIZES: [(usize, u64); 3] = [(4 << 10, 1500), (64 << 10, 600), (1 << 20, 60)];

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    // `cargo test --benches` runs this too, and must not wait for a measurement.
    if !arguments.any(|argument| argument == "--bench") {
        return Ok(());
    }
    let dir = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'))
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let path = dir.join(format!("journal-sync-bench-{}", std::process::id()));
    let done = if std::env::var_os("JOURNAL_ONLY").is_some() { Ok(()) } else { measure_all(&path) };
    let _ = OsDisk::default().remove(&path);
    done?;
    let journal = path.with_extension("journal");
    let done = measure_journal(&journal);
    let _ = std::fs::remove_dir_all(&journal);
    done.map_err(io::Error::other)
}

/// Appends 512 MiB in batches of a size, then reads them back.
fn measure_journal(dir: &Path) -> Result<(), JournalError> {
    for (payload, durability) in [
        (4_000, Durability::Os),
        (64_000, Durability::Os),
        (64_000, Durability::Always),
        (1_000_000, Durability::Always),
    ] {
        let options = JournalOptions { durability, ..JournalOptions::default() };
        let disk = Arc::new(OsDisk::default());
        let mut ignore = |_: &BatchMeta, _: &[u8], _| Ok(());
        let (mut journal, _) =
            journal::open(disk.clone(), dir, options, 0, &mut ignore, &mut |_, _| ())?;
        let mut batch = BatchBuffer::new();
        batch.extend(&vec![0x5A; payload]);
        let count = (512 << 20) / payload;
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let begin = Instant::now();
            journal.append(&BatchMeta::default(), &mut batch)?;
            times.push(begin.elapsed().as_nanos() as u64);
            journal.maintain(0)?;
        }
        times.sort_unstable();
        Box::new(journal).close()?;
        let begin = Instant::now();
        let (journal, recovered) =
            journal::open(disk, dir, options, 0, &mut ignore, &mut |_, _| ())?;
        let rate = recovered.payload_bytes as f64 / begin.elapsed().as_secs_f64() / 1e9;
        println!(
            "journal, {payload} byte batches, {durability:?}: append p50 {:.0} us, p99 {:.0} us; \
             read back at {rate:.1} GB/s",
            times[times.len() / 2] as f64 / 1e3,
            times[times.len() * 99 / 100] as f64 / 1e3,
        );
        drop(journal);
        let _ = std::fs::remove_dir_all(dir);
    }
    Ok(())
}

fn measure_all(path: &Path) -> io::Result<()> {
    println!("{:>8}  {:12} {:>10}  p50 us  p99 us    MB/s", "size", "kind", "file");
    for (size, count) in SIZES {
        for kind in [DurableWrites::DirectDsync, DurableWrites::Dsync, DurableWrites::Fdatasync] {
            let disk = OsDisk::new(OsDiskOptions { durable: kind });
            for state in ["fresh", "zero-filled", "recycled"] {
                let mut times = Vec::new();
                for _ in 0..ROUNDS {
                    let file = prepare(&disk, path, state)?;
                    pass(file.as_ref(), size, count, &mut times)?;
                    disk.remove(path)?;
                }
                times.sort_unstable();
                let at = |share: usize| times[times.len() * share / 100] as f64 / 1e3;
                let rate =
                    size as f64 * times.len() as f64 * 1e3 / times.iter().sum::<u64>() as f64;
                println!(
                    "{:>7}K  {:12} {state:>11} {:7.0} {:7.0} {rate:7.0}",
                    size >> 10,
                    format!("{kind:?}"),
                    at(50),
                    at(99),
                );
            }
        }
    }
    let disk = OsDisk::default();
    for state in ["fresh", "zero-filled"] {
        let mut times: Vec<f64> = Vec::new();
        for _ in 0..5 {
            let begin = Instant::now();
            prepare(&disk, path, state)?;
            times.push(begin.elapsed().as_secs_f64() * 1e3);
            disk.remove(path)?;
        }
        times.sort_unstable_by(f64::total_cmp);
        println!("to prepare a {} MiB file, {state}: {:.1} ms", FILE_BYTES >> 20, times[2]);
    }
    Ok(())
}

/// A preallocated file: never written, written with zeros, or written with something.
fn prepare(disk: &OsDisk, path: &Path, state: &str) -> io::Result<Box<dyn DiskFile>> {
    let file = disk.open(path, OpenMode::Write)?;
    file.allocate(FILE_BYTES)?;
    if state != "fresh" {
        let bytes = vec![if state == "recycled" { 0xA5 } else { 0 }; 1 << 20];
        for at in (0..FILE_BYTES).step_by(bytes.len()) {
            file.write_at(&bytes, at)?;
        }
    }
    file.sync_data()?;
    drop(file);
    disk.open(path, OpenMode::Durable)
}

fn pass(file: &dyn DiskFile, size: usize, count: u64, times: &mut Vec<u64>) -> io::Result<()> {
    let mut batch = BatchBuffer::new();
    batch.extend(&vec![0x5A; size - HEADER_BYTES]);
    for number in 0..count {
        let bytes = batch.seal(&FrameHeader { number, ..FrameHeader::default() });
        let begin = Instant::now();
        file.write_at(bytes, number * size as u64)?;
        times.push(begin.elapsed().as_nanos() as u64);
    }
    Ok(())
}
