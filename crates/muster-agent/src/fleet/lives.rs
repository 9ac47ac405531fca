//! The processes of a fleet: how they are started, found and followed to their end.

use std::collections::VecDeque;
use std::path::PathBuf;

use muster_gateway::status::MISCONFIGURED;

use super::{Fleet, News, PastLife};
use crate::journal::EventKind;
use crate::launch::LaunchError;
use crate::life::{Life, LifeId};
use crate::node_socket::{NodeConnection, Report, Word};
use crate::process::{Ended, Process};
use crate::supervisor::{Action, End, ProcessState};

impl Fleet {
    pub(super) fn carry_out(&mut self, actions: Vec<Action>) {
        let has_any = !actions.is_empty();
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Start(name) => {
                    // What keeps one node from starting may pass, and is no reason to end the others.
                    if let Err(error) = self.start(&name) {
                        self.ended(&name, Some(error.to_string()));
                        let now = self.now();
                        actions.extend(self.supervisor.exited(&name, End::MayPass, now));
                    }
                }
                Action::Stop(name) => {
                    if let Some(life) = self.lives.get(&name) {
                        life.tell(Word::Stop);
                    }
                }
                Action::Kill(name) => {
                    if let Some(life) = self.lives.get_mut(&name) {
                        life.kill();
                    }
                }
            }
        }
        if has_any {
            self.keep_record();
        }
    }

    /// Starts a node's process, unless there is one.
    fn start(&mut self, name: &str) -> Result<(), LaunchError> {
        if self.adopt(name)? {
            return Ok(());
        }
        let command = self.launcher.command(name);
        for note in self.launcher.take_notes() {
            self.tell_note(note);
        }
        let mut command = command?;
        let spawned = Process::spawn(&mut command);
        let (process, mut child) = spawned.map_err(|source| LaunchError::Spawn {
            program: PathBuf::from(command.get_program()),
            source,
        })?;
        let tie = child.stdin.take();
        let text = format!("started as process {}", process.pid());
        self.follow(name, process, tie);
        self.note(EventKind::NodeStarted, Some(name), text);
        self.news.push(News::Started(name.to_owned()));
        Ok(())
    }

    /// Takes over the process that listens on a node's socket. Returns whether there is one.
    pub(super) fn adopt(&mut self, name: &str) -> Result<bool, LaunchError> {
        let path = self.places.node_socket(name);
        let find = || {
            let Some(found) = NodeConnection::open(&path)? else {
                return Ok(None);
            };
            let process = Process::of(found.pid)?;
            // If it still listens now, the number meant this process all the time.
            let again = NodeConnection::open(&path)?;
            Ok(again
                .is_some_and(|again| again.pid == found.pid)
                .then_some(process))
        };
        let found = find().map_err(|source| LaunchError::Socket {
            path: path.clone(),
            source,
        })?;
        let Some(process) = found else {
            return Ok(false);
        };
        let text = format!("found running as process {}", process.pid());
        self.follow(name, process, None);
        self.note(EventKind::NodeAdopted, Some(name), text);
        self.news.push(News::Adopted(name.to_owned()));
        Ok(true)
    }

    pub(super) fn follow(
        &mut self,
        name: &str,
        process: Process,
        tie: Option<std::process::ChildStdin>,
    ) {
        self.next_life += 1;
        let id = LifeId {
            node: name.to_owned(),
            number: self.next_life,
        };
        let socket = self.places.node_socket(name);
        let life = Life::follow(id, process, tie, socket, self.sender.clone());
        self.lives.insert(name.to_owned(), life);
    }

    pub(super) fn exited(&mut self, id: &LifeId, ended: Ended) {
        let name = &id.node;
        let life = self.lives.get_mut(name);
        let Some(life) = life.filter(|life| life.number == id.number) else {
            return;
        };
        life.pid = None;
        if let (true, Some(report)) = (self.keep_past, life.report.as_ref().and_then(Report::read))
        {
            self.past.push(PastLife {
                node: name.clone(),
                report,
            });
        }
        let is_asked = !matches!(
            self.supervisor.get(name),
            Some((ProcessState::Running { .. }, _))
        );
        let reason = match ended {
            Ended::Code(0) => None,
            Ended::Unknown if is_asked => None,
            // A process that was killed had no time to say why; any other has said it.
            Ended::Signal(_) => Some(ended.to_string()),
            Ended::Code(_) | Ended::Unknown => {
                let last = self.launcher.last_line(name).unwrap_or_default();
                Some(format!("{ended}: {last}"))
            }
        };
        self.ended(name, reason);
        let end = match ended {
            Ended::Code(code) if code == i32::from(MISCONFIGURED) => End::Misconfigured,
            _ => End::MayPass,
        };
        let actions = self.supervisor.exited(name, end, self.now());
        self.carry_out(actions);
        self.keep_record();
    }

    fn ended(&mut self, name: &str, reason: Option<String>) {
        let text = reason.clone().unwrap_or_else(|| "in order".to_owned());
        self.note(EventKind::NodeEnded, Some(name), text);
        match &reason {
            Some(reason) => self.reasons.insert(name.to_owned(), reason.clone()),
            None => self.reasons.remove(name),
        };
        self.news.push(News::Ended(name.to_owned(), reason));
    }
}
