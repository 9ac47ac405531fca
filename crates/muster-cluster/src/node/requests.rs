//! Requests of a node's frameworks, and those of others that they answer: what arrives goes in, what is wanted is sent.

mod context;
mod recipients;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use muster_data::{ConvertError, DataRef, Timestamp};
use muster_wire::zeek::{self, EventRef, Metadata};
use muster_wire::{Class, EndpointId, Mono};

pub(crate) use context::Then;
pub use context::{Gathered, Request, Scatter};
pub use recipients::{Among, To};

use self::recipients::Seen;
use super::dispatch::call;
use super::node_core::NodeCore;
use super::stores::Continuation;
use super::{NodeLoop, Severity, shape};
use crate::layout::{MOST_NODES, Role};
use crate::requests::messages::{
    ANSWER, QUESTION, QuestionRef, Verdict, put_answer, put_question, read_answer, read_question,
};
use crate::requests::{Answering, Arrival, Ask, Asking, Heard, Outcome, RequestErrorKind, Step};

/// What a message has besides a question or an answer, at most.
const AROUND: usize = 4_096;

/// Whether an answer is of the right type.
type Check = fn(DataRef<'_>) -> Result<(), ConvertError>;

/// What a node has of requests.
#[derive(Default)]
pub(crate) struct Requests {
    asking: Asking,
    answering: Answering,
    /// By token: who has asked, and what follows.
    waiting: HashMap<u64, Waiting>,
    /// Requests that have ended, whose frameworks do not know it yet.
    ended: VecDeque<Ended>,
    /// The lives whose hello has said that they answer requests.
    able: BTreeSet<EndpointId>,
    /// Whose turn it was last.
    turns: HashMap<(Role, &'static str), usize>,
    /// Somebody has come or gone.
    pub(super) is_stale: bool,
    has_stopped: bool,
}

struct Waiting {
    framework: usize,
    then: Continuation,
    check: Check,
    event_time: Option<Timestamp>,
}

/// A request that has ended.
pub(super) struct Ended {
    framework: usize,
    then: Continuation,
    outcome: Outcome,
    event_time: Option<Timestamp>,
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests")
            .field("open", &self.asking.len())
            .finish_non_exhaustive()
    }
}

impl Requests {
    pub(super) fn next_deadline(&self, now: Mono) -> Option<Mono> {
        let is_due = !self.ended.is_empty() || (self.is_stale && self.asking.len() > 0);
        if is_due {
            return Some(now);
        }
        self.asking.next_deadline()
    }

    /// Returns the next request that has ended.
    pub(super) fn take_ended(&mut self) -> Option<Ended> {
        self.ended.pop_front()
    }
}

impl NodeCore {
    /// Who is where, as this node sees it.
    fn seen(&self) -> Seen<'_> {
        Seen {
            me: (&self.node.name, self.id),
            members: &self.members,
            able: &self.requests.able,
        }
    }

    /// Returns how large a question or an answer may be: what a peer's queue of the class takes.
    fn largest_message(&self) -> usize {
        let settings = &self.node.settings;
        let queue = settings.size("peering.interactive_queue_bytes");
        queue.min(settings.size("peering.largest_message"))
    }

    /// Makes a request.
    fn ask(&mut self, framework: usize, ask: Ask, then: Continuation, check: Check) {
        let largest = self.largest_message();
        let now = self.clock.now.mono;
        let target = ask.target.clone();
        let event_time = self.clock.event_time;
        let requests = &mut self.requests;
        let opened = if requests.has_stopped {
            Err(RequestErrorKind::Stopping)
        } else if ask.question.arguments.len() + AROUND > largest {
            Err(RequestErrorKind::TooLarge)
        } else {
            let seen = Seen {
                me: (&self.node.name, self.id),
                members: &self.members,
                able: &requests.able,
            };
            requests.asking.open(ask, &seen, now)
        };
        match opened {
            Ok(token) => {
                let waiting = Waiting {
                    framework,
                    then,
                    check,
                    event_time,
                };
                requests.waiting.insert(token, waiting);
                self.take_request_steps();
            }
            Err(kind) => {
                if kind == RequestErrorKind::TooMany {
                    let text = || "too many requests are open: some are not made".to_owned();
                    self.report(Severity::Warning, "requests", text);
                }
                let outcome = Outcome::unasked(&target, kind);
                self.ended(Ended {
                    framework,
                    then,
                    outcome,
                    event_time,
                });
            }
        }
    }

    fn ended(&mut self, ended: Ended) {
        let outcome = &ended.outcome;
        let missing = outcome.missing.iter().map(|(_, kind)| kind);
        for kind in missing.chain(&outcome.unasked) {
            match kind {
                RequestErrorKind::NotAwaited => {}
                kind if kind.may_have_been_handled() => self.counts.questions_unknown += 1,
                _ => self.counts.questions_not_handled += 1,
            }
        }
        self.requests.ended.push_back(ended);
    }

    /// Sends what is to be sent, and notes what has ended.
    fn take_request_steps(&mut self) {
        for step in self.requests.asking.take_steps() {
            match step {
                Step::Send(sending) => {
                    if sending.is_repeated {
                        self.counts.questions_repeated += 1;
                    } else {
                        self.counts.questions_asked += 1;
                    }
                    let topic = self.layout.topics().id(sending.to);
                    let metadata = Metadata {
                        timestamp: Some(sending.question.at),
                        ..Metadata::default()
                    };
                    self.send(&topic, Class::Interactive, QUESTION, metadata, |out| {
                        put_question(out, &sending);
                    });
                }
                Step::Ended(token, outcome) => {
                    if let Some(waiting) = self.requests.waiting.remove(&token) {
                        self.ended(Ended {
                            framework: waiting.framework,
                            then: waiting.then,
                            outcome,
                            event_time: waiting.event_time,
                        });
                    }
                }
            }
        }
    }

    /// Does what is due for requests, and looks at who is there if that may have changed.
    pub(super) fn look_at_requests(&mut self) {
        let now = self.clock.now.mono;
        let requests = &mut self.requests;
        if std::mem::take(&mut requests.is_stale) {
            let seen = Seen {
                me: (&self.node.name, self.id),
                members: &self.members,
                able: &requests.able,
            };
            requests.asking.look_around(&seen, now);
            // The hello may come before the peering.
            if requests.able.len() > MOST_NODES {
                let membership = &self.members.membership;
                requests.able.retain(|id| membership.name_of(*id).is_some());
            }
        }
        self.requests.asking.tick(now);
        self.take_request_steps();
    }

    /// The node stops: its requests end, and nobody is asked any more.
    pub(super) fn end_requests(&mut self) {
        self.requests.has_stopped = true;
        self.requests.asking.stop();
        self.take_request_steps();
    }

    /// A hello says whether its node answers requests.
    pub(super) fn answers_requests(&mut self, from: EndpointId, features: u64) {
        if features & zeek::ANSWERS_REQUESTS != 0 && self.requests.able.insert(from) {
            self.requests.is_stale = true;
        }
    }

    fn tell_answer(&mut self, to: EndpointId, number: u64, verdict: &Verdict, answer: &[u8]) {
        let topic = self.layout.topics().id(to);
        let metadata = Metadata::default();
        self.send(&topic, Class::Interactive, ANSWER, metadata, |out| {
            put_answer(out, number, verdict, answer);
        });
    }
}

impl NodeLoop {
    /// Returns the number of requests of this node's frameworks that are open.
    pub fn open_requests(&self) -> usize {
        self.core.requests.asking.len()
    }

    /// Lets a rule of requests be broken, to see that it is noticed.
    #[cfg(any(test, feature = "simulation"))]
    pub fn sabotage_requests(&mut self, rule: super::RequestSabotage) {
        self.core.requests.asking.sabotage(rule);
        self.core.requests.answering.sabotage(rule);
    }

    /// Tells frameworks of the requests that have ended, before they hear anything else.
    pub(super) fn tell_ended(&mut self) {
        let ended = std::mem::take(&mut self.core.requests.ended);
        for ended in ended {
            self.resume_request(ended);
        }
    }

    /// Tells a framework what became of its request.
    pub(super) fn resume_request(&mut self, ended: Ended) {
        let Some(hosted) = self.frameworks.get_mut(ended.framework) else {
            return;
        };
        let place = "a request's outcome";
        self.core.clock.event_time = ended.event_time;
        call(
            &mut self.core,
            ended.framework,
            &mut **hosted,
            place,
            |hosted, cx| hosted.resume_request(ended.then, ended.outcome, cx),
        );
        self.core.clock.event_time = None;
    }

    /// A node asks something.
    pub(super) fn question_arrived(&mut self, from: EndpointId, event: &EventRef<'_>) {
        if !self.is_from_node(from, event.name()) {
            return;
        }
        let Some(question) = read_question(event.arguments()) else {
            self.core.counts.events_refused += 1;
            return;
        };
        let number = question.number;
        if !self.answerers.contains_key(question.name) {
            self.core.counts.questions_refused += 1;
            return self
                .core
                .tell_answer(from, number, &Verdict::NoHandler, &[]);
        }
        let now = self.core.clock.now.mono;
        let answering = &mut self.core.requests.answering;
        match answering.arrived(from, number, question.floor, now) {
            Arrival::Ignore => self.core.counts.questions_again += 1,
            Arrival::Again(verdict, answer) => {
                self.core.counts.questions_again += 1;
                self.core.tell_answer(from, number, &verdict, &answer);
            }
            Arrival::Handle => {
                self.core.clock.event_time = event.timestamp();
                let (verdict, answer) = self.answer(from, &question);
                self.core.clock.event_time = None;
                self.core.tell_answer(from, number, &verdict, &answer);
                let within: Duration = question.within;
                let answering = &mut self.core.requests.answering;
                answering.answered(from, number, verdict, answer, within, now);
            }
        }
    }

    /// Has a framework answer a question.
    fn answer(&mut self, from: EndpointId, question: &QuestionRef<'_>) -> (Verdict, Bytes) {
        let nothing = Bytes::new;
        let Some(&(framework, handler)) = self.answerers.get(question.name) else {
            return (Verdict::NoHandler, nothing());
        };
        let Some(hosted) = self.frameworks.get_mut(framework) else {
            return (Verdict::NoHandler, nothing());
        };
        let name = hosted.name();
        let answered = call(
            &mut self.core,
            framework,
            &mut **hosted,
            question.name,
            |hosted, cx| hosted.answer(handler, question.arguments, cx),
        );
        let largest = self.core.largest_message();
        match answered {
            None => (Verdict::Panicked, nothing()),
            Some(Ok(answer)) if answer.len() + AROUND > largest => {
                self.core.counts.questions_handled += 1;
                let kind = format!("answer to {}", question.name);
                let text = || {
                    let (size, question) = (answer.len(), question.name);
                    format!(
                        "the answer of framework {name} to {question} is too large: {size} bytes"
                    )
                };
                self.core.report(Severity::Warning, &kind, text);
                (Verdict::TooLarge, nothing())
            }
            Some(Ok(answer)) => {
                self.core.counts.questions_handled += 1;
                (Verdict::Answered, Bytes::from(answer))
            }
            Some(Err(error)) => {
                self.core.counts.questions_refused += 1;
                let kind = format!("refused {}", question.name);
                let declared = self.core.events.get(question.name).map(shape::declared);
                let text = || {
                    let found = shape::found(question.arguments);
                    let declared = declared.unwrap_or_default();
                    let question = question.name;
                    format!(
                        "framework {name} refused question {question} of {from}: {error}; declared {declared}, found {found}"
                    )
                };
                self.core.report(Severity::Warning, &kind, text);
                (Verdict::WrongQuestion, nothing())
            }
        }
    }

    /// A node answers something.
    pub(super) fn answer_arrived(&mut self, from: EndpointId, event: &EventRef<'_>) {
        if !self.is_from_node(from, event.name()) {
            return;
        }
        let Some(answer) = read_answer(event.arguments()) else {
            self.core.counts.events_refused += 1;
            return;
        };
        let now = self.core.clock.now.mono;
        let Requests {
            asking, waiting, ..
        } = &mut self.core.requests;
        let value = answer.answer;
        let check = |token| {
            let waiting = waiting.get(&token);
            waiting.map_or(Ok(()), |waiting| (waiting.check)(value))
        };
        let heard = asking.answered(
            from,
            answer.number,
            &answer.verdict,
            value.bytes(),
            check,
            now,
        );
        match heard {
            Heard::InTime => self.core.take_request_steps(),
            Heard::Late => self.core.counts.answers_late += 1,
        }
    }
}
