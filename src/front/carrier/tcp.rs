//! STOMP over a plain connection.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

use super::input::Input;
use super::output::{GROUP_BYTES, hang_up, within};

/// The incoming side.
pub(crate) struct TcpReader(Input);

/// The outgoing side.
pub(crate) struct TcpWriter(OwnedWriteHalf);

pub(super) fn split(stream: TcpStream) -> (TcpReader, TcpWriter) {
    let (read, write) = stream.into_split();
    (TcpReader(Input::new(read, BytesMut::new())), TcpWriter(write))
}

impl TcpReader {
    pub(super) async fn read(&mut self) -> io::Result<Option<Bytes>> {
        let count = self.0.fill().await?;
        Ok((count > 0).then(|| std::mem::take(&mut self.0.buffer).freeze()))
    }
}

impl TcpWriter {
    pub(super) async fn write(&mut self, frames: &[Bytes], stall: Duration) -> io::Result<()> {
        let mut group = Vec::new();
        for frame in frames {
            if group.len() + frame.len() > GROUP_BYTES && !group.is_empty() {
                within(stall, self.0.write_all(&group)).await?;
                group.clear();
            }
            if frame.len() >= GROUP_BYTES || frames.len() == 1 {
                within(stall, self.0.write_all(frame)).await?;
            } else {
                group.extend_from_slice(frame);
            }
        }
        within(stall, self.0.write_all(&group)).await
    }

    pub(super) async fn close(&mut self) {
        hang_up(&mut self.0).await;
    }
}
