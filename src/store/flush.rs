//! New rows on their way into the store.

use std::sync::Arc;

use crate::store::directory::{Directory, NewFiles, RunWriter, Written};
use crate::store::{Family, StoreError, Value};

/// What is written to the store before [`Store::commit`](super::Store::commit) makes it part of
/// it. Dropped without that, it removes its files.
pub struct Flush {
    directory: Arc<Directory>,
    files: NewFiles,
    open: Option<RunWriter>,
    written: Vec<(Family, Written)>,
}

impl Flush {
    pub(super) fn new(directory: Arc<Directory>) -> Self {
        let files = NewFiles::new(directory.clone());
        Self { directory, files, open: None, written: Vec::new() }
    }

    /// Writes a row. Families come in the order of their numbers, keys ascend strictly.
    ///
    /// # Errors
    /// [`StoreError::BadRow`] for a row out of order, and those of writing files. Drop the flush
    /// then.
    pub fn put(&mut self, family: Family, key: &[u8], value: Value<'_>) -> Result<(), StoreError> {
        if self.open.as_ref().is_none_or(|open| open.family() != family) {
            self.close()?;
            if self.written.last().is_some_and(|(last, _)| *last >= family) {
                return Err(StoreError::BadRow("its family was written before"));
            }
        }
        let directory = &self.directory;
        let open = self.open.get_or_insert_with(|| RunWriter::new(directory.clone(), family, 0));
        open.put(&mut self.files, key, value)
    }

    /// Bytes of its files so far, about.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let written: u64 = self.written.iter().map(|(_, written)| written.bytes).sum();
        written + self.open.as_ref().map_or(0, RunWriter::bytes)
    }

    /// Ends the last file. Everything is on stable storage then, but for the names.
    pub(super) fn finish(mut self) -> Result<(Vec<(Family, Written)>, NewFiles), StoreError> {
        self.close()?;
        Ok((self.written, self.files))
    }

    fn close(&mut self) -> Result<(), StoreError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let family = open.family();
        self.written.extend(open.finish()?.map(|written| (family, written)));
        Ok(())
    }
}
