//! Goal: what can be wrong with a data directory or a disk gets a text a person can act on, and
//! loses nothing. Method: the real binary on directories damaged by hand.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Server, run};

fn refusal(dir: &Path) -> String {
    match Server::try_start(dir, &[]) {
        Ok(_) => panic!("the server started"),
        Err(text) => text,
    }
}

fn publish(server: &Server, count: usize) {
    for n in 0..count {
        let body = format!("message {n}");
        let args = ["publish", "/queue/q", &body, "--in", "1h", "--server", &server.address];
        let (code, _, error) = run(&args);
        assert_eq!(code, 0, "{error}");
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(dir.join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.file_name().unwrap().to_str().unwrap().starts_with("spare"))
        .collect();
    all.sort();
    all
}

#[test]
fn a_second_server_on_a_directory_is_refused_and_the_first_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let text = refusal(dir.path());
    assert!(text.contains("in use by another postdate"), "{text}");
    assert!(text.contains(dir.path().to_str().unwrap()), "{text}");
    publish(&server, 1);
}

#[test]
fn a_directory_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Server::start(dir.path(), &[]));
    let format = dir.path().join("FORMAT");
    #[expect(clippy::disallowed_methods, reason = "damage done on purpose")]
    fs::write(&format, "postdate 3\n").unwrap();
    let text = refusal(dir.path());
    assert!(text.contains("newer") && text.contains('3'), "{text}");
}

#[test]
fn a_directory_of_something_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    #[expect(clippy::disallowed_methods, reason = "somebody else's file")]
    fs::write(dir.path().join("thesis.txt"), "my only copy").unwrap();
    let text = refusal(dir.path());
    assert!(text.contains("not a postdate data directory"), "{text}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "it left things behind");
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    // Nobody, not even root, can make a directory there.
    let text = refusal(Path::new("/proc/postdate-data"));
    assert!(text.contains("/proc/postdate-data"), "{text}");
}

/// A durable byte that changed is told from a torn write, named, and nothing is thrown away.
#[test]
fn a_flipped_bit_is_named_with_file_and_offset() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), &[]);
    publish(&server, 3);
    assert_eq!(server.terminate().code(), Some(0));
    let segment = segments(dir.path()).pop().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    // The second frame: each begins on its own block after the header block.
    bytes[2 * 4096 + 100] ^= 1;
    #[expect(clippy::disallowed_methods, reason = "damage done on purpose")]
    fs::write(&segment, &bytes).unwrap();
    let text = refusal(dir.path());
    assert!(text.contains(segment.file_name().unwrap().to_str().unwrap()), "{text}");
    assert!(text.contains("8192"), "{text}");
    let (code, out, error) = run(&["verify", dir.path().to_str().unwrap()]);
    assert_eq!(code, 5, "{out}{error}");
    assert!(format!("{out}{error}").contains("8192"), "{out}{error}");
    assert_eq!(fs::read(&segment).unwrap(), bytes, "it changed what it refused");
    // Put right again, everything is there.
    bytes[2 * 4096 + 100] ^= 1;
    #[expect(clippy::disallowed_methods, reason = "damage undone")]
    fs::write(&segment, &bytes).unwrap();
    let server = Server::start(dir.path(), &[]);
    let (_, out, _) = run(&["stats", "--json", "--server", &server.address]);
    let stats: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(stats["scheduled"], 3);
}

#[test]
fn a_listener_that_others_can_reach_needs_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let (code, _, error) = run(&["serve", "--listen", "0.0.0.0:0", "--data-dir", path]);
    assert_ne!(code, 0);
    assert!(error.contains("--insecure"), "{error}");
}

/// A file system of its own, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where mounting is not allowed.
    fn new(dir: &Path, mib: u32) -> Option<Self> {
        let size = format!("size={mib}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(dir)
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then(|| Self(dir.to_path_buf()))
    }

    fn resize(&self, mib: u32) {
        let size = format!("remount,size={mib}m");
        let done = Command::new("mount").args(["-o", &size]).arg(&self.0).status();
        assert!(done.is_ok_and(|status| status.success()));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Goal: a full disk refuses new messages and nothing else, and publishing resumes by itself.
/// Method: a tmpfs of 240 MiB, filled by publishing; needs root, says so where it is not.
#[test]
fn a_full_disk_refuses_new_messages_but_not_cancels_and_acknowledgements() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::new(dir.path(), 240) else {
        println!("skipped: mounting a small tmpfs needs root");
        return;
    };
    let data = dir.path().join("data");
    // What is published is written out of memory too, to the same disk.
    let small = ["segment_mib=40", "memory_mib=16", "journal_tail_mib=24", "disk_reserve_mib=24"];
    let small: Vec<&str> = small.iter().flat_map(|setting| ["--set", setting]).collect();
    let server = Server::start(&data, &small);
    let at = ["--server", &server.address];
    let with = |args: &[&str]| run(&[args, &at[..]].concat());
    let (_, first, _) = with(&["publish", "/queue/q", "keep", "--in", "1h"]);
    let (_, ready, _) = with(&["publish", "/queue/ack", "acknowledge me"]);
    assert!(!ready.is_empty());
    // 900 kB a line, some at once: until it is refused.
    let mut state = 7u64;
    let mut line = || -> String {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'0' + (state >> 58) as u8)
        };
        (0..900_000).map(|_| next()).collect()
    };
    let lines = (0..300).map(|_| line()).collect::<Vec<_>>().join("\n");
    let args = ["publish", "/queue/big", "--lines", "-", "--in", "1h", "--json"];
    let all: Vec<&str> = args.iter().chain(&at).copied().collect();
    let (code, out, error) = support::run_with_input(&all, &lines);
    assert_eq!(code, 1, "300 large messages fit: {error}");
    assert!(error.contains("disk-full"), "{error}");
    let accepted = out.lines().filter(|line| line.contains("\"id\"")).count();
    assert!(accepted > 20, "only {accepted} were accepted");

    let id = first.split_whitespace().next().unwrap();
    let (code, out, error) = with(&["cancel", id]);
    assert_eq!((code, out.contains("cancelled")), (0, true), "{out}{error}");
    let (code, out, error) = with(&["subscribe", "/queue/ack", "--max", "1"]);
    assert_eq!((code, out.contains("acknowledge me")), (0, true), "{out}{error}");
    let (code, ..) = with(&["publish", "/queue/q", "refused"]);
    assert_eq!(code, 1);

    disk.resize(600);
    // It notices by itself; looked at until it does.
    let begun = std::time::Instant::now();
    while with(&["publish", "/queue/q", "again", "--in", "1h"]).0 != 0 {
        assert!(begun.elapsed().as_secs() < 20, "publishing did not resume");
    }
    let (_, out, _) = with(&["stats", "--json"]);
    let stats: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(stats["scheduled"].as_u64().unwrap() > accepted as u64, "{stats}");
    drop(server);
    let server = Server::start(&data, &small);
    let (_, out, _) = run(&["stats", "--json", "--server", &server.address]);
    let after: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(after["scheduled"], stats["scheduled"], "a restart after a full disk");
    drop(server);
}
