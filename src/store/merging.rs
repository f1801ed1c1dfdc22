//! Several runs read as one.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::store::{Cursor, OnDamage, Segment, StoreError, Value};

/// The rows of one run, one file behind the other. Only the file that is read costs memory.
pub(super) struct RunCursor {
    segments: std::vec::IntoIter<Arc<Segment>>,
    /// Where the first file is to be entered.
    from: Vec<u8>,
    on_damage: OnDamage,
    open: Option<Cursor>,
    /// The key of the row it stands on, at hand for comparing.
    key: Vec<u8>,
}

impl RunCursor {
    /// `segments` are ascending and disjoint. Reads nothing yet. Damaged blocks are an error, or
    /// skipped if reader and store agree on that.
    pub(super) fn new(mut segments: Vec<Arc<Segment>>, from: &[u8], on_damage: OnDamage) -> Self {
        let below = segments.partition_point(|segment| *segment.meta().last_key < *from);
        segments.drain(..below);
        let segments = segments.into_iter();
        Self { segments, from: from.to_vec(), on_damage, open: None, key: Vec::new() }
    }

    /// Goes to the next row; `false` at the end. After an error it may be called again, and no row
    /// is skipped.
    fn advance(&mut self) -> Result<bool, StoreError> {
        loop {
            if let Some(cursor) = &mut self.open {
                if let Some((key, _)) = cursor.next()? {
                    self.key.clear();
                    self.key.extend_from_slice(key);
                    return Ok(true);
                }
                self.open = None;
                self.from.clear();
            }
            let Some(segment) = self.segments.next() else { return Ok(false) };
            self.open = Some(match self.on_damage {
                OnDamage::Stop => segment.cursor_that_stops(&self.from),
                OnDamage::Skip => segment.cursor(&self.from),
            });
        }
    }

    /// The row it stands on.
    fn row(&self) -> Option<(&[u8], Value<'_>)> {
        self.open.as_ref()?.row()
    }
}

/// The rows of several runs in the order of their keys, tombstones included. Of rows with the same
/// key only that of the youngest run is seen.
pub(super) struct Merging {
    /// Oldest first.
    sources: Vec<RunCursor>,
    /// Sources whose row is yet to come: the least key on top, of equal keys the youngest. A
    /// binary heap.
    heap: Vec<usize>,
    /// The source whose row was given last.
    current: Option<usize>,
    /// Sources whose row is used up.
    stale: Vec<usize>,
}

impl Merging {
    /// Sources oldest first. Reads nothing yet.
    pub(super) fn new(sources: Vec<RunCursor>) -> Self {
        let stale = (0..sources.len()).collect();
        Self { sources, heap: Vec::new(), current: None, stale }
    }

    /// The next row. After an error it may be asked again, and no row is skipped.
    pub(super) fn next(&mut self) -> Result<Option<(&[u8], Value<'_>)>, StoreError> {
        if let Some(current) = self.current.take() {
            self.stale.push(current);
            while let Some(&top) = self.heap.first() {
                if self.sources[top].key != self.sources[current].key {
                    break;
                }
                self.pop();
                self.stale.push(top);
            }
        }
        while let Some(&source) = self.stale.last() {
            let alive = self.sources[source].advance()?;
            self.stale.pop();
            if alive {
                self.push(source);
            }
        }
        self.current = self.pop();
        Ok(self.row())
    }

    /// The row that was given last.
    fn row(&self) -> Option<(&[u8], Value<'_>)> {
        self.sources[self.current?].row()
    }

    /// Whether the row of one source comes before that of another.
    fn before(&self, one: usize, other: usize) -> bool {
        match self.sources[one].key.cmp(&self.sources[other].key) {
            Ordering::Less => true,
            Ordering::Equal => one > other,
            Ordering::Greater => false,
        }
    }

    fn push(&mut self, source: usize) {
        let mut at = self.heap.len();
        self.heap.push(source);
        while at > 0 {
            let parent = (at - 1) / 2;
            if !self.before(self.heap[at], self.heap[parent]) {
                break;
            }
            self.heap.swap(at, parent);
            at = parent;
        }
    }

    fn pop(&mut self) -> Option<usize> {
        if self.heap.is_empty() {
            return None;
        }
        let top = self.heap.swap_remove(0);
        let mut at = 0;
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let Some(&first) = self.heap.get(left) else { return Some(top) };
            let less = match self.heap.get(right) {
                Some(&second) if self.before(second, first) => right,
                _ => left,
            };
            if !self.before(self.heap[less], self.heap[at]) {
                return Some(top);
            }
            self.heap.swap(at, less);
            at = less;
        }
    }
}

/// Key and value of a live row.
pub type LiveRow<'a> = (&'a [u8], &'a [u8]);

/// The live rows of a family, ascending: of rows with the same key the newest, unless that is a
/// tombstone. Memory is for one file of each run at a time.
pub struct MergeCursor {
    rows: Merging,
}

impl MergeCursor {
    pub(super) fn new(sources: Vec<RunCursor>) -> Self {
        Self { rows: Merging::new(sources) }
    }

    /// The next row, key and value; `None` at the end. Nothing is read before the first call.
    ///
    /// # Errors
    /// [`StoreError::Io`] and [`StoreError::Corrupt`]. It may be asked again; no row is skipped but
    /// those of damaged blocks, see [`OnDamage::Skip`].
    #[expect(clippy::should_implement_trait, reason = "it lends what it gives")]
    pub fn next(&mut self) -> Result<Option<LiveRow<'_>>, StoreError> {
        while let Some((_, value)) = self.rows.next()? {
            if matches!(value, Value::Put(_)) {
                break;
            }
        }
        Ok(self.rows.row().and_then(|(key, value)| match value {
            Value::Put(value) => Some((key, value)),
            Value::Tombstone => None,
        }))
    }
}
