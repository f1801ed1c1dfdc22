//! What a recovery policy makes of damage. It is gathered while reading; `quarantine.rs` carries it
//! out when everything was read.

use std::path::PathBuf;

use crate::codec::segment::SegmentHeader;

/// A place that is not as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What is wrong there.
    pub why: String,
}

/// Bytes to be kept aside before anything is changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Aside {
    /// A part of a segment file, to be copied: from, to. What is beyond the end of the file is not
    /// there.
    Part { segment: u64, from: u64, to: u64 },
    /// A whole segment file, to be moved.
    Whole { segment: u64 },
}

impl Aside {
    /// The segment that is to be moved whole.
    pub(super) fn whole(&self) -> Option<u64> {
        match *self {
            Self::Whole { segment } => Some(segment),
            Self::Part { .. } => None,
        }
    }
}

/// A gap frame to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Gap {
    pub(super) segment: u64,
    /// Where it begins.
    pub(super) offset: u64,
    /// Number of the first frame lost.
    pub(super) number: u64,
    /// Frames lost.
    pub(super) frames: u64,
    /// Bytes it stands for.
    pub(super) bytes: u64,
}

/// What is to be done so that the journal is sound again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Repairs {
    /// First of all.
    pub(super) asides: Vec<Aside>,
    /// Segments to be made in place of missing ones.
    pub(super) made: Vec<SegmentHeader>,
    /// Headers to be written over invalid ones.
    pub(super) headers: Vec<SegmentHeader>,
    /// Last of all.
    pub(super) gaps: Vec<Gap>,
}
