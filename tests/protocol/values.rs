//! Goal: a request that is well-formed and says something that is not allowed is refused alone,
//! with the right code, and the connection goes on. Method: every bound of the document, at it and
//! one past it, all over one connection.

use crate::rig::{Peer, Server, subscribe_body, wall_ms};
use crate::words::{In, Message, Out, Outcome, Status};

const DAYS_40: i64 = 3_456_000_000;
const BODY_MAX: usize = 1_048_576;

fn x() -> Message {
    Message::new("x")
}

fn headers(count: usize) -> Message {
    (0..count).fold(x(), |message, n| message.header(format!("h{n}"), "v"))
}

/// Key and headers of so many bytes together, each within its own bounds.
fn head_of(bytes: usize) -> Message {
    let mut message = x().key("k".repeat(255));
    let mut left = bytes - 255;
    while left > 0 {
        let value = left.min(8_193) - 1;
        message = message.header("n", "v".repeat(value));
        left -= value + 1;
    }
    message
}

#[tokio::test]
async fn each_message_of_a_batch_is_judged_alone() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    let far = |ms: i64| wall_ms() as i64 + DAYS_40 + ms;
    let cases: Vec<(&str, Message, Option<u16>)> = vec![
        ("plain", x(), None),
        ("level 0", x().level(0), Some(32)),
        ("level 1", x().level(1), None),
        ("level 18", x().level(18), None),
        ("level 19", x().level(19), Some(32)),
        ("level -1", x().level(-1), Some(32)),
        ("level max", x().level(i64::MAX), Some(32)),
        ("level min", x().level(i64::MIN), Some(32)),
        ("after 40 days", x().after(DAYS_40), None),
        ("after 40 days and 1 ms", x().after(DAYS_40 + 1), Some(30)),
        ("after max", x().after(i64::MAX), Some(30)),
        ("after -1", x().after(-1), Some(31)),
        ("after min", x().after(i64::MIN), Some(31)),
        ("at nearly 40 days", x().at(far(-60_000)), None),
        ("at over 40 days", x().at(far(60_000)), Some(30)),
        ("at max", x().at(i64::MAX), Some(30)),
        ("at -1", x().at(-1), Some(31)),
        ("at min", x().at(i64::MIN), Some(31)),
        ("at 0", x().at(0), None),
        ("priority 0", x().priority(0), None),
        ("priority 9", x().priority(9), None),
        ("priority 10", x().priority(10), Some(22)),
        ("priority 255", x().priority(255), Some(22)),
        ("dedup of 0", x().dedup(""), Some(23)),
        ("dedup of 1", x().dedup("1"), None),
        ("dedup of 128", x().dedup([0xff; 128]), None),
        ("dedup of 129", x().dedup([1; 129]), Some(23)),
        ("dedup of 255", x().dedup([1; 255]), Some(23)),
        ("key of 255", x().key("k".repeat(255)), None),
        ("key of 256", x().key("k".repeat(256)), Some(21)),
        ("key not UTF-8", x().key([0xff]), Some(21)),
        ("64 headers", headers(64), None),
        ("65 headers", headers(65), Some(21)),
        ("header without a name", x().header("", "v"), Some(21)),
        ("header without a value", x().header("n", ""), None),
        ("name of 8192", x().header("n".repeat(8_192), ""), None),
        ("name of 8193", x().header("n".repeat(8_193), ""), Some(21)),
        ("value of 8192", x().header("n", "v".repeat(8_192)), None),
        ("value of 8193", x().header("n", "v".repeat(8_193)), Some(21)),
        ("name not UTF-8", x().header([0xc0], "v"), Some(21)),
        ("value not UTF-8", x().header("n", [0xed, 0xa0, 0x80]), Some(21)),
        ("head of 32768", head_of(32_768), None),
        ("head of 32769", head_of(32_769), Some(21)),
        ("body of 0", Message::new(""), None),
        ("body at its limit", Message::new(vec![7; BODY_MAX]), None),
        ("body over its limit", Message::new(vec![7; BODY_MAX + 1]), Some(20)),
        ("expiry of 0", x().expires(0), None),
        ("expiry max", x().expires(u64::MAX), None),
    ];
    let batch: Vec<_> = cases.iter().map(|(_, message, _)| message.clone()).collect();
    let outcomes = peer.produce("/queue/values", &batch).await;
    assert_eq!(outcomes.len(), cases.len());
    for ((what, _, expected), outcome) in cases.iter().zip(&outcomes) {
        assert_eq!(outcome.code(), *expected, "{what} in a batch: {outcome:?}");
    }
    for (what, message, expected) in cases.into_iter().filter(|(.., code)| code.is_some()) {
        let alone = peer.produce_one("/queue/values", message).await;
        assert_eq!(alone.err().map(|(code, _)| code), expected, "{what} alone");
    }
    let accepted = outcomes.iter().filter(|outcome| outcome.code().is_none()).count() as u64;
    let info = peer.describe("/queue/values").await;
    assert_eq!(info.ready + info.scheduled, accepted);
}

#[tokio::test]
async fn a_content_that_does_not_have_its_shape_is_refused_alone() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    let raw = |content: &[u8]| {
        let message = Out::new().u8(0).u8(4).u8(0).u32(content.len() as u32).bytes(content).0;
        [message, x().bytes()].concat()
    };
    let cut = headers(2).content();
    let end_of_head = cut.len() - 1;
    for at in 0..end_of_head {
        let body = Out::new().text("/queue/a").u32(2).bytes(&raw(&cut[..at])).0;
        let outcomes = Outcome::read_all(&peer.ask(26, &body).await.unwrap());
        assert_eq!((outcomes[0].code(), outcomes[1].code()), (Some(1), None), "cut at {at}");
    }
}

#[tokio::test]
async fn the_largest_legal_message_passes_and_comes_back_as_it_was_sent() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    let mut message = head_of(32_768).dedup([9; 128]).expires(3_600_000).after(1);
    message.body = (0..BODY_MAX).map(|n| n as u8).collect();
    let content = message.content();
    let longest = format!("/queue/{}", "ü".repeat(124));
    assert_eq!(longest.len(), 255);
    peer.subscribe(1, &longest, 10).await;
    // Seven of them are the most that fit a frame.
    let batch: Vec<_> = (0..7).map(|n| message.clone().dedup([n; 128])).collect();
    let outcomes = peer.produce(&longest, &batch).await;
    for outcome in outcomes {
        let delivery = peer.delivery().await;
        assert_eq!((delivery.id, delivery.content == content), (outcome.id(), true));
    }
}

#[tokio::test]
async fn what_is_due_in_the_past_comes_at_once() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    peer.subscribe(1, "/queue/past", 100).await;
    let now = wall_ms() as i64;
    for message in [x(), x().after(0), x().at(0), x().at(1), x().at(now - 1), x().at(now)] {
        let id = peer.produce_one("/queue/past", message).await.unwrap();
        let delivery = peer.delivery().await;
        assert_eq!((delivery.id, delivery.attempt), (id, 1));
        assert!(delivery.due_ms <= wall_ms());
    }
}

#[tokio::test]
async fn names_that_are_not_legal_are_refused_everywhere() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    let long = format!("/queue/{}", "x".repeat(249));
    let longer = "/queue/".to_owned() + &"x".repeat(65_000);
    let bad: Vec<&[u8]> = vec![
        b"",
        b"/",
        b"queue/a",
        b"/queue",
        b"/queue/",
        b"/Queue/a",
        b"/user/u/x/queue",
        b"/user/u/queue/",
        b"/temp-queue/",
        b"/queue/*",
        b"/topic/>.a",
        b"/dlq/queue/a.#",
        b"/queue//a",
        b"/queue/a/",
        b"/queue/a b",
        b"/queue/\ta",
        b"/queue/\0",
        b"/queue/\x7f",
        "/queue/\u{a0}a".as_bytes(),
        "/queue/\u{2003}".as_bytes(),
        "/queue/\u{85}".as_bytes(),
        b"/queue/\xff",
        b"/queue/\xed\xa0\x80",
        long.as_bytes(),
        longer.as_bytes(),
    ];
    for name in bad {
        let shown = String::from_utf8_lossy(name);
        let named = Out::new().raw_text(name).0;
        let requests = [
            (1, Message::produce(name, &[x()])),
            (26, Message::produce(name, &[x().after(1)])),
            (2, Out::new().raw_text(name).u64(1).u32(1).0),
            (4, named.clone()),
            (5, named.clone()),
            (15, named),
            (10, subscribe_body(1, name, 1, 0)),
        ];
        for (kind, body) in requests {
            assert_eq!(peer.code(kind, &body).await, 10, "{kind} {shown:?}");
        }
        // An empty name lists all destinations.
        let list = Out::new().raw_text(name).u64(0).u64(u64::MAX).u32(1).u8(0).0;
        if !name.is_empty() {
            assert_eq!(peer.code(37, &list).await, 10, "{shown:?}");
        }
    }
    for name in
        ["/queue/a", "/topic/ü/✓", "/dlq/queue/a", "/queue/../..", "/queue/*a", "/queue/\u{202e}"]
    {
        peer.ask(4, &Out::new().text(name).0).await.unwrap();
    }
    assert_eq!(peer.counter("destinations").await, 6);
}

#[tokio::test]
async fn batches_of_none_and_of_too_many_are_refused_with_code_9() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    let count =
        |count: usize, item: &[u8]| Out::new().u32(count as u32).bytes(&item.repeat(count)).0;
    for many in [0, 10_001] {
        let messages = vec![x(); many];
        let ids = count(many, &[7; 16]);
        let items = count(many, &Out::new().bytes(&[7; 16]).u8(0).i64(0).0);
        let requests = [
            (1, Message::produce(b"/queue/none", &messages)),
            (26, Message::produce(b"/queue/none", &messages)),
            (13, Out::new().u32(0).u8(0).bytes(&ids).0),
            (14, Out::new().u32(0).u8(0).bytes(&ids).0),
            (27, ids.clone()),
            (28, ids),
            (29, items),
        ];
        for (kind, body) in requests {
            assert_eq!(peer.code(kind, &body).await, 9, "{many} items of {kind}");
        }
    }
    assert_eq!(peer.code(15, &Out::new().text("/queue/none").0).await, 11);
    // As many as are allowed: all accepted, and all refused with a text each.
    let outcomes = peer.produce("/queue/many", &vec![x(); 10_000]).await;
    assert!(outcomes.iter().all(|outcome| outcome.code().is_none()));
    let outcomes = peer.produce("/queue/many", &vec![x().priority(99); 10_000]).await;
    assert!(outcomes.iter().all(|outcome| outcome.code() == Some(22)));
    let ids = vec![[7; 16]; 10_000];
    assert_eq!(peer.query(&ids).await.len(), 10_000);
}

#[tokio::test]
async fn request_1_takes_no_delay_at_all() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    for delayed in [x().level(1), x().after(0), x().at(0)] {
        let body = Message::produce(b"/queue/now", &[x(), delayed]);
        assert_eq!(peer.code(1, &body).await, 31);
    }
    assert_eq!(peer.code(15, &Out::new().text("/queue/now").0).await, 11);
    let body = Message::produce(b"/queue/now", &[x(), x()]);
    assert_eq!(Outcome::read_all(&peer.ask(1, &body).await.unwrap()).len(), 2);
}

#[tokio::test]
async fn ids_that_were_never_given_are_unknown() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    let id = peer.produce_one("/queue/a", x().after(DAYS_40)).await.unwrap();
    let mut ids = vec![[0; 16], [0xff; 16]];
    for bit in 0..128 {
        let mut other = id;
        other[bit / 8] ^= 1 << (bit % 8);
        ids.push(other);
    }
    for status in peer.query(&ids).await {
        assert_eq!((status.state, status.due_ms, &status.destination[..]), (9, 0, ""));
    }
    let mut verdicts = peer.cancel(&ids).await;
    verdicts.extend(peer.acknowledge(0, &ids).await);
    verdicts.extend(peer.reject(0, true, &ids).await);
    for &id in &ids {
        verdicts.push(peer.reschedule(id, 2, 1).await.unwrap());
    }
    assert!(verdicts.iter().all(|verdict| !verdict.done && verdict.state == 9));
    assert_eq!(peer.state(id).await, 1);
}

#[tokio::test]
async fn wishes_that_cannot_be_met_are_refused() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    let durable = |name: &str, to: &str| {
        let out = Out::new().u32(9).u32(1).u64(0).u8(0).u64(0).u8(0).text(to);
        out.text(name).0
    };
    let wish = |number, credit, timeout| subscribe_body(number, b"/queue/a", credit, timeout);
    let cases = [
        (wish(0, 1, 0), 50),
        (wish(1, 0, 0), 55),
        (wish(1, 65_536, 0), 55),
        (wish(1, u32::MAX, 0), 55),
        (wish(1, 1, 99), 31),
        (wish(1, 1, 43_200_001), 31),
        (wish(1, 1, u64::MAX), 31),
        (durable("d", "/queue/a"), 13),
        (durable(&"d".repeat(129), "/topic/a"), 21),
    ];
    for (body, code) in cases {
        assert_eq!(peer.code(10, &body).await, code);
    }
    for number in 1..=256 {
        let timeout = if number % 2 == 0 { 100 } else { 43_200_000 };
        peer.subscribe_for(number, "/queue/a", 65_535, timeout).await;
    }
    assert_eq!(peer.code(10, &wish(7, 1, 0)).await, 51);
    assert_eq!(peer.code(10, &wish(257, 1, 0)).await, 52);
    assert_eq!(peer.code(11, &Out::new().u32(300).u8(0).0).await, 50);
    assert_eq!(peer.code(13, &Out::new().u32(300).u8(0).ids(&[[7; 16]]).0).await, 50);
    assert_eq!(peer.code(14, &Out::new().u32(300).u8(0).ids(&[[7; 16]]).0).await, 50);
    peer.ask(11, &Out::new().u32(7).u8(0).0).await.unwrap();
    peer.subscribe(7, "/queue/b", 1).await;
}

/// The pages of a list of scheduled messages.
async fn list(peer: &mut Peer, to: &str, from: u64, until: u64, limit: u32) -> Vec<Vec<Status>> {
    let mut pages = Vec::new();
    let mut next = vec![0];
    loop {
        let head = Out::new().text(to).u64(from).u64(until).u32(limit);
        let answer = peer.ask(37, &head.bytes(&next).0).await.unwrap();
        let mut answer = In(&answer);
        pages.push((0..answer.u32()).map(|_| Status::read(&mut answer)).collect());
        if answer.0 == [0] {
            return pages;
        }
        assert_eq!((answer.0.len(), answer.0[0]), (17, 1));
        next = answer.0.to_vec();
    }
}

#[tokio::test]
async fn pages_keep_to_their_limits_and_strange_ranges_are_empty() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    let later = wall_ms() as i64 + 1_000_000;
    let batch: Vec<_> = (0..2_500).map(|n| x().at(later + n % 7)).collect();
    peer.produce("/queue/page", &batch).await;
    peer.produce("/queue/other", &batch).await;
    for (limit, first) in [(0, 1), (1, 1), (999, 999), (1_000, 1_000), (u32::MAX, 1_000)] {
        let head = Out::new().text("/queue/page").u64(0).u64(u64::MAX).u32(limit).u8(0);
        let answer = peer.ask(37, &head.0).await.unwrap();
        assert_eq!(In(&answer).u32(), first);
    }
    let all: Vec<_> = list(&mut peer, "/queue/page", 0, u64::MAX, 700).await.concat();
    assert_eq!(all.len(), 2_500);
    let in_order = |a: &Status, b: &Status| (a.due_ms, &a.id[8..]) < (b.due_ms, &b.id[8..]);
    assert!(all.is_sorted_by(in_order));
    let later = later as u64;
    assert_eq!(list(&mut peer, "", later, later, 1_000).await.concat().len(), 2 * 358);
    for (from, until) in [(1, 0), (u64::MAX, 0), (u64::MAX, u64::MAX), (later + 9, later), (0, 0)] {
        assert!(list(&mut peer, "", from, until, 10).await.concat().is_empty());
    }
    // A place to go on at that was never given out is only a place.
    for (due, sequence) in [(0, 0), (u64::MAX, u64::MAX), (later, u64::MAX), (u64::MAX, 0)] {
        let head = Out::new().text("").u64(0).u64(later + 1).u32(10);
        peer.ask(37, &head.u8(1).u64(due).u64(sequence).0).await.unwrap();
    }
    assert_eq!(peer.code(37, &Out::new().text("/queue/no").u64(0).u64(9).u32(1).u8(0).0).await, 11);
    let fetch = |to: &str, offset: u64| Out::new().text(to).u64(offset).u32(5).0;
    assert_eq!(peer.code(2, &fetch("/queue/page", 1)).await, 13);
    assert_eq!(peer.code(2, &fetch("/topic/no", 1)).await, 11);
    peer.produce("/topic/t", &vec![x(); 10]).await;
    for (offset, next, count) in [(0, 6, 5), (8, 11, 3), (11, 11, 0), (u64::MAX, u64::MAX, 0)] {
        let answer = peer.ask(2, &fetch("/topic/t", offset)).await.unwrap();
        let mut answer = In(&answer);
        assert_eq!((answer.u64(), answer.u32()), (next, count), "from {offset}");
    }
}

#[tokio::test]
async fn too_many_destinations_are_refused_whatever_they_are_called() {
    let server = Server::start_with(|_, shard| shard.max_destinations = 10).await;
    let mut peer = server.greet().await;
    for number in 0..10 {
        let name =
            ["/queue/", "/topic/", "/dlq/queue/"][number % 3].to_owned() + &number.to_string();
        peer.ask(4, &Out::new().text(&name).0).await.unwrap();
    }
    for name in ["/queue/new", "/topic/new", "/dlq/queue/new", "/dlq/x/y"] {
        assert_eq!(peer.code(4, &Out::new().text(name).0).await, 12, "{name}");
        assert_eq!(peer.code(26, &Message::produce(name.as_bytes(), &[x()])).await, 12, "{name}");
        assert_eq!(peer.code(10, &subscribe_body(1, name.as_bytes(), 1, 0)).await, 12, "{name}");
    }
    // A message that is given up still has somewhere to go.
    let id = peer.produce_one("/queue/0", x()).await.unwrap();
    peer.subscribe(1, "/queue/0", 1).await;
    peer.delivery().await;
    assert!(peer.reject(1, false, &[id]).await[0].done);
    assert_eq!(peer.query(&[id]).await[0].destination, "/dlq/queue/0");
}
