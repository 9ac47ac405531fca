//! A register as a handler sees it: reads return at once, the outcome of a change comes back as a call.

use muster_data::{DecodeOwned, Encode, Typed};
use muster_store::op::{Answer, Op};
use muster_store::{Encoded, Level, Revision, StoreName};

use crate::node::context::Context;
use crate::node::stores::{PendingWrite, WriteError, done, was_done};
use crate::register::{Register, STORE, Unfit, value_key};

/// A register as a handler sees it; from [`Context::register`].
///
/// A change is acknowledged when it is on disk, in all copies that the layout asks for: then no single failure, and no restart of
/// everything, loses it.
#[derive(Debug)]
pub struct RegisterContext<'a, 'c, T> {
    cx: &'a mut Context<'c>,
    register: &'a Register<T>,
}

impl<'c> Context<'c> {
    /// Returns a register, which the framework must have declared.
    pub fn register<'a, T>(&'a mut self, register: &'a Register<T>) -> RegisterContext<'a, 'c, T>
    where
        T: Encode + DecodeOwned + Typed,
    {
        RegisterContext { cx: self, register }
    }
}

impl<'a, 'c, T: Encode + DecodeOwned + Typed> RegisterContext<'a, 'c, T> {
    /// Returns the value that counts on this node: the last one that it has heard of and that fits, or the default. What
    /// [`register_changed`](crate::node::Framework::register_changed) has told last, this returns.
    pub fn get(&self) -> T {
        let value = self.cx.core.registers.known.value(self.register.name());
        let value = value.and_then(|value| value.view().to().ok());
        value.unwrap_or_else(|| self.register.default_value())
    }

    /// Returns `true` if somebody has set a value. Otherwise the default counts.
    pub fn is_set(&self) -> bool {
        let known = &self.cx.core.registers.known;
        known.is_set(self.register.name())
    }

    /// Sets the value for the whole cluster. When the outcome is known, this node has the value, or a later one. The outcome is
    /// [`WriteError::Unfit`] if the value is out of bounds; then nothing is sent.
    pub fn set(self, value: &T) -> PendingWrite<'a, 'c, ()> {
        let value = Encoded::of(value);
        let unfit = self.unfit(&value);
        let key = value_key(self.register.name());
        let op = Op::Put {
            key,
            value,
            ttl: None,
        };
        self.write(op, unfit.map(Err), done)
    }

    /// Sets the value if the present one is `expected`. The outcome is `true` if it was set; of several nodes that expect the same value,
    /// exactly one hears so. It is `false` if there is another value, or somebody has set one since this node has heard of the present
    /// one, even an equal one.
    pub fn swap(self, expected: &T, value: &T) -> PendingWrite<'a, 'c, bool> {
        let value = Encoded::of(value);
        let (present, seen) = self.present();
        let decided = if let Some(unfit) = self.unfit(&value) {
            Some(Err(unfit))
        } else if present.to_data() != Encoded::of(expected).to_data() {
            Some(Ok(Answer::Unchanged { change: 0 }))
        } else {
            None
        };
        let op = Op::Swap {
            key: value_key(self.register.name()),
            seen,
            value: Some(value),
            ttl: None,
        };
        self.write(op, decided, was_done)
    }

    /// Goes back to the default. The outcome is `true` if a value was set.
    pub fn unset(self) -> PendingWrite<'a, 'c, bool> {
        let key = value_key(self.register.name());
        self.write(Op::Erase { key }, None, was_done)
    }

    /// The value that the node's copy has, or that counts instead, and the revision that a swap replaces.
    fn present(&self) -> (Encoded, Revision) {
        let name = self.register.name();
        let core = &self.cx.core;
        let known = &core.registers.known;
        let counts = || {
            let default = || Encoded::of(&self.register.default_value());
            known.value(name).cloned().unwrap_or_else(default)
        };
        let store = core.registers.store.as_ref();
        let reads = core.stores.reads.as_deref();
        let read = reads.zip(store);
        let found = read.and_then(|(reads, store)| reads.versioned(store, &value_key(name)));
        match found {
            Some((value, seen)) if known.check(name, &value).is_ok() => (value, seen),
            Some((_, seen)) => (counts(), seen),
            None if read.is_some_and(|(reads, store)| reads.is_attached(store)) => (
                Encoded::of(&self.register.default_value()),
                Revision::ABSENT,
            ),
            None => (counts(), Revision::ABSENT),
        }
    }

    fn unfit(&self, value: &Encoded) -> Option<WriteError> {
        let known = &self.cx.core.registers.known;
        let checked: Result<(), Unfit> = known.check(self.register.name(), value);
        checked.err().map(WriteError::Unfit)
    }

    fn write<R>(
        self,
        op: Op,
        decided: Option<Result<Answer, WriteError>>,
        read: fn(&Answer) -> Result<R, WriteError>,
    ) -> PendingWrite<'a, 'c, R> {
        let store = StoreName::new(STORE).expect("a constant");
        PendingWrite::new(self.cx, store, op, Level::Durable, read).decided(decided)
    }
}
