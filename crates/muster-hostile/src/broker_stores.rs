//! The commands of Broker's stores.

use muster_data::Timestamp;
use muster_store::broker::{BrokerClone, BrokerClones, BrokerCommand, Content, EVERYBODY, Entity};
use muster_store::{CloneConfig, Now, Output, Primary, PrimaryConfig, StoreName};
use muster_wire::{EndpointId, Mono};

/// How much longer than an input what comes of it may be: a change goes to all clones and back to its writer,
/// and a nack's numbers are answered one by one.
const LONGER: usize = 16;
const HEADS: usize = 8192;

/// Reads a command of a Broker store, and hands it to a master that serves such clones and to a
/// clone that follows such a master, as the event that they expect next, from the sender that they
/// expect.
pub fn broker_stores(bytes: &[u8]) {
    let Ok(command) = BrokerCommand::decode(bytes) else {
        return;
    };
    let written = command.encode();
    assert_eq!(BrokerCommand::decode(&written).as_ref(), Ok(&command));
    let [me, other] = [1, 2].map(|id| Entity {
        endpoint: EndpointId::from_random([id; 16]),
        instance: u64::from(id),
    });
    let between = |sender, receiver, content| BrokerCommand {
        number: 2,
        sender,
        receiver,
        content,
    };
    let now = Now {
        mono: Mono(1),
        wall: Timestamp::from_secs(1),
    };
    let name = StoreName::new("s").expect("a name");
    let mut master = Primary::in_memory(name, me.endpoint, 1, PrimaryConfig::default(), now);
    let mut clones = BrokerClones::new(me, 1 << 20, now.mono);
    let attach = Content::AttachWriter {
        offset: 1,
        heartbeat: 5,
    };
    let asks = Content::Nack { numbers: vec![0] };
    clones.receive(between(other, EVERYBODY, asks), &mut master, now);
    clones.receive(between(other, me, attach), &mut master, now);
    for sent in [command.clone(), between(other, me, command.content.clone())] {
        clones.receive(sent, &mut master, now);
    }
    let later = Now {
        mono: Mono(1_000_000_000),
        ..now
    };
    while let Some(output) = master.poll() {
        if let Output::Changed(change) = output {
            clones.changed(&change, now);
        }
    }
    clones.tick(later);
    let mut out = 0;
    while let Some(output) = clones.poll() {
        out += match output {
            Output::BrokerBroadcast(bytes) | Output::BrokerToClone(_, bytes) => bytes.len(),
            _ => 0,
        };
    }
    let most = bytes.len() * LONGER + HEADS;
    assert!(out <= most, "{out} bytes of {}", bytes.len());

    let mut clone = BrokerClone::new(me, CloneConfig::default(), now.mono);
    let whole = Content::AckClone {
        offset: 1,
        heartbeat: 5,
        state: Vec::new(),
    };
    clone.receive(command.clone(), now);
    clone.receive(between(other, me, whole), now);
    clone.receive(between(other, me, command.content), now);
    clone.tick(later.mono);
    let mut out = 0;
    while let Some(output) = clone.poll() {
        out += match output {
            Output::BrokerFind(bytes) | Output::BrokerToMaster(_, bytes) => bytes.len(),
            _ => 0,
        };
    }
    assert!(out <= most, "{out} bytes of {}", bytes.len());
}
