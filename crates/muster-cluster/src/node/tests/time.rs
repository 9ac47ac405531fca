//! Watermarks, timers, the beginning and the end.

use super::*;

fn closed(rig: &mut Rig) -> Vec<String> {
    let mut said = rig.said();
    said.retain(|text| text.starts_with("closed") || text.starts_with("timer"));
    said
}

#[test]
fn windows_close_when_the_slowest_input_has_passed() {
    let mut rig = Rig::new("data-1");
    rig.up("worker-1", 1);
    rig.up("worker-2", 2);
    rig.said();
    rig.act("at 25");
    rig.watermark(1, "conn", 50);
    assert_eq!(
        closed(&mut rig),
        NOTHING,
        "worker-2 has an input, and is silent"
    );
    rig.watermark(2, "conn", 40);
    assert_eq!(closed(&mut rig), ["timer 25", "closed Some(30)"]);
    rig.watermark(1, "conn", 60);
    rig.watermark(2, "conn", 35);
    assert_eq!(closed(&mut rig), NOTHING);
    // A timer for a time that is closed already is due at once.
    rig.act("at 30");
    rig.act("at 31");
    rig.act("cancel 31");
    rig.pass(Duration::from_millis(1));
    assert_eq!(closed(&mut rig), ["timer 30"]);
    let end = Watermarks::END.as_nanos() / 1_000_000_000 + 1;
    rig.watermark(2, "conn", end);
    assert_eq!(closed(&mut rig), ["closed Some(50)"]);
    rig.watermark(1, "conn", end);
    assert_eq!(closed(&mut rig), ["closed None"]);
}

#[test]
fn a_dead_input_is_waited_for_a_while() {
    let mut rig = Rig::new("data-1");
    rig.up("worker-1", 1);
    rig.up("worker-2", 2);
    rig.watermark(1, "conn", 50);
    rig.watermark(2, "conn", 30);
    assert_eq!(closed(&mut rig), ["closed Some(20)"]);
    rig.step(Input::Reach(id(2), Reach::PeerDown(Version::V1)));
    rig.watermark(1, "conn", 100);
    rig.pass(Duration::from_millis(14_900));
    assert_eq!(closed(&mut rig), NOTHING, "its next life may bring more");
    rig.pass(Duration::from_millis(100));
    assert_eq!(closed(&mut rig), ["closed Some(90)"]);
    // It comes back in time: what it announces counts, even in the same life.
    rig.step(Input::Reach(id(1), Reach::PeerDown(Version::V1)));
    rig.pass(Duration::from_secs(1));
    rig.up("worker-1", 1);
    rig.pass(Duration::from_secs(60));
    assert_eq!(closed(&mut rig), NOTHING);
    rig.watermark(1, "conn", 200);
    assert_eq!(closed(&mut rig), ["closed Some(190)"]);
}

#[test]
fn inputs_that_never_come_are_given_up() {
    let mut rig = Rig::new("data-1");
    rig.up("worker-1", 1);
    rig.watermark(1, "conn", 50);
    rig.pass(Duration::from_millis(14_999));
    assert_eq!(closed(&mut rig), NOTHING);
    rig.pass(Duration::from_millis(1));
    assert_eq!(closed(&mut rig), ["closed Some(40)"]);
}

#[test]
fn an_input_announces_itself() {
    let mut rig = Rig::new("worker-1");
    let low = |seconds| Input::InputLow {
        input: "conn",
        low: Timestamp::from_secs(seconds),
    };
    let announcement = "Muster::watermark to zeek/cluster/all/";
    rig.step(low(100));
    assert_eq!(rig.published(), [announcement]);
    assert_eq!(closed(&mut rig), NOTHING, "worker-2 has an input, too");
    rig.step(low(104));
    assert_eq!(rig.published(), NOTHING);
    rig.step(low(105));
    assert_eq!(rig.published(), [announcement]);
    rig.step(Input::InputEnd { input: "conn" });
    rig.step(Input::InputEnd { input: "conn" });
    assert_eq!(rig.published(), [announcement]);
    // Who comes later is told.
    rig.up("data-1", 1);
    let topic = format!("zeek/cluster/nodeid/{}/", id(1));
    let (hello, low) = (
        format!("Cluster::hello to {topic}"),
        format!("Muster::watermark to {topic}"),
    );
    assert_eq!(rig.published(), [hello, low]);
}

#[test]
fn monotonic_timers() {
    let mut rig = Rig::new("worker-1");
    rig.said();
    for what in ["in 3", "in 2", "in 4", "in 4", "in 20", "cancel 4"] {
        rig.act(what);
    }
    rig.pass(Duration::from_millis(1_999));
    assert_eq!(closed(&mut rig), NOTHING);
    rig.pass(Duration::from_secs(5));
    assert_eq!(closed(&mut rig), ["timer 2", "timer 3"]);
    // A timer that schedules itself without delay is called once a step.
    rig.act("in 7");
    rig.now.mono = rig.now.mono.after(Duration::from_secs(7));
    rig.step(Input::Tick);
    assert_eq!(closed(&mut rig), ["timer 7"]);
    assert!(rig.node.next_deadline() <= Some(rig.now.mono));
}

#[test]
fn inputs_start_when_all_neighbours_are_ready() {
    let mut rig = Rig::new("worker-1");
    for (number, name) in (1..).zip(["manager", "logger-1", "logger-2", "data-1"]) {
        rig.up(name, number);
    }
    assert!(!rig.node.has_all_neighbours() && rig.input_starts == 0);
    rig.up("data-2", 9);
    assert!(rig.node.has_all_neighbours() && rig.input_starts == 0);
    // They have to be ready themselves: to have had all of their own neighbours up.
    for number in [1, 2, 3, 4] {
        rig.receive(number, &Ready {});
    }
    assert_eq!(rig.input_starts, 0);
    rig.receive(9, &Ready {});
    assert_eq!(rig.input_starts, 1);
    rig.pass(Duration::from_secs(60));
    assert_eq!(rig.input_starts, 1);
}

#[test]
fn inputs_start_without_those_who_do_not_come() {
    let mut rig = Rig::new("worker-1");
    for (number, name) in (1..).zip(["manager", "logger-1", "logger-2"]) {
        rig.up(name, number);
        rig.receive(number, &Ready {});
    }
    rig.pass(Duration::from_millis(14_999));
    assert_eq!(rig.input_starts, 0);
    rig.said();
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.input_starts, 1);
    assert_eq!(
        rig.said(),
        ["starting the input although these nodes are not ready: data-1, data-2"]
    );
    rig.up("data-1", 8);
    rig.up("data-2", 9);
    assert_eq!(rig.input_starts, 1);
}

#[test]
fn stopping_sends_what_is_left() {
    let mut rig = Rig::new("worker-1");
    rig.logger_up("logger-1", 1);
    rig.act("log 1");
    rig.said();
    rig.published();
    rig.step(Input::Stop);
    assert_eq!(rig.said(), ["done"]);
    assert_eq!(
        rig.published(),
        ["Muster::log_batch to zeek/cluster/node/logger-1/"]
    );
    assert_eq!(rig.node.counts().records_sent, 2);
    assert!(!rig.node.has_shipped(), "it waits until they are safe");
    let ack = LogAck {
        producer: id(0).to_string(),
        batches: vec![0, 0],
    };
    rig.receive(1, &ack);
    assert!(rig.node.has_shipped());
    rig.step(Input::Stop);
    assert_eq!(rig.said(), NOTHING);
    rig.pass(Duration::from_secs(60));
    assert_eq!((rig.input_starts, rig.node.next_deadline()), (0, None));
}
