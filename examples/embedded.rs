//! Postdate inside a program: no server, no socket.
//!
//! `cargo run --example embedded` opens a broker on a directory of its own, schedules a few
//! messages, and receives them as a stream and with a callback.

use std::sync::Arc;
use std::time::Duration;

use postdate::base::config::ShardConfig;
use postdate::client::{Client, Received, SubscribeOptions};
use postdate::env::{OsClock, OsDisk};
use postdate::shard::{self, ShardOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let data_dir = std::env::temp_dir().join(format!("postdate-embedded-{}", std::process::id()));
    let options = ShardOptions { data_dir: data_dir.clone(), config: ShardConfig::default() };
    let disk = Arc::new(OsDisk::default());
    let shard = shard::open(disk, Arc::new(OsClock), options, &mut |_, _| {})?;
    let client = Client::embedded(&shard.broker())?;

    // As a stream: one message after the other, in order of due time.
    let mut stream = client.subscribe(SubscribeOptions::new("/queue/reminders")).await?;
    for (text, ms) in [("third", 900), ("first", 300), ("second", 600)] {
        client.produce_after("/queue/reminders", text, Duration::from_millis(ms)).await?;
    }
    for _ in 0..3 {
        let Some(received) = stream.next().await else { break };
        let received = received?;
        println!("stream: {}", String::from_utf8_lossy(received.body()));
        stream.ack(&[received.id]).await?;
    }

    // With a callback: it acknowledges what returns Ok and rejects what returns Err.
    client.produce_delayed("/queue/calls", "ring", 1).await?;
    let mut calls = client.subscribe(SubscribeOptions::new("/queue/calls")).await?;
    let (done, finished) = tokio::sync::oneshot::channel();
    let mut done = Some(done);
    let callback = calls.for_each(async move |received: &Received| {
        println!("callback: {}", String::from_utf8_lossy(received.body()));
        if let Some(done) = done.take() {
            let _ = done.send(());
        }
        Ok::<(), String>(())
    });
    tokio::select! {
        ended = callback => ended?,
        _ = finished => {}
    }

    drop(client);
    shard.shutdown()?;
    std::fs::remove_dir_all(&data_dir)?;
    Ok(())
}
