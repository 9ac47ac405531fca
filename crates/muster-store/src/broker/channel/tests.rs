use muster_wire::EndpointId;

use super::*;

fn entity(instance: u64) -> Entity {
    Entity {
        endpoint: EndpointId::NIL,
        instance,
    }
}

fn at(millis: u64) -> Mono {
    Mono(millis * 1_000_000)
}

fn drain(consumer: &mut Consumer<u8>) -> Vec<Received<u8>> {
    std::iter::from_fn(|| consumer.take(at(0))).collect()
}

#[test]
fn events_come_in_order_and_what_is_missing_is_asked_for() {
    let mut consumer = Consumer::new();
    consumer.event(2, 2, 1, at(0));
    assert!(drain(&mut consumer).is_empty());
    consumer.open(1, 5, at(0));
    for number in [3, 5, 3, 2] {
        consumer.event(u64::from(number), number, 1, at(0));
    }
    let got = drain(&mut consumer);
    assert_eq!(got, [Received::Event(2), Received::Event(3)]);
    assert_eq!(consumer.tick(at(100)), None);
    assert_eq!(consumer.tick(at(200)), Some(Feedback::Nack(vec![4])));
    consumer.lost(4, at(210));
    assert_eq!(
        drain(&mut consumer),
        [Received::Lost(4), Received::Event(5)]
    );
    assert_eq!(consumer.tick(at(500)), Some(Feedback::Ack(5)));
    // A keepalive tells of a last event that was lost.
    consumer.exists(6, at(600));
    assert_eq!(consumer.tick(at(800)), Some(Feedback::Nack(vec![6])));
}

#[test]
fn what_a_number_claims_costs_nothing() {
    let mut consumer: Consumer<u8> = Consumer::new();
    consumer.open(1, 0, at(0));
    consumer.exists(u64::MAX, at(0));
    let Some(Feedback::Nack(numbers)) = consumer.tick(at(300)) else {
        panic!("it misses very many");
    };
    assert_eq!(numbers.len(), NACK_MOST);
    for number in 3..10_000 {
        consumer.event(number, 0, 1, at(0));
    }
    assert_eq!(consumer.waiting.len(), WAITING);
    consumer.event(2, 0, 1, at(0));
    assert_eq!(drain(&mut consumer).len(), WAITING + 1);
}

#[test]
fn events_are_kept_until_all_have_confirmed_them() {
    let mut producer = Producer::new(at(0));
    assert!(!producer.is_heard());
    producer.attach(entity(1), at(0));
    producer.push(vec![2]);
    producer.attach(entity(2), at(0));
    producer.push(vec![3]);
    assert_eq!(producer.number(), 3);
    assert!(producer.acked(entity(2), 3, at(0)));
    assert_eq!(
        producer.nack(entity(1), &[2, 3, 4], at(0)),
        [Resend::Event(vec![2]), Resend::Event(vec![3])]
    );
    producer.acked(entity(1), 2, at(0));
    assert_eq!(producer.nack(entity(1), &[2], at(0)), [Resend::Failed(2)]);
    assert!(producer.tick(at(500)));
    assert_eq!(producer.drop_silent(at(50_000)).len(), 2);
    assert!(!producer.tick(at(51_000)));
}

#[test]
fn who_lags_too_far_is_dropped() {
    let mut producer = Producer::new(at(0));
    producer.attach(entity(1), at(0));
    producer.attach(entity(2), at(0));
    let mut dropped = Vec::new();
    for number in 2..200_000 {
        dropped.extend(producer.push(vec![0]));
        producer.acked(entity(2), number, at(0));
    }
    assert_eq!(dropped, [entity(1)]);
    assert!(producer.kept.is_empty() && producer.bytes == 0);
}
