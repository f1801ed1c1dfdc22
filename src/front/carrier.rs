//! What carries a STOMP session: bytes both ways, however they are framed outside.
use bytes::{Bytes, BytesMut};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
pub(crate) struct Greeting {
    pub(crate) token: Option<String>,
    pub(crate) peer: SocketAddr,
}
pub(crate) struct Carrier {
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    Normal,
    Protocol,
    GoingAway,
}
pub(crate) enum Reader {
    Tcp(OwnedReadHalf),
}
pub(crate) enum Writer {
    Tcp(OwnedWriteHalf),
}
impl Reader {
    pub(crate) async fn read(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Tcp(half) => {
                half.readable().await?;
                let mut buffer = BytesMut::with_capacity(16 * 1024);
                let n = half.read_buf(&mut buffer).await?;
                Ok((n > 0).then(|| buffer.freeze()))
            }
        }
    }
}
impl Writer {
    pub(crate) async fn write(&mut self, frames: &[Bytes], stall: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(half) => {
                let all = frames.concat();
                tokio::time::timeout(stall, half.write_all(&all))
                    .await
                    .map_err(|_| io::ErrorKind::TimedOut)?
            }
        }
    }
    pub(crate) async fn close(&mut self, _how: Closing) {
        match self {
            Self::Tcp(half) => {
                let _ = half.shutdown().await;
            }
        }
    }
}
