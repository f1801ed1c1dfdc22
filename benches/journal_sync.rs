//! How fast the three kinds of durable writes are on this machine, on recycled and on fresh files.
//!
//! `cargo bench --bench journal_sync [-- DIR]`; the files (64 MiB each) are made in DIR or the
//! directory for temporary files and removed afterwards. Prints medians and 99th percentiles.
//! Decides two defaults: the kind of `env::DurableWrites`, and whether a new segment is filled
//! with zeros before it is used.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use postdate::codec::frame::{BatchBuffer, FrameHeader, HEADER_BYTES};
use postdate::env::{Disk, DiskFile, DurableWrites, OpenMode, OsDisk, OsDiskOptions};

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
    let done = measure_all(&path);
    let _ = OsDisk::default().remove(&path);
    done
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
