//! Log files as the log sink of a node.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use muster_cluster::node::{LogBatch, LogSink, Written};
use muster_cluster::{Layout, Node, SettingSpec};
use muster_data::Timestamp;

use super::{LogFiles, LogFilesConfig, LogFilesError, LogFormat};

/// The settings that [`LogFilesConfig::from_settings`] reads, for
/// [`Layout::parse`](muster_cluster::Layout::parse).
pub const SETTINGS: &[SettingSpec] = &[
    SettingSpec::choice::<LogFormat>("logging.format", "tsv", "the format of log files"),
    SettingSpec::duration(
        "logging.rotation",
        Duration::from_secs(3600),
        "time after which a log file is rotated; 0 never rotates",
    ),
];

impl LogFilesConfig {
    /// Returns the configuration of a node's log files, from its settings `logging.format` and `logging.rotation`. If
    /// the layout has several loggers, which may share a directory, the files carry the node's name.
    ///
    /// # Panics
    ///
    /// Panics if the layout was parsed without [`SETTINGS`].
    pub fn from_settings(layout: &Layout, node: &Node, directory: PathBuf) -> Self {
        let nodes = layout.nodes().iter();
        let loggers = nodes.filter(|other| layout.takes_logs(other)).count();
        let rotation = node.settings.duration("logging.rotation");
        Self {
            directory,
            format: node.settings.choice("logging.format"),
            rotation: (!rotation.is_zero()).then_some(rotation),
            // One logger needs no name in its files.
            writer_name: (loggers > 1).then(|| node.name.to_string()),
        }
    }
}

/// A node's [`LogSink`] that writes [`LogFiles`].
///
/// # Example
///
/// The sink of a logger, for the field `log_sink` of `muster::NodeConfig`:
///
/// ```
/// use muster_cluster::Layout;
/// use muster_cluster::node::LogSink;
/// use muster_frameworks::log_files::{FileSink, LogFilesConfig, SETTINGS};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let text = r#"
///     layout = 1
///     node = [{ name = "manager", role = "manager" }, { name = "logger", role = "logger" }]
///     [logging]
///     format = "json"
/// "#;
/// let layout = Layout::parse(text, "muster.toml", SETTINGS)?;
/// let node = layout.find("logger").ok_or("no such node")?;
/// # let scratch = tempfile::tempdir()?;
/// # let directory = scratch.path().join("logs");
/// let config = LogFilesConfig::from_settings(&layout, node, directory);
/// let log_sink: Box<dyn LogSink> = Box::new(FileSink::new(config)?);
/// # drop(log_sink);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FileSink {
    files: LogFiles,
    reopen: Reopener,
    /// Rows that were found to be gone since the last batch.
    gone: u64,
}

/// Has a [`FileSink`] open its files anew, from any thread: after somebody else has moved them away, as logrotate does.
#[derive(Debug, Clone, Default)]
pub struct Reopener(Arc<AtomicBool>);

impl Reopener {
    /// Asks for it. The next batch, or the next tick of a second, carries it out.
    pub fn reopen(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl FileSink {
    /// Returns a sink that writes files as configured. Nothing is written before the first batch.
    ///
    /// # Errors
    ///
    /// Like [`LogFiles::new`].
    pub fn new(config: LogFilesConfig) -> Result<Self, LogFilesError> {
        Ok(Self {
            files: LogFiles::new(config)?,
            reopen: Reopener::default(),
            gone: 0,
        })
    }

    /// Returns what has the files opened anew.
    pub fn reopener(&self) -> Reopener {
        self.reopen.clone()
    }

    fn reopen_if_asked(&mut self, wall: Timestamp) -> Result<(), LogFilesError> {
        if self.reopen.take() {
            return self.files.reopen(wall);
        }
        Ok(())
    }
}

impl LogSink for FileSink {
    fn write(&mut self, batch: &LogBatch, wall: Timestamp) -> Written {
        let reopened = self.reopen_if_asked(wall);
        let mut written = match self.files.write(batch, wall) {
            Ok(records) => Written {
                records,
                gone: 0,
                problem: None,
            },
            Err(error) => Written {
                records: error.written(),
                gone: error.gone(),
                problem: Some(error.to_string()),
            },
        };
        if let Err(error) = reopened {
            written.gone += error.gone();
            written.problem.get_or_insert_with(|| error.to_string());
        }
        written.gone += std::mem::take(&mut self.gone);
        written
    }

    fn tick(&mut self, wall: Timestamp) -> Result<(), String> {
        let reopened = self.reopen_if_asked(wall);
        let ticked = self.files.tick(wall);
        for error in [&reopened, &ticked]
            .into_iter()
            .filter_map(|result| result.as_ref().err())
        {
            self.gone += error.gone();
        }
        reopened.and(ticked).map_err(|error| error.to_string())
    }

    fn close(&mut self, wall: Timestamp) -> Result<(), String> {
        self.files.close(wall).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = r#"
        layout = 1
        node = [
            { name = "manager", role = "manager" },
            { name = "logger", role = "logger", count = 2 },
        ]
    "#;

    fn config(text: &str, directory: PathBuf) -> LogFilesConfig {
        let layout = Layout::parse(text, "test.toml", SETTINGS).unwrap();
        LogFilesConfig::from_settings(&layout, layout.find("logger-1").unwrap(), directory)
    }

    #[test]
    fn the_settings_of_a_layout_say_how_its_loggers_write() {
        let by_default = config(NODES, PathBuf::from("logs"));
        assert_eq!(by_default.format, LogFormat::Tsv);
        assert_eq!(by_default.rotation, Some(Duration::from_secs(3600)));
        assert_eq!(by_default.writer_name.as_deref(), Some("logger-1"));

        let alone = r#"
            layout = 1
            node = [{ name = "manager", role = "manager" }, { name = "logger-1", role = "logger" }]
            logging = { format = "json", rotation = "0s" }
        "#;
        let alone = config(alone, PathBuf::from("logs"));
        assert_eq!(alone.format, LogFormat::Json);
        assert_eq!((alone.rotation, alone.writer_name), (None, None));
    }
}
