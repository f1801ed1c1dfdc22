//! The data directory: lock, format, rights.

use std::path::Path;

use postdate::env::{Disk, OpenMode, OsDisk};
use postdate::journal::home::{DataDir, HomeError};
use postdate::sim::{FaultKind, Repeat, SimDisk, Survival};

const ROOT: &str = "/data/postdate";

fn open(disk: &SimDisk) -> Result<DataDir, HomeError> {
    DataDir::open(disk, Path::new(ROOT))
}

fn write_format(disk: &SimDisk, text: &str) {
    let file = disk.open(&Path::new(ROOT).join("FORMAT"), OpenMode::Write).unwrap();
    file.set_len(0).unwrap();
    file.write_at(text.as_bytes(), 0).unwrap();
}

#[test]
fn a_directory_is_made_held_and_given_back() {
    let disk = SimDisk::new();
    let home = open(&disk).unwrap();
    assert!(disk.exists(&home.journal()).unwrap());
    assert_eq!(disk.contents(&home.root().join("FORMAT")).unwrap(), b"postdate 2\n");
    let refused = open(&disk).err().unwrap();
    assert!(matches!(refused, HomeError::InUse(_)));
    assert!(refused.to_string().contains(ROOT) && refused.to_string().contains("another postdate"));
    assert!(DataDir::is_in_use(&disk, home.root()).unwrap());
    drop(home);
    assert!(!DataDir::is_in_use(&disk, Path::new(ROOT)).unwrap());
    disk.crash(Survival::None, 0);
    assert!(DataDir::check_format(&disk, Path::new(ROOT)).unwrap());
    open(&disk).unwrap();
}

#[test]
fn what_is_newer_damaged_foreign_or_read_only_is_told_apart() {
    let disk = SimDisk::new();
    drop(open(&disk).unwrap());
    write_format(&disk, "postdate 3\n");
    assert!(matches!(open(&disk), Err(HomeError::NewerVersion { found: 3, .. })));
    write_format(&disk, "postdate 1\n");
    let refused = open(&disk).err().unwrap();
    assert!(matches!(refused, HomeError::Unreleased { found: 1, .. }), "{refused}");
    assert!(refused.to_string().contains("development version"), "{refused}");
    for text in ["", "postdate 2", "postdate +2\n", "postdate 0\n", "postdate x\n", "other 1\n"] {
        write_format(&disk, text);
        assert!(matches!(open(&disk), Err(HomeError::BadFormat(_))), "{text:?}");
    }
    disk.remove(&Path::new(ROOT).join("FORMAT")).unwrap();
    assert!(matches!(open(&disk), Err(HomeError::Foreign { .. })));
    write_format(&disk, "postdate 2\n");
    disk.set_read_only(true);
    let refused = open(&disk).err().unwrap();
    assert!(matches!(refused, HomeError::ReadOnly { .. }), "{refused}");
    assert!(refused.to_string().contains(ROOT));
    let empty = SimDisk::new();
    empty.set_read_only(true);
    assert!(matches!(open(&empty), Err(HomeError::ReadOnly { .. })));
}

/// Goal: a crash or an error at any moment of the first start leaves a directory that the next
/// start takes. Method: every operation, every survival.
#[test]
fn the_first_start_may_be_cut_off_anywhere() {
    let clean = SimDisk::new();
    drop(open(&clean).unwrap());
    for at in 0..clean.operations() {
        for survival in Survival::ALL {
            let disk = SimDisk::new();
            disk.fail_at(at, FaultKind::CrashNow, Repeat::Once);
            assert!(open(&disk).is_err(), "operation {at}");
            disk.crash(survival, at);
            drop(open(&disk).unwrap());
            disk.crash(Survival::None, at);
            assert!(DataDir::check_format(&disk, Path::new(ROOT)).unwrap());
        }
        let disk = SimDisk::new();
        disk.fail_at(at, FaultKind::Eio, Repeat::Once);
        assert!(open(&disk).is_err(), "operation {at}");
        drop(open(&disk).unwrap());
        disk.crash(Survival::None, at);
        assert!(DataDir::check_format(&disk, Path::new(ROOT)).unwrap());
    }
}

#[test]
fn a_real_directory_works_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("a/b");
    let disk = OsDisk::default();
    let home = DataDir::open(&disk, &root).unwrap();
    assert!(matches!(DataDir::open(&disk, &root), Err(HomeError::InUse(_))));
    drop(home);
    DataDir::open(&disk, &root).unwrap();
}
