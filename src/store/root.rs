//! The root: the one file that says what the store consists of. `docs/format.md`, section 2.

use std::path::Path;

use crate::env::{Disk, OpenMode};
use crate::store::error::{Context, StoreError};
use crate::store::layout::{ROOT, ROOT_NEW};
use crate::store::sealed::{Fields, read_sealed, seal};
use crate::store::{Family, SegmentMeta};

/// Version of the root this code writes, and the highest it reads.
pub(super) const VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"PDSTROOT";

/// Numbers of files, segments of the journal and totals end here: so that adding to them does not overflow.
const NUMBER_MAX: u64 = 1 << 62;

/// What the store consists of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Root {
    /// The number the next file gets.
    pub(super) next_number: u64,
    /// The journal is needed from this segment on.
    pub(super) journal_from: u64,
    /// `None` until the first commit.
    pub(super) checkpoint: Option<CheckpointName>,
    pub(super) totals: Totals,
    /// In the order of [`Family::ALL`].
    pub(super) families: [FamilyRoot; Family::ALL.len()],
}

/// Which file the checkpoint is, and how it can be told from another of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CheckpointName {
    pub(super) number: u64,
    /// Length of the file, bytes.
    pub(super) bytes: u64,
    /// The checksum in its header.
    pub(super) crc: u32,
}

/// What was done since the store was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Bytes of segment files that flushes wrote.
    pub(super) flushed_bytes: u64,
    /// Bytes of segment files that merges wrote.
    pub(super) merged_bytes: u64,
    pub(super) merges: u64,
    /// Segment files that went unread because everything in them was dead.
    pub(super) dropped_files: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FamilyRoot {
    /// Every row up to and including this key is dead, whether it is still in a file or not.
    pub(super) floor: Option<Box<[u8]>>,
    /// Oldest first.
    pub(super) runs: Vec<RunRoot>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunRoot {
    /// From the series of the file numbers, so that no two runs ever have the same.
    pub(super) number: u64,
    pub(super) level: u32,
    /// Ascending and disjoint in their keys; never empty.
    pub(super) segments: Vec<SegmentMeta>,
}

impl Root {
    /// Replaces the root file. Everything it names must be durable, and is after that.
    ///
    /// # Errors
    /// What the disk says; see [`ReplaceError::certain`] for which root a restart would find.
    pub(super) fn replace(&self, disk: &dyn Disk, dir: &Path) -> Result<(), ReplaceError> {
        let new = dir.join(ROOT_NEW);
        let bytes = self.encode();
        let prepare = || -> Result<(), StoreError> {
            let file = disk.open(&new, OpenMode::Write).context("create", &new)?;
            file.set_len(0).context("cut", &new)?;
            file.write_at(&bytes, 0).context("write", &new)?;
            file.sync_data().context("sync", &new)?;
            // The names of the files before the root that needs them.
            disk.sync_dir(dir).context("sync", dir)
        };
        prepare().map_err(|error| ReplaceError { error, certain: true })?;
        let path = dir.join(ROOT);
        let switch = || -> Result<(), StoreError> {
            disk.rename(&new, &path).context("rename", &new)?;
            disk.sync_dir(dir).context("sync", dir)
        };
        switch().map_err(|error| ReplaceError { error, certain: false })
    }

    /// Reads the root file; `None` when there is none.
    pub(super) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = dir.join(ROOT);
        if !disk.exists(&path).context("look for", &path)? {
            return Ok(None);
        }
        let file = disk.open(&path, OpenMode::Read).context("open", &path)?;
        let sealed = read_sealed(&*file, &path, MAGIC, VERSION)?;
        let mut fields = Fields::new(&sealed.body, sealed.body_offset, &path);
        let root = Self::decode(&mut fields)?;
        fields.end()?;
        Ok(Some(root))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let mut put = |number: u64| body.extend_from_slice(&number.to_le_bytes());
        put(self.next_number);
        put(self.journal_from);
        let checkpoint = self.checkpoint.unwrap_or(CheckpointName { number: 0, bytes: 0, crc: 0 });
        put(checkpoint.number);
        put(checkpoint.bytes);
        put(u64::from(checkpoint.crc));
        let Totals { flushed_bytes, merged_bytes, merges, dropped_files } = self.totals;
        [flushed_bytes, merged_bytes, merges, dropped_files].into_iter().for_each(put);
        for (family, own) in Family::ALL.into_iter().zip(&self.families) {
            body.push(family as u8);
            put_key(&mut body, own.floor.as_deref().unwrap_or_default());
            put_count(&mut body, own.runs.len());
            for run in &own.runs {
                body.extend_from_slice(&run.number.to_le_bytes());
                body.extend_from_slice(&run.level.to_le_bytes());
                put_count(&mut body, run.segments.len());
                run.segments.iter().for_each(|meta| put_meta(&mut body, meta));
            }
        }
        seal(MAGIC, VERSION, &body)
    }

    fn decode(fields: &mut Fields<'_>) -> Result<Self, StoreError> {
        let mut root = Self { next_number: fields.u64()?, ..Self::default() };
        root.journal_from = fields.u64()?;
        let far = root.next_number.max(root.journal_from) >= NUMBER_MAX;
        fields.check(!far, "a number that no store gets to")?;
        let [number, bytes, crc] = [fields.u64()?, fields.u64()?, fields.u64()?];
        if number != 0 {
            fields.check(number < root.next_number, "a file number that was never given")?;
            let crc = u32::try_from(crc).map_err(|_| fields.bad("a checksum over 32 bits"))?;
            root.checkpoint = Some(CheckpointName { number, bytes, crc });
        }
        let Totals { flushed_bytes, merged_bytes, merges, dropped_files } = &mut root.totals;
        for total in [flushed_bytes, merged_bytes, merges, dropped_files] {
            *total = fields.u64()?;
            fields.check(*total < NUMBER_MAX, "a total that no store gets to")?;
        }
        for (family, own) in Family::ALL.into_iter().zip(&mut root.families) {
            fields.check_next(family as u8, "not the family that comes next")?;
            own.floor = Some(fields.key()?).filter(|key| !key.is_empty()).map(Box::from);
            for _ in 0..fields.u32()? {
                own.runs.push(decode_run(fields, family, root.next_number)?);
            }
        }
        Ok(root)
    }

    /// All segment files.
    pub(super) fn segments(&self) -> impl Iterator<Item = (Family, &SegmentMeta)> {
        Family::ALL.into_iter().zip(&self.families).flat_map(|(family, own)| {
            own.runs.iter().flat_map(move |run| run.segments.iter().map(move |meta| (family, meta)))
        })
    }
}

/// A root that could not be replaced.
#[derive(Debug)]
pub(super) struct ReplaceError {
    pub(super) error: StoreError,
    /// Whether the old root is there for certain. Otherwise a restart may find either.
    pub(super) certain: bool,
}

fn put_count(body: &mut Vec<u8>, count: usize) {
    // Runs and files are far fewer; a root of that size could not be written before that.
    body.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_key(body: &mut Vec<u8>, key: &[u8]) {
    // Keys have at most 255 bytes, the segment writer sees to it.
    body.push(u8::try_from(key.len()).unwrap_or(u8::MAX));
    body.extend_from_slice(key);
}

fn put_meta(body: &mut Vec<u8>, meta: &SegmentMeta) {
    let SegmentMeta { number, bytes, payload_bytes, rows, tombstones, .. } = *meta;
    let SegmentMeta { tail_min, tail_max, .. } = *meta;
    for field in [number, bytes, payload_bytes, rows, tombstones, tail_min, tail_max] {
        body.extend_from_slice(&field.to_le_bytes());
    }
    put_key(body, &meta.first_key);
    put_key(body, &meta.last_key);
}

fn decode_run(fields: &mut Fields<'_>, family: Family, next: u64) -> Result<RunRoot, StoreError> {
    let number = fields.u64()?;
    fields.check(number < next, "a run number that was never given")?;
    let level = fields.u32()?;
    let count = fields.u32()?;
    fields.check(count > 0, "a run without files")?;
    let mut segments: Vec<SegmentMeta> = Vec::new();
    for _ in 0..count {
        let meta = decode_meta(fields, family)?;
        fields.check(meta.number < next, "a file number that was never given")?;
        let behind = segments.last().is_none_or(|before| before.last_key < meta.first_key);
        fields.check(behind && meta.first_key <= meta.last_key, "files out of order")?;
        segments.push(meta);
    }
    Ok(RunRoot { number, level, segments })
}

fn decode_meta(fields: &mut Fields<'_>, family: Family) -> Result<SegmentMeta, StoreError> {
    let meta = SegmentMeta {
        family,
        number: fields.u64()?,
        bytes: fields.u64()?,
        payload_bytes: fields.u64()?,
        rows: fields.u64()?,
        tombstones: fields.u64()?,
        tail_min: fields.u64()?,
        tail_max: fields.u64()?,
        first_key: fields.key()?.into(),
        last_key: fields.key()?.into(),
    };
    // So that no sum over all files overflows.
    let sizes = [meta.bytes, meta.payload_bytes, meta.rows];
    let sane = sizes.into_iter().all(|size| size < 1 << 40) && meta.tombstones <= meta.rows;
    fields.check(sane, "sizes that no file has")?;
    Ok(meta)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::SimDisk;
    use crate::store::sealed::HEADER_BYTES;

    fn dir() -> &'static Path {
        Path::new("/d")
    }

    fn segment(family: Family, number: u64) -> SegmentMeta {
        SegmentMeta {
            number,
            family,
            rows: 7,
            tombstones: 2,
            bytes: 1 << 39,
            payload_bytes: 900,
            first_key: (2 * number).to_be_bytes().into(),
            last_key: (2 * number + 1).to_be_bytes().into(),
            tail_min: 1,
            tail_max: u64::MAX,
        }
    }

    fn sample() -> Root {
        let mut root = Root { next_number: 40, journal_from: 17, ..Root::default() };
        root.checkpoint = Some(CheckpointName { number: 9, bytes: 100, crc: u32::MAX });
        root.totals.merges = 5;
        root.families[0].floor = Some(vec![1; 255].into());
        for (family, own) in Family::ALL.into_iter().zip(&mut root.families) {
            for (number, level) in [(3, 1), (39, 0)] {
                let segments = [number - 2, number - 1].map(|number| segment(family, number));
                own.runs.push(RunRoot { number, level, segments: segments.into() });
            }
        }
        root
    }

    fn disk() -> SimDisk {
        let disk = SimDisk::new();
        disk.create_dir_all(dir()).unwrap();
        disk
    }

    #[test]
    fn a_root_is_read_as_it_was_written() {
        let disk = disk();
        assert_eq!(Root::read(&disk, dir()).unwrap(), None);
        for root in [sample(), Root { next_number: 1, ..Root::default() }] {
            root.replace(&disk, dir()).unwrap();
            assert_eq!(Root::read(&disk, dir()).unwrap(), Some(root));
        }
    }

    /// Goal: a root whose numbers nobody gets to is refused: the next one would have a number that
    /// cannot be read, or none. Method: the last number that is sound, and the next, in each place.
    #[test]
    fn numbers_have_an_end() {
        let changes: [fn(&mut Root, u64); 6] = [
            |root, number| root.next_number = number,
            |root, number| root.journal_from = number,
            |root, number| root.totals.flushed_bytes = number,
            |root, number| root.totals.merged_bytes = number,
            |root, number| root.totals.merges = number,
            |root, number| root.totals.dropped_files = number,
        ];
        let disk = disk();
        for (at, change) in changes.into_iter().enumerate() {
            for (number, sound) in [(NUMBER_MAX - 1, true), (NUMBER_MAX, false)] {
                let mut root = sample();
                change(&mut root, number);
                root.replace(&disk, dir()).unwrap();
                assert_eq!(Root::read(&disk, dir()).is_ok(), sound, "{at}: {number}");
            }
        }
    }

    #[test]
    fn a_newer_root_is_told_from_damage() {
        let (disk, body) = (disk(), sample().encode().split_off(HEADER_BYTES));
        put(&disk, &seal(MAGIC, VERSION + 1, &body));
        let newer = Root::read(&disk, dir());
        assert!(matches!(newer, Err(StoreError::NewerVersion { found: 2, supported: 1, .. })));
    }

    fn put(disk: &SimDisk, bytes: &[u8]) {
        let file = disk.open(&dir().join(ROOT), OpenMode::Write).unwrap();
        file.set_len(0).unwrap();
        file.write_at(bytes, 0).unwrap();
    }

    /// Goal: a body that nobody of us wrote is an error or a root, never a panic, also under a
    /// checksum that is right. Method: each byte of a root gets other values, and each end.
    #[test]
    fn a_strange_body_never_panics() {
        let (disk, body) = (disk(), sample().encode().split_off(HEADER_BYTES));
        let read = |body: &[u8]| {
            put(&disk, &seal(MAGIC, VERSION, body));
            match Root::read(&disk, dir()) {
                Ok(root) => root,
                Err(StoreError::Corrupt { offset, .. }) => {
                    assert!(offset <= (HEADER_BYTES + body.len()) as u64);
                    None
                }
                Err(error) => panic!("{error}"),
            }
        };
        for at in 0..body.len() {
            assert_eq!(read(&body[..at]), None);
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut strange = body.clone();
                strange[at] = value;
                read(&strange);
            }
        }
        assert_eq!(read(&[&body[..], &[0]].concat()), None);
        assert_eq!(read(&body), Some(sample()));
    }
}
