//! The simulated disk is itself checked: tests that stand on it must be able to trust it.

use std::path::Path;

use crate::env::{Disk, DiskFile, OpenMode};
use crate::sim::{FaultKind, Repeat, SimDisk, Survival};

fn disk_with_file(mode: OpenMode) -> (SimDisk, Box<dyn DiskFile>) {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/d")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let file = disk.open(Path::new("/d/f"), mode).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    (disk, file)
}

fn contents(disk: &SimDisk) -> Vec<u8> {
    disk.contents(Path::new("/d/f")).unwrap()
}

#[test]
fn only_synced_bytes_survive_for_certain() {
    let (disk, file) = disk_with_file(OpenMode::Write);
    file.write_at(b"one", 0).unwrap();
    file.sync_data().unwrap();
    file.write_at(b"two", 3).unwrap();
    assert_eq!(contents(&disk), b"onetwo");
    let all = disk.fork();
    all.crash(Survival::All, 1);
    assert_eq!(contents(&all), b"onetwo");
    disk.crash(Survival::None, 1);
    assert_eq!(contents(&disk), b"one");
    assert!(file.write_at(b"x", 0).is_err() && file.sync_data().is_err());
    assert!(file.read_at(&mut [0], 0).is_err());
}

#[test]
fn durable_writes_survive_and_the_one_cut_off_is_torn() {
    let (disk, file) = disk_with_file(OpenMode::Durable);
    file.write_at(&[1; 4096], 0).unwrap();
    disk.fail_at(disk.operations(), FaultKind::CrashNow, Repeat::Once);
    assert!(file.write_at(&[2; 4096], 4096).is_err());
    assert!(disk.list(Path::new("/d")).is_err());
    disk.crash(Survival::Torn, 3);
    let left = contents(&disk);
    assert_eq!(left[..4096], [1; 4096]);
    let torn: Vec<bool> = left[4096..].chunks(512).map(|sector| sector[0] == 2).collect();
    assert!(torn.contains(&true) && torn.len() <= 8);
}

#[test]
fn a_failed_sync_loses_what_was_pending_while_readers_see_it() {
    let (disk, file) = disk_with_file(OpenMode::Write);
    file.write_at(b"lost", 0).unwrap();
    disk.fail_at(disk.operations(), FaultKind::Eio, Repeat::Once);
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(contents(&disk), b"lost");
    disk.crash(Survival::All, 0);
    assert_eq!(contents(&disk), b"");
}

#[test]
fn names_last_from_the_directory_sync_on() {
    let (disk, file) = disk_with_file(OpenMode::Write);
    file.write_at(b"x", 0).unwrap();
    file.sync_data().unwrap();
    let (d, f, g) = (Path::new("/d"), Path::new("/d/f"), Path::new("/d/g"));
    disk.rename(f, g).unwrap();
    assert_eq!(disk.list(d).unwrap(), ["g"]);
    let undone = disk.fork();
    undone.crash(Survival::None, 0);
    assert_eq!(undone.list(d).unwrap(), ["f"]);
    disk.sync_dir(d).unwrap();
    disk.remove(g).unwrap();
    disk.crash(Survival::None, 0);
    assert_eq!(disk.list(d).unwrap(), ["g"]);
    assert_eq!(disk.contents(g).unwrap(), b"x");
}

#[test]
fn two_names_are_one_file_until_one_goes() {
    let (disk, file) = disk_with_file(OpenMode::Write);
    file.write_at(b"x", 0).unwrap();
    file.sync_data().unwrap();
    let (d, f, g) = (Path::new("/d"), Path::new("/d/f"), Path::new("/d/g"));
    disk.hard_link(f, g).unwrap();
    assert!(disk.hard_link(f, g).is_err());
    assert_eq!(disk.used_bytes(), 1);
    assert!(disk.remove_dir(d).is_err());
    let undone = disk.fork();
    undone.crash(Survival::None, 0);
    assert_eq!(undone.list(d).unwrap(), ["f"]);
    disk.remove(f).unwrap();
    disk.sync_dir(d).unwrap();
    disk.crash(Survival::None, 0);
    assert_eq!(disk.contents(g).unwrap(), b"x");
    disk.remove(g).unwrap();
    disk.remove_dir(d).unwrap();
    assert!(!disk.exists(d).unwrap());
}

#[test]
fn faults_strike_where_they_are_put() {
    let (disk, file) = disk_with_file(OpenMode::Write);
    let next = disk.operations();
    disk.fail_at(next + 1, FaultKind::Enospc, Repeat::Forever);
    file.write_at(b"a", 0).unwrap();
    assert_eq!(file.write_at(b"b", 1).unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    file.sync_data().unwrap();
    assert!(file.allocate(10).is_err());
    disk.fail_at(disk.operations(), FaultKind::ShortWrite, Repeat::Once);
    assert!(file.write_at(b"1234", 1).is_err());
    assert_eq!(contents(&disk), b"a12");
    disk.clear_faults();
    disk.set_capacity(Some(8));
    assert!(file.allocate(9).is_err());
    file.allocate(8).unwrap();
    assert_eq!(disk.free_bytes(Path::new("/")).unwrap(), 0);
    disk.fail_read_at(disk.reads(), Repeat::Once);
    assert!(file.read_at(&mut [0; 4], 0).is_err());
    disk.flip_bit(Path::new("/d/f"), 0, 1);
    let mut read = [0; 20];
    assert_eq!(file.read_at(&mut read, 0).unwrap(), 8);
    assert_eq!(&read[..3], b"c12");
    disk.set_read_only(true);
    let refused = disk.lock(Path::new("/d/L")).err().unwrap();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn the_same_seed_crashes_the_same_way() {
    let run = |seed| {
        let (disk, file) = disk_with_file(OpenMode::Write);
        for at in 0..16 {
            file.write_at(&[at as u8 + 1; 1024], at * 1024).unwrap();
        }
        disk.crash(Survival::Torn, seed);
        contents(&disk)
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn a_mapping_is_a_copy_and_fails_like_a_read() {
    let (disk, file) = disk_with_file(OpenMode::Write);
    file.write_at(b"sealed", 0).unwrap();
    let mapped = file.map(2, 4).unwrap();
    disk.remove(Path::new("/d/f")).unwrap();
    assert_eq!(mapped.as_ref().as_ref(), b"aled");
    assert!(file.map(2, 5).is_err() && file.map(u64::MAX, 2).is_err());
    disk.fail_read_at(disk.reads(), Repeat::Once);
    assert!(file.map(0, 1).is_err());
    assert!(file.map(0, 1).is_ok());
}
