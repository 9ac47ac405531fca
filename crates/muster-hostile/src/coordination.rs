//! What coordinators, nodes and strangers say to a coordinator, and what becomes of who is in reach.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use muster_cluster::coordination::{
    CopyJoined, CopyStuck, Leaving, Renew, StoreCandidate, StoreWanted, ViewUpdate, ViewWanted,
    event,
};
use muster_cluster::{LONGEST_NAME, MOST_NODES};
use muster_consensus::{DiskId, Kept};
use muster_coordination::{Config, Coordinator, Output, Part, To};
use muster_data::DataRef;
use muster_wire::zeek::Message;
use muster_wire::{EndpointId, Mono};

/// Who says something: voters, the agent of a box that has no vote, nodes of the layout and another one, and nobody.
const SENDERS: [&str; 9] = [
    "agent.a", "agent.b", "agent.c", "agent.x", "node-0", "node-1", "node-2", "stranger", "",
];

/// How many lives each of them may have.
const LIVES: u8 = 8;

/// What an instruction does.
const SAYS: u8 = 0;
const REACHES: u8 = 1;
const LOSES: u8 = 2;
const PASSES: u8 = 3;
const STALLS: u8 = 4;
const WRITES: u8 = 5;
const KINDS: u8 = 6;

/// What a coordinator remembers besides who is in reach, in pieces: all is bounded by the layout, by the number of voters, or by a
/// limit of its own.
const MOST_REMEMBERED: usize = 4 * MOST_NODES;

/// What it wants done because of one instruction. A leader that was told that all is on disk applies many entries at once.
const MOST_OUTPUTS: usize = 4096;

fn voters() -> Vec<String> {
    ["a", "b", "c"].map(str::to_owned).to_vec()
}

fn config(me: &str) -> Config {
    let nodes = (0..3).map(|node| (format!("node-{node}"), voters()[node].clone()));
    Config {
        me: me.to_owned(),
        voters: voters(),
        witnesses: vec!["c".to_owned()],
        nodes: nodes.collect(),
    }
}

fn life(sender: u8, life: u8) -> EndpointId {
    let mut bytes = [sender + 1; 16];
    bytes[0] = life % LIVES;
    EndpointId::from_random(bytes)
}

/// A coordinator with a file that always writes, at once or when it is told.
struct Rig {
    me: &'static str,
    disk: DiskId,
    coordinator: Coordinator,
    kept: Option<Kept>,
    now: Mono,
    stalls: bool,
    begun: bool,
    persisted: u64,
    reached: BTreeSet<EndpointId>,
    /// What goes out, unless nobody looks at it.
    sent: Vec<(To, Vec<u8>)>,
}

impl Rig {
    fn new(me: &'static str, kept: Option<Kept>) -> Self {
        let number = me.as_bytes()[0];
        let disk = kept.as_ref().map_or(DiskId([number; 16]), |it| it.disk);
        let made = Coordinator::new(config(me), disk, kept.clone(), Mono(0), number.into());
        let mut rig = Self {
            me,
            disk,
            coordinator: made.expect("its own file"),
            kept,
            now: Mono(0),
            stalls: false,
            begun: false,
            persisted: 0,
            reached: BTreeSet::new(),
            sent: Vec::new(),
        };
        rig.settle();
        rig
    }

    /// A new file takes the place of the old one.
    fn renew(&mut self) {
        self.disk = DiskId([self.disk.0[0].wrapping_add(100); 16]);
        self.kept = None;
        (self.begun, self.persisted) = (false, 0);
        let made = Coordinator::new(config(self.me), self.disk, None, self.now, 7);
        self.coordinator = made.expect("no file");
    }

    fn settle(&mut self) {
        let mut outputs = 0;
        loop {
            while let Some(output) = self.coordinator.poll() {
                outputs += 1;
                assert!(outputs < MOST_OUTPUTS, "it goes on and on");
                match output {
                    Output::Begin(kept) => {
                        self.kept = Some(kept);
                        self.begun = true;
                    }
                    Output::Persist(number, batch) => {
                        assert!(number > self.persisted, "in order");
                        let kept = self.kept.as_mut().expect("it has begun");
                        kept.write(&batch);
                        self.persisted = number;
                    }
                    Output::Retire => self.renew(),
                    Output::Report(_, text) => {
                        assert!(text.len() < 16 * LONGEST_NAME, "{} bytes", text.len());
                    }
                    Output::Send(to, bytes) => {
                        let read = Message::read(DataRef::from_validated(&bytes));
                        assert!(
                            matches!(read, Ok(Message::Event(_))),
                            "what others can read"
                        );
                        self.sent.push((to, bytes));
                    }
                }
            }
            let what = (std::mem::take(&mut self.begun), self.persisted);
            if self.stalls || what == (false, 0) {
                self.begun = what.0;
                break;
            }
            if what.0 {
                self.coordinator.begun();
            }
            self.coordinator.persisted(self.persisted);
            self.persisted = self.persisted.max(what.1);
            if self.coordinator.is_idle() {
                break;
            }
        }
        let most = MOST_REMEMBERED + 2 * self.reached.len();
        let weight = self.coordinator.weight();
        assert!(weight <= most, "{weight} pieces");
        let _ = self.coordinator.status();
    }

    fn says(&mut self, sender: u8, number: u8, payload: &[u8]) {
        let name = SENDERS[usize::from(sender) % SENDERS.len()];
        if let Ok(Message::Event(event)) = Message::read(DataRef::from_validated(payload)) {
            let from = life(sender, number);
            self.coordinator.receive(from, name, &event, self.now);
            self.settle();
        }
    }

    fn run(&mut self, instruction: &Instruction<'_>) {
        let Instruction {
            kind,
            sender,
            number,
            payload,
        } = *instruction;
        match kind % KINDS {
            SAYS => self.says(sender, number, payload),
            REACHES | LOSES => {
                let name = SENDERS[usize::from(sender) % SENDERS.len()];
                let id = life(sender, number);
                let reached = kind % KINDS == REACHES;
                if reached {
                    self.reached.insert(id);
                } else {
                    self.reached.remove(&id);
                }
                self.coordinator.reaches(id, name, reached, self.now);
            }
            PASSES => {
                let millis = u64::from(sender) * u64::from(number) * 4;
                self.now = self.now.after(std::time::Duration::from_millis(millis));
                self.tick();
            }
            STALLS => self.stalls = true,
            _ => self.stalls = false,
        }
        self.settle();
    }

    /// It is called when it wants to be, and after that not at once again.
    fn tick(&mut self) {
        for _ in 0..4 {
            self.coordinator.tick(self.now, 7);
            self.settle();
            if self.coordinator.next_tick() > self.now {
                return;
            }
        }
        panic!("it is never done");
    }
}

struct Instruction<'a> {
    kind: u8,
    sender: u8,
    number: u8,
    payload: &'a [u8],
}

/// The instructions of an input: what happens, by whom, in which life, and the length of what is said.
fn instructions(mut rest: &[u8]) -> Vec<Instruction<'_>> {
    let mut all = Vec::new();
    while let Some(([kind, sender, number, high, low], tail)) = rest.split_first_chunk::<5>() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let is_said = kind % KINDS == SAYS;
        let length = if is_said { length.min(tail.len()) } else { 0 };
        let (payload, behind) = tail.split_at(length);
        rest = behind;
        all.push(Instruction {
            kind: *kind,
            sender: *sender % 16,
            number: *number,
            payload,
        });
    }
    all
}

/// Lets a coordinator without a group, one of three, and one that decides alone live through what the bytes say.
pub fn coordination(bytes: &[u8]) {
    let instructions = instructions(bytes);
    let (founded, alone) = files();
    for kept in [None, Some(founded), Some(alone)] {
        let mut rig = Rig::new("a", kept.cloned());
        for instruction in &instructions {
            rig.run(instruction);
            rig.sent.clear();
        }
        rig.stalls = false;
        rig.settle();
        rig.tick();
    }
}

/// The file of one of three, and of one that goes on alone.
fn files() -> (&'static Kept, &'static Kept) {
    static FILES: OnceLock<(Kept, Kept)> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        let recording = Recording::new();
        let first = &recording.rigs[0];
        let alone = first.coordinator.recovered(first.disk);
        let founded = recording.founded.clone();
        (
            founded.expect("a group"),
            alone.expect("a group to go on from"),
        )
    });
    (&files.0, &files.1)
}

/// Three coordinators that found a group, decide, and take nodes in; and what the first of them was told.
struct Recording {
    rigs: Vec<Rig>,
    founded: Option<Kept>,
    program: Vec<Vec<u8>>,
}

fn instruction(kind: u8, sender: u8, number: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a small event");
    let mut bytes = vec![kind, sender, number];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

impl Recording {
    fn new() -> Self {
        let rigs = ["a", "b", "c"].map(|me| Rig::new(me, None));
        let mut recording = Self {
            rigs: rigs.into(),
            founded: None,
            program: Vec::new(),
        };
        for sender in 0..7 {
            recording.all(REACHES, sender, &[]);
        }
        for round in 0..60_u64 {
            recording.pass();
            if round.is_multiple_of(3) {
                for node in 0..3 {
                    let renew = Renew {
                        node: format!("node-{node}"),
                        box_name: voters()[usize::from(node)].clone(),
                        incarnation: 1,
                        session: 0,
                        number: round,
                        alone: Some(round.is_multiple_of(2)),
                    };
                    recording.all(SAYS, 4 + node, &event(&renew));
                }
            }
            recording.speak_of_stores(round);
            match round {
                40 => {
                    let node = "node-1".to_owned();
                    let leaving = Leaving { node, session: 3 };
                    recording.all(SAYS, 5, &event(&leaving));
                }
                50 => recording.all(LOSES, 6, &[]),
                _ => {}
            }
        }
        let wanted = ViewWanted { epoch: 0 };
        recording.all(SAYS, 7, &event(&wanted));
        let view = recording.rigs[0].coordinator.view().cloned();
        let view = view.expect("a group");
        assert!(view.epoch() > 0, "nodes were taken in");
        recording.all(SAYS, 1, &event(&ViewUpdate::whole(&view)));
        recording
    }

    /// Nodes want a store, one gets in sync and out of it again, and an operator moves it.
    fn speak_of_stores(&mut self, round: u64) {
        let store = "store".to_owned();
        let candidates = (0..2).map(|node| StoreCandidate {
            node: format!("node-{node}"),
            box_name: voters()[node].clone(),
        });
        let view = self.rigs[0].coordinator.view().cloned();
        let group = view.and_then(|view| view.store("store").cloned());
        match (round, group) {
            (22, None) => {
                let wanted = StoreWanted {
                    store,
                    persistent: false,
                    copies: 2,
                    min_copies: 1,
                    candidates: candidates.collect(),
                };
                self.all(SAYS, 4, &event(&wanted));
            }
            (25, Some(group)) => {
                let copy = group.joining.expect("a second node is in");
                let joined = CopyJoined {
                    store,
                    epoch: group.changed,
                    node: copy.node,
                    life: copy.life.to_string(),
                };
                self.all(SAYS, 4, &event(&joined));
            }
            (30, Some(group)) => {
                assert_eq!(group.in_sync.len(), 2, "the second copy is in sync");
                let copy = group.in_sync[1].clone();
                let stuck = CopyStuck {
                    store,
                    epoch: group.changed,
                    node: copy.node,
                    life: copy.life.to_string(),
                };
                self.all(SAYS, 4, &event(&stuck));
            }
            _ => {}
        }
    }

    /// Something happens to all of them.
    fn all(&mut self, kind: u8, sender: u8, payload: &[u8]) {
        let bytes = instruction(kind, sender, 0, payload);
        for at in 0..self.rigs.len() {
            if usize::from(sender) != at {
                self.rigs[at].run(&instructions(&bytes)[0]);
            }
        }
        self.program.push(bytes);
        self.deliver();
    }

    fn pass(&mut self) {
        // 60 ms.
        let bytes = instruction(PASSES, 15, 1, &[]);
        for rig in &mut self.rigs {
            rig.run(&instructions(&bytes)[0]);
        }
        self.program.push(bytes);
        self.deliver();
    }

    /// Delivers everything, and what comes of it.
    fn deliver(&mut self) {
        loop {
            let mut sent = Vec::new();
            for (at, rig) in (0..).zip(&mut self.rigs) {
                if let Some(kept) = rig.kept.as_ref().filter(|_| at == 0) {
                    self.founded.get_or_insert_with(|| kept.clone());
                }
                sent.extend(rig.sent.drain(..).map(|(to, bytes)| (at, to, bytes)));
            }
            if sent.is_empty() {
                return;
            }
            for (from, to, bytes) in sent {
                let To::Voter(of_box) = to else { continue };
                // What a coordinator says to those of its own name does not come back to itself.
                if self
                    .rigs
                    .get(usize::from(from))
                    .is_some_and(|rig| rig.me == of_box)
                {
                    continue;
                }
                if of_box == "a" {
                    self.program.push(instruction(SAYS, from, 0, &bytes));
                }
                let to = self.rigs.iter_mut().find(|rig| rig.me == of_box);
                if let Some(to) = to {
                    to.says(from, 0, &bytes);
                }
            }
        }
    }
}

/// What a coordinator is told when a group is founded and takes nodes in; in pieces of several sizes.
pub(crate) fn programs() -> Vec<Vec<u8>> {
    let Recording { rigs, program, .. } = Recording::new();
    // Whoever is told the same comes to the same.
    let mut again = Rig::new("a", None);
    for instruction in instructions(&program.concat()) {
        again.run(&instruction);
    }
    let (first, again) = (rigs[0].coordinator.status(), again.coordinator.status());
    assert_eq!(
        (again.part, again.epoch, again.members),
        (Part::Leader, first.epoch, first.members)
    );
    let pieces = [1, 12, 60];
    let mut programs: Vec<Vec<u8>> = pieces
        .iter()
        .flat_map(|size| program.chunks(*size).map(<[_]>::concat))
        .collect();
    let long = "x".repeat(3000);
    let renew = Renew {
        node: "stranger".to_owned(),
        box_name: long,
        incarnation: u64::MAX,
        session: u64::MAX,
        number: u64::MAX,
        alone: None,
    };
    programs.push(instruction(SAYS, 7, 0, &event(&renew)));
    programs.push(instruction(STALLS, 0, 0, &[]));
    programs.push(instruction(WRITES, 0, 0, &[]));
    programs
}
