//! What goes into a node loop and what comes out.

use std::time::Duration;

use bytes::Bytes;
use muster_data::Timestamp;
use muster_store::op::{Answer, Op, StoreEvent};
use muster_store::{Level, StoreName, WriteFailure};
use muster_wire::{Class, EndpointId, Topic};

use super::coordination::StoreAuthority;
use super::logs::{LogBatch, StreamError};
use super::reach::Reach;
use super::stores::StoreNeed;
use crate::coordination::StoreGroup;
use crate::delivery::{
    BatchRefusal, Leftover, LogDelivery, LogNotes, ProducerRecord, SpoolOrder, SpoolOutcome,
};
use crate::layout::PoolName;
use crate::readiness::{Quorum, ReadyError};
use crate::register::Unfit;

/// What can happen to a node.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// A message arrived; its payload is one validated value.
    Message {
        /// The endpoint that published it.
        from: EndpointId,
        /// The encoded value.
        payload: &'a [u8],
    },
    /// The same to the [manager's topic](super::NodeLoop::manager_topic), where there are several managers.
    ForManager {
        /// The endpoint that published it.
        from: EndpointId,
        /// The encoded value.
        payload: &'a [u8],
    },
    /// The reachability of an endpoint has changed.
    Reach(EndpointId, Reach),
    /// What an endpoint of the mesh has announced itself as, before it is [discovered](Reach::Discovered).
    Announced(EndpointId, &'a str),
    /// A peer has answered the ping of [`Effect::Ping`].
    Pong(EndpointId),
    /// An input of this node raises an event, encoded as by
    /// [`put_event`](muster_wire::zeek::put_event).
    Raise(&'a [u8]),
    /// An input will raise nothing before this event time.
    InputLow {
        /// The input's name, unique on the node.
        input: &'a str,
        /// The low watermark.
        low: Timestamp,
    },
    /// An input has ended.
    InputEnd {
        /// The input's name.
        input: &'a str,
    },
    /// This logger has written records, or failed to.
    Written {
        /// The number of the [`Effect::WriteLog`].
        sequence: u64,
        /// Why the batch is not taken, if it is not: then none of its records is in a file.
        refusal: Option<BatchRefusal>,
        /// The stream.
        stream: &'a str,
        /// The number of records that are in its files.
        records: u64,
        /// The number of records that are not.
        failed: u64,
        /// The number of records that were in its files before, and are gone with them.
        gone: u64,
        /// What went wrong, with the file's name.
        problem: Option<&'a str>,
    },
    /// This logger's files have no room for a batch or a note at present, as they do not keep up.
    NotTaken {
        /// The number of the [`Effect::WriteLog`] or [`Effect::NoteLogs`].
        sequence: u64,
    },
    /// What this logger's files were handed is safe: every [`Effect::WriteLog`] and [`Effect::NoteLogs`] up to a number.
    LogsSynced {
        /// That number.
        through: u64,
    },
    /// Records that this node, a logger, had written were struck: they count at another logger.
    LogsStruck {
        /// How many.
        records: u64,
    },
    /// What this logger's files were handed since is not safe, and never will be.
    LogsNotSynced {
        /// What went wrong.
        problem: &'a str,
    },
    /// A former life has left batches in this node's spool. There is one at a time: the next may come when
    /// [`SpoolOrder::End`] has ended it.
    SpoolFound(&'a Leftover),
    /// The spool has done something.
    Spool {
        /// For the batches of this life.
        life: EndpointId,
        /// What.
        outcome: &'a SpoolOutcome,
    },
    /// A store whose primary belongs on this node was opened, or could not be.
    StoreOpened {
        /// The store.
        store: &'a StoreName,
        /// What went wrong.
        problem: Option<&'a str>,
    },
    /// The stores of this node have no room: a limit keeps them from growing. It is repeated as long as that is so.
    StoresFull {
        /// The number of writes that were refused since this was said last.
        refused: u64,
        /// The number of clones without a copy at present.
        missing_copies: usize,
        /// The bytes that the stores may take together.
        limit: usize,
    },
    /// Somebody waits until nodes are mutually up; [`Effect::Ready`] reports how the wait ends.
    AwaitReady {
        /// The token that the effect will repeat; no other wait of the node has it.
        token: u64,
        /// The nodes.
        quorum: &'a Quorum,
        /// The longest time to wait.
        limit: Duration,
    },
    /// The wait of this token is given up; no effect follows.
    GiveUpReady {
        /// As in [`Input::AwaitReady`].
        token: u64,
    },
    /// The outcome of a write of [`Effect::WriteStore`] is known.
    StoreAnswer {
        /// Which.
        token: u64,
        /// What became of it.
        outcome: &'a Result<Answer, WriteFailure>,
    },
    /// A store that this node watches has changed.
    StoreChanged {
        /// The store.
        store: &'a StoreName,
        /// What has changed.
        event: &'a StoreEvent,
    },
    /// Nothing; only time has passed.
    Tick,
    /// The node is to stop: frameworks publish and log what they still have. Until [`NodeLoop::has_shipped`](super::NodeLoop::has_shipped)
    /// it is stepped on, so that its records are acknowledged.
    Stop,
    /// The node ends. Nobody takes what records are left.
    End,
}

/// What a node wants done.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Publish an encoded value.
    Publish {
        /// To the subscribers of this topic.
        topic: Topic,
        /// The encoded value.
        payload: Bytes,
        /// In this class of traffic.
        class: Class,
    },
    /// Write log records: this node is a logger. [`Input::Written`] tells of it.
    WriteLog {
        /// The records.
        batch: LogBatch,
        /// What the diary keeps of them, if somebody waits until they are safe.
        delivery: Option<LogDelivery>,
        /// The number of this effect; later ones have larger ones.
        sequence: u64,
    },
    /// Keep in the diary what is decided about batches.
    NoteLogs {
        /// What is decided. Without it, it is to be tried whether files can be written.
        notes: Option<LogNotes>,
        /// The number of this effect; later ones have larger ones.
        sequence: u64,
    },
    /// Do something with the spool; [`Input::Spool`] tells of it. Only nodes with [a spool](super::NodeLoop::use_spool) ask for it.
    Spool {
        /// The life that has made the batches: this one, or a former one.
        life: EndpointId,
        /// What is to be done.
        order: SpoolOrder,
    },
    /// Tell an endpoint who this node's peers are, with a `Muster::peers` event to `muster/peers/<id>/`.
    DescribePeers(EndpointId),
    /// Ping a peer, and report its answer with [`Input::Pong`].
    Ping(EndpointId),
    /// End this node: another process of its name is alive. It is reported to the operator as well.
    Leave,
    /// By the coordinators' word a life of a node is out: nothing is led through it any more.
    Fence(EndpointId),
    /// A life of a node is in, if it was out before.
    Unfence(EndpointId),
    /// By the coordinators' word these nodes keep stores: of the stores whose groups have changed, or of all if the node was told
    /// everything.
    StoreGroups(Vec<(String, StoreGroup)>),
    /// It is clear who says which nodes keep a store. It comes once, and a second time if coordinators are heard after all. Until then stores
    /// are not opened. Where a layout has no coordinators, it never comes.
    StoresGoBy(StoreAuthority),
    /// Start this node's inputs: the nodes that it is linked with are up, or it has waited for them long enough.
    StartInputs,
    /// A wait of [`Input::AwaitReady`] has ended.
    Ready {
        /// Which.
        token: u64,
        /// Whether the nodes are mutually up, or what is missing.
        outcome: Result<(), ReadyError>,
    },
    /// Open a store where the layout puts it.
    OpenStore {
        /// The store.
        store: StoreName,
        /// Whether its author asks for persistence.
        persistent: bool,
        /// Whether this node uses it. Otherwise another node asks for the primary, which is opened if the layout puts
        /// it here.
        use_here: bool,
        /// Whether its changes are reported with [`Input::StoreChanged`].
        watch: bool,
    },
    /// An endpoint that is no node needs a store whose primary the layout puts on this node: open it or not, by
    /// [`StoreNeed::verdict`], and answer with [`StoreState`](super::StoreState).
    NeedStore {
        /// The store.
        store: StoreName,
        /// What is asked.
        need: StoreNeed,
        /// Who waits for the answer.
        asker: EndpointId,
    },
    /// Change a store that was opened, and report the outcome with [`Input::StoreAnswer`].
    WriteStore {
        /// The store.
        store: StoreName,
        /// The change.
        op: Op,
        /// The level that it must have reached.
        level: Level,
        /// How long it may take; the layout's `stores.mutation_buffer_interval` if not set.
        within: Option<Duration>,
        /// The token that the answer repeats.
        token: u64,
    },
    /// Tell the operator.
    Report(Report),
}

/// Something an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How bad it is.
    pub severity: Severity,
    /// What happened.
    pub text: String,
}

/// What became of a batch of log records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// The number of records that are in the files.
    pub records: u64,
    /// The number of records of earlier batches that are gone because somebody removed their file.
    pub gone: u64,
    /// What went wrong, with the file's name. If all records were written, it may be about rotating.
    pub problem: Option<String>,
    /// Whether what was not written is refused for a problem of the batch itself, so that no logger can write it.
    pub is_invalid: bool,
}

/// Where a logger's records go: files in a process, memory in a test.
pub trait LogSink: Send {
    /// Returns what the diary has of batches that earlier lives have written. It is called once, before anything else. By default
    /// there is no diary.
    ///
    /// # Errors
    /// A text for the operator that says what went wrong.
    fn recover(&mut self, wall: Timestamp) -> Result<Vec<ProducerRecord>, String> {
        let _ = wall;
        Ok(Vec::new())
    }

    /// Writes a batch. `wall` is the wall clock's time. A batch with a delivery is written as a whole or not at all.
    fn write(
        &mut self,
        batch: &LogBatch,
        delivery: Option<&LogDelivery>,
        wall: Timestamp,
    ) -> Written;

    /// Keeps in the diary what is decided about batches. Without notes it is tried whether files can be written.
    ///
    /// # Errors
    /// A text for the operator that says what went wrong.
    fn note(&mut self, notes: Option<&LogNotes>, wall: Timestamp) -> Result<(), String> {
        let _ = (notes, wall);
        Ok(())
    }

    /// Returns how many records that this life has written were struck by notes since the last call: they count at another logger. By
    /// default it is not known.
    fn take_struck(&mut self) -> u64 {
        0
    }

    /// Makes safe what was written and noted: behind it a power failure loses nothing of it. It may take long. By default what is
    /// written is safe.
    ///
    /// # Errors
    /// A text for the operator that says what went wrong. What was written since the last time may be lost then.
    fn sync(&mut self, wall: Timestamp) -> Result<(), String> {
        let _ = wall;
        Ok(())
    }

    /// Does what is due by the wall clock, such as rotating files.
    ///
    /// # Errors
    /// A text for the operator that says what went wrong.
    fn tick(&mut self, wall: Timestamp) -> Result<(), String>;

    /// Closes all files.
    ///
    /// # Errors
    /// A text for the operator that says what went wrong.
    fn close(&mut self, wall: Timestamp) -> Result<(), String>;
}

/// How bad a [`Report`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Normal operation.
    Info,
    /// Something was lost or refused.
    Warning,
    /// An operator must act.
    Error,
}

/// Why a node's frameworks cannot run together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The layout has no such node.
    #[error("the layout has no node `{0}`")]
    UnknownNode(String),
    /// Two frameworks declare an event with different arguments.
    #[error("event `{0}` is declared twice with different arguments")]
    EventConflict(String),
    /// Two frameworks answer the same question, or one does so twice.
    #[error(
        "question `{question}` is answered by framework `{first}`, and again by framework `{second}`"
    )]
    AnsweredTwice {
        /// The question.
        question: &'static str,
        /// The framework that was declared first.
        first: &'static str,
        /// The other one.
        second: &'static str,
    },
    /// Two frameworks handle the same keyed event in a pool, or one does so twice.
    #[error("keyed event `{0}` has two handlers")]
    KeyedTwice(&'static str),
    /// A framework handles keyed events in a pool that the layout does not have.
    #[error("there is no pool {0}")]
    UnknownPool(PoolName),
    /// A framework has declared a store whose name is not valid.
    #[error("`{0}` is not the name of a store: {1}")]
    StoreName(&'static str, muster_store::StoreNameError),
    /// A framework has declared a register whose name is not valid.
    #[error("`{0}` is not the name of a register: it takes 1 to 128 letters, digits and `._-/:`")]
    RegisterName(&'static str),
    /// Two frameworks declare a register in different ways, or a register has the name of a setting.
    #[error(
        "register `{0}` is declared twice with different types, bounds or defaults, or is a setting"
    )]
    RegisterConflict(&'static str),
    /// The default of a register is not a value of it.
    #[error("register `{0}`: its default is no value of it: it {1}")]
    RegisterDefault(&'static str, Unfit),
    /// A framework has declared a feed whose name is not valid.
    #[error("`{0}` is not the name of a feed: it takes 1 to 128 letters, digits and `._-/:`")]
    FeedName(&'static str),
    /// Two frameworks have the source of a feed or follow it, or one does so twice.
    #[error("feed `{0}` has its source twice on the node, or is followed twice")]
    FeedTwice(&'static str),
    /// A stream cannot be declared.
    #[error(transparent)]
    Stream(#[from] StreamError),
}
