//! What the register holds, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use muster::store::{Encoded, Entry};
use muster_cluster::register::{ConfigKey, Definition};
use muster_data::Data;
use serde::Serialize;
use serde_json::value::RawValue;

use super::typed_json;
use crate::arguments::Format;
use crate::output::{Failure, one_line};

/// The version of what is printed as JSON.
const VERSION: u32 = 1;

/// The longest value that the table shows, in characters.
const LONGEST: usize = 40;

/// All names with their definitions and what is set.
#[derive(Debug, Default)]
pub(super) struct Picture {
    names: BTreeMap<String, Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// What nodes have defined; `None` if nobody has, or in a way that this version does not understand.
    definition: Option<Definition>,
    is_defined: bool,
    set: Option<Encoded>,
}

/// A name in JSON.
#[derive(Debug, Serialize)]
struct Line<'a> {
    name: &'a str,
    /// `register` or `setting`; `null` if no node has defined it.
    kind: Option<&'static str>,
    /// What counts, as people type it.
    text: Option<String>,
    /// What counts, with its type.
    value: Option<Box<RawValue>>,
    /// Whether somebody has set it.
    is_set: bool,
    /// Whether nodes take what is set.
    fits: bool,
    /// What counts if nothing is set.
    default: Option<Box<RawValue>>,
    /// What a value must be.
    takes: Option<String>,
    help: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct All<'a> {
    version: u32,
    values: Vec<Line<'a>>,
}

#[derive(Debug, Serialize)]
struct One<'a> {
    version: u32,
    #[serde(flatten)]
    line: Line<'a>,
}

impl Picture {
    pub(super) fn of(entries: &[(Encoded, Entry)]) -> Self {
        let mut names: BTreeMap<String, Known> = BTreeMap::new();
        for (key, entry) in entries {
            match ConfigKey::read(key.view()) {
                Some(ConfigKey::Value(name)) => {
                    names.entry(name).or_default().set = Some(entry.value.clone());
                }
                Some(ConfigKey::Definition(name)) => {
                    let known = names.entry(name).or_default();
                    known.definition = Definition::read(&entry.value).ok();
                    known.is_defined = true;
                }
                None => {}
            }
        }
        Self { names }
    }

    /// Returns `true` if nodes have defined the name.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.names.get(name).is_some_and(|known| known.is_defined)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.names.iter();
        let names = names.filter(|(_, known)| known.is_defined);
        names.map(|(name, _)| name.as_str())
    }

    pub(super) fn definition(&self, name: &str) -> Option<&Definition> {
        self.names.get(name)?.definition.as_ref()
    }

    /// Returns the value that counts, as people type it.
    pub(super) fn shown(&self, name: &str) -> String {
        let value = self.names.get(name).and_then(Known::value);
        value.map_or_else(String::new, |value| Definition::shown(&value))
    }

    /// Prints one name. Fails if what is set counts nowhere.
    pub(super) fn one(&self, name: &str, format: Format) -> Result<String> {
        let Some(known) = self.names.get(name) else {
            return Ok(String::new());
        };
        if let Some(unfit) = known.unfit() {
            let unfit = one_line(unfit.into());
            return Err(Failure::new(format!("nodes refuse what `{name}` is set to: it {unfit}"))
                .hint(format!("each goes by the last value that it took; `muster config set {name} VALUE` or `unset` ends that"))
                .into());
        }
        Ok(match format {
            Format::Text => format!("{}\n", one_line(self.shown(name).into())),
            Format::Json => json(&One {
                version: VERSION,
                line: known.line(name),
            }),
        })
    }

    /// Prints all names.
    pub(super) fn all(&self, format: Format) -> String {
        match format {
            Format::Text => self.table(),
            Format::Json => {
                let values = self.names.iter();
                json(&All {
                    version: VERSION,
                    values: values.map(|(name, known)| known.line(name)).collect(),
                })
            }
        }
    }

    fn table(&self) -> String {
        let widest = self.names.keys().map(String::len).max().unwrap_or(0);
        let values: Vec<String> = self
            .names
            .keys()
            .map(|name| cut(&self.shown(name)))
            .collect();
        let widest_value = values.iter().map(|value| value.chars().count()).max();
        let widest_value = widest_value.unwrap_or(0).max("value".len());
        let mut text = format!(
            "{:<widest$}  {:<widest_value$}  {:<8}  {:<8}  takes\n",
            "name", "value", "is", "kind"
        );
        for ((name, known), value) in self.names.iter().zip(values) {
            let (kind, takes) = match &known.definition {
                Some(definition) => (definition.kind.word(), definition.takes.to_string()),
                None if known.is_defined => ("unknown", "what a later version knows".to_owned()),
                None => ("unknown", "nothing: no node has defined it".to_owned()),
            };
            let is = match (&known.set, known.unfit()) {
                (_, Some(_)) => "refused",
                (Some(_), None) => "set",
                (None, None) => "default",
            };
            let takes = one_line(takes.into());
            let _ = writeln!(
                text,
                "{name:<widest$}  {value:<widest_value$}  {is:<8}  {kind:<8}  {takes}"
            );
        }
        text
    }
}

impl Known {
    /// What counts, as far as can be told from here.
    fn value(&self) -> Option<Data> {
        let default = || self.definition.as_ref().map(|it| it.default.clone());
        self.set.as_ref().map(Encoded::to_data).or_else(default)
    }

    /// Why nodes refuse what is set.
    fn unfit(&self) -> Option<String> {
        let (set, definition) = (self.set.as_ref()?, self.definition.as_ref()?);
        definition.check(set).err().map(|unfit| unfit.to_string())
    }

    fn line<'a>(&'a self, name: &'a str) -> Line<'a> {
        let raw = |data: &Data| RawValue::from_string(typed_json(data)).ok();
        let value = self.value();
        let definition = self.definition.as_ref();
        Line {
            name,
            kind: definition.map(|it| it.kind.word()),
            text: value.as_ref().map(Definition::shown),
            value: value.as_ref().and_then(raw),
            is_set: self.set.is_some(),
            fits: self.unfit().is_none(),
            default: definition.and_then(|it| raw(&it.default)),
            takes: definition.map(|it| it.takes.to_string()),
            help: definition.map(|it| it.help.as_str()),
        }
    }
}

/// A value for a table.
fn cut(text: &str) -> String {
    let text = one_line(text.into());
    if text.chars().count() <= LONGEST {
        return text.into_owned();
    }
    let mut cut: String = text.chars().take(LONGEST - 1).collect();
    cut.push('…');
    cut
}

fn json(value: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(value);
    text.map_or_else(|_| String::new(), |text| text + "\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::time::Duration;

    use muster_cluster::register::Register;
    use muster_data::{Encode, Subnet};

    use super::*;

    fn entry(key: &ConfigKey, value: Encoded) -> (Encoded, Entry) {
        let entry = Entry {
            value,
            expires: None,
            changed: 1,
        };
        (key.encoded(), entry)
    }

    fn set(name: &str, value: &(impl Encode + ?Sized)) -> (Encoded, Entry) {
        entry(&ConfigKey::Value(name.to_owned()), Encoded::of(value))
    }

    fn defined(name: &str, definition: &Definition) -> (Encoded, Entry) {
        entry(
            &ConfigKey::Definition(name.to_owned()),
            definition.encoded(),
        )
    }

    fn picture() -> Picture {
        let most = Register::new("alerts.most", || 10_u64, "how many alerts").within(1, 100);
        let span = Register::new("alerts.span", || Duration::from_secs(900), "how long");
        let nets = Register::new("alerts.nets", Vec::<Subnet>::new, "whose");
        let mode = Register::new("alerts.mode", || "tell".to_owned(), "what becomes of them")
            .one_of(&["tell", "block"]);
        Picture::of(&[
            defined("alerts.most", &most.definition()),
            set("alerts.most", &25_u64),
            defined("alerts.span", &span.definition()),
            defined("alerts.nets", &nets.definition()),
            defined("alerts.mode", &mode.definition()),
            set("alerts.mode", "shout\n"),
            set("alerts.gone", &1_u64),
            entry(
                &ConfigKey::Definition("alerts.later".to_owned()),
                Encoded::of("of a later version"),
            ),
            (Encoded::of(&1_u64), set("", &1_u64).1),
        ])
    }

    #[test]
    fn all_names_are_a_table_with_what_each_must_be() {
        insta::assert_snapshot!(picture().all(Format::Text));
    }

    #[test]
    fn all_names_are_told_to_programs() {
        insta::assert_snapshot!(picture().all(Format::Json));
    }

    #[test]
    fn a_value_that_nodes_refuse_is_not_printed_as_one_that_counts() {
        let picture = picture();
        assert_eq!(picture.one("alerts.most", Format::Text).unwrap(), "25\n");
        assert_eq!(picture.one("alerts.span", Format::Text).unwrap(), "15m\n");
        let error = picture.one("alerts.mode", Format::Text).unwrap_err();
        assert!(
            error.to_string().contains("takes one of tell, block"),
            "{error}"
        );
        assert!(!picture.knows("alerts.gone") && picture.knows("alerts.later"));
    }
}
