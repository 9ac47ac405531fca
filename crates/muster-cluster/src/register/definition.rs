//! What is known of a name: what its value must be, and what counts without one.

use muster_data::{ConvertError, Data, DataRef, Record};
use muster_store::Encoded;

use super::value_type::{MOST_WORDS, typed};
use super::{LARGEST_VALUE, Unfit, ValueType, type_code};
use crate::settings::SettingSpec;

/// The definition of a register or of a live setting, as the nodes of a cluster write it into the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// Whether it is a register or a setting.
    pub kind: DefinitionKind,
    /// What a value must be.
    pub takes: ValueType,
    /// What counts while no value is set. Of a setting this is what the layout says for the whole cluster.
    pub default: Data,
    /// What it is for, one line.
    pub help: String,
}

/// What a name belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefinitionKind {
    /// A [`Register`](super::Register) of a framework.
    Register,
    /// A setting that can be changed while the cluster runs.
    Setting,
}

/// Why a stored definition cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DefinitionError {
    /// It is no definition.
    #[error(transparent)]
    Conversion(#[from] ConvertError),
    /// Its kind or its type is unknown to this version, or it has more than 256 words.
    #[error("the definition is of a version that this one does not understand")]
    Unknown,
}

/// A definition in the store. Later versions may append optional fields.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Muster::config_definition")]
struct Stored {
    kind: String,
    ty: Data,
    least: Option<Data>,
    most: Option<Data>,
    words: Vec<String>,
    default: Data,
    help: String,
}

impl DefinitionKind {
    /// Returns its word: `register` or `setting`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Setting => "setting",
        }
    }
}

impl Definition {
    /// Returns the definition as the store has it.
    pub fn encoded(&self) -> Encoded {
        let (least, most, words) = self.takes.parts();
        Encoded::of(&Stored {
            kind: self.kind.word().to_owned(),
            ty: type_code::to_data(self.takes.data_type()),
            least: least.cloned(),
            most: most.cloned(),
            words: words.to_vec(),
            default: self.default.clone(),
            help: self.help.clone(),
        })
    }

    /// Reads a definition as the store has it.
    ///
    /// # Errors
    /// [`DefinitionError`] if it is none, or none that this version understands.
    pub fn read(value: &Encoded) -> Result<Self, DefinitionError> {
        let stored: Stored = value.view().to()?;
        let kinds = [DefinitionKind::Register, DefinitionKind::Setting];
        let kind = kinds.into_iter().find(|kind| kind.word() == stored.kind);
        let kind = kind.ok_or(DefinitionError::Unknown)?;
        let ty = type_code::from_data(&stored.ty).ok_or(DefinitionError::Unknown)?;
        if stored.words.len() > MOST_WORDS {
            return Err(DefinitionError::Unknown);
        }
        let takes = ValueType::new(ty)
            .within(stored.least, stored.most)
            .one_of(stored.words.iter().map(String::as_str));
        Ok(Self {
            kind,
            takes,
            default: stored.default,
            help: stored.help,
        })
    }

    /// Reads a value as people type it.
    ///
    /// # Errors
    /// [`Unfit`] if it is not what it must be, or if it is larger than [`LARGEST_VALUE`].
    pub fn read_text(&self, text: &str) -> Result<Data, Unfit> {
        let data = self.takes.read_text(text)?;
        self.check(&Encoded::of(&data))?;
        Ok(data)
    }

    /// Checks a value: what it must be, and its size.
    ///
    /// # Errors
    /// [`Unfit`] if it is not what it must be, or if it is larger than [`LARGEST_VALUE`].
    pub fn check(&self, value: &Encoded) -> Result<(), Unfit> {
        let size = value.size();
        if size > LARGEST_VALUE {
            return Err(Unfit {
                expected: format!("{} of at most {LARGEST_VALUE} bytes", self.takes),
                found: format!("a value of {size} bytes"),
            });
        }
        self.takes.check(value)
    }

    /// Returns a value as people type it.
    pub fn shown(value: &Data) -> String {
        typed(value)
    }
}

/// What a node checks besides the definition: whether the value makes one of the program's own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Check {
    /// A register's type.
    Register(fn(DataRef<'_>) -> Result<(), ConvertError>),
    /// A setting.
    Setting(SettingSpec),
}

impl Check {
    pub(crate) fn check(&self, definition: &Definition, value: &Encoded) -> Result<(), Unfit> {
        definition.check(value)?;
        let unfit = |expected: String| Unfit {
            expected,
            found: format!("`{}`", typed(&value.to_data())),
        };
        match self {
            Self::Register(check) => {
                let checked = check(value.view());
                checked.map_err(|error| unfit(format!("{} ({error})", definition.takes)))
            }
            Self::Setting(spec) => {
                let read = spec.read_data(value.view()).map(|_| ());
                read.map_err(|error| unfit(format!("{} ({error})", definition.takes)))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::time::Duration;

    use muster_data::Type;

    use super::*;

    fn definition() -> Definition {
        Definition {
            kind: DefinitionKind::Register,
            takes: ValueType::new(Type::Count).within(Some(Data::Count(1)), None),
            default: Data::Count(10),
            help: "how many".to_owned(),
        }
    }

    #[test]
    fn definitions_are_read_as_they_were_written() {
        let plain = definition();
        let word = Definition {
            kind: DefinitionKind::Setting,
            takes: ValueType::new(Type::String).one_of(["a", "b"]),
            default: Data::string("a"),
            ..definition()
        };
        for definition in [plain, word] {
            let stored = definition.encoded();
            assert_eq!(Definition::read(&stored), Ok(definition));
        }
    }

    #[test]
    fn definitions_of_other_versions_are_understood_or_refused() {
        let stored = definition().encoded().to_data();
        let mut fields = stored.as_vector().unwrap().to_vec();
        fields.push(Data::string("of a later version"));
        let later = Encoded::of(&Data::vector(fields.clone()));
        assert_eq!(Definition::read(&later), Ok(definition()));
        fields[0] = Data::string("secret");
        let unknown = Encoded::of(&Data::vector(fields));
        assert_eq!(Definition::read(&unknown), Err(DefinitionError::Unknown));
        let nothing = Encoded::of(&Data::Count(1));
        assert!(Definition::read(&nothing).is_err());
    }

    #[test]
    fn values_that_are_too_large_are_refused() {
        let text = Definition {
            takes: ValueType::new(Type::String),
            ..definition()
        };
        assert!(text.read_text(&"x".repeat(LARGEST_VALUE - 100)).is_ok());
        let error = text.read_text(&"x".repeat(LARGEST_VALUE)).unwrap_err();
        assert!(error.found.contains("bytes"), "{error}");
    }

    #[test]
    fn a_settings_definition_takes_what_the_setting_takes() {
        let specs = [
            SettingSpec::count("a.count", 1, "").within(1, 9),
            SettingSpec::count("a.positive", 1, "").positive(),
            SettingSpec::real("a.real", 1.0, "").positive(),
            SettingSpec::duration("a.duration", Duration::from_secs(1), "")
                .positive()
                .at_most(Duration::from_secs(60)),
            SettingSpec::boolean("a.boolean", false, ""),
            SettingSpec::text("a.text", "x", ""),
            SettingSpec::text_list("a.texts", &["x"], ""),
            SettingSpec::count_list("a.counts", &[1], ""),
            SettingSpec::subnet_list("a.subnets", &["10.0.0.0/8"], ""),
        ];
        let texts = [
            "0",
            "1",
            "9",
            "10",
            "-1",
            "0.5",
            "1s",
            "0s",
            "2m",
            "true",
            "x",
            "x,y",
            "1,2",
            "10.0.0.0/8",
            "10.0.0.0/8,fe80::/10",
            "9223372036854775807",
            "9223372036854775808",
            "1,9223372036854775808",
            "3200000000",
            "inf",
            "NaN",
            "",
        ];
        for spec in specs {
            let takes = spec.value_type();
            let default = spec.default_value().to_data(spec.kind());
            takes.check(&Encoded::of(&default)).unwrap();
            for text in texts {
                let by_spec = spec.read_text(text);
                let by_definition = takes.read_text(text);
                let key = spec.key();
                if let Ok(value) = &by_spec {
                    let data = value.to_data(spec.kind());
                    assert_eq!(by_definition.as_ref(), Ok(&data), "{key} {text}");
                    let again = spec.read_data(Encoded::of(&data).view());
                    assert_eq!(again.as_ref(), Ok(value), "{key} {text}");
                } else {
                    assert!(by_definition.is_err(), "{key} {text}: {by_definition:?}");
                }
            }
        }
    }
}
