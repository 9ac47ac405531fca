//! What voters say to one another, and what they keep.

use std::collections::BTreeMap;

use bytes::Bytes;
use muster_consensus::{
    Body, ClusterId, Config, Consensus, DiskId, Entry, Fault, Kept, Members, Message, Output,
    Promise, Snapshot, VoterChange, VoterId,
};
use muster_wire::Mono;

const CLUSTER: ClusterId = ClusterId([1; 16]);

/// The newcomer's number; the others are founders.
const NEWCOMER: u8 = 4;

fn voter(number: u8) -> VoterId {
    VoterId {
        name: format!("box-{number}"),
        disk: DiskId([number; 16]),
    }
}

/// Three founders and a stranger, whose files always write and whose messages go nowhere by themselves.
struct Group {
    voters: Vec<Consensus>,
    files: Vec<Kept>,
    applied: Vec<u64>,
    now: Mono,
    /// What was sent and not delivered.
    sent: Vec<(String, Message)>,
}

impl Group {
    fn new() -> Self {
        let members = Members::new((1..NEWCOMER).map(voter).collect(), Vec::new());
        let members = members.expect("three voters with different disks");
        let files = (1..=NEWCOMER).map(|number| match number {
            NEWCOMER => Kept::stranger(CLUSTER, voter(number).disk),
            _ => Kept::founding(CLUSTER, voter(number).disk, members.clone(), Bytes::new()),
        });
        let files: Vec<Kept> = files.collect();
        let voters = (1..=NEWCOMER).zip(&files).map(|(number, file)| {
            let settings = Config {
                rank: u32::from(number),
                ..Config::default()
            };
            let random = u64::from(number);
            Consensus::new(voter(number), file.clone(), settings, Mono(0), random)
                .expect("a new file does not contradict itself")
        });
        let mut group = Self {
            voters: voters.collect(),
            applied: vec![0; files.len()],
            files,
            now: Mono(0),
            sent: Vec::new(),
        };
        group.settle();
        group
    }

    /// Lets the first founder lead.
    fn led() -> Self {
        let mut group = Self::new();
        while !group.voters[0].leads() {
            group.now = group.voters[0].next_tick();
            group.voters[0].tick(group.now);
            group.settle();
            group.deliver();
        }
        group
    }

    /// Does what all want done, except that messages are only gathered.
    fn settle(&mut self) {
        for at in 0..self.voters.len() {
            while let Some(output) = self.voters[at].poll() {
                match output {
                    Output::Persist(number, batch) => {
                        self.files[at].write(&batch);
                        self.voters[at].persisted(number);
                    }
                    Output::Apply(entry) => {
                        assert_eq!(entry.index, self.applied[at] + 1, "in order");
                        self.applied[at] = entry.index;
                    }
                    Output::Install { index, .. } => self.applied[at] = index,
                    Output::Send(_, message) => {
                        self.sent.push((self.voters[at].me().name.clone(), message));
                    }
                    Output::Stopped(Fault::Engine(fault)) => panic!("the engine failed: {fault}"),
                    _ => {}
                }
            }
        }
    }

    /// Delivers everything, and what comes of it; returns it.
    fn deliver(&mut self) -> Vec<Message> {
        let mut all = Vec::new();
        while !self.sent.is_empty() {
            for (from, message) in std::mem::take(&mut self.sent) {
                self.take(&from, &message);
                all.push(message);
            }
        }
        all
    }

    fn take(&mut self, from: &str, message: &Message) {
        let to = self.voters.iter_mut();
        for voter in to.filter(|voter| voter.me().disk == message.to) {
            // What is refused changes nothing.
            let _ = voter.receive(from, message.clone(), self.now);
        }
        self.settle();
    }
}

/// Reads the bytes as what is kept; and as messages, each behind its length, that come to voters.
pub fn consensus(bytes: &[u8]) {
    if let Ok(entry) = Entry::decode(bytes) {
        assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
    }
    if let Ok(promise) = Promise::decode(bytes) {
        assert_eq!(Promise::decode(&promise.encode()), Ok(promise));
    }
    if let Ok(snapshot) = Snapshot::decode(bytes) {
        assert_eq!(Snapshot::decode(&snapshot.encode()), Ok(snapshot));
    }
    let mut messages = Vec::new();
    let mut rest = bytes;
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(tail.len());
        let (message, behind) = tail.split_at(length);
        rest = behind;
        if let Ok(message) = Message::decode(message) {
            assert_eq!(Message::decode(&message.encode()), Ok(message.clone()));
            messages.push(message);
        }
    }
    if messages.is_empty() {
        return;
    }
    let names: BTreeMap<DiskId, String> = (1..=NEWCOMER)
        .map(|number| (voter(number).disk, voter(number).name))
        .collect();
    for mut group in [Group::new(), Group::led()] {
        for message in &messages {
            let name = names.get(&message.from).map_or("stranger", String::as_str);
            group.take(name, message);
            // Answers are lost: what comes back is no larger than what came.
            assert!(group.sent.len() <= 4096, "{} messages", group.sent.len());
            group.sent.clear();
        }
        for voter in &mut group.voters {
            voter.tick(group.now);
        }
        group.settle();
    }
}

fn program<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        let message = message.encode();
        let length = u16::try_from(message.len()).expect("a small message");
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&message);
    }
    bytes
}

/// What voters say when they elect, agree and take a newcomer in; alone and together.
pub(crate) fn programs() -> Vec<Vec<u8>> {
    let mut group = Group::new();
    let mut all = Vec::new();
    for round in 0..60 {
        group.now = group.voters[0].next_tick();
        group.voters[0].tick(group.now);
        let leader = &mut group.voters[0];
        let _ = leader.propose(Bytes::from_static(b"decided"));
        match round {
            30 => {
                let newcomer = VoterChange::AddLearner(voter(NEWCOMER));
                let _ = leader.change(&newcomer);
            }
            40 => {
                let applied = leader.applied();
                let _ = leader.compact(applied, Bytes::from_static(b"state"));
            }
            55 => {
                let _ = leader.transfer_to(&voter(2));
            }
            _ => {}
        }
        group.settle();
        all.extend(group.deliver());
    }
    let wrong = Message {
        cluster: CLUSTER,
        from: voter(2).disk,
        to: voter(1).disk,
        body: Body::WrongDisk,
    };
    all.push(wrong);
    let mut programs: Vec<Vec<u8>> = all.iter().map(|message| program([message])).collect();
    programs.extend(all.chunks(10).map(program));
    for file in &group.files {
        programs.push(file.promise.encode());
        programs.extend(file.snapshot.iter().map(Snapshot::encode));
        programs.extend(file.entries.iter().take(3).map(Entry::encode));
    }
    programs
}
