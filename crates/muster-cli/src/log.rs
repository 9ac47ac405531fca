//! What a process says of itself on stderr: as text, as JSON lines, or as records of the system's journal.
//!
//! The log begins as text. A node and an agent say who they are when they know it, and then use the form that their layout or
//! their stderr asks for. What is wrong in the same way again and again is told once a minute, and counted.

mod journal;
mod record;
mod repeats;

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use muster_cluster::SettingSpec;
use muster_wire::Mono;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use self::journal::JournalSocket;
use self::record::Record;
use self::repeats::Repeats;

/// The form of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// A time, a level and a text.
    Text,
    /// A JSON object on each line.
    Json,
}

muster_cluster::choice!(LogFormat {
    "text" => LogFormat::Text,
    "json" => LogFormat::Json,
});

/// The settings of a layout that are about logs of processes.
pub(crate) const SETTINGS: &[SettingSpec] = &[SettingSpec::choice::<LogFormat>(
    "log.format",
    "text",
    "form of what nodes and agents say of themselves; in the system's journal they use its fields",
)];

/// Who says something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Speaker {
    /// The node; none if it is an agent.
    pub(crate) node: Option<String>,
    /// The box, if it has a name.
    pub(crate) box_name: Option<String>,
}

/// How a speaker is heard.
#[derive(Debug)]
struct Voice {
    speaker: Speaker,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Json,
    Journal(JournalSocket),
}

/// How this process is heard from now on; as text before it is set.
static VOICE: OnceLock<Voice> = OnceLock::new();

/// Starts the log on stderr at a level. The environment variable `MUSTER_LOG` names another, as `MUSTER_LOG=debug`.
pub(crate) fn start(level: &str) {
    let filter = EnvFilter::try_from_env("MUSTER_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .log_internal_errors(false)
        .event_format(Lines::new())
        .with_writer(|| LogWriter)
        .init();
}

/// Says who this process is, and uses the form that is asked for, or the journal's if stderr is that.
pub(crate) fn speak_as(speaker: Speaker, format: LogFormat) {
    let form = match (JournalSocket::of_stderr(), format) {
        (Some(socket), _) => Form::Journal(socket),
        (None, LogFormat::Json) => Form::Json,
        (None, LogFormat::Text) => return,
    };
    // Nobody becomes somebody else.
    let _ = VOICE.set(Voice { speaker, form });
}

/// Writes a line that is no event of the log in its form, if that is not text.
pub(crate) fn write_record(level: Level, message: &str, hint: Option<&str>) -> bool {
    let Some(voice) = VOICE.get() else {
        return false;
    };
    let hint = hint.map(|hint| ("hint".to_owned(), hint.to_owned()));
    let record = Record {
        level,
        target: env!("CARGO_CRATE_NAME").to_owned(),
        message: message.to_owned(),
        fields: hint.into_iter().collect(),
    };
    let mut text = String::new();
    if voice.write(&record, 0, &mut text).is_ok() {
        let _ = LogWriter.write_all(text.as_bytes());
    }
    true
}

impl Voice {
    fn write(&self, record: &Record, more: u64, text: &mut impl fmt::Write) -> fmt::Result {
        match self.form {
            Form::Json => record.write_json(&self.speaker, more, text),
            Form::Journal(_) => record.write_journal(&self.speaker, more, text),
        }
    }
}

/// Writes events, and those once that come again and again.
struct Lines {
    text: Format<Full>,
    start: Instant,
    repeats: Mutex<Repeats>,
}

impl Lines {
    fn new() -> Self {
        Self {
            text: Format::default().with_target(false),
            start: Instant::now(),
            repeats: Mutex::default(),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let voice = VOICE.get();
        let is_bad = *event.metadata().level() <= Level::WARN;
        let record = (is_bad || voice.is_some()).then(|| Record::of(event));
        let now = Mono::default().after(self.start.elapsed());
        let (counted, is_told) = {
            let mut repeats = self.repeats.lock().unwrap_or_else(PoisonError::into_inner);
            let bad = record.as_ref().filter(|_| is_bad);
            (
                repeats.take_over(now),
                bad.is_none_or(|bad| repeats.tells(bad, now)),
            )
        };
        for (record, more) in counted {
            let mut text = String::new();
            match voice {
                Some(voice) => voice.write(&record, more, &mut text)?,
                None => record.write_text(more, &mut text)?,
            }
            // By itself: an event is one line.
            let _ = LogWriter.write_all(text.as_bytes());
        }
        match (voice, record) {
            _ if !is_told => Ok(()),
            (Some(voice), Some(record)) => voice.write(&record, 0, &mut writer),
            _ => self.text.format_event(context, writer, event),
        }
    }
}

/// The log's way to stderr: each event on one line, whatever the names from the network in it. A log that cannot be written, as on a full disk, ends nothing: tracing
/// would say so on stderr as well, and panic when that fails too.
struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match VOICE.get().map(|voice| &voice.form) {
            Some(Form::Journal(socket)) => {
                let lost = socket.send(bytes);
                let _ = io::stderr().lock().write_all(lost.as_bytes());
            }
            // In JSON there is no end of a line but at the end.
            Some(Form::Json) => {
                let _ = io::stderr().lock().write_all(bytes);
            }
            None => {
                let _ = io::stderr().lock().write_all(one_line(bytes).as_bytes());
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An event as text, on one line.
fn one_line(bytes: &[u8]) -> String {
    // Colours are tracing's own: it escapes those of others.
    let (text, end) = match bytes {
        [text @ .., b'\n'] => (text, "\n"),
        text => (text, ""),
    };
    let mut line = String::from_utf8_lossy(text)
        .replace('\n', "\\n")
        .replace('\r', "\\r");
    line.push_str(end);
    line
}
