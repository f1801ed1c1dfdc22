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
