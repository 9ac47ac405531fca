//! Requests as a handler makes them.

use std::marker::PhantomData;
use std::time::Duration;

use bytes::Bytes;
use muster_data::{ConvertError, DataRef, encode_to_vec};

use super::recipients::{Among, To};
use crate::layout::NodeName;
use crate::node::context::Context;
use crate::node::framework::Framework;
use crate::node::question::Question;
use crate::node::stores::Continuation;
use crate::requests::{
    Ask, EncodedQuestion, Outcome, RequestError, RequestErrorKind as ErrorKind, Target,
};

/// How long an answer is waited for unless it is said.
const WITHIN: Duration = Duration::from_secs(10);

/// What is done with a request's outcome.
pub(crate) type Then<F> = Box<dyn FnOnce(&mut F, &mut Context<'_>, Outcome) + Send>;

/// A request to one node; from [`Context::request`]. It is sent when it is decided what follows: with [`Request::then`].
#[derive(Debug)]
#[must_use = "the request is not sent until it is said what follows"]
pub struct Request<'a, 'c, Q> {
    cx: &'a mut Context<'c>,
    to: To,
    question: EncodedQuestion,
    within: Duration,
    of: PhantomData<fn() -> Q>,
}

/// A request to many nodes; from [`Context::scatter`]. It is sent when it is decided what follows: with [`Scatter::gather`].
#[derive(Debug)]
#[must_use = "the request is not sent until it is said what follows"]
pub struct Scatter<'a, 'c, Q> {
    cx: &'a mut Context<'c>,
    among: Among,
    question: EncodedQuestion,
    within: Duration,
    quorum: usize,
    of: PhantomData<fn() -> Q>,
}

/// What many nodes have answered. Every node that was asked is in exactly one of the lists. Both are in the order of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gathered<A> {
    /// The answers.
    pub answers: Vec<(NodeName, A)>,
    /// Those without one, and why.
    pub missing: Vec<(NodeName, ErrorKind)>,
}

impl<A> Gathered<A> {
    /// Returns `true` if nobody is missing.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }
}

impl<'c> Context<'c> {
    /// Asks one node a question: by name, in turn, or the owner of a key. The outcome comes as a call of
    /// [`then`](Request::then).
    ///
    /// *A request has exactly one outcome, by its deadline: the answer of a node that has handled the question, or an error that says
    /// whether it may have been handled.* No life of a node handles it twice, however often it is sent. If the owner of a key goes
    /// out, the next owner is asked, so two nodes may handle it then.
    pub fn request<'a, Q: Question>(&'a mut self, to: To, question: &Q) -> Request<'a, 'c, Q> {
        let question = encoded(question, self);
        Request {
            cx: self,
            to,
            question,
            within: WITHIN,
            of: PhantomData,
        }
    }

    /// Asks many nodes the same question: the members of a pool, the nodes of a role, or those of a list. The outcome comes as a call
    /// of [`gather`](Scatter::gather).
    ///
    /// *A request to many ends when all have answered or are out, by its deadline at the latest, and names everybody who has not
    /// answered, with the reason.* No life of a node handles it twice.
    pub fn scatter<'a, Q: Question>(
        &'a mut self,
        among: Among,
        question: &Q,
    ) -> Scatter<'a, 'c, Q> {
        let question = encoded(question, self);
        Scatter {
            cx: self,
            among,
            question,
            within: WITHIN,
            quorum: usize::MAX,
            of: PhantomData,
        }
    }
}

impl<Q: Question> Request<'_, '_, Q> {
    /// Sets the deadline, from now on; 10 s unless set.
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = limit;
        self
    }

    /// Sends the request. When it has an outcome, `then` is called with the framework, like a handler of an event, and never
    /// before the present handler has returned. Every request has an outcome, unless the process dies: a node that stops ends all
    /// of them. [`Context::event_time`] is what it is now. 1,024 requests of a node can be open, with 64 MiB of questions and answers.
    pub fn then<F: Framework>(
        self,
        then: impl FnOnce(&mut F, &mut Context<'_>, Result<Q::Answer, RequestError>) + Send + 'static,
    ) {
        let continuation: Then<F> = Box::new(move |framework, cx, outcome| {
            let answer = outcome.single().and_then(|(node, answer)| {
                let answer = read::<Q>(&answer);
                answer.map_err(|error| RequestError::new(ErrorKind::WrongAnswer(error), Some(node)))
            });
            then(framework, cx, answer);
        });
        let target = self.cx.core.target_of(self.to, Q::NAME);
        ask::<Q>(
            self.cx,
            target,
            self.question,
            self.within,
            1,
            Box::new(continuation),
        );
    }
}

impl<Q: Question> Scatter<'_, '_, Q> {
    /// Sets the deadline, from now on; 10 s unless set.
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = limit;
        self
    }

    /// Ends the request as soon as so many have answered; 0 counts as 1. Those that have not answered by then are missing.
    pub fn quorum(mut self, answers: usize) -> Self {
        self.quorum = answers;
        self
    }

    /// Sends the request. When it ends, `gather` is called with the framework, as with [`Request::then`].
    pub fn gather<F: Framework>(
        self,
        gather: impl FnOnce(&mut F, &mut Context<'_>, Gathered<Q::Answer>) + Send + 'static,
    ) {
        let continuation: Then<F> = Box::new(move |framework, cx, outcome| {
            let mut gathered = Gathered {
                answers: Vec::with_capacity(outcome.answers.len()),
                missing: outcome.missing,
            };
            for (node, answer) in outcome.answers {
                match read::<Q>(&answer) {
                    Ok(answer) => gathered.answers.push((node, answer)),
                    Err(error) => gathered.missing.push((node, ErrorKind::WrongAnswer(error))),
                }
            }
            gather(framework, cx, gathered);
        });
        let target = self.cx.core.targets_of(self.among, Q::NAME);
        ask::<Q>(
            self.cx,
            target,
            self.question,
            self.within,
            self.quorum,
            Box::new(continuation),
        );
    }
}

fn ask<Q: Question>(
    cx: &mut Context<'_>,
    target: Target,
    question: EncodedQuestion,
    within: Duration,
    quorum: usize,
    then: Continuation,
) {
    let ask = Ask {
        target,
        question,
        within,
        quorum,
    };
    let check = |answer: DataRef<'_>| answer.to::<Q::Answer>().map(drop);
    cx.core.ask(cx.framework, ask, then, check);
}

fn encoded<Q: Question>(question: &Q, cx: &Context<'_>) -> EncodedQuestion {
    EncodedQuestion {
        name: Q::NAME,
        arguments: Bytes::from(encode_to_vec(question)),
        at: cx.event_time().unwrap_or_else(|| cx.wall()),
    }
}

fn read<Q: Question>(answer: &[u8]) -> Result<Q::Answer, ConvertError> {
    DataRef::from_validated(answer).to()
}
