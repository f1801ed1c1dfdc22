//! Reads one segment file from front to back in large pieces.

use std::path::{Path, PathBuf};

use crate::base::limits::FRAME_ALIGN;
use crate::codec::frame::{self, Frame, FrameError, FrameHeader, HEADER_BYTES};
use crate::codec::segment::{SegmentHeader, SegmentHeaderError, VERSION};
use crate::env::{Disk, DiskFile, OpenMode};
use crate::journal::error::{Context, JournalError};
use crate::journal::layout::segment_path;

/// Offset of the first frame of a segment.
pub(super) const FIRST_FRAME: u64 = FRAME_ALIGN as u64;

/// Bytes read at once, unless a frame is longer. Large enough for the disk to stream, small
/// enough for the bytes to be in the cache of the processor when they are checked.
const CHUNK_BYTES: u64 = 1 << 20;

pub(super) struct SegmentReader {
    pub(super) path: PathBuf,
    pub(super) segment: u64,
    /// Length of the file.
    pub(super) len: u64,
    file: Box<dyn DiskFile>,
    /// Bytes of the file from `base` on.
    window: Vec<u8>,
    base: u64,
}

impl SegmentReader {
    pub(super) fn open(disk: &dyn Disk, dir: &Path, segment: u64) -> Result<Self, JournalError> {
        let path = segment_path(dir, segment);
        let file = disk.open(&path, OpenMode::Read).context("open", &path)?;
        let len = file.len().context("read", &path)?;
        Ok(Self { path, segment, len, file, window: Vec::new(), base: 0 })
    }

    /// Reads the header; `None` when it is invalid.
    pub(super) fn header(&mut self) -> Result<Option<SegmentHeader>, JournalError> {
        let segment = self.segment;
        match SegmentHeader::decode(self.bytes(0, FRAME_ALIGN)?) {
            Ok(header) => Ok(Some(header).filter(|header| header.segment == segment)),
            Err(SegmentHeaderError::Invalid) => Ok(None),
            Err(SegmentHeaderError::Newer(found)) => Err(JournalError::NewerVersion {
                file: self.path.clone(),
                found,
                supported: VERSION,
            }),
        }
    }

    /// Reads the frame at an offset. The inner error says why there is no valid one.
    pub(super) fn frame(
        &mut self,
        offset: u64,
    ) -> Result<Result<Frame<'_>, FrameError>, JournalError> {
        let segment = self.segment;
        match frame::decode_header(self.bytes(offset, FRAME_ALIGN)?, segment) {
            Ok((_, payload_len)) => {
                let bytes = self.bytes(offset, HEADER_BYTES + payload_len)?;
                Ok(frame::verify(bytes, segment))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// The first valid frame at or after an offset, which is a multiple of 4096: where it is, its
    /// header, where it ends.
    pub(super) fn search(
        &mut self,
        mut offset: u64,
    ) -> Result<Option<(u64, FrameHeader, u64)>, JournalError> {
        while offset < self.len {
            if let Ok(frame) = self.frame(offset)? {
                return Ok(Some((offset, frame.header, offset + frame.file_bytes())));
            }
            offset += FRAME_ALIGN as u64;
        }
        Ok(None)
    }

    /// Allows reading earlier offsets again.
    pub(super) fn rewind(&mut self) {
        self.window.clear();
        self.base = 0;
    }

    /// Bytes of the file; fewer than asked for only at its end. Offsets go up.
    pub(super) fn bytes(&mut self, offset: u64, wanted: usize) -> Result<&[u8], JournalError> {
        let wanted = self.len.saturating_sub(offset).min(wanted as u64) as usize;
        let end = offset + wanted as u64;
        if wanted > 0 && (offset < self.base || end > self.base + self.window.len() as u64) {
            self.read_window(offset, wanted)?;
        }
        let from = offset.saturating_sub(self.base) as usize;
        Ok(self.window.get(from..from + wanted).unwrap_or_default())
    }

    fn read_window(&mut self, offset: u64, wanted: usize) -> Result<(), JournalError> {
        // What is in the window already moves to its front, at most one frame.
        let from = offset.checked_sub(self.base).map(|from| from as usize);
        match from.filter(|&from| from < self.window.len()) {
            Some(from) => {
                self.window.copy_within(from.., 0);
                self.window.truncate(self.window.len() - from);
            }
            None => self.window.clear(),
        }
        self.base = offset;
        let kept = self.window.len();
        let rest = self.len - offset;
        // Often the header is all that is wanted.
        let chunk = if offset == 0 { 0 } else { CHUNK_BYTES };
        self.window.resize(rest.min(chunk.max(wanted as u64)) as usize, 0);
        let read = self
            .file
            .read_at(&mut self.window[kept..], offset + kept as u64)
            .context("read", &self.path)?;
        self.window.truncate(kept + read);
        // Somebody cut the file while we read it; go on with what there is.
        if self.window.len() < wanted {
            self.len = offset + self.window.len() as u64;
        }
        Ok(())
    }
}
