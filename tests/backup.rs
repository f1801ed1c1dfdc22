//! Goal: a backup of a server at work holds everything acknowledged before it was asked for, passes
//! `verify`, a server starts from it, and publishing goes on meanwhile. Method: the real binary with little
//! memory, so that it writes out and merges all the time; somebody who publishes without a pause;
//! two backups, one on the same file system and one on another.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postdate::base::id::MessageId;
use postdate::base::lifecycle::State;
use postdate::base::message::{Delay, Message};
use postdate::client::Client;
use serde_json::Value;
use support::{Server, run};

const SETTINGS: [&str; 6] =
    ["--set", "memory_mib=16", "--set", "journal_tail_mib=4", "--set", "disk_reserve_mib=0"];
/// Messages acknowledged before the first backup.
const BEFORE: usize = 30_000;
const BATCH: usize = 250;

/// Publishes until told to stop. The ids acknowledged, and the longest time a batch took.
async fn publish(
    server: String,
    so_far: Arc<std::sync::Mutex<Vec<MessageId>>>,
    stop: Arc<AtomicBool>,
) -> Duration {
    let client = Client::connect(&server).await.unwrap();
    let mut longest = Duration::ZERO;
    for round in 0u64.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let (to, delay) = match round % 3 {
            0 => ("/queue/ready", Delay::None),
            1 => ("/queue/later", Delay::After(3_600_000 + round as i64)),
            _ => ("/topic/news", Delay::None),
        };
        let body = |n: usize| format!("{round} {n} {}", "x".repeat(n % 400));
        let batch: Vec<_> = (0..BATCH).map(|n| Message::new(body(n)).with_delay(delay)).collect();
        let begun = Instant::now();
        let results = client.produce_batch(to, &batch).await.unwrap();
        longest = longest.max(begun.elapsed());
        so_far.lock().unwrap().extend(results.into_iter().map(|result| result.unwrap().id));
    }
    longest
}

fn back_up(server: &Server, target: &Path) -> Value {
    let target = target.to_str().unwrap();
    let (code, out, error) = run(&["backup", target, "--json", "--server", &server.address]);
    assert_eq!(code, 0, "{error}");
    serde_json::from_str(&out).unwrap()
}

fn verify(dir: &Path) -> Value {
    let (code, out, error) = run(&["verify", dir.to_str().unwrap(), "--json"]);
    assert_eq!(code, 0, "{out}{error}");
    serde_json::from_str(&out).unwrap()
}

/// Every one of these messages must be there.
async fn check(dir: &Path, ids: &[MessageId]) {
    assert_eq!(verify(dir)["damaged"].as_array().unwrap().len(), 0);
    let server = Server::start(dir, &SETTINGS);
    let client = Client::connect(&server.address).await.unwrap();
    for status in client.query(ids).await.unwrap() {
        assert!(matches!(status.state, State::Scheduled | State::Ready), "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_whole() {
    let dirs = tempfile::tempdir().unwrap();
    let (data, near) = (dirs.path().join("data"), dirs.path().join("copy/near"));
    // Mostly a file system of its own; where it is not, this is like the other.
    let elsewhere = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let far = elsewhere.path().join("far");
    let mut server = Server::start(&data, &SETTINGS);
    let (so_far, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
    let publisher =
        tokio::spawn(publish(server.address.clone(), Arc::clone(&so_far), stop.clone()));
    let acknowledged = || so_far.lock().unwrap().clone();
    while so_far.lock().unwrap().len() < BEFORE {
        tokio::task::yield_now().await;
    }
    let mut copies = Vec::new();
    for target in [&near, &far] {
        let before = acknowledged();
        let made = tokio::task::block_in_place(|| back_up(&server, target));
        assert!(made["files"].as_u64().unwrap() > 3, "{made}");
        copies.push((target, before));
        println!(
            "{} acknowledged since; {made}",
            acknowledged().len() - copies[copies.len() - 1].1.len()
        );
    }
    let (_, near_ids) = &copies[0];
    assert!(acknowledged().len() > near_ids.len(), "publishing stood still");
    stop.store(true, Ordering::SeqCst);
    println!("the longest batch took {:?}", publisher.await.unwrap());
    // What is shared with the copy goes with neither.
    let report = verify(&data);
    assert_eq!(report["server_running"], true);
    let (code, _, error) = run(&["backup", near.to_str().unwrap(), "--server", &server.address]);
    assert_eq!(code, 1);
    assert!(error.contains("is not empty"), "{error}");
    for (target, ids) in copies {
        check(target, &ids).await;
    }
    server.terminate();
    check(&data, &acknowledged()).await;
}
