//! Bytes from a socket, with a buffer only while there are some.

use std::io;

use bytes::BytesMut;
use tokio::net::tcp::OwnedReadHalf;
use tokio::task::coop::consume_budget;

/// First and largest size of the pieces read at once; it follows the traffic.
const PIECE_BYTES: (usize, usize) = (512, 16 * 1024);

pub(super) struct Input {
    half: OwnedReadHalf,
    /// What was read and not taken.
    pub(super) buffer: BytesMut,
    piece: usize,
}

impl Input {
    pub(super) fn new(half: OwnedReadHalf, buffer: BytesMut) -> Self {
        Self { half, buffer, piece: PIECE_BYTES.0 }
    }

    /// Reads a piece and tells its size; 0 is the end. Cancel safe.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        // A busy peer leaves the others their turn.
        consume_budget().await;
        loop {
            if self.buffer.is_empty() {
                self.buffer = BytesMut::new();
            }
            self.half.readable().await?;
            self.buffer.reserve(self.piece);
            match self.half.try_read_buf(&mut self.buffer) {
                Ok(count) => {
                    if self.buffer.len() == self.buffer.capacity() {
                        self.piece = (self.piece * 4).min(PIECE_BYTES.1);
                    } else if count < self.piece / 4 {
                        self.piece = (self.piece / 2).max(PIECE_BYTES.0);
                    }
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}
