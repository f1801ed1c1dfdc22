//! Bytes to a socket, within a time; and its end.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::timeout;

/// Small frames are written together up to here, bytes.
pub(super) const GROUP_BYTES: usize = 64 * 1024;

/// How long a closed connection is listened to, so that the peer can read our last words: closing
/// a socket with unread bytes resets it, and a reset overtakes what was written. Also what the last
/// words may take to be written.
pub(super) const LINGER: Duration = Duration::from_millis(1000);

/// The result of writing, or `TimedOut` when it takes longer than `stall`.
pub(super) async fn within<T>(
    stall: Duration,
    write: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match timeout(stall, write).await {
        Ok(written) => written,
        Err(_) => {
            let text = format!("the peer did not read for {} ms", stall.as_millis());
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        }
    }
}

/// Says that nothing more comes, and waits a moment for the peer to have read everything.
pub(super) async fn hang_up(half: &mut OwnedWriteHalf) {
    if half.shutdown().await.is_ok() {
        discard(half.as_ref()).await;
    }
}

/// The same, for a whole stream.
pub(in crate::front) async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_ok() {
        discard(&stream).await;
    }
}

async fn discard(stream: &TcpStream) {
    let all = async {
        while stream.readable().await.is_ok() {
            // Here, and not outside: what lives while we wait lives in every connection's future.
            let mut scrap = [0; 512];
            match stream.try_read(&mut scrap) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return,
            }
        }
    };
    // Whether the peer finished or the time is over: the socket is closed now.
    let _ = timeout(LINGER, all).await;
}
