//! What broke other brokers, by the number it has in the list that `docs/stomp.md` answers.

use std::time::{Duration, Instant};

use postdate::wire::stomp::Command;
use tempfile::tempdir;

use crate::client::{Client, text};
use crate::support::Server;

/// Pitfalls 1 and 18: UNSUBSCRIBE right behind ACK does not lose it, an ACK behind UNSUBSCRIBE still counts,
/// and UNSUBSCRIBE is answered.
#[test]
fn pitfall_1_and_18_acknowledgements_around_unsubscribe() {
    let dir = tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::open(&server.stomp, "alice");
    client.subscribe("0", "/queue/a", "\nack:client-individual");
    for n in 0..3 {
        client.say(&format!("SEND\ndestination:/queue/a\n\n{n}\0"));
    }
    let messages: Vec<_> = (0..3).map(|_| client.message()).collect();
    let id = |n: usize| messages[n].get("ack").unwrap();
    client.say(&format!(
        "ACK\nid:{}\n\n\0UNSUBSCRIBE\nid:0\nreceipt:u\n\n\0ACK\nid:{}\nreceipt:a\n\n\0",
        id(0),
        id(1)
    ));
    assert_eq!(client.frame().get("receipt-id"), Some("u"));
    assert_eq!(client.frame().get("receipt-id"), Some("a"));
    client.subscribe("1", "/queue/a", "");
    let left = client.message();
    assert_eq!((text(&left), left.get("redelivered")), ("2", Some("true")));
    assert!(client.is_quiet(200));
}

/// Pitfall 1: a durable subscription is its user's; the same name and id lead another user elsewhere.
#[test]
fn pitfall_1_nobody_deletes_or_reads_the_durable_subscription_of_another() {
    let dir = tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let durable = "\ndurable:true\nack:client";
    let mut alice = Client::open(&server.stomp, "alice");
    alice.subscribe("d", "/topic/t", durable);
    alice.ask("DISCONNECT", "");
    let mut mallory = Client::open(&server.stomp, "mallory");
    mallory.subscribe("d", "/topic/t", durable);
    mallory.send("/topic/t", "", "for alice");
    mallory.message();
    mallory.ask("UNSUBSCRIBE\nid:d\ndurable:true\nx-queue-name:alice//d", "");
    let mut alice = Client::open(&server.stomp, "alice");
    alice.subscribe("d", "/topic/t", durable);
    assert_eq!(text(&alice.message()), "for alice");
}

/// Pitfall 3: a socket that dies in the middle loses nothing that was not written to it.
#[test]
fn pitfall_3_a_socket_that_dies_loses_nothing_unwritten() {
    const COUNT: usize = 4_000;
    for mode in ["auto", "client"] {
        let dir = tempdir().unwrap();
        let server = Server::start(dir.path(), &[]);
        let mut client = Client::open(&server.stomp, "alice");
        let body = "x".repeat(8_000);
        for n in 0..COUNT {
            client.say(&format!("SEND\ndestination:/queue/a\n\n{n} {body}\0"));
        }
        client.send("/queue/a", "", &format!("{COUNT} {body}"));
        let mut victim = Client::open(&server.stomp, "bob");
        victim.subscribe("0", "/queue/a", &format!("\nack:{mode}"));
        for _ in 0..5 {
            victim.message();
        }
        drop(victim);
        client.subscribe("0", "/queue/a", "\nprefetch-count:5000");
        let mut numbers: Vec<usize> = Vec::new();
        while numbers.last() != Some(&COUNT) || mode == "client" && numbers.len() <= COUNT {
            let message = client.message();
            numbers.push(text(&message).split(' ').next().unwrap().parse().unwrap());
        }
        numbers.sort_unstable();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "a gap in {mode}");
        if mode == "client" {
            assert_eq!(numbers.len(), COUNT + 1, "nothing was acknowledged");
        }
    }
}

/// Pitfall 4: SUBSCRIBE with a receipt has one, and an ended subscription leaves nothing behind.
#[test]
fn pitfall_4_one_receipt_and_no_leak() {
    let dir = tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::open(&server.stomp, "alice");
    for round in 0..300 {
        client.subscribe("0", "/queue/a", "");
        client.ask("UNSUBSCRIBE\nid:0", "");
        if round == 0 {
            assert!(client.is_quiet(100), "no second receipt");
        }
    }
    let (code, out, _) =
        crate::support::run(&["destinations", "--json", "--server", &server.address]);
    assert_eq!(code, 0);
    assert!(out.contains("\"consumers\":0"), "{out}");
}

/// Pitfalls 5 and 6: several delays on one queue, each its own; overdue, due and later messages come after a kill.
#[test]
fn pitfall_5_and_6_delays_hold_through_a_kill() {
    let dir = tempdir().unwrap();
    let mut server = Server::start(dir.path(), &[]);
    let mut client = Client::open(&server.stomp, "alice");
    let began = Instant::now();
    for ms in [1_500, 0, 300, 2_500] {
        client.send("/queue/a", &format!("\nAMQ_SCHEDULED_DELAY:{ms}"), &ms.to_string());
    }
    server.kill();
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::open(&server.stomp, "alice");
    client.subscribe("0", "/queue/a", "");
    for ms in [0, 300, 1_500, 2_500] {
        assert_eq!(text(&client.message()), ms.to_string());
        assert!(began.elapsed() >= Duration::from_millis(ms), "{ms} came early");
    }
}

/// Pitfall 7: a long session of frames near the limit, and `content-length:0` where no body is.
#[test]
fn pitfall_7_a_long_session_of_large_frames() {
    let dir = tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::open(&server.stomp, "alice");
    client.subscribe("0", "/queue/a", "\ncontent-length:0");
    let body = "y".repeat(1024 * 1024);
    for _ in 0..30 {
        client
            .say(&format!("SEND\ndestination:/queue/a\ncontent-length:{}\n\n{body}\0", body.len()));
        assert_eq!(client.message().body.len(), body.len());
    }
    client.say(&format!("SEND\ndestination:/queue/a\ncontent-length:{}\n\n", body.len() + 1));
    let error = client.frame();
    assert_eq!(error.command, Command::Error, "told before the body comes");
}

/// Pitfall 15: what is sent to a user with the first breath reaches the subscription made with it.
#[test]
fn pitfall_15_a_message_to_a_user_in_the_first_breath() {
    let dir = tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    for n in 0..20 {
        let mut client = Client::raw(&server.stomp);
        client.say(&format!(
            "CONNECT\naccept-version:1.2\nlogin:user{n}\n\n\0\
             SEND\ndestination:/user/user{n}/queue/x\n\nfirst\0\
             SUBSCRIBE\nid:0\ndestination:/user/queue/x\n\n\0\
             SEND\ndestination:/user/queue/x\n\nsecond\0"
        ));
        assert_eq!(client.frame().command, Command::Connected);
        assert_eq!(text(&client.message()), "first");
        assert_eq!(text(&client.message()), "second");
    }
}

/// Pitfall 16: a subscriber that does not read costs a bounded amount, and the others go on.
#[test]
fn pitfall_16_a_subscriber_that_does_not_read_is_bounded() {
    let dir = tempdir().unwrap();
    let server = Server::start(dir.path(), &["--set", "memory_mib=16"]);
    let mut lazy = Client::open(&server.stomp, "lazy");
    lazy.subscribe("0", "/topic/t", "\nprefetch-count:65535");
    let mut reader = Client::open(&server.stomp, "reader");
    reader.subscribe("0", "/topic/t", "");
    let mut sender = Client::open(&server.stomp, "sender");
    let body = "z".repeat(64 * 1024);
    let before = resident_kib(server.pid());
    for _ in 0..1_500 {
        sender.send("/topic/t", "", &body);
        reader.message();
    }
    let grown = resident_kib(server.pid()).saturating_sub(before);
    assert!(grown < 150 * 1024, "{grown} KiB more for 94 MiB that one subscriber has not read");
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Pitfall 17: UNSUBSCRIBE forgets a durable subscription by either of the words that made it.
#[test]
fn pitfall_17_durable_and_persistent_both_count() {
    let dir = tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    for word in ["durable", "persistent"] {
        let mut client = Client::open(&server.stomp, "alice");
        client.subscribe(word, "/topic/t", &format!("\n{word}:true"));
        client.ask(&format!("UNSUBSCRIBE\nid:{word}\n{word}:true"), "");
        client.send("/topic/t", "", "nobody waits for it");
        client.subscribe(word, "/topic/t", &format!("\n{word}:true"));
        assert!(client.is_quiet(150), "it begins anew");
    }
}
