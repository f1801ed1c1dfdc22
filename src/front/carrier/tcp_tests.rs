//! Goal: plain TCP carries the stream both ways, is bounded in time, and its last words arrive.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Carrier, Closing};

const LONG: Duration = Duration::from_secs(20);

async fn pair() -> (Carrier, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (Carrier::tcp(listener.accept().await.unwrap().0), peer)
}

#[tokio::test]
async fn bytes_go_both_ways_and_last_words_arrive() {
    let (mut carrier, mut peer) = pair().await;
    peer.write_all(b"SEND\n\n").await.unwrap();
    assert_eq!(carrier.reader.read().await.unwrap(), Some(Bytes::from_static(b"SEND\n\n")));
    // Much that comes at once comes in bounded pieces, without gap.
    let much = vec![b'x'; 300_000];
    let read = async {
        let mut count = 0;
        while count < much.len() {
            let piece = carrier.reader.read().await.unwrap().unwrap();
            assert!(piece.len() <= 32 * 1024 && piece.iter().all(|byte| *byte == b'x'));
            count += piece.len();
        }
        assert_eq!(count, much.len());
    };
    let (written, ()) = tokio::join!(peer.write_all(&much), read);
    written.unwrap();

    let frames = [Bytes::from_static(b"a\0"), Bytes::from(vec![b'b'; 100_000]), "\n".into()];
    assert!(carrier.writer.carries(b"\xff"));
    let talk = async {
        carrier.writer.write(&frames, LONG).await.unwrap();
        carrier.writer.write(&frames[2..], LONG).await.unwrap();
        // What the peer says meanwhile does not reset the connection under our last words.
        carrier.writer.close(Closing::Normal).await;
    };
    let listen = async {
        peer.write_all(b"not read any more").await.unwrap();
        let mut heard = Vec::new();
        peer.read_to_end(&mut heard).await.unwrap();
        drop(peer);
        heard
    };
    let ((), heard) = tokio::join!(talk, listen);
    assert_eq!(heard, [&frames.concat()[..], b"\n"].concat());
    // Reading what was said before the end, and then the end, is what a session does.
    while carrier.reader.read().await.unwrap().is_some() {}
}

#[tokio::test]
async fn a_peer_that_does_not_read_times_out() {
    let (mut carrier, _peer) = pair().await;
    let frame = [Bytes::from(vec![b'x'; 100_000])];
    let error = loop {
        if let Err(error) = carrier.writer.write(&frame, Duration::from_millis(100)).await {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}
