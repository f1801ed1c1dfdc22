//! Goal: what is not synced is gone for the next process, what is synced is there, and the same
//! process sees everything. Method: a disk on a real directory; a second disk on the same directory
//! is the next process, and looks at what the first one left.

use std::collections::BTreeSet;

use tempfile::TempDir;

use super::*;

fn home() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The disk of one process; `home` holds its data in `d`.
fn process(home: &TempDir) -> VolatileDisk {
    std::fs::create_dir_all(home.path().join("d")).unwrap();
    VolatileDisk::new(&home.path().join("staging")).unwrap()
}

fn at(home: &TempDir, name: &str) -> PathBuf {
    home.path().join("d").join(name)
}

fn put(disk: &VolatileDisk, path: &Path, bytes: &[u8]) -> Box<dyn DiskFile> {
    let file = disk.open(path, OpenMode::Write).unwrap();
    file.write_at(bytes, 0).unwrap();
    file
}

fn get(disk: &VolatileDisk, path: &Path) -> Option<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read).ok()?;
    let mut bytes = vec![0; file.len().unwrap() as usize];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    Some(bytes)
}

fn names(disk: &VolatileDisk, home: &TempDir) -> Vec<String> {
    disk.list(&at(home, "")).unwrap()
}

/// A file that is durable.
fn durable(home: &TempDir, name: &str, bytes: &[u8]) {
    let disk = process(home);
    put(&disk, &at(home, name), bytes).sync_data().unwrap();
    disk.sync_dir(&at(home, "")).unwrap();
}

/// Goal: bytes need the sync of their file, names that of their directory, each by itself. Method:
/// all four choices.
#[test]
fn bytes_and_names_need_a_sync_each() {
    let home = home();
    let disk = process(&home);
    for (name, synced) in [("neither", false), ("name", false), ("both", true)] {
        let file = put(&disk, &at(&home, name), b"abc");
        if synced {
            file.sync_data().unwrap();
        }
        if name != "neither" {
            disk.sync_dir(&at(&home, "")).unwrap();
        }
        if name == "neither" {
            disk.remove(&at(&home, name)).unwrap();
        }
    }
    put(&disk, &at(&home, "bytes"), b"abc").sync_data().unwrap();
    put(&disk, &at(&home, "nothing"), b"abc");
    assert_eq!(names(&disk, &home), ["both", "bytes", "name", "nothing"]);
    assert_eq!(get(&disk, &at(&home, "nothing")).unwrap(), b"abc");
    let next = process(&home);
    assert_eq!(names(&next, &home), ["both", "name"]);
    assert_eq!(get(&next, &at(&home, "both")).unwrap(), b"abc");
    assert_eq!(get(&next, &at(&home, "name")).unwrap(), b"");
}

/// Goal: a durable write needs no sync, takes the length along, and leaves what others wrote
/// unsynced. Method: both kinds of handles on one file.
#[test]
fn a_durable_write_is_there() {
    let home = home();
    durable(&home, "f", b"");
    let disk = process(&home);
    let loose = disk.open(&at(&home, "f"), OpenMode::Bulk).unwrap();
    loose.allocate(3_000).unwrap();
    loose.write_at(&[1; 1_500], 0).unwrap();
    let firm = disk.open(&at(&home, "f"), OpenMode::Durable).unwrap();
    firm.write_at(&[2; 600], 1_000).unwrap();
    let next = get(&process(&home), &at(&home, "f")).unwrap();
    assert_eq!(next.len(), 3_000);
    assert_eq!((next[0], next[511]), (0, 0));
    assert!(next[1_000..1_600].iter().all(|byte| *byte == 2));
}

/// Goal: a rename, a removal and a second name are gone without a sync and whole with one. Method:
/// the replacement of one file by another, as roots are replaced, and a link.
#[test]
fn names_change_with_the_sync_of_their_directory() {
    let home = home();
    durable(&home, "root", b"old");
    for synced in [false, true] {
        let disk = process(&home);
        put(&disk, &at(&home, "new"), b"new").sync_data().unwrap();
        disk.rename(&at(&home, "new"), &at(&home, "root")).unwrap();
        disk.hard_link(&at(&home, "root"), &at(&home, "link")).unwrap();
        assert!(disk.hard_link(&at(&home, "root"), &at(&home, "link")).is_err());
        assert_eq!(names(&disk, &home), ["link", "root"]);
        assert_eq!(get(&disk, &at(&home, "root")).unwrap(), b"new");
        if synced {
            disk.sync_dir(&at(&home, "")).unwrap();
        }
        let next = process(&home);
        let wanted: &[u8] = if synced { b"new" } else { b"old" };
        assert_eq!(get(&next, &at(&home, "root")).unwrap(), wanted);
        assert_eq!(get(&next, &at(&home, "link")).is_some(), synced);
        assert!(!next.exists(&at(&home, "new")).unwrap());
    }
    let disk = process(&home);
    disk.remove(&at(&home, "root")).unwrap();
    assert!(!disk.exists(&at(&home, "root")).unwrap());
    assert!(disk.open(&at(&home, "root"), OpenMode::Read).is_err());
    put(&disk, &at(&home, "root"), b"third").sync_data().unwrap();
    assert_eq!(get(&process(&home), &at(&home, "root")).unwrap(), b"new");
}

/// Goal: what lies in a directory needs the directory's own name. Method: two directories, one in
/// the other, synced from the inside; then from the outside too; then removed.
#[test]
fn directories_come_and_go() {
    let home = home();
    let inner = at(&home, "a/b");
    for synced in [false, true] {
        let disk = process(&home);
        assert!(disk.open(&inner.join("f"), OpenMode::Write).is_err());
        disk.create_dir_all(&inner).unwrap();
        put(&disk, &inner.join("f"), b"abc").sync_data().unwrap();
        disk.sync_dir(&inner).unwrap();
        disk.sync_dir(&at(&home, "a")).unwrap();
        if synced {
            disk.sync_dir(&at(&home, "")).unwrap();
        }
        assert_eq!(disk.list(&at(&home, "a")).unwrap(), ["b"]);
        assert_eq!(disk.real_path(&inner).unwrap().file_name().unwrap(), "b");
        let next = process(&home);
        assert_eq!(get(&next, &inner.join("f")), synced.then(|| b"abc".to_vec()));
    }
    let disk = process(&home);
    assert!(disk.remove_dir(&inner).is_err());
    disk.remove(&inner.join("f")).unwrap();
    disk.remove_dir(&inner).unwrap();
    disk.sync_dir(&at(&home, "a")).unwrap();
    assert_eq!(process(&home).list(&at(&home, "a")).unwrap(), [""; 0]);
}

/// Goal: a handle reads what any handle wrote, whatever was synced in between, with lengths, cuts
/// and maps. Method: random work on two handles of one file against a plain vector, with writing
/// back in between; after a sync the next process sees the same.
#[test]
fn reads_see_everything() {
    let home = home();
    let mut random = Random::new(7, "work");
    for _ in 0..20 {
        let disk = process(&home);
        let path = at(&home, "f");
        let mut model = get(&disk, &path).unwrap_or_default();
        let one = disk.open(&path, OpenMode::Write).unwrap();
        let other = disk.open(&path, OpenMode::Durable).unwrap();
        for _ in 0..60 {
            let (offset, len) = (random.below(5_000) as usize, random.below(1_500) as usize);
            match random.below(6) {
                0 => {
                    one.set_len(offset as u64).unwrap();
                    model.resize(offset, 0);
                }
                1 => one.sync_data().unwrap(),
                2 => disk.write_back(&mut random),
                _ => {
                    let bytes = vec![random.next() as u8; len];
                    let file = if random.coin() { &one } else { &other };
                    file.write_at(&bytes, offset as u64).unwrap();
                    if len > 0 {
                        model.resize(model.len().max(offset + len), 0);
                        model[offset..offset + len].copy_from_slice(&bytes);
                    }
                }
            }
            assert_eq!(get(&disk, &path).unwrap(), model);
            let map = other.map(0, model.len() as u64).unwrap();
            assert_eq!((*map).as_ref(), &model[..]);
            assert!(one.map(1, model.len() as u64).is_err());
        }
        one.sync_data().unwrap();
        disk.sync_dir(&at(&home, "")).unwrap();
        assert_eq!(get(&process(&home), &path).unwrap(), model);
    }
}

/// Goal: what is written back by itself is a part: some sectors without others, the first names of
/// a directory without the last, and never a half rename. Method: seeds; what the next process
/// finds after each.
#[test]
fn a_random_part_is_written_back() {
    let (mut kept, mut found) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..60 {
        let home = home();
        durable(&home, "data", &[1; 8 * 512]);
        durable(&home, "root", b"old");
        let disk = process(&home);
        put(&disk, &at(&home, "data"), &[2; 8 * 512]);
        put(&disk, &at(&home, "new"), b"new").sync_data().unwrap();
        disk.rename(&at(&home, "new"), &at(&home, "root")).unwrap();
        let mut random = Random::new(seed, "write back");
        for _ in 0..3 {
            disk.write_back(&mut random);
        }
        let next = process(&home);
        let sectors = get(&next, &at(&home, "data")).unwrap();
        assert!(sectors.chunks(512).all(|one| one.iter().all(|byte| *byte == one[0])));
        kept.insert(sectors.chunks(512).filter(|one| one[0] == 2).count());
        let root = get(&next, &at(&home, "root")).unwrap();
        found.insert((root, next.exists(&at(&home, "new")).unwrap()));
    }
    assert!(kept.len() > 4 && kept.contains(&8), "{kept:?}");
    let old = (b"old".to_vec(), false);
    let between = (b"old".to_vec(), true);
    let new = (b"new".to_vec(), false);
    assert_eq!(found, BTreeSet::from([old, between, new]));
}

/// Goal: a server that is still there keeps others out, and the lock goes with its guard. Method:
/// two disks.
#[test]
fn a_lock_is_real() {
    let home = home();
    let disk = process(&home);
    let held = disk.lock(&at(&home, "LOCK")).unwrap();
    let refused = disk.lock(&at(&home, "LOCK")).err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    drop(held);
    disk.lock(&at(&home, "LOCK")).unwrap();
    assert!(disk.free_bytes(&at(&home, "")).unwrap() > 0);
}

/// Goal: syncs in random order and with pauses do the same, and the thread that writes back ends
/// with the disk. Method: a torn disk, a file of many sectors.
#[test]
fn a_torn_disk_keeps_its_promises() {
    let home = home();
    std::fs::create_dir_all(at(&home, "")).unwrap();
    let disk = VolatileDisk::torn(&home.path().join("staging"), 3).unwrap();
    let bytes: Vec<u8> = (0..200_000_u32).map(|index| (index / 512) as u8).collect();
    put(&disk, &at(&home, "f"), &bytes).sync_data().unwrap();
    disk.sync_dir(&at(&home, "")).unwrap();
    let shared = Arc::downgrade(&disk.shared);
    drop(disk);
    assert_eq!(get(&process(&home), &at(&home, "f")).unwrap(), bytes);
    while shared.upgrade().is_some() {
        std::thread::yield_now();
    }
}
