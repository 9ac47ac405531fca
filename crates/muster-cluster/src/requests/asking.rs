//! The requests that a node has open: who is asked, who has answered, and when they end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use muster_data::ConvertError;
use muster_wire::{EndpointId, Mono};

use super::ask::{Ask, EncodedQuestion, Standing, Target, Whereabouts};
use super::error::RequestErrorKind;
use super::messages::Verdict;
use super::open::{Open, Place, Sent};
use super::outcome::Outcome;
use super::sabotage::Sabotage;
use crate::layout::NodeName;

/// The requests of one node that may be open; one to many nodes counts once.
pub(crate) const MOST_OPEN: usize = 1_024;

/// The bytes that open requests may take, questions, answers and who was asked.
const MOST_BYTES: usize = 64 << 20;

/// What a node that is asked counts for.
const PER_NODE: usize = 256;

/// How soon a question is sent again that is not answered; then after twice the time, and so on.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// The longest time between two of these.
const ASK_AGAIN_MOST: Duration = Duration::from_secs(4);

/// A question on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sending {
    /// The life that is asked.
    pub(crate) to: EndpointId,
    pub(crate) number: u64,
    /// The first number that is open between the two.
    pub(crate) floor: u64,
    /// For how long the asker waits from now on.
    pub(crate) within: Duration,
    pub(crate) question: EncodedQuestion,
    /// It was sent before.
    pub(crate) is_repeated: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Send(Sending),
    /// The request of this token has ended.
    Ended(u64, Outcome),
}

/// What an answer was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// One that was waited for.
    InTime,
    /// One that nobody waits for any more.
    Late,
}

/// The open requests of a node.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    /// The token of the last request.
    last: u64,
    /// How many questions were sent, to anybody: the first number towards a life that is new, or has been forgotten.
    sent: u64,
    open: BTreeMap<u64, Open>,
    towards: BTreeMap<EndpointId, Towards>,
    due: BTreeSet<(Mono, Due)>,
    bytes: usize,
    steps: Vec<Step>,
    broken: Sabotage,
}

/// What is open between this node and a life of another.
#[derive(Debug)]
struct Towards {
    next: u64,
    /// By number: the request, and the node.
    open: BTreeMap<u64, (u64, NodeName)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// A question is sent again.
    Again(EndpointId, u64),
    /// A request ends.
    Deadline(u64),
}

impl Asking {
    /// Lets a rule be broken.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn sabotage(&mut self, broken: Sabotage) {
        self.broken = broken;
    }

    /// Returns how many requests are open.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Takes what is to be done, in order.
    pub(crate) fn take_steps(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.steps)
    }

    /// Returns when [`tick`](Self::tick) is due.
    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Opens a request. Returns its token, which ends with [`Step::Ended`].
    ///
    /// # Errors
    /// [`RequestErrorKind::TooMany`] if too many are open, or too large ones.
    pub(crate) fn open(
        &mut self,
        ask: Ask,
        whereabouts: &impl Whereabouts,
        now: Mono,
    ) -> Result<u64, RequestErrorKind> {
        let (nodes, key): (BTreeSet<NodeName>, _) = match ask.target {
            Target::Nodes(nodes) => (nodes.into_iter().collect(), None),
            Target::Owner(pool, key) => {
                let owner = whereabouts.owner(&pool, key);
                (owner.into_iter().collect(), Some((pool, key)))
            }
        };
        let bytes = ask.question.arguments.len() + nodes.len().max(1) * PER_NODE;
        if self.open.len() >= MOST_OPEN || self.bytes + bytes > MOST_BYTES {
            return Err(RequestErrorKind::TooMany);
        }
        self.last += 1;
        let token = self.last;
        let deadline = now.after(ask.within);
        let has_key = key.is_some();
        self.bytes += bytes;
        self.due.insert((deadline, Due::Deadline(token)));
        let open = Open {
            question: ask.question,
            deadline,
            quorum: ask.quorum.max(1),
            key,
            asked: BTreeMap::new(),
            former: BTreeMap::new(),
            outcome: Outcome::default(),
            bytes,
        };
        self.open.insert(token, open);
        let is_empty = nodes.is_empty();
        for node in nodes {
            self.begin(token, node, whereabouts, now);
        }
        if has_key && is_empty {
            self.end(token, &RequestErrorKind::Nobody);
        } else {
            self.end_if_done(token);
        }
        Ok(token)
    }

    /// Asks a node, or waits for it if it cannot be reached at present.
    fn begin(&mut self, token: u64, node: NodeName, whereabouts: &impl Whereabouts, now: Mono) {
        let standing = whereabouts.standing(&node);
        let Some(open) = self.open.get_mut(&token) else {
            return;
        };
        match standing {
            Standing::There(life) => self.send_first(token, node, life, now),
            Standing::Away => {
                open.asked.insert(node, Place::Waiting);
            }
            Standing::Out => self.miss(token, node, RequestErrorKind::Nobody),
            Standing::Unable => self.miss(token, node, RequestErrorKind::Unable),
        }
    }

    fn send_first(&mut self, token: u64, node: NodeName, to: EndpointId, now: Mono) {
        let Some(open) = self.open.get_mut(&token) else {
            return;
        };
        let known = open.former.remove(&to);
        let first = self.sent;
        let towards = self.towards.entry(to).or_insert_with(|| Towards {
            next: first,
            open: BTreeMap::new(),
        });
        let number = known.unwrap_or(towards.next);
        if known.is_none() {
            towards.next += 1;
            towards.open.insert(number, (token, node.clone()));
            self.sent += 1;
        }
        let again = now.after(ASK_AGAIN);
        let sent = Sent {
            to,
            number,
            again,
            waited: ASK_AGAIN,
            is_away: false,
        };
        open.asked.insert(node, Place::Sent(sent));
        self.due.insert((again, Due::Again(to, number)));
        self.send(token, to, number, now, known.is_some());
    }

    fn send(&mut self, token: u64, to: EndpointId, number: u64, now: Mono, is_repeated: bool) {
        let Some(open) = self.open.get(&token) else {
            return;
        };
        let towards = self.towards.get(&to);
        let floor = towards.and_then(|towards| towards.open.keys().next());
        self.steps.push(Step::Send(Sending {
            to,
            number,
            floor: floor.copied().unwrap_or(number),
            within: open.deadline.since(now),
            question: open.question.clone(),
            is_repeated,
        }));
    }

    /// A life of a node has said what became of a question, and `check` whether the answer is of the right type.
    pub(crate) fn answered(
        &mut self,
        from: EndpointId,
        number: u64,
        verdict: &Verdict,
        answer: &[u8],
        check: impl FnOnce(u64) -> Result<(), ConvertError>,
        now: Mono,
    ) -> Heard {
        let towards = self.towards.get(&from);
        let known = towards.and_then(|towards| towards.open.get(&number).cloned());
        let known = known.or_else(|| self.any_open());
        let Some((token, node)) = known else {
            return Heard::Late;
        };
        let takes_any = self.broken == Sabotage::TakesAnyAnswer;
        let Some(open) = self.open.get_mut(&token).filter(|open| {
            // What a former owner of a key says does not count: somebody else may have done something since.
            open.deadline > now && (takes_any || open.is_asked(&node, from, number))
        }) else {
            return Heard::Late;
        };
        let has_room = self.bytes + answer.len() <= MOST_BYTES;
        let problem = match verdict.problem() {
            None if !has_room => Some(RequestErrorKind::AnswerTooLarge),
            None => check(token).err().map(RequestErrorKind::WrongAnswer),
            problem => problem,
        };
        if let Some(kind) = problem {
            self.miss(token, node, kind);
        } else {
            self.bytes += answer.len();
            open.bytes += answer.len();
            let answer = Bytes::copy_from_slice(answer);
            open.outcome.answers.push((node.clone(), answer));
            self.close(token, &node);
        }
        self.end_if_done(token);
        Heard::InTime
    }

    /// A rule that is broken: any answer will do.
    fn any_open(&self) -> Option<(u64, NodeName)> {
        if self.broken != Sabotage::TakesAnyAnswer {
            return None;
        }
        let mut towards = self.towards.values();
        towards.find_map(|towards| towards.open.values().next().cloned())
    }

    /// Who is where may have changed: who is gone is not waited for, and who has come is asked.
    pub(crate) fn look_around(&mut self, whereabouts: &impl Whereabouts, now: Mono) {
        let tokens: Vec<u64> = self.open.keys().copied().collect();
        for token in tokens {
            let Some(open) = self.open.get(&token) else {
                continue;
            };
            let asked = open.asked.iter();
            let asked: Vec<_> = asked.map(|(node, place)| (node.clone(), *place)).collect();
            for (node, place) in asked {
                self.look_at(token, node, place, whereabouts, now);
            }
            self.look_for_owner(token, whereabouts, now);
            self.end_if_done(token);
        }
        // With a life that is gone nothing is open. If it comes back, its numbers begin behind all that there were.
        self.towards.retain(|_, towards| !towards.open.is_empty());
    }

    fn look_at(
        &mut self,
        token: u64,
        node: NodeName,
        place: Place,
        whereabouts: &impl Whereabouts,
        now: Mono,
    ) {
        let standing = whereabouts.standing(&node);
        let Some(open) = self.open.get_mut(&token) else {
            return;
        };
        let has_key = open.key.is_some();
        match (place, standing) {
            (Place::Waiting, Standing::Away) => {}
            (Place::Waiting, _) => {
                open.asked.remove(&node);
                // Of a key somebody else may be the owner by now.
                if !has_key {
                    self.begin(token, node, whereabouts, now);
                }
            }
            (Place::Sent(sent), Standing::There(life)) if life == sent.to => {
                if let Some(Place::Sent(sent)) = open.asked.get_mut(&node)
                    && std::mem::take(&mut sent.is_away)
                {
                    let (to, number) = (sent.to, sent.number);
                    self.send(token, to, number, now, true);
                }
            }
            (Place::Sent(_), Standing::Away) => {
                if let Some(Place::Sent(sent)) = open.asked.get_mut(&node) {
                    sent.is_away = true;
                }
            }
            (Place::Sent(_), Standing::Out | Standing::Unable | Standing::There(_)) => {
                if self.broken == Sabotage::WaitsForGone {
                    return;
                }
                if has_key {
                    self.put_aside(token, &node);
                } else {
                    self.miss(token, node, RequestErrorKind::Gone);
                }
            }
        }
    }

    /// Asks the owner of a key, if nobody is asked at present.
    fn look_for_owner(&mut self, token: u64, whereabouts: &impl Whereabouts, now: Mono) {
        let Some(open) = self.open.get(&token) else {
            return;
        };
        let Some((pool, key)) = open.key.as_ref().filter(|_| open.is_unasked()) else {
            return;
        };
        let Some(owner) = whereabouts.owner(pool, *key) else {
            return;
        };
        // An owner that is out is one no longer, which is about to be told.
        if whereabouts.standing(&owner) != Standing::Out {
            self.begin(token, owner, whereabouts, now);
        }
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Mono) {
        while let Some((at, due)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, due));
            match due {
                Due::Deadline(token) => self.end(token, &RequestErrorKind::NoAnswer),
                Due::Again(to, number) => self.ask_again(to, number, now),
            }
        }
    }

    fn ask_again(&mut self, to: EndpointId, number: u64, now: Mono) {
        let towards = self.towards.get(&to);
        let Some((token, node)) = towards.and_then(|towards| towards.open.get(&number).cloned())
        else {
            return;
        };
        let open = self.open.get_mut(&token);
        let Some(Place::Sent(sent)) = open.and_then(|open| open.asked.get_mut(&node)) else {
            return;
        };
        sent.waited = (sent.waited * 2).min(ASK_AGAIN_MOST);
        sent.again = now.after(sent.waited);
        self.due.insert((sent.again, Due::Again(to, number)));
        if sent.is_away {
            return;
        }
        if self.broken == Sabotage::NumbersAnew {
            self.close(token, &node);
            return self.send_first(token, node, to, now);
        }
        self.send(token, to, number, now, true);
    }

    /// The node stops: all requests end.
    pub(crate) fn stop(&mut self) {
        let tokens: Vec<u64> = self.open.keys().copied().collect();
        for token in tokens {
            self.end(token, &RequestErrorKind::Stopped);
        }
    }

    /// A node is not waited for, and has not answered.
    fn miss(&mut self, token: u64, node: NodeName, kind: RequestErrorKind) {
        self.close(token, &node);
        if self.broken == Sabotage::ForgetsMissing {
            return;
        }
        if let Some(open) = self.open.get_mut(&token) {
            open.outcome.missing.push((node, kind));
        }
    }

    /// A node is not waited for any more.
    fn close(&mut self, token: u64, node: &NodeName) {
        let open = self.open.get_mut(&token);
        let Some(Place::Sent(sent)) = open.and_then(|open| open.asked.remove(node)) else {
            return;
        };
        self.due
            .remove(&(sent.again, Due::Again(sent.to, sent.number)));
        if let Some(towards) = self.towards.get_mut(&sent.to) {
            towards.open.remove(&sent.number);
        }
    }

    /// The owner of a key is one no longer. Its number stays open: should it be asked again, it knows the question.
    fn put_aside(&mut self, token: u64, node: &NodeName) {
        let Some(open) = self.open.get_mut(&token) else {
            return;
        };
        if let Some(Place::Sent(sent)) = open.asked.remove(node) {
            open.former.insert(sent.to, sent.number);
            let due = Due::Again(sent.to, sent.number);
            self.due.remove(&(sent.again, due));
        }
    }

    fn end_if_done(&mut self, token: u64) {
        let Some(open) = self.open.get(&token) else {
            return;
        };
        if open.outcome.answers.len() >= open.quorum {
            return self.end(token, &RequestErrorKind::NotAwaited);
        }
        // The next owner of a key is waited for.
        if open.asked.is_empty() && (open.key.is_none() || !open.is_unasked()) {
            self.end(token, &RequestErrorKind::NoAnswer);
        }
    }

    /// Ends a request. Who has not answered is missing, for this reason if it was asked.
    fn end(&mut self, token: u64, kind: &RequestErrorKind) {
        let Some(open) = self.open.get(&token) else {
            return;
        };
        let asked = open.asked.iter();
        let asked: Vec<_> = asked.map(|(node, place)| (node.clone(), *place)).collect();
        for (node, place) in asked {
            self.miss(token, node, place.missing(kind.clone()));
        }
        let Some(mut open) = self.open.remove(&token) else {
            return;
        };
        for (life, number) in &open.former {
            if let Some(towards) = self.towards.get_mut(life) {
                towards.open.remove(number);
            }
        }
        self.bytes -= open.bytes;
        self.due.remove(&(open.deadline, Due::Deadline(token)));
        let outcome = &mut open.outcome;
        // Whoever was asked for a key before may have handled the question.
        for (_, missing) in &mut outcome.missing {
            if !open.former.is_empty() && !missing.may_have_been_handled() {
                *missing = RequestErrorKind::Gone;
            }
        }
        if outcome.answers.is_empty() && outcome.missing.is_empty() {
            let kind = if open.former.is_empty() {
                RequestErrorKind::Nobody
            } else {
                kind.clone()
            };
            outcome.unasked = Some(kind);
        }
        outcome.answers.sort_by(|one, other| one.0.cmp(&other.0));
        outcome.missing.sort_by(|one, other| one.0.cmp(&other.0));
        self.steps.push(Step::Ended(token, open.outcome));
    }
}
