//! What askers and answerers say to one another.
//!
//! Both are events for one life of a node, on its topic. Elements behind the known ones are ignored.

use std::time::Duration;

use muster_data::{DataRef, Timespan, ValueRef, encode};

use super::asking::Sending;
use super::error::RequestErrorKind;

/// The event that asks.
pub(crate) const QUESTION: &str = "Muster::question";

/// The event that answers.
pub(crate) const ANSWER: &str = "Muster::answer";

/// A question as it arrives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QuestionRef<'a> {
    /// Its number between these two lives.
    pub(crate) number: u64,
    /// The first number that is open: nobody waits for those below.
    pub(crate) floor: u64,
    /// For how long the asker waits from now on.
    pub(crate) within: Duration,
    /// The name of the question's type.
    pub(crate) name: &'a str,
    /// The question.
    pub(crate) arguments: DataRef<'a>,
}

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was handled; its answer follows.
    Answered,
    /// Nobody handles it: [`RequestErrorKind::NoHandler`].
    NoHandler,
    /// It has other fields: [`RequestErrorKind::WrongQuestion`].
    WrongQuestion,
    /// Its handler has panicked.
    Panicked,
    /// It was handled, perhaps, and its answer is gone.
    Forgotten,
    /// It was handled, and its answer is larger than a message may be.
    TooLarge,
}

/// An answer as it arrives.
#[derive(Debug, Clone)]
pub(crate) struct AnswerRef<'a> {
    /// The number of the question.
    pub(crate) number: u64,
    /// What became of it.
    pub(crate) verdict: Verdict,
    /// The answer, if there is one.
    pub(crate) answer: DataRef<'a>,
}

impl Verdict {
    /// Returns its number in messages.
    pub(crate) fn number(&self) -> u64 {
        match self {
            Self::Answered => 0,
            Self::NoHandler => 1,
            Self::WrongQuestion => 2,
            Self::Panicked => 3,
            Self::Forgotten => 4,
            Self::TooLarge => 5,
        }
    }

    /// Returns the verdict of a number. One that is not known says as little as that the question may have been handled.
    fn of(number: u64) -> Self {
        match number {
            0 => Self::Answered,
            1 => Self::NoHandler,
            2 => Self::WrongQuestion,
            3 => Self::Panicked,
            5 => Self::TooLarge,
            _ => Self::Forgotten,
        }
    }

    /// Returns why there is no answer, if there is none.
    pub(crate) fn problem(&self) -> Option<RequestErrorKind> {
        match self {
            Self::Answered => None,
            Self::NoHandler => Some(RequestErrorKind::NoHandler),
            Self::WrongQuestion => Some(RequestErrorKind::WrongQuestion),
            Self::Panicked => Some(RequestErrorKind::Panicked),
            Self::Forgotten => Some(RequestErrorKind::Forgotten),
            Self::TooLarge => Some(RequestErrorKind::AnswerTooLarge),
        }
    }
}

/// Appends the arguments of [`QUESTION`].
pub(crate) fn put_question(out: &mut Vec<u8>, sending: &Sending) {
    encode::vector_header(out, 5);
    encode::count(out, sending.number);
    encode::count(out, sending.floor);
    let within = i64::try_from(sending.within.as_nanos()).unwrap_or(i64::MAX);
    encode::timespan(out, Timespan::from_nanos(within));
    encode::string(out, sending.question.name.as_bytes());
    out.extend_from_slice(&sending.question.arguments);
}

/// Reads the arguments of [`QUESTION`].
pub(crate) fn read_question(arguments: DataRef<'_>) -> Option<QuestionRef<'_>> {
    let mut elements = arguments.as_vector()?.iter();
    let number = elements.next()?.as_count()?;
    let floor = elements.next()?.as_count()?;
    let ValueRef::Timespan(within) = elements.next()?.get() else {
        return None;
    };
    Some(QuestionRef {
        number,
        floor,
        within: Duration::from_nanos(u64::try_from(within.as_nanos()).unwrap_or(0)),
        name: elements.next()?.as_str()?,
        arguments: elements.next()?,
    })
}

/// Appends the arguments of [`ANSWER`]. `answer` is an encoded value, or empty where there is none.
pub(crate) fn put_answer(out: &mut Vec<u8>, number: u64, verdict: &Verdict, answer: &[u8]) {
    encode::vector_header(out, 3);
    encode::count(out, number);
    encode::count(out, verdict.number());
    if answer.is_empty() {
        encode::none(out);
    } else {
        out.extend_from_slice(answer);
    }
}

/// Reads the arguments of [`ANSWER`].
pub(crate) fn read_answer(arguments: DataRef<'_>) -> Option<AnswerRef<'_>> {
    let mut elements = arguments.as_vector()?.iter();
    Some(AnswerRef {
        number: elements.next()?.as_count()?,
        verdict: Verdict::of(elements.next()?.as_count()?),
        answer: elements.next()?,
    })
}
