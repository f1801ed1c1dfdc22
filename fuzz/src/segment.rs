//! What is read back from disk: segments of the store.

use std::path::Path;
use std::sync::Arc;

use postdate::env::{Disk, OpenMode};
use postdate::sim::SimDisk;
use postdate::store::{Family, Owned, Scratch, Segment, SegmentOptions, SegmentWriter, Value};

/// What every segment here is called.
pub(crate) const NUMBER: u64 = 1;
/// Whose rows they are.
pub(crate) const FAMILY: Family = Family::Record;

const HEADER_BYTES: usize = 32;
const FOOTER_BYTES: usize = 640;

type Row = (Vec<u8>, Option<Vec<u8>>);

/// Bytes as the file of a segment, as they are and with every checksum repaired.
///
/// Whatever is found wrong is an error. What `verify` finds right is the same by cursor and by
/// look-up, and written again and read again.
pub fn segment(data: &[u8]) -> usize {
    try_file(data);
    let mut repaired = data.to_vec();
    repair(&mut repaired);
    try_file(&repaired)
}

fn path() -> &'static Path {
    Path::new("/segment")
}

fn try_file(bytes: &[u8]) -> usize {
    let disk = SimDisk::new();
    let file = disk.open(path(), OpenMode::Write).expect("an empty disk takes a file");
    file.write_at(bytes, 0).expect("a disk without bounds");
    let Ok(segment) = Segment::open(&disk, path(), NUMBER, FAMILY) else { return 0 };
    let segment = Arc::new(segment);
    let right = segment.verify(&mut |_, _, _| Ok(()), &mut |_| ()).is_empty();
    let mut scratch = Scratch::default();
    let Some(rows) = rows(&segment) else {
        assert!(!right, "a cursor fails where nothing is wrong");
        let _ = segment.get(&segment.meta().last_key, &mut scratch);
        return 0;
    };
    for (key, value) in &rows {
        let found = segment.get(key, &mut scratch);
        if right {
            let wanted = value.clone().map_or(Owned::Tombstone, |value| Owned::Put(value.into()));
            assert_eq!(found.expect("nothing is wrong"), Some(wanted));
        }
    }
    if !right {
        return 0;
    }
    assert_eq!(segment.meta().rows, rows.len() as u64);
    assert_eq!(written_again(&rows), rows);
    1 + rows.len()
}

/// All rows; `None` when an error comes first.
fn rows(segment: &Arc<Segment>) -> Option<Vec<Row>> {
    let mut rows = Vec::new();
    let mut cursor = segment.cursor(&[]);
    while let Some((key, value)) = cursor.next().ok()? {
        let value = match value {
            Value::Put(value) => Some(value.to_vec()),
            Value::Tombstone => None,
        };
        rows.push((key.to_vec(), value));
    }
    Some(rows)
}

fn written_again(rows: &[Row]) -> Vec<Row> {
    let disk = SimDisk::new();
    let options = SegmentOptions { block_bytes: 512, ..SegmentOptions::default() };
    let bytes = write(&disk, rows, options);
    assert_eq!(bytes.len() as u64, disk.used_bytes());
    let segment = Segment::open(&disk, path(), NUMBER, FAMILY).expect("as it was written");
    self::rows(&Arc::new(segment)).expect("as it was written")
}

/// The file of a segment.
pub(crate) fn write(disk: &SimDisk, rows: &[Row], options: SegmentOptions) -> Vec<u8> {
    let writer = SegmentWriter::create(disk, path(), FAMILY, NUMBER, options);
    let mut writer = writer.expect("an empty disk takes a file");
    for (key, value) in rows {
        let value = value.as_deref().map_or(Value::Tombstone, Value::Put);
        writer.put(key, value).expect("rows in order, within the bounds");
    }
    writer.finish().expect("a disk without bounds");
    disk.contents(path()).expect("it was written")
}

/// Makes header, checksums and the length in the footer right: they would be too hard to guess.
fn repair(file: &mut [u8]) {
    if file.len() < HEADER_BYTES + FOOTER_BYTES {
        return;
    }
    let bytes = file.len() as u64;
    let footer = file.len() - FOOTER_BYTES;
    for (at, magic) in [(0, b"PDSORTED"), (footer, b"PDSORTFT")] {
        file[at..at + 8].copy_from_slice(magic);
        file[at + 8..at + 12].copy_from_slice(&1u32.to_le_bytes());
        file[at + 16..at + 24].copy_from_slice(&NUMBER.to_le_bytes());
        file[at + 24] = FAMILY as u8;
    }
    file[footer + 56..footer + 64].copy_from_slice(&bytes.to_le_bytes());
    let index = number(file, footer + 32).min(footer);
    let blocks = (number(file, footer + 52) as u32 as usize).min(1000);
    // An entry: offset, length; a block: checksum, then what it covers.
    for block in 0..blocks {
        let Some(place) = file[index..footer].get(block * 4..).and_then(<[u8]>::first_chunk) else {
            break;
        };
        let entry = index + blocks * 4 + u32::from_le_bytes(*place) as usize;
        if entry + 12 > footer {
            break;
        }
        let offset = number(file, entry);
        let end = offset.saturating_add(number(file, entry + 8) as u32 as usize);
        if offset >= HEADER_BYTES && offset.saturating_add(4) < end && end <= index {
            let crc = salted(offset, &file[offset + 4..end]);
            file[offset..offset + 4].copy_from_slice(&crc.to_le_bytes());
        }
    }
    let crc = salted(index, &file[index..footer]);
    file[footer + 48..footer + 52].copy_from_slice(&crc.to_le_bytes());
    for range in [0..HEADER_BYTES, footer..file.len()] {
        let part = &mut file[range];
        let crc = crc32fast::hash(&[&part[..12], &part[16..]].concat());
        part[12..16].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Eight bytes, or as many as there are.
fn number(file: &[u8], at: usize) -> usize {
    let mut bytes = [0; 8];
    for (byte, from) in bytes.iter_mut().zip(&file[at..]) {
        *byte = *from;
    }
    u64::from_le_bytes(bytes) as usize
}

fn salted(offset: usize, bytes: &[u8]) -> u32 {
    let salt = [NUMBER.to_le_bytes(), (offset as u64).to_le_bytes()].concat();
    crc32fast::hash(&[&salt, bytes].concat())
}
