//! Small files that are written once, whole, and read whole: a header that seals a body.
//!
//! Header, 24 bytes: magic (8), format version (4), crc32 of everything but itself (4), length of
//! the body (8). These bytes keep their meaning in every version.

use std::path::Path;

use crate::env::DiskFile;
use crate::store::error::{Context, StoreError};

/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 24;

/// A body whose checksum was right.
pub(super) struct Sealed {
    pub(super) body: Vec<u8>,
    /// Where in the file it begins.
    pub(super) body_offset: u64,
    /// The checksum in the header.
    pub(super) crc: u32,
}

/// Puts a header before a body.
pub(super) fn seal(magic: &[u8; 8], version: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(magic);
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(body);
    let crc = checksum(&bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The checksum that [`seal`] wrote.
pub(super) fn crc_of(sealed: &[u8]) -> u32 {
    le_u32(sealed, 12)
}

/// Reads a whole file and takes the header off.
///
/// # Errors
/// [`StoreError::Corrupt`] unless every byte is as it was written, [`StoreError::NewerVersion`].
pub(super) fn read_sealed(
    file: &dyn DiskFile,
    path: &Path,
    magic: &[u8; 8],
    version: u32,
) -> Result<Sealed, StoreError> {
    let corrupt = |offset, what: &str| StoreError::corrupt(path, offset, what);
    let len = file.len().context("measure", path)?;
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| corrupt(0, "too long"))?];
    let read = file.read_at(&mut bytes, 0).context("read", path)?;
    if read < bytes.len() || read < HEADER_BYTES {
        return Err(corrupt(read as u64, "it ends too early"));
    }
    if bytes[..8] != *magic {
        return Err(corrupt(0, "the magic is wrong"));
    }
    let crc = crc_of(&bytes);
    if crc != checksum(&bytes) {
        return Err(corrupt(12, "the checksum is wrong"));
    }
    let found = le_u32(&bytes, 8);
    if found > version {
        return Err(StoreError::NewerVersion { file: path.into(), found, supported: version });
    }
    let mut body_len = [0; 8];
    body_len.copy_from_slice(&bytes[16..24]);
    if u64::from_le_bytes(body_len) != len - HEADER_BYTES as u64 {
        return Err(corrupt(16, "the length is wrong"));
    }
    bytes.drain(..HEADER_BYTES);
    Ok(Sealed { body: bytes, body_offset: HEADER_BYTES as u64, crc })
}

fn le_u32(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..12]);
    hasher.update(&bytes[16..]);
    hasher.finalize()
}

/// Reads a body field by field; an error names file and offset.
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    offset: u64,
    path: &'a Path,
}

impl<'a> Fields<'a> {
    /// `offset` is where in the file the bytes begin.
    pub(super) fn new(bytes: &'a [u8], offset: u64, path: &'a Path) -> Self {
        Self { bytes, at: 0, offset, path }
    }

    pub(super) fn u64(&mut self) -> Result<u64, StoreError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, StoreError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A length byte and so many bytes.
    pub(super) fn key(&mut self) -> Result<&'a [u8], StoreError> {
        let [len] = self.array()?;
        self.take(usize::from(len))
    }

    /// The next byte must be this one.
    pub(super) fn check_next(&mut self, wanted: u8, what: &str) -> Result<(), StoreError> {
        let [found] = self.array()?;
        self.check(found == wanted, what)
    }

    /// The body must end here.
    pub(super) fn end(&self) -> Result<(), StoreError> {
        self.check(self.at == self.bytes.len(), "bytes behind the end")
    }

    /// An error unless it is so.
    pub(super) fn check(&self, so: bool, what: &str) -> Result<(), StoreError> {
        if so { Ok(()) } else { Err(self.bad(what)) }
    }

    /// The error for what was just read.
    pub(super) fn bad(&self, what: &str) -> StoreError {
        StoreError::corrupt(self.path, self.offset + self.at as u64, what)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], StoreError> {
        let found = self.bytes.get(self.at..self.at + len);
        let found = found.ok_or_else(|| self.bad("it ends too early"))?;
        self.at += len;
        Ok(found)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }
}
