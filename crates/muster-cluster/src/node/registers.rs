//! The register on a node: what its frameworks have declared follows the node's copy of the store, and they hear of changes.

mod context;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use muster_data::{DecodeOwned, Encode, Typed};
use muster_store::op::Op;
use muster_store::{Encoded, Level, StoreName};
use muster_wire::Mono;

pub use context::RegisterContext;

use super::framework::Hook;
use super::stores::DeclaredStore;
use super::{Effect, NodeError, NodeLoop, Severity};
use crate::register::{
    Check, ConfigKey, Definition, DefinitionKind, Heard, Known, NotKnown, Register, STORE,
    value_key,
};
use crate::settings::{Origin, SettingSpec, SettingValue};

/// How long a node that has started waits for its copy of the register before it says that it is ready, or reads its input. Who has
/// the primary may be away.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a node looks whether it has a copy: at first, and later.
const LOOK_OFTEN: Duration = Duration::from_millis(100);
const LOOK_SELDOM: Duration = Duration::from_secs(1);

/// How often a node writes its definitions, if the store has others. Nodes of another version write theirs as well, and nobody is
/// to go on for ever.
const MOST_WRITES: u32 = 5;

/// A register of a framework has another value.
#[derive(Debug, Clone, Copy)]
pub struct RegisterChange<'a> {
    name: &'a str,
    old: &'a Encoded,
    new: &'a Encoded,
}

/// A live setting of this node has another value.
#[derive(Debug, Clone, Copy)]
pub struct SettingChange<'a> {
    /// Its key, such as `scan.threshold`.
    pub key: &'static str,
    /// Its value before.
    pub old: &'a SettingValue,
    /// Its value now, as [`Context::settings`](super::Context::settings) has it.
    pub new: &'a SettingValue,
}

impl RegisterChange<'_> {
    /// Returns the register's name.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Returns the value before and the value now, or `None` if it is another register that has changed.
    pub fn of<T: Encode + DecodeOwned + Typed>(&self, register: &Register<T>) -> Option<(T, T)> {
        if register.name() != self.name {
            return None;
        }
        // Both were checked when they were heard of.
        Some((self.old.view().to().ok()?, self.new.view().to().ok()?))
    }
}

/// A register that was declared on a node.
#[derive(Debug)]
pub(crate) struct DeclaredRegister {
    pub(crate) name: &'static str,
    pub(crate) definition: Definition,
    pub(crate) check: Check,
}

/// What a node has of the register.
#[derive(Debug, Default)]
pub(crate) struct Registers {
    known: Known,
    /// The frameworks that have declared a register, by its name.
    owners: HashMap<&'static str, Vec<usize>>,
    live: BTreeMap<&'static str, LiveSetting>,
    /// The store, if anything is declared.
    store: Option<StoreName>,
    /// The node has had a copy.
    was_attached: bool,
    /// Until when it is waited for.
    awaited_until: Mono,
    next_look: Option<Mono>,
    /// How often definitions were written.
    written: u32,
    /// The writes of frameworks whose outcome is not known yet.
    writes: HashSet<u64>,
}

/// A live setting, with what the layout says of it.
#[derive(Debug)]
struct LiveSetting {
    spec: SettingSpec,
    value: SettingValue,
    origin: Origin,
}

impl Registers {
    /// Whether the node still waits for its copy after its start.
    pub(super) fn are_awaited(&self, now: Mono) -> bool {
        self.store.is_some() && !self.was_attached && now < self.awaited_until
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.next_look
    }

    /// A framework changes a register.
    pub(super) fn note_write(&mut self, token: u64) {
        self.writes.insert(token);
    }

    fn declare(&mut self, declared: DeclaredRegister) -> Result<(), NodeError> {
        let DeclaredRegister {
            name,
            definition,
            check,
        } = declared;
        let result = self.known.declare(name, definition, check);
        result.map_err(|problem| match problem {
            NotKnown::Name => NodeError::RegisterName(name),
            NotKnown::Conflict => NodeError::RegisterConflict(name),
            NotKnown::Default(unfit) => NodeError::RegisterDefault(name, unfit),
        })
    }
}

impl NodeLoop {
    /// Takes what a framework has declared.
    pub(super) fn declare_register(
        &mut self,
        declared: DeclaredRegister,
        framework: usize,
    ) -> Result<(), NodeError> {
        let name = declared.name;
        let registers = &mut self.core.registers;
        registers.declare(declared)?;
        let owners = registers.owners.entry(name).or_default();
        if !owners.contains(&framework) {
            owners.push(framework);
        }
        Ok(())
    }

    /// Follows the register, if a framework has declared one or has a live setting.
    pub(super) fn follow_register(&mut self) -> Result<(), NodeError> {
        let settings = self.frameworks.iter().map(|hosted| hosted.settings());
        let has_live = settings.flatten().any(SettingSpec::is_live);
        if !has_live && self.core.registers.known.is_empty() {
            return Ok(());
        }
        let layout = std::sync::Arc::clone(&self.core.layout);
        for spec in layout.specs().filter(|spec| spec.is_live()) {
            let key = spec.key();
            if self.core.registers.live.contains_key(key) {
                continue;
            }
            let definition = Definition {
                kind: DefinitionKind::Setting,
                takes: spec.value_type(),
                default: layout.settings().value(key).to_data(spec.kind()),
                help: spec.help().to_owned(),
            };
            let settings = &self.core.node.settings;
            let (value, origin) = (settings.value(key).clone(), settings.origin(key));
            let registers = &mut self.core.registers;
            registers.declare(DeclaredRegister {
                name: key,
                definition,
                check: Check::Setting(*spec),
            })?;
            let default = Encoded::of(&value.to_data(spec.kind()));
            registers.known.set_default(key, default);
            let spec = *spec;
            let live = LiveSetting {
                spec,
                value,
                origin,
            };
            registers.live.insert(key, live);
        }
        self.core.declare_store(&DeclaredStore {
            name: STORE,
            is_persistent: true,
            is_watched: true,
        })?;
        let now = self.core.clock.now.mono;
        let registers = &mut self.core.registers;
        registers.store = StoreName::new(STORE).ok();
        registers.awaited_until = now.after(PATIENCE);
        registers.next_look = Some(now);
        Ok(())
    }

    /// Looks for the node's copy until there is one, and then after its definitions.
    pub(super) fn look_at_register(&mut self) {
        let now = self.core.clock.now.mono;
        let Some(store) = self.core.registers.store.clone() else {
            return;
        };
        if !self.core.registers.was_attached && self.has_copy(&store) {
            self.core.registers.was_attached = true;
            self.core.registers.next_look = Some(now);
            self.read_register();
        }
        if self.core.registers.next_look.is_none_or(|at| at > now) {
            return;
        }
        let was_attached = self.core.registers.was_attached;
        let wrote = was_attached && !self.stopping && self.define(&store);
        let registers = &mut self.core.registers;
        registers.next_look = if !was_attached {
            let is_early = now < registers.awaited_until;
            Some(now.after(if is_early { LOOK_OFTEN } else { LOOK_SELDOM }))
        } else if wrote {
            registers.written += 1;
            let pause = LOOK_SELDOM * (1 << registers.written);
            (registers.written < MOST_WRITES).then(|| now.after(pause))
        } else {
            None
        };
    }

    fn has_copy(&self, store: &StoreName) -> bool {
        let reads = self.core.stores.reads.as_deref();
        reads.is_some_and(|reads| reads.is_attached(store))
    }

    /// Writes the definitions that the store has not. Returns `true` if there were any.
    fn define(&mut self, store: &StoreName) -> bool {
        let core = &mut self.core;
        let Some(reads) = core.stores.reads.as_deref() else {
            return false;
        };
        let known = &core.registers.known;
        let missing = known.names().filter_map(|name| {
            let definition = known.definition(name)?.encoded();
            let key = ConfigKey::Definition(name.to_owned()).encoded();
            let is_there = reads
                .get(store, &key)
                .is_some_and(|it| it.value == definition);
            (!is_there).then_some((key, definition))
        });
        let missing: Vec<(Encoded, Encoded)> = missing.collect();
        let is_missing = !missing.is_empty();
        for (key, value) in missing {
            let token = core.stores.writes.token();
            core.outbox.effects.push(Effect::WriteStore {
                store: store.clone(),
                op: Op::Put {
                    key,
                    value,
                    ttl: None,
                },
                level: Level::Applied,
                within: None,
                token,
            });
        }
        is_missing
    }

    /// The outcome of a write is known: what was written is read before anybody hears of it.
    pub(super) fn register_answered(&mut self, token: u64) {
        if self.core.registers.writes.remove(&token) {
            self.read_register();
        }
    }

    /// Something of the store has changed.
    pub(super) fn register_store_changed(&mut self, store: &StoreName) {
        if self.core.registers.store.as_ref() == Some(store) {
            self.read_register();
        }
    }

    /// Reads what the node's copy has. Without a copy, what was read last goes on to count.
    fn read_register(&mut self) {
        let Some(store) = self.core.registers.store.clone() else {
            return;
        };
        let names: Vec<&'static str> = self.core.registers.known.names().collect();
        for name in names {
            if !self.has_copy(&store) {
                return;
            }
            let reads = self.core.stores.reads.as_deref();
            let stored = reads.and_then(|reads| reads.get(&store, &value_key(name)));
            let stored = stored.map(|entry| entry.value);
            match self.core.registers.known.heard(name, stored.as_ref()) {
                Heard::Same => {}
                Heard::Changed { old, new, is_set } => {
                    self.register_changed(name, &old, &new, is_set);
                }
                Heard::Refused(unfit) => {
                    self.core.counts.register_values_refused += 1;
                    let counts = self.core.registers.known.value(name);
                    let counts = counts.map(|it| Definition::shown(&it.to_data()));
                    let counts = counts.unwrap_or_default();
                    let text = || {
                        format!(
                            "the register's value of `{name}` is refused: it {unfit}; {counts} counts"
                        )
                    };
                    let kind = format!("register {name}");
                    self.core.report(Severity::Warning, &kind, text);
                }
            }
        }
    }

    fn register_changed(&mut self, name: &'static str, old: &Encoded, new: &Encoded, is_set: bool) {
        if self.core.registers.live.contains_key(name) {
            return self.setting_changed(name, new, is_set);
        }
        if old == new {
            return;
        }
        self.core.counts.register_changes += 1;
        let owners = self.core.registers.owners.get(name);
        let change = RegisterChange { name, old, new };
        for framework in owners.cloned().unwrap_or_default() {
            self.hook(framework, Hook::RegisterChanged(&change));
        }
    }

    fn setting_changed(&mut self, key: &'static str, new: &Encoded, is_set: bool) {
        let core = &mut self.core;
        let Some(live) = core.registers.live.get(key) else {
            return;
        };
        let (value, origin) = if is_set {
            // It was checked when it was heard of.
            let Ok(value) = live.spec.read_data(new.view()) else {
                return;
            };
            (value, Origin::Register)
        } else {
            (live.value.clone(), live.origin)
        };
        let old = core.node.settings.value(key).clone();
        core.node.settings.set(key, value.clone(), origin);
        if old == value {
            return;
        }
        core.counts.register_changes += 1;
        core.inform(format!(
            "setting {key} is {value} now, and was {old} ({origin})"
        ));
        let (old, new) = (&old, &value);
        self.hook_all(Hook::SettingChanged(&SettingChange { key, old, new }));
    }
}
