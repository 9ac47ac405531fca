//! What loggers write: in memory, or with a test's own sinks, whose disks hang and are full as those of their boxes are.

use std::time::Duration;

use muster_cluster::node::{
    BatchRefusal, Input, LogBatch, LogDelivery, LogNotes, LogSink, NodeLoop, Written,
};
use muster_cluster::{Layout, Node};

use super::Cluster;
use crate::agenda::{Item, LogWork};
use crate::nanos;

/// How long a logger takes to write a batch.
const WRITING: Duration = Duration::from_micros(100);

/// How long what was written waits to be synced with more.
const SYNC_AFTER: Duration = Duration::from_millis(100);

/// How long a node that stops waits for its loggers, a logger for its producers, or a node for its spool.
const DRAIN: Duration = Duration::from_secs(5);

/// Makes the sink of a node's life.
pub(super) type MakeSink = Box<dyn Fn(&Layout, &Node) -> Box<dyn LogSink>>;

/// Where a logger's life writes.
#[derive(Default)]
pub(super) struct LogDisk {
    sink: Option<Box<dyn LogSink>>,
    /// When it is done with what it was given last.
    busy_until: u64,
    /// The number of the last that is written, and whether a sync is under way.
    written: u64,
    is_syncing: bool,
}

impl Cluster {
    /// Has loggers write to sinks of the test's own, one for each life. A sink that is dropped without
    /// [`close`](LogSink::close) is one of a process that was killed. Without them records are kept in memory.
    #[must_use]
    pub fn log_sinks(
        mut self,
        make: impl Fn(&Layout, &Node) -> Box<dyn LogSink> + 'static,
    ) -> Self {
        self.make_sink = Some(Box::new(make));
        self
    }

    /// A life begins: its sink says what earlier ones have left.
    pub(super) fn begin_log_disk(&self, position: usize, node_loop: &mut NodeLoop) -> LogDisk {
        let mut disk = LogDisk::default();
        let known = self.layout.find(&self.nodes[position].name);
        let known = known.filter(|known| self.layout.takes_logs(known));
        if let Some((make, known)) = self.make_sink.as_ref().zip(known) {
            let mut sink = make(&self.layout, known);
            let wall = self.clock(position).wall;
            let records = sink.recover(wall);
            let records = records.unwrap_or_else(|error| panic!("{}: {error}", known.name));
            node_loop.recover_logs(records);
            disk.sink = Some(sink);
        }
        disk
    }

    /// Hands something to a logger's disk, which does one thing after the other.
    pub(super) fn log_work(&mut self, position: usize, life: u64, work: LogWork) {
        let takes = match &work {
            LogWork::Sync => nanos(SYNC_AFTER) + self.disk_takes(position),
            LogWork::Write { .. } | LogWork::Note { .. } => nanos(WRITING),
        };
        let Some(present) = &mut self.nodes[position].life else {
            return;
        };
        let at = present.log_disk.busy_until.max(self.now) + takes;
        if !matches!(work, LogWork::Sync) {
            present.log_disk.busy_until = at;
        }
        let node = position;
        self.agenda.add(at, Item::LogWork { node, life, work });
    }

    /// A logger's disk does something.
    pub(super) fn do_log_work(&mut self, position: usize, work: LogWork) {
        match work {
            LogWork::Write {
                batch,
                delivery,
                sequence,
            } => self.write_batch(position, &batch, delivery.as_ref(), sequence),
            LogWork::Note { notes, sequence } => self.note_logs(position, notes.as_ref(), sequence),
            LogWork::Sync => self.sync_logs(position),
        }
    }

    fn write_batch(
        &mut self,
        position: usize,
        batch: &LogBatch,
        delivery: Option<&LogDelivery>,
        sequence: u64,
    ) {
        let (wall, is_full) = (self.clock(position).wall, self.is_disk_full(position));
        let Some(life) = &mut self.nodes[position].life else {
            return;
        };
        let written = match &mut life.log_disk.sink {
            Some(_) if is_full => Written {
                problem: Some("no space left on device".to_owned()),
                ..Written::default()
            },
            Some(sink) => sink.write(batch, delivery, wall),
            None => {
                let log = self.logged.entry(batch.stream.clone()).or_default();
                log.extend(batch.rows().map(|row| (position, row.to_data())));
                Written {
                    records: batch.len() as u64,
                    ..Written::default()
                }
            }
        };
        let records = written.records;
        let stream = &batch.stream;
        self.note(position, &format!("wrote {records} records to {stream}"));
        let failed = batch.len() as u64 - records;
        let refusal = if written.is_invalid {
            BatchRefusal::Invalid
        } else {
            BatchRefusal::CannotWrite
        };
        self.logs_were_written(position, sequence);
        self.step(
            position,
            Input::Written {
                sequence,
                refusal: (failed > 0).then_some(refusal),
                stream,
                records,
                failed,
                gone: written.gone,
                problem: written.problem.as_deref(),
            },
        );
    }

    fn note_logs(&mut self, position: usize, notes: Option<&LogNotes>, sequence: u64) {
        let (wall, is_full) = (self.clock(position).wall, self.is_disk_full(position));
        let Some(life) = &mut self.nodes[position].life else {
            return;
        };
        let noted = match &mut life.log_disk.sink {
            Some(_) if is_full => Err("no space left on device".to_owned()),
            Some(sink) => sink.note(notes, wall),
            None => Ok(()),
        };
        let struck = life.log_disk.sink.as_mut().map(|sink| sink.take_struck());
        let records = struck.unwrap_or_default();
        match noted {
            Ok(()) => {
                self.logs_were_written(position, sequence);
                self.step(position, Input::LogsStruck { records });
            }
            Err(problem) => self.step(position, Input::LogsNotSynced { problem: &problem }),
        }
    }

    fn logs_were_written(&mut self, position: usize, sequence: u64) {
        let Some(life) = &mut self.nodes[position].life else {
            return;
        };
        life.log_disk.written = sequence;
        let number = life.number;
        if !std::mem::replace(&mut life.log_disk.is_syncing, true) {
            self.log_work(position, number, LogWork::Sync);
        }
    }

    fn sync_logs(&mut self, position: usize) {
        let wall = self.clock(position).wall;
        let Some(life) = &mut self.nodes[position].life else {
            return;
        };
        let disk = &mut life.log_disk;
        disk.is_syncing = false;
        let through = disk.written;
        let synced = disk.sink.as_mut().map_or(Ok(()), |sink| sink.sync(wall));
        // What is due by the clock is done beside it.
        if let Some(sink) = &mut disk.sink {
            let _ = sink.tick(wall);
        }
        match synced {
            Ok(()) => self.step(position, Input::LogsSynced { through }),
            Err(problem) => self.step(position, Input::LogsNotSynced { problem: &problem }),
        }
    }

    /// A node that stops waits until its records are safe, and a logger until it knows which of them count. Without sinks of the
    /// test's own it waits for keyed work alone.
    pub(super) fn drain_logs(&mut self, position: usize) {
        if self.make_sink.is_none() {
            return self.drain(position, NodeLoop::is_keyed_work_done);
        }
        self.drain(position, |it| {
            it.has_shipped() && it.undecided_batches() == 0
        });
    }

    /// Waits until a node that stops is done with something, or has ended.
    pub(super) fn drain(&mut self, position: usize, is_done: impl Fn(&NodeLoop) -> bool) {
        let end = self.now + nanos(DRAIN);
        let number = self.nodes[position].life.as_ref().map(|life| life.number);
        while self.now < end {
            let life = self.nodes[position].life.as_ref();
            let life = life.filter(|life| Some(life.number) == number);
            let node = life.and_then(|life| life.process.muster());
            if node.is_none_or(&is_done) {
                return;
            }
            self.run_for(Duration::from_millis(10));
        }
    }

    /// A node that has stopped closes its files.
    pub(super) fn close_logs(&mut self, position: usize) {
        let wall = self.clock(position).wall;
        if let Some(life) = &mut self.nodes[position].life
            && let Some(sink) = &mut life.log_disk.sink
            && let Err(problem) = sink.close(wall)
        {
            self.note(position, &format!("error: {problem}"));
        }
    }
}
