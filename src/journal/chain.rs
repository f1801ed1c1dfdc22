//! The segments that are needed, as they lie there: which are missing, which headers are invalid.

use std::path::Path;

use crate::base::limits::FRAME_ALIGN;
use crate::codec::frame::GAP_BYTES_MAX;
use crate::codec::segment::SegmentHeader;
use crate::env::Disk;
use crate::journal::error::JournalError;
use crate::journal::reader::{FIRST_FRAME, SegmentReader};

/// A segment of the chain.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) segment: u64,
    /// Length of its file; `None` when the file is missing.
    pub(super) len: Option<u64>,
    /// Its header, or what is wrong with it.
    pub(super) header: Result<SegmentHeader, &'static str>,
}

impl Link {
    pub(super) fn missing(segment: u64) -> Self {
        Self { segment, len: None, header: Err("the segment is missing") }
    }

    /// Reads the header of a segment. That it names the one before does not count for the first.
    pub(super) fn read(
        disk: &dyn Disk,
        dir: &Path,
        segment: u64,
        first: bool,
    ) -> Result<Self, JournalError> {
        let mut reader = SegmentReader::open(disk, dir, segment)?;
        let header = match reader.header()? {
            None => Err("the segment header is invalid"),
            Some(header) if !first && !follows(&header) => {
                Err("the segment header does not name the one before")
            }
            Some(header) => Ok(header),
        };
        Ok(Self { segment, len: Some(reader.len), header })
    }
}

/// Whether a header says of the segment before what can be.
fn follows(header: &SegmentHeader) -> bool {
    header.previous.checked_add(1) == Some(header.segment)
        && (FIRST_FRAME..=GAP_BYTES_MAX).contains(&header.previous_end)
        && header.previous_end.is_multiple_of(FRAME_ALIGN as u64)
}

/// Bytes there are to read, as far as it is known.
pub(super) fn bytes(chain: &[Link]) -> u64 {
    let end = |at: usize, link: &Link| match chain.get(at + 1).map(|next| &next.header) {
        Some(Ok(next)) => next.previous_end,
        _ => link.len.unwrap_or(0),
    };
    chain.iter().enumerate().map(|(at, link)| end(at, link)).sum()
}

/// Number of the first frame of the chain. Where its header does not tell, it is concluded from what
/// comes first behind; then at least one frame is counted as lost in between.
pub(super) fn first_number(
    disk: &dyn Disk,
    dir: &Path,
    chain: &[Link],
) -> Result<u64, JournalError> {
    for (at, link) in chain.iter().enumerate() {
        let mut number = link.header.as_ref().ok().map(|header| (header.first_frame, at > 0));
        if number.is_none() && link.len.is_some() {
            let mut reader = SegmentReader::open(disk, dir, link.segment)?;
            let found = reader.search(FIRST_FRAME)?;
            number = found.map(|(offset, frame, _)| (frame.number, at > 0 || offset > FIRST_FRAME));
        }
        if let Some((number, lost)) = number {
            return Ok(number.saturating_sub(u64::from(lost)).max(1));
        }
    }
    Ok(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::frame::{BatchBuffer, FrameHeader};
    use crate::env::OpenMode;
    use crate::sim::SimDisk;

    const BLOCK: u64 = FRAME_ALIGN as u64;

    fn header(segment: u64, previous: u64, previous_end: u64) -> SegmentHeader {
        SegmentHeader { segment, previous, previous_end, first_frame: 7 }
    }

    fn link(segment: u64, len: Option<u64>, header: Option<SegmentHeader>) -> Link {
        Link { segment, len, header: header.ok_or("none") }
    }

    /// Goal: a header that says of the segment before what cannot be is not believed. Method: each number at
    /// its bound and one beyond.
    #[test]
    fn what_follows_names_the_one_before() {
        assert!(follows(&header(5, 4, BLOCK)));
        assert!(follows(&header(5, 4, GAP_BYTES_MAX)));
        for wrong in [
            header(5, 3, BLOCK),
            header(5, 5, BLOCK),
            header(0, u64::MAX, BLOCK),
            header(5, 4, 0),
            header(5, 4, FIRST_FRAME - BLOCK),
            header(5, 4, BLOCK + 1),
            header(5, 4, GAP_BYTES_MAX + BLOCK),
        ] {
            assert!(!follows(&wrong), "{wrong:?}");
        }
    }

    /// Goal: of the first segment it does not count. Method: one on a disk, read as the first and as another.
    #[test]
    fn the_first_need_not_follow() {
        let (disk, dir) = (SimDisk::new(), Path::new("/journal"));
        disk.create_dir_all(dir).unwrap();
        let mut block = [0; FRAME_ALIGN];
        header(5, 3, BLOCK).encode(&mut block);
        let path = crate::journal::layout::segment_path(dir, 5);
        disk.open(&path, OpenMode::Write).unwrap().write_at(&block, 0).unwrap();
        assert_eq!(Link::read(&disk, dir, 5, true).unwrap().header, Ok(header(5, 3, BLOCK)));
        assert!(Link::read(&disk, dir, 5, false).unwrap().header.is_err());
    }

    #[test]
    fn bytes_end_where_the_next_one_says() {
        let chain = [
            link(1, Some(10 * BLOCK), Some(header(1, 0, 0))),
            link(2, Some(10 * BLOCK), Some(header(2, 1, 3 * BLOCK))),
            link(3, None, None),
            link(4, Some(5 * BLOCK), Some(header(4, 3, 2 * BLOCK))),
        ];
        assert_eq!(bytes(&chain), (3 + 10 + 2 + 5) * BLOCK);
        assert_eq!(bytes(&[]), 0);
    }

    /// Goal: the first number is what the first header says, or one less than what comes behind a loss.
    #[test]
    fn the_first_number_is_concluded() {
        let (disk, dir) = (SimDisk::new(), Path::new("/journal"));
        let number = |chain: &[Link]| first_number(&disk, dir, chain).unwrap();
        let seven = || link(2, Some(BLOCK), Some(header(2, 1, BLOCK)));
        assert_eq!(number(&[]), 1);
        assert_eq!(number(&[seven()]), 7);
        assert_eq!(number(&[link(1, None, None), seven()]), 6);
    }

    /// Goal: without a header it is the number of the first frame, if that stands where the first one does.
    /// Method: a segment with one frame, there and a block behind; then a missing one before it.
    #[test]
    fn the_first_number_is_concluded_from_a_frame() {
        for (offset, first) in [(FIRST_FRAME, 7), (FIRST_FRAME + BLOCK, 6)] {
            let (disk, dir) = (SimDisk::new(), Path::new("/journal"));
            disk.create_dir_all(dir).unwrap();
            let path = crate::journal::layout::segment_path(dir, 1);
            let mut batch = BatchBuffer::new();
            let frame =
                batch.seal(&FrameHeader { segment: 1, number: 7, ..FrameHeader::default() });
            let file = disk.open(&path, OpenMode::Write).unwrap();
            file.write_at(frame, offset).unwrap();
            let chain = [link(1, Some(3 * BLOCK), None)];
            assert_eq!(first_number(&disk, dir, &chain).unwrap(), first);
            let [last] = chain;
            assert_eq!(first_number(&disk, dir, &[link(0, None, None), last]).unwrap(), 6);
        }
    }
}
