//! Goal: both directions are bounded, and every way a session may end is seen by everybody who waits.
//! Method: the session alone, without requests; virtual time.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::polled::{Polled, PolledReader, PolledWriter, SendError, Taken};
use crate::base::limits::SOCKJS_BUFFER_BYTES_MAX;
use crate::wire::sockjs::Reason;

const PATIENCE: Duration = Duration::from_secs(7);

fn held(room: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(room).try_acquire_owned().unwrap()
}

fn sides(session: &Arc<Polled>) -> (PolledReader, PolledWriter) {
    (PolledReader::new(Arc::clone(session)), PolledWriter::new(Arc::clone(session)))
}

async fn take(session: &Polled) -> Taken {
    poll_fn(|cx| session.poll_take(cx)).await
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_waits_for_its_place_and_gives_it_back() {
    let session = Polled::new();
    let (mut reader, _writer) = sides(&session);
    let room = Arc::new(Semaphore::new(10));
    let full = format!("[\"{}\"]", "x".repeat(SOCKJS_BUFFER_BYTES_MAX));
    session.send(full.as_bytes(), held(&room), PATIENCE).await.unwrap();
    let begun = Instant::now();
    let more = session.send(b"[\"y\"]", held(&room), PATIENCE).await;
    assert_eq!(more, Err(SendError::Full));
    assert_eq!(begun.elapsed(), PATIENCE);
    assert_eq!(room.available_permits(), 9, "what waits is held, what was refused is not");
    let more = session.send(b"[\"y\"]", held(&room), PATIENCE);
    let (sent, read) = tokio::join!(more, reader.read());
    assert_eq!((sent, read.unwrap().len()), (Ok(()), SOCKJS_BUFFER_BYTES_MAX));
    assert_eq!(reader.read().await, Some(Bytes::from_static(b"y")));
    assert_eq!(room.available_permits(), 10);
    drop(reader);
    assert_eq!(session.send(b"[\"z\"]", held(&room), PATIENCE).await, Err(SendError::Gone));
}

#[tokio::test(start_paused = true)]
async fn what_is_written_waits_for_somebody_to_receive() {
    let session = Polled::new();
    let (_reader, mut writer) = sides(&session);
    assert_eq!(take(&session).await, Taken::Open);
    let frame = [Bytes::from(vec![b'x'; SOCKJS_BUFFER_BYTES_MAX])];
    writer.write(&frame, PATIENCE).await.unwrap();
    let stalled = writer.write(&frame, PATIENCE).await.unwrap_err();
    assert_eq!(stalled.kind(), ErrorKind::TimedOut);
    let two = [Bytes::from_static(b"a"), Bytes::from_static(b"b")];
    let (written, first) = tokio::join!(writer.write(&two, PATIENCE), take(&session));
    written.unwrap();
    assert!(matches!(first, Taken::Strings(text) if text.len() == SOCKJS_BUFFER_BYTES_MAX + 2));
    assert_eq!(take(&session).await, Taken::Strings(b"\"a\",\"b\"".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn every_end_is_seen_by_all() {
    // By who serves it, also without a word: what was written still goes out.
    let session = Polled::new();
    let (mut reader, mut writer) = sides(&session);
    assert_eq!(take(&session).await, Taken::Open);
    writer.write(&[Bytes::from_static(b"a")], PATIENCE).await.unwrap();
    drop(writer);
    assert_eq!(reader.read().await, None);
    assert_eq!(take(&session).await, Taken::Strings(b"\"a\"".to_vec()));
    assert_eq!(take(&session).await, Taken::End(Reason::GoAway));

    // By a request that breaks off: what waits is given up, what came in is still read.
    let session = Polled::new();
    let room = Arc::new(Semaphore::new(1));
    let (mut reader, mut writer) = sides(&session);
    session.send(b"[\"in\"]", held(&room), PATIENCE).await.unwrap();
    writer.write(&[Bytes::from_static(b"out")], PATIENCE).await.unwrap();
    session.interrupt();
    assert_eq!(reader.read().await, Some(Bytes::from_static(b"in")));
    assert_eq!(reader.read().await, None);
    let written = writer.write(&[Bytes::from_static(b"more")], PATIENCE).await.unwrap_err();
    assert_eq!(written.kind(), ErrorKind::BrokenPipe);
    assert!(session.attach(), "nobody receives any more");
    assert_eq!(take(&session).await, Taken::Open);
    assert_eq!(take(&session).await, Taken::End(Reason::Interrupted));
}

#[tokio::test(start_paused = true)]
async fn a_session_is_abandoned_when_nobody_receives_for_so_long() {
    let session = Polled::new();
    let abandoned = session.until_abandoned(PATIENCE);
    tokio::pin!(abandoned);
    let hour = Duration::from_secs(3600);
    assert!(timeout(hour, &mut abandoned).await.is_err(), "somebody receives");
    session.detach();
    assert!(timeout(PATIENCE / 2, &mut abandoned).await.is_err());
    assert!(session.attach());
    assert!(!session.attach(), "one at a time");
    assert!(timeout(hour, &mut abandoned).await.is_err());
    session.detach();
    let begun = Instant::now();
    abandoned.await;
    assert_eq!(begun.elapsed(), PATIENCE);
}
