//! Declarations of settings, and how a value is read for one.

use std::fmt;
use std::time::Duration;

use muster_data::{Data, DataRef, Subnet, Timespan, Type};

use super::choice::Choice;
use super::value::{LONGEST, MOST_COUNT, RawValue, SettingValue};
use crate::register::ValueType;
use crate::suggestion::nearest;

/// A declared setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SettingSpec {
    key: &'static str,
    default: SettingDefault,
    positive: bool,
    odd: bool,
    /// The least and the most of a count, or of the nanoseconds of a length of time.
    bounds: (u64, u64),
    live: bool,
    help: &'static str,
}

/// The type of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SettingKind {
    /// A whole number, 0 or more.
    Count,
    /// A finite number, 0 or more.
    Real,
    /// A length of time: `"15m"`, `"1h30m"`, `"500ms"`, or a number of seconds.
    Duration,
    /// `true` or `false`.
    Boolean,
    /// Any text.
    Text,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// A list of texts; on the command line separated by commas.
    TextList,
    /// A list of whole numbers; on the command line separated by commas.
    CountList,
    /// A list of subnets in CIDR notation, as texts; on the command line separated by commas.
    SubnetList,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum SettingDefault {
    Count(u64),
    Real(f64),
    Duration(Duration),
    Boolean(bool),
    Text(&'static str),
    Choice(&'static str, &'static [&'static str]),
    TextList(&'static [&'static str]),
    CountList(&'static [u64]),
    SubnetList(&'static [&'static str]),
}

/// The bounds of what has none.
const ANY: (u64, u64) = (0, u64::MAX);

macro_rules! constructor {
    ($(#[$doc:meta])* $name:ident, $kind:ident, $type:ty) => {
        $(#[$doc])*
        pub const fn $name(key: &'static str, default: $type, help: &'static str) -> Self {
            Self { key, default: SettingDefault::$kind(default), positive: false, odd: false, bounds: ANY, live: false, help }
        }
    };
}

impl SettingSpec {
    constructor! {
        /// Declares a setting of kind [`SettingKind::Count`].
        count, Count, u64
    }
    constructor! {
        /// Declares a setting of kind [`SettingKind::Real`].
        real, Real, f64
    }
    constructor! {
        /// Declares a setting of kind [`SettingKind::Duration`].
        duration, Duration, Duration
    }
    constructor! {
        /// Declares a setting of kind [`SettingKind::Boolean`].
        boolean, Boolean, bool
    }
    constructor! {
        /// Declares a setting of kind [`SettingKind::Text`].
        text, Text, &'static str
    }
    constructor! {
        /// Declares a setting of kind [`SettingKind::TextList`].
        text_list, TextList, &'static [&'static str]
    }
    constructor! {
        /// Declares a setting of kind [`SettingKind::CountList`].
        count_list, CountList, &'static [u64]
    }
    constructor! {
        /// Declares a setting of kind [`SettingKind::SubnetList`]; its value is a list of texts that are subnets.
        subnet_list, SubnetList, &'static [&'static str]
    }

    /// Declares a setting of kind [`SettingKind::Choice`]; `default` is one of its words.
    pub const fn choice<C: Choice>(
        key: &'static str,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        Self {
            key,
            default: SettingDefault::Choice(default, C::NAMES),
            positive: false,
            odd: false,
            bounds: ANY,
            live: false,
            help,
        }
    }

    /// Makes the setting refuse 0. For queue bounds, intervals and the like.
    #[must_use]
    pub const fn positive(mut self) -> Self {
        self.positive = true;
        self
    }

    /// Makes the setting refuse even counts. For voters.
    #[must_use]
    pub const fn odd(mut self) -> Self {
        self.odd = true;
        self
    }

    /// Makes the setting refuse counts below `least` and above `most`.
    #[must_use]
    pub const fn within(mut self, least: u64, most: u64) -> Self {
        self.bounds = (least, most);
        self
    }

    /// Makes the setting refuse lengths of time above `most`.
    #[must_use]
    pub const fn at_most(mut self, most: Duration) -> Self {
        self.bounds = (0, nanoseconds(most));
        self
    }

    /// Makes the setting one that can be changed while the cluster runs: with `muster config set` it changes on all nodes
    /// whose frameworks have live settings, and these hear of it by
    /// [`Framework::setting_changed`](crate::node::Framework::setting_changed).
    ///
    /// A framework that copies the value of a live setting takes it again in that hook.
    #[must_use]
    pub const fn live(mut self) -> Self {
        assert!(
            !self.odd,
            "nobody checks for odd numbers while a cluster runs"
        );
        self.live = true;
        self
    }

    /// Returns `true` if the setting can be changed while the cluster runs.
    pub const fn is_live(&self) -> bool {
        self.live
    }

    /// The key: a section and a name, such as `scan.threshold`.
    pub const fn key(&self) -> &'static str {
        self.key
    }

    /// What the setting does, one line.
    pub const fn help(&self) -> &'static str {
        self.help
    }

    /// The setting's type.
    pub const fn kind(&self) -> SettingKind {
        match self.default {
            SettingDefault::Count(_) => SettingKind::Count,
            SettingDefault::Real(_) => SettingKind::Real,
            SettingDefault::Duration(_) => SettingKind::Duration,
            SettingDefault::Boolean(_) => SettingKind::Boolean,
            SettingDefault::Text(_) => SettingKind::Text,
            SettingDefault::Choice(_, choices) => SettingKind::Choice(choices),
            SettingDefault::TextList(_) => SettingKind::TextList,
            SettingDefault::CountList(_) => SettingKind::CountList,
            SettingDefault::SubnetList(_) => SettingKind::SubnetList,
        }
    }

    /// The value unless somebody sets another.
    pub fn default_value(&self) -> SettingValue {
        match self.default {
            SettingDefault::Count(value) => SettingValue::Count(value),
            SettingDefault::Real(value) => SettingValue::Real(value),
            SettingDefault::Duration(value) => SettingValue::Duration(value),
            SettingDefault::Boolean(value) => SettingValue::Boolean(value),
            SettingDefault::Text(value) | SettingDefault::Choice(value, _) => {
                SettingValue::Text(value.to_owned())
            }
            SettingDefault::TextList(values) | SettingDefault::SubnetList(values) => {
                SettingValue::TextList(values.iter().map(|value| (*value).to_owned()).collect())
            }
            SettingDefault::CountList(values) => SettingValue::CountList(values.to_vec()),
        }
    }

    /// Reads a value as it stands in a layout; the error says what was expected.
    pub(crate) fn read(&self, raw: &RawValue) -> Result<SettingValue, String> {
        let expected = || format!("`{}` takes {}", self.key, self.kind());
        let value = match (self.kind(), raw) {
            (SettingKind::Count, raw) => SettingValue::Count(raw.count().ok_or_else(expected)?),
            (SettingKind::Real, raw) => SettingValue::Real(raw.real().ok_or_else(expected)?),
            (SettingKind::Duration, raw) => {
                SettingValue::Duration(raw.duration().ok_or_else(expected)?)
            }
            (SettingKind::Boolean, RawValue::Boolean(value)) => SettingValue::Boolean(*value),
            (SettingKind::Text, RawValue::Text(text)) => SettingValue::Text(text.clone()),
            (SettingKind::Choice(choices), RawValue::Text(text))
                if choices.contains(&text.as_str()) =>
            {
                SettingValue::Text(text.clone())
            }
            (SettingKind::TextList, RawValue::List(items)) => {
                let texts = items.iter().map(|item| match item {
                    RawValue::Text(text) => Some(text.clone()),
                    _ => None,
                });
                SettingValue::TextList(texts.collect::<Option<_>>().ok_or_else(expected)?)
            }
            (SettingKind::SubnetList, RawValue::List(items)) => {
                let mut subnets = Vec::with_capacity(items.len());
                for item in items {
                    let RawValue::Text(text) = item else {
                        return Err(expected());
                    };
                    if text.parse::<Subnet>().is_err() {
                        return Err(format!("{}; \"{text}\" is none", expected()));
                    }
                    subnets.push(text.clone());
                }
                SettingValue::TextList(subnets)
            }
            (SettingKind::CountList, RawValue::List(items)) => SettingValue::CountList(
                items
                    .iter()
                    .map(RawValue::count)
                    .collect::<Option<_>>()
                    .ok_or_else(expected)?,
            ),
            (SettingKind::Choice(choices), RawValue::Text(text)) => {
                let near = nearest(text, choices.iter().copied());
                let hint = near.map(|near| format!("; did you mean `{near}`?"));
                return Err(format!("{}{}", expected(), hint.unwrap_or_default()));
            }
            _ => return Err(expected()),
        };
        let (least, most) = self.bounds;
        if let SettingValue::Count(count) = value
            && !(least..=most).contains(&count)
        {
            return Err(format!("`{}` must be between {least} and {most}", self.key));
        }
        if let SettingValue::Count(count) = value
            && self.odd
            && count % 2 == 0
        {
            return Err(format!("`{}` must be an odd number", self.key));
        }
        if let SettingValue::Duration(duration) = &value
            && nanoseconds(*duration) > most
        {
            let most = SettingValue::Duration(Duration::from_nanos(most));
            return Err(format!("`{}` must be at most {most}", self.key));
        }
        if self.positive && value.is_zero() {
            return Err(format!("`{}` must be more than 0", self.key));
        }
        Ok(value)
    }

    /// Reads a value as the register keeps it; the error says what was expected.
    pub(crate) fn read_data(&self, value: DataRef<'_>) -> Result<SettingValue, String> {
        self.read(&RawValue::of_data(value))
    }

    /// Returns what the register says that the setting takes.
    pub(crate) fn value_type(&self) -> ValueType {
        let value_type = ValueType::new(match self.kind() {
            SettingKind::Count => Type::Count,
            SettingKind::Real => Type::Real,
            SettingKind::Duration => Type::Timespan,
            SettingKind::Boolean => Type::Boolean,
            SettingKind::Text | SettingKind::Choice(_) => Type::String,
            SettingKind::TextList => Type::Vector(Box::new(Type::String)),
            SettingKind::CountList => Type::Vector(Box::new(Type::Count)),
            SettingKind::SubnetList => Type::Vector(Box::new(Type::Subnet)),
        });
        let (least, most) = self.bounds;
        let least = least.max(u64::from(self.positive));
        match self.kind() {
            SettingKind::Count => {
                let most = Data::Count(most.min(MOST_COUNT));
                value_type.within(Some(Data::Count(least)), Some(most))
            }
            SettingKind::CountList => value_type.within(None, Some(Data::Count(MOST_COUNT))),
            SettingKind::Duration => {
                let most = most.min(nanoseconds(LONGEST));
                let span = |nanoseconds: u64| {
                    let nanoseconds = i64::try_from(nanoseconds).unwrap_or(i64::MAX);
                    Data::Timespan(Timespan::from_nanos(nanoseconds))
                };
                value_type.within(Some(span(least)), Some(span(most)))
            }
            SettingKind::Real => {
                let least = if self.positive {
                    f64::MIN_POSITIVE
                } else {
                    0.0
                };
                value_type.within(Some(Data::Real(least)), Some(Data::Real(f64::MAX)))
            }
            SettingKind::Choice(words) => value_type.one_of(words.iter().copied()),
            _ => value_type,
        }
    }

    /// Reads a value as it is typed on a command line.
    pub(crate) fn read_text(&self, text: &str) -> Result<SettingValue, String> {
        let items = || {
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
        };
        let raw = match self.kind() {
            SettingKind::Text | SettingKind::Choice(_) => RawValue::Text(text.to_owned()),
            SettingKind::TextList | SettingKind::SubnetList => RawValue::List(
                items()
                    .map(|item| RawValue::Text(item.to_owned()))
                    .collect(),
            ),
            SettingKind::CountList => RawValue::List(items().map(RawValue::guess).collect()),
            _ => RawValue::guess(text.trim()),
        };
        self.read(&raw)
    }
}

/// The nanoseconds of a length of time, or the most that there can be.
const fn nanoseconds(duration: Duration) -> u64 {
    let nanoseconds = duration.as_nanos();
    if nanoseconds > u64::MAX as u128 {
        return u64::MAX;
    }
    #[allow(clippy::cast_possible_truncation, reason = "it was looked at")]
    {
        nanoseconds as u64
    }
}

impl fmt::Display for SettingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count => f.write_str("a whole number, 0 or more"),
            Self::Real => f.write_str("a number, 0 or more"),
            Self::Duration => {
                f.write_str("a length of time such as \"15m\", \"500ms\" or a number of seconds")
            }
            Self::Boolean => f.write_str("true or false"),
            Self::Text => f.write_str("a text"),
            Self::Choice(choices) => write!(f, "one of {}", choices.join(", ")),
            Self::TextList => f.write_str("a list of texts"),
            Self::CountList => f.write_str("a list of whole numbers"),
            Self::SubnetList => f.write_str("a list of subnets such as \"10.0.0.0/8\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_command_line_take_the_kind_of_their_setting() {
        let list = SettingSpec::count_list("scan.thresholds", &[1], "");
        assert_eq!(
            list.read_text("20, 100,1000"),
            Ok(SettingValue::CountList(vec![20, 100, 1000]))
        );
        assert!(list.read_text("20,x").is_err());
        let names = SettingSpec::text_list("site.local", &[], "");
        assert_eq!(
            names.read_text("10.0.0.0/8,1"),
            Ok(SettingValue::TextList(vec![
                "10.0.0.0/8".to_owned(),
                "1".to_owned()
            ]))
        );
        let subnets = SettingSpec::subnet_list("site.local", &[], "");
        let read = subnets.read_text("10.0.0.0/8, fe80::/10");
        assert!(matches!(read, Ok(SettingValue::TextList(texts)) if texts.len() == 2));
        let error = subnets.read_text("10.0.0.0/8,nonsense").unwrap_err();
        assert!(error.contains("\"nonsense\" is none"), "{error}");
        let window = SettingSpec::duration("scan.window", Duration::from_secs(1), "").positive();
        assert_eq!(
            window.read_text("90"),
            Ok(SettingValue::Duration(Duration::from_secs(90)))
        );
        assert!(window.read_text("0").is_err());
        assert!(window.read_text("-1").is_err());
        assert!(window.read_text("nan").is_err());
        let short = SettingSpec::duration("peering.short", Duration::ZERO, "");
        let short = short.at_most(Duration::from_millis(10));
        assert_eq!(
            short.read_text("10ms"),
            Ok(SettingValue::Duration(Duration::from_millis(10)))
        );
        for text in ["11ms", "10ms1ns", "1h"] {
            let error = short.read_text(text).unwrap_err();
            assert_eq!(error, "`peering.short` must be at most 10ms");
        }
        let bytes = SettingSpec::count("peering.most", 10, "").within(5, 20);
        assert_eq!(bytes.read_text("20"), Ok(SettingValue::Count(20)));
        for text in ["4", "21"] {
            let error = bytes.read_text(text).unwrap_err();
            assert_eq!(error, "`peering.most` must be between 5 and 20");
        }
        let voters = SettingSpec::count("coordination.count", 3, "")
            .within(1, 5)
            .odd();
        assert_eq!(voters.read_text("5"), Ok(SettingValue::Count(5)));
        let error = voters.read_text("4").unwrap_err();
        assert_eq!(error, "`coordination.count` must be an odd number");
        assert!(voters.read_text("7").is_err());
        let overflow = super::super::CORE_SETTINGS
            .iter()
            .find(|spec| spec.key() == "peering.overflow")
            .unwrap();
        assert_eq!(
            overflow.read_text("wait"),
            Err(
                "`peering.overflow` takes one of drop_oldest, drop_newest, disconnect, block"
                    .to_owned()
            )
        );
    }
}
