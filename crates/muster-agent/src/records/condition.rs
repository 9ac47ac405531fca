//! What a record has to have: `id.resp_p==53`, `service!=dns`.

use std::net::IpAddr;

/// The most conditions of a query.
pub const MOST_CONDITIONS: usize = 16;

/// A condition on one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    field: String,
    is_equal: bool,
    value: String,
}

impl Condition {
    /// Reads `FIELD==VALUE` or `FIELD!=VALUE`.
    ///
    /// # Errors
    ///
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = |sign| Some((text.split_once(sign)?, sign == "=="));
        // What comes first is the sign: both may be in a value.
        let found = [parts("=="), parts("!=")].into_iter().flatten();
        let found = found.min_by_key(|((field, _), _)| field.len());
        let wrong = || format!("`{text}` is no condition, such as id.resp_p==53 or service!=dns");
        let ((field, value), is_equal) = found.ok_or_else(wrong)?;
        let field = field.trim();
        if field.is_empty() || field.contains(char::is_whitespace) {
            return Err(wrong());
        }
        Ok(Self {
            field: field.to_owned(),
            is_equal,
            value: value.trim().to_owned(),
        })
    }

    /// Whether a record fulfils it. A column that is not set equals nothing.
    pub fn holds(&self, fields: &[(String, String)]) -> bool {
        let found = fields.iter().find(|(name, _)| *name == self.field);
        let is_equal = found.is_some_and(|(_, value)| are_equal(value, &self.value));
        is_equal == self.is_equal
    }
}

/// Whether two texts stand for the same: as numbers, addresses or truth values if both are such, and otherwise as texts.
fn are_equal(one: &str, other: &str) -> bool {
    if one == other {
        return true;
    }
    if let (Some(one), Some(other)) = (number(one), number(other)) {
        return one.total_cmp(&other).is_eq();
    }
    if let (Ok(one), Ok(other)) = (one.parse::<IpAddr>(), other.parse::<IpAddr>()) {
        return one.to_canonical() == other.to_canonical();
    }
    truth(one).is_some_and(|one| Some(one) == truth(other))
}

fn number(text: &str) -> Option<f64> {
    // Words such as `inf` are texts.
    let is_number = text.bytes().any(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "T" | "true" => Some(true),
        "F" | "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn values_are_compared_by_what_they_are() {
        let fields = [
            ("id.resp_p", "53"),
            ("duration", "1.500000"),
            ("host", "2001:db8::1"),
            ("local", "T"),
            ("text", "a==b"),
            ("big", "18446744073709551615"),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        for (condition, holds) in [
            ("id.resp_p==53", true),
            ("id.resp_p == 53.0", true),
            ("id.resp_p!=53", false),
            ("id.resp_p==5", false),
            ("duration==1.5", true),
            ("host==2001:DB8:0::1", true),
            ("host!=::1", true),
            ("local==true", true),
            ("local==F", false),
            ("text==a==b", true),
            ("text!=a", true),
            ("none==x", false),
            ("none!=x", true),
            ("none==", false),
        ] {
            let parsed = Condition::parse(condition).unwrap();
            assert_eq!(parsed.holds(&fields), holds, "{condition}");
        }
        for wrong in ["", "==", "a", "a=b", "a>1", "a b==1"] {
            assert!(Condition::parse(wrong).is_err(), "{wrong}");
        }
    }
}
