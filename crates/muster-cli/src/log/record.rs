//! One thing that is said, in each form.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::Speaker;

/// An event by its parts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Record {
    pub(super) level: Level,
    pub(super) target: String,
    pub(super) message: String,
    pub(super) fields: Vec<(String, String)>,
}

impl Record {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let mut record = Self {
            level: *event.metadata().level(),
            target: event.metadata().target().to_owned(),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut record);
        record
    }

    fn take(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else {
            self.fields.push((field.name().to_owned(), value));
        }
    }

    /// As text on one line; `more` times within a minute.
    pub(super) fn write_text(&self, more: u64, text: &mut impl Write) -> fmt::Result {
        let line = format!("{} {:>5} {}", time(), self.level, self.message);
        text.write_str(&plain(&line))?;
        for (name, value) in &self.fields {
            write!(text, " {name}={}", plain(value))?;
        }
        if more > 0 {
            write!(text, " ({more} times more within a minute)")?;
        }
        text.write_char('\n')
    }

    pub(super) fn write_json(
        &self,
        speaker: &Speaker,
        more: u64,
        text: &mut impl Write,
    ) -> fmt::Result {
        let mut separator = '{';
        let mut member = |name: &str, value: &str| -> fmt::Result {
            write!(text, "{separator}{}:{value}", quoted(name))?;
            separator = ',';
            Ok(())
        };
        member("time", &quoted(&time()))?;
        member("level", &quoted(self.level.as_str()))?;
        for (name, value) in [("node", &speaker.node), ("box", &speaker.box_name)] {
            if let Some(value) = value {
                member(name, &quoted(value))?;
            }
        }
        member("target", &quoted(&self.target))?;
        member("message", &quoted(&self.message))?;
        if !self.fields.is_empty() {
            let fields = self.fields.iter();
            let fields = fields.map(|(name, value)| format!("{}:{}", quoted(name), quoted(value)));
            let fields: Vec<String> = fields.collect();
            member("fields", &format!("{{{}}}", fields.join(",")))?;
        }
        if more > 0 {
            member("repeated", &more.to_string())?;
        }
        text.write_str("}\n")
    }

    /// As the fields of a record of the journal, with an empty line behind.
    pub(super) fn write_journal(
        &self,
        speaker: &Speaker,
        more: u64,
        text: &mut impl Write,
    ) -> fmt::Result {
        // As syslog(3) has them.
        let priority = match self.level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        let identifier = speaker.node.as_deref().unwrap_or("agent");
        write!(text, "MESSAGE={}", plain(&self.message))?;
        if more > 0 {
            write!(text, " ({more} times more within a minute)")?;
        }
        write!(
            text,
            "\nPRIORITY={priority}\nSYSLOG_IDENTIFIER=muster-{identifier}\nMUSTER_LEVEL={}\nMUSTER_TARGET={}\n",
            self.level,
            plain(&self.target)
        )?;
        let of_speaker = [("NODE", &speaker.node), ("BOX", &speaker.box_name)];
        for (name, value) in of_speaker {
            if let Some(value) = value {
                writeln!(text, "MUSTER_{name}={}", plain(value))?;
            }
        }
        for (name, value) in &self.fields {
            writeln!(text, "MUSTER_FIELD_{}={}", journal_name(name), plain(value))?;
        }
        text.write_char('\n')
    }
}

impl Visit for Record {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format!("{value:?}"));
    }
}

fn time() -> String {
    let mut text = String::new();
    // A string takes everything.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// A text on one line.
fn plain(text: &str) -> String {
    crate::output::one_line(text.into()).into_owned()
}

/// A name as the journal takes it: capitals, digits and underscores.
fn journal_name(name: &str) -> String {
    let letter = |letter: char| match letter.to_ascii_uppercase() {
        letter @ ('A'..='Z' | '0'..='9') => letter,
        _ => '_',
    };
    name.chars().take(40).map(letter).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn record() -> Record {
        Record {
            level: Level::WARN,
            target: "muster::node".to_owned(),
            message: "a \"name\"\nfrom afar".to_owned(),
            fields: vec![("peer.name".to_owned(), "x\ty".to_owned())],
        }
    }

    fn speaker() -> Speaker {
        Speaker {
            node: Some("data-1".to_owned()),
            box_name: Some("a".to_owned()),
        }
    }

    #[test]
    fn json_is_one_line_with_everything() {
        let mut text = String::new();
        record().write_json(&speaker(), 3, &mut text).unwrap();
        let (line, rest) = text.split_once('\n').unwrap();
        assert_eq!(rest, "");
        let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
        let time = value.as_object_mut().unwrap().remove("time").unwrap();
        let time: Result<muster_data::Timestamp, _> = time.as_str().unwrap().parse();
        assert!(time.is_ok());
        assert_eq!(
            value,
            serde_json::json!({
                "level": "WARN",
                "node": "data-1",
                "box": "a",
                "target": "muster::node",
                "message": "a \"name\"\nfrom afar",
                "fields": {"peer.name": "x\ty"},
                "repeated": 3,
            })
        );
    }

    #[test]
    fn a_record_of_the_journal_has_a_line_for_each_field() {
        let mut text = String::new();
        record().write_journal(&speaker(), 0, &mut text).unwrap();
        assert_eq!(
            text,
            "MESSAGE=a \"name\"\\nfrom afar\nPRIORITY=4\nSYSLOG_IDENTIFIER=muster-data-1\nMUSTER_LEVEL=WARN\n\
             MUSTER_TARGET=muster::node\nMUSTER_NODE=data-1\nMUSTER_BOX=a\nMUSTER_FIELD_PEER_NAME=x\\ty\n\n"
        );
        let mut text = String::new();
        let agent = Speaker::default();
        record().write_journal(&agent, 2, &mut text).unwrap();
        assert!(text.contains("SYSLOG_IDENTIFIER=muster-agent\n") && !text.contains("MUSTER_NODE"));
        assert!(text.contains("from afar (2 times more within a minute)\n"));
    }

    #[test]
    fn text_is_one_line() {
        let mut text = String::new();
        record().write_text(2, &mut text).unwrap();
        let (_, line) = text.split_once("  WARN ").unwrap();
        assert_eq!(
            line,
            "a \"name\"\\nfrom afar peer.name=x\\ty (2 times more within a minute)\n"
        );
    }
}
