//! Goal: what a client is told about a message is what happens to it: late and repeated
//! acknowledgements, cancels in every state and in a race, rescheduling. Method: bring a message
//! into each state over the wire and ask.

use crate::rig::{Id, Peer, Server, wall_ms};
use crate::words::{Message, Out, Outcome, Verdict};

const DAY: i64 = 86_400_000;
const SCHEDULED: u8 = 1;
const READY: u8 = 2;
const IN_FLIGHT: u8 = 3;
const ACKNOWLEDGED: u8 = 4;
const CANCELLED: u8 = 5;
const EXPIRED: u8 = 6;
const DEAD: u8 = 7;
const GONE: u8 = 8;

fn x() -> Message {
    Message::new("x")
}

fn not_done(verdicts: &[Verdict]) -> u8 {
    assert!(!verdicts[0].done);
    verdicts[0].state
}

fn done(verdicts: &[Verdict]) -> u8 {
    assert!(verdicts[0].done, "{verdicts:?}");
    verdicts[0].state
}

/// A message in each state.
async fn one_of_each(peer: &mut Peer) -> Vec<(u8, Id)> {
    let scheduled = peer.produce_one("/queue/s", x().after(DAY)).await.unwrap();
    let ready = peer.produce_one("/queue/r", x()).await.unwrap();
    let cancelled = peer.produce_one("/queue/s", x().after(DAY)).await.unwrap();
    done(&peer.cancel(&[cancelled]).await);
    let gone = peer.produce_one("/queue/g", x().after(DAY)).await.unwrap();
    peer.ask(5, &Out::new().text("/queue/g").0).await.unwrap();
    let expired = peer.produce_one("/queue/f", x().expires(0)).await.unwrap();
    peer.subscribe(1, "/queue/f", 10).await;
    let mut delivered = Vec::new();
    for _ in 0..3 {
        delivered.push(peer.produce_one("/queue/f", x()).await.unwrap());
        peer.delivery().await;
    }
    done(&peer.acknowledge(1, &delivered[1..2]).await);
    done(&peer.reject(1, false, &delivered[2..]).await);
    vec![
        (SCHEDULED, scheduled),
        (READY, ready),
        (IN_FLIGHT, delivered[0]),
        (ACKNOWLEDGED, delivered[1]),
        (CANCELLED, cancelled),
        (EXPIRED, expired),
        (DEAD, delivered[2]),
        (GONE, gone),
    ]
}

#[tokio::test]
async fn cancel_reschedule_and_query_answer_every_state() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    let each = one_of_each(&mut peer).await;
    let ids: Vec<Id> = each.iter().map(|(_, id)| *id).collect();
    let at = ["/queue/s", "/queue/r", "/queue/f", "", "", "", "/dlq/queue/f", ""];
    for ((status, (state, id)), at) in peer.query(&ids).await.iter().zip(&each).zip(at) {
        assert_eq!((status.id, status.state, &status.destination[..]), (*id, *state, at));
    }
    for (state, id) in each.iter().skip(1) {
        assert_eq!(not_done(&peer.cancel(&[*id]).await), *state);
        let verdict = peer.reschedule(*id, 2, 5).await.unwrap();
        assert_eq!((verdict.done, verdict.state), (false, *state));
    }
    // One batch: the second cancel of the same message knows of the first.
    let verdicts = peer.cancel(&[ids[0], ids[0]]).await;
    assert_eq!((done(&verdicts[..1]), not_done(&verdicts[1..])), (CANCELLED, CANCELLED));
    assert_eq!(peer.state(ids[0]).await, CANCELLED);
}

#[tokio::test]
async fn acknowledge_and_reject_answer_every_state() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    let each = one_of_each(&mut peer).await;
    for (state, id) in &each {
        let fired = matches!(*state, READY | IN_FLIGHT | DEAD);
        if *state != IN_FLIGHT {
            assert_eq!(not_done(&peer.reject(0, true, &[*id]).await), *state);
        }
        let verdicts = peer.acknowledge(0, &[*id, *id]).await;
        assert_eq!((verdicts[0].done, verdicts[1].done), (fired, false), "{state}");
        let after = if fired { ACKNOWLEDGED } else { *state };
        assert_eq!((verdicts[0].state, verdicts[1].state), (after, after));
    }
    // What was never fired is still scheduled, and can be cancelled.
    assert_eq!(done(&peer.cancel(&[each[0].1]).await), CANCELLED);
    assert_eq!(peer.counter("in_flight").await, 0);
}

#[tokio::test]
async fn a_late_acknowledgement_from_another_connection_counts() {
    let server = Server::start().await;
    let mut producer = server.greet().await;
    let id = producer.produce_one("/queue/late", x()).await.unwrap();
    let mut first = server.greet().await;
    first.subscribe(1, "/queue/late", 1).await;
    assert_eq!(first.delivery().await.id, id);
    drop(first);
    producer.until("sessions", |sessions| sessions == 1).await;
    assert_eq!(producer.state(id).await, READY);
    assert_eq!(done(&producer.acknowledge(0, &[id]).await), ACKNOWLEDGED);
    // It does not come again: what is produced next is delivered first.
    let next = producer.produce_one("/queue/late", x()).await.unwrap();
    producer.subscribe(1, "/queue/late", 10).await;
    assert_eq!(producer.delivery().await.id, next);
    assert_eq!(producer.waiting_deliveries(), 0);
}

#[tokio::test]
async fn an_acknowledgement_after_the_time_out_counts_once() {
    let server = Server::start().await;
    let mut slow = server.greet().await;
    let id = slow.produce_one("/queue/slow", x()).await.unwrap();
    slow.subscribe_for(1, "/queue/slow", 1, 100).await;
    let attempts = [slow.delivery().await, slow.delivery().await].map(|got| (got.id, got.attempt));
    assert_eq!(attempts, [(id, 1), (id, 2)]);
    let mut other = server.greet().await;
    other.subscribe(1, "/queue/slow", 1).await;
    assert_eq!(done(&other.acknowledge(0, &[id]).await), ACKNOWLEDGED);
    assert_eq!(not_done(&slow.acknowledge(1, &[id]).await), ACKNOWLEDGED);
    assert_eq!(slow.counter("messages").await, 0);
}

#[tokio::test]
async fn a_lost_session_gives_everything_back_in_order_with_a_higher_attempt() {
    let server = Server::start().await;
    let mut producer = server.greet().await;
    let ids: Vec<Id> =
        producer.produce("/queue/back", &vec![x(); 50]).await.iter().map(Outcome::id).collect();
    let mut first = server.greet().await;
    first.subscribe(1, "/queue/back", 30).await;
    for _ in 0..30 {
        first.delivery().await;
    }
    done(&first.acknowledge(1, &ids[5..6]).await);
    drop(first);
    producer.until("sessions", |sessions| sessions == 1).await;
    producer.subscribe(1, "/queue/back", 100).await;
    let mut got = Vec::new();
    for _ in 0..49 {
        let delivery = producer.delivery().await;
        let out_before = ids.iter().position(|id| *id == delivery.id).unwrap() < 31;
        assert_eq!(delivery.attempt > 1, out_before);
        got.push(delivery.id);
    }
    assert_eq!(got, [&ids[..5], &ids[6..]].concat());
}

#[tokio::test]
async fn a_rescheduled_message_keeps_its_id_and_comes_once() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    peer.subscribe(1, "/queue/move", 10).await;
    let id = peer.produce_one("/queue/move", x().after(DAY)).await.unwrap();
    for (kind, delay, code) in
        [(1, 0, 32), (1, 19, 32), (2, -1, 31), (2, 40 * DAY + 1, 30), (3, i64::MIN, 31)]
    {
        assert_eq!(peer.reschedule(id, kind, delay).await.unwrap_err().0, code);
    }
    let later = wall_ms() + 2 * DAY as u64;
    let verdict = peer.reschedule(id, 3, later as i64).await.unwrap();
    assert_eq!((verdict.id, verdict.done, verdict.due_ms), (id, true, later));
    let status = peer.query(&[id]).await.remove(0);
    assert_eq!((status.state, status.due_ms), (SCHEDULED, later));
    let verdict = peer.reschedule(id, 2, 30).await.unwrap();
    let delivery = peer.delivery().await;
    assert_eq!((delivery.id, delivery.due_ms, delivery.attempt), (id, verdict.due_ms, 1));
    assert!(wall_ms() >= verdict.due_ms, "it was early");
    done(&peer.acknowledge(1, &[id]).await);
    // To now, and to the past.
    for (kind, delay) in [(0, 0), (2, 0), (3, 5)] {
        let id = peer.produce_one("/queue/move", x().after(DAY)).await.unwrap();
        assert!(peer.reschedule(id, kind, delay).await.unwrap().done);
        assert_eq!(peer.delivery().await.id, id);
    }
    assert_eq!(peer.counter("delivered_total").await, 4);
}

#[tokio::test]
async fn exactly_one_of_two_racing_cancels_wins() {
    let server = Server::start().await;
    let mut one = server.greet().await;
    let mut two = server.greet().await;
    let batch = vec![x().after(DAY); 200];
    let ids: Vec<Id> = one.produce("/queue/race", &batch).await.iter().map(Outcome::id).collect();
    let mut wins = [0, 0];
    for id in &ids {
        let (mine, yours) = tokio::join!(
            one.cancel(std::slice::from_ref(id)),
            two.cancel(std::slice::from_ref(id))
        );
        assert_ne!(mine[0].done, yours[0].done);
        assert_eq!((mine[0].state, yours[0].state), (CANCELLED, CANCELLED));
        wins[usize::from(yours[0].done)] += 1;
    }
    assert_eq!(wins[0] + wins[1], ids.len());
}

#[tokio::test]
async fn a_cancel_that_races_with_firing_is_told_the_truth() {
    let server = Server::start().await;
    let mut producer = server.greet().await;
    let mut consumer = server.greet().await;
    consumer.subscribe(1, "/queue/race", 65_535).await;
    let batch: Vec<_> = (0..400).map(|n| x().after(n / 8)).collect();
    let ids: Vec<Id> =
        producer.produce("/queue/race", &batch).await.iter().map(Outcome::id).collect();
    let mut cancelled = std::collections::BTreeSet::new();
    // From the end: the first cancels are early enough, the last are too late.
    for id in ids.iter().rev() {
        let verdicts = producer.cancel(std::slice::from_ref(id)).await;
        if verdicts[0].done {
            cancelled.insert(*id);
        } else {
            assert!(matches!(verdicts[0].state, READY | IN_FLIGHT), "{verdicts:?}");
        }
    }
    for _ in 0..ids.len() - cancelled.len() {
        let delivery = consumer.delivery().await;
        assert!(!cancelled.contains(&delivery.id), "a cancelled message was delivered");
        assert!(delivery.due_ms <= wall_ms(), "it was early");
    }
    consumer.heartbeat().await;
    assert_eq!(consumer.waiting_deliveries(), 0);
}

#[tokio::test]
async fn topic_messages_belong_to_the_subscription_that_got_them() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    let id = peer.produce_one("/topic/t", x()).await.unwrap();
    assert_eq!(peer.subscribe(1, "/topic/t", 5).await, 1);
    peer.subscribe(2, "/topic/other", 5).await;
    peer.subscribe(3, "/queue/q", 5).await;
    assert_eq!(peer.delivery().await.offset, 1);
    let body = |number: u32| Out::new().u32(number).u8(0).ids(&[id]).0;
    for number in [0, 2, 3] {
        assert_eq!(peer.code(13, &body(number)).await, 54);
        assert_eq!(peer.code(14, &Out::new().u32(number).u8(1).ids(&[id]).0).await, 54);
    }
    assert_eq!(peer.code(14, &body(1)).await, 13);
    assert!(peer.reject(1, true, &[id]).await[0].done);
    assert_eq!(peer.delivery().await.attempt, 2);
    assert_eq!(done(&peer.acknowledge(1, &[id]).await), ACKNOWLEDGED);
    assert_eq!(not_done(&peer.acknowledge(1, &[id]).await), ACKNOWLEDGED);
}

#[tokio::test]
async fn a_deleted_destination_ends_its_subscriptions_and_may_come_again() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    peer.subscribe(4, "/queue/del", 5).await;
    let old = peer.produce_one("/queue/del", x().after(DAY)).await.unwrap();
    peer.ask(5, &Out::new().text("/queue/del").0).await.unwrap();
    let ended = peer.other_push().await;
    assert_eq!((ended.kind, &ended.body[..6]), (101, &[0, 0, 0, 4, 0, 11][..]));
    assert_eq!(peer.code(5, &Out::new().text("/queue/del").0).await, 11);
    assert_eq!(peer.code(15, &Out::new().text("/queue/del").0).await, 11);
    let new = peer.produce_one("/queue/del", x().after(DAY)).await.unwrap();
    assert_eq!((peer.state(old).await, peer.state(new).await), (GONE, SCHEDULED));
    assert_eq!(peer.describe("/queue/del").await.scheduled, 1);
}

#[tokio::test]
async fn a_dedup_id_is_of_its_destination_and_stores_once() {
    let server = Server::start().await;
    let mut one = server.greet().await;
    let mut two = server.greet().await;
    let batch = [x().dedup("k"), x().dedup("k"), x().dedup("l")];
    let (mine, yours) =
        tokio::join!(one.produce("/queue/d", &batch), two.produce("/queue/d", &batch));
    let accepted =
        |all: &[Outcome]| all.iter().filter(|o| matches!(o, Outcome::Accepted(_))).count();
    assert_eq!(accepted(&mine) + accepted(&yours), 2);
    assert!(matches!(mine[1], Outcome::Duplicate(_)) && matches!(yours[1], Outcome::Duplicate(_)));
    assert_eq!(one.describe("/queue/d").await.ready, 2);
    assert_eq!(accepted(&one.produce("/queue/e", &batch).await), 2);
}
