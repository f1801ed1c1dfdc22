//! Connections from their first byte to their last.

use postdate::wire::stomp::Command;
use tempfile::tempdir;

use crate::client::{Client, text};
use crate::support::Server;

#[test]
fn a_message_goes_out_comes_back_and_the_connection_ends_as_agreed() {
    let dir = tempdir().unwrap();
    let mut server = Server::start(dir.path(), &[]);
    let mut client = Client::open(&server.stomp, "alice");
    client.subscribe("0", "/queue/a", "\nack:client-individual");
    let receipt = client.send("/queue/a", "\ncontent-type:text/plain", "grüße");
    let message = client.message();
    assert_eq!(text(&message), "grüße");
    assert_eq!(message.get("message-id"), receipt.get("message-id"));
    client.ack(&message);
    assert_eq!(client.ask("DISCONNECT", "").command, Command::Receipt);
    assert!(client.next().is_none(), "closed behind the receipt");
    assert!(server.terminate().success());
}

/// Whoever asks something wrong is told what and why, can read it, and is gone.
#[test]
fn an_error_is_the_last_that_is_said_and_can_be_read() {
    let dir = tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let cases = [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "malformed"),
        ("\u{0}\u{0}\n\nSEND\ndestination:/queue/a\n\n\u{0}", "hello-expected"),
        ("CONNECT\naccept-version:9\n\n\u{0}", "unsupported-version"),
        (
            "CONNECT\naccept-version:1.2\n\n\u{0}SEND\ndestination:nowhere\n\n\u{0}",
            "bad-destination",
        ),
        (
            "CONNECT\naccept-version:1.2\n\n\u{0}SEND\ndestination:/queue/a\ndelay:41d\n\n\u{0}",
            "delay-too-long",
        ),
    ];
    for (said, code) in cases {
        let mut client = Client::raw(&server.stomp);
        // Much behind it, which nobody reads: the last words must not be lost with it.
        client.say(&format!("{said}{}", "SEND\n\n\0".repeat(1_000)));
        let mut frame = client.frame();
        if frame.command == Command::Connected {
            frame = client.frame();
        }
        assert_eq!((frame.command, frame.get("message")), (Command::Error, Some(code)), "{said:?}");
        assert!(!frame.body.is_empty());
        assert!(client.next().is_none());
    }
}

#[test]
fn a_server_that_stops_answers_what_was_asked_and_says_goodbye() {
    let dir = tempdir().unwrap();
    let mut server = Server::start(dir.path(), &[]);
    let mut client = Client::open(&server.stomp, "alice");
    client.send("/queue/a", "", "x");
    assert!(server.terminate().success());
    let error = client.frame();
    assert_eq!((error.command, error.get("message")), (Command::Error, Some("shutting-down")));
    assert!(client.next().is_none());
}

/// What was received is carried out, also when nobody waits for the answers.
#[test]
fn ten_thousand_messages_and_a_closed_connection_are_ten_thousand_messages() {
    let dir = tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::open(&server.stomp, "alice");
    for n in 0..10_000 {
        client.say(&format!("SEND\ndestination:/queue/a\n\n{n}\0"));
    }
    drop(client);
    let mut other = Client::open(&server.stomp, "alice");
    other.subscribe("0", "/queue/a", "");
    for n in 0..10_000 {
        assert_eq!(text(&other.message()), n.to_string());
    }
}

#[test]
fn a_temporary_queue_and_an_inbox_work_between_two_clients() {
    let dir = tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut alice = Client::open(&server.stomp, "alice");
    let mut bob = Client::open(&server.stomp, "bob");
    alice.subscribe("in", "/user/queue/x", "\nack:client");
    bob.send("/user/alice/queue/x", "\nreply-to:/temp-queue/r", "ping");
    let ping = alice.message();
    assert_eq!(ping.get("destination"), Some("/user/queue/x"));
    alice.send(ping.get("reply-to").unwrap(), "", "pong");
    let pong = bob.message();
    assert_eq!((text(&pong), pong.get("destination")), ("pong", Some("/temp-queue/r")));
    // It is gone with its session.
    let address = ping.get("reply-to").unwrap().to_owned();
    bob.ask("DISCONNECT", "");
    drop(bob);
    let refused = loop {
        // The receipt of DISCONNECT comes a moment before the session is gone.
        let answer = alice.ask(&format!("SEND\ndestination:{address}"), "too late");
        if answer.command == Command::Error {
            break answer;
        }
    };
    assert_eq!(refused.get("message"), Some("destination-not-found"));
}
