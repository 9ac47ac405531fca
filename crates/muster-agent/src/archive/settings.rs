//! What a layout says of the archive.

use std::time::Duration;

use muster_cluster::{Origin, SettingSpec, Settings};
use muster_frameworks::log_files;

use super::store::Compression;

muster_cluster::choice!(Compression {
    "gzip" => Compression::Gzip,
    "zstd" => Compression::Zstd,
    "none" => Compression::None,
});

/// The settings that [`ArchiveConfig::from_settings`] reads, for [`Layout::parse`](muster_cluster::Layout::parse).
pub(super) const SETTINGS: &[SettingSpec] = &[
    SettingSpec::boolean(
        "archive.enabled",
        true,
        "whether agents put rotated log files into an archive and remove old ones; `muster run` does so only if this is set",
    ),
    SettingSpec::choice::<Compression>(
        "archive.compression",
        "gzip",
        "how the files of the archive are compressed",
    ),
    SettingSpec::duration(
        "archive.keep",
        Duration::from_secs(30 * 86_400),
        "age after which files of the archive are removed; 0 keeps them for ever",
    ),
    SettingSpec::count(
        "archive.keep_bytes",
        0,
        "size of the archive in bytes beyond which its oldest files are removed; 0 for any size",
    ),
    SettingSpec::text(
        "archive.min_free",
        "10%",
        "part of the archive's file system that is kept free by removing the oldest files; 0% removes none for that",
    ),
    SettingSpec::text_list(
        "archive.keep_forever",
        &[],
        "streams whose files are never removed from the archive, such as \"notice*\"",
    ),
    SettingSpec::text_list(
        "archive.command",
        &[],
        "program with its arguments that ships each file of the archive; {file} is the file, {name} its name in the archive",
    ),
    SettingSpec::duration(
        "archive.command_timeout",
        Duration::from_secs(600),
        "time after which archive.command is ended, and has failed",
    )
    .positive(),
];

/// A setting of the archive that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ArchiveSettingsError(String);

/// What is archived, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct ArchiveConfig {
    /// How files are compressed.
    pub compression: Compression,
    /// The age after which files are removed.
    pub keep: Option<Duration>,
    /// The size of the archive in bytes beyond which its oldest files are removed.
    pub keep_bytes: Option<u64>,
    /// The part of the file system that is kept free, from 0 to 1.
    pub min_free: f64,
    /// Patterns of the streams whose files are never removed.
    pub keep_forever: Vec<String>,
    /// What ships the files, if anything does.
    pub command: Option<ShipCommand>,
}

/// A program that ships files of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShipCommand {
    /// The program and its arguments, with `{file}` and `{name}` in them.
    pub words: Vec<String>,
    /// How long it may run.
    pub limit: Duration,
}

impl ArchiveConfig {
    /// Returns what a layout's settings say. `None` if nothing is archived; `by_default` says whether something is
    /// if the layout does not.
    ///
    /// # Errors
    ///
    /// Fails if a setting is none.
    ///
    /// # Panics
    ///
    /// Panics if the layout was parsed without [`SETTINGS`](super::SETTINGS).
    pub fn from_settings(
        settings: &Settings,
        by_default: ArchivesByDefault,
    ) -> Result<Option<Self>, ArchiveSettingsError> {
        let text = settings.text("archive.min_free");
        let percent = text.strip_suffix('%').map(str::trim).unwrap_or_default();
        let percent: Option<u8> = percent.parse().ok().filter(|percent| *percent <= 90);
        let percent = percent.ok_or_else(|| {
            ArchiveSettingsError(format!(
                "archive.min_free = \"{text}\": a percentage from 0% to 90% is expected, such as 10%"
            ))
        })?;
        let words = settings.text_list("archive.command");
        if words.first().is_some_and(String::is_empty) {
            let text = "archive.command: its first word is the program, and empty";
            return Err(ArchiveSettingsError(text.to_owned()));
        }
        let is_set = settings.origin("archive.enabled") != Origin::Default;
        if !settings.boolean("archive.enabled") || (!is_set && by_default == ArchivesByDefault::No)
        {
            return Ok(None);
        }
        let (keep, bytes) = (
            settings.duration("archive.keep"),
            settings.count("archive.keep_bytes"),
        );
        Ok(Some(Self {
            compression: settings.choice("archive.compression"),
            keep: (!keep.is_zero()).then_some(keep),
            keep_bytes: (bytes > 0).then_some(bytes),
            min_free: f64::from(percent) / 100.0,
            keep_forever: settings.text_list("archive.keep_forever").to_vec(),
            command: (!words.is_empty()).then(|| ShipCommand {
                words: words.to_vec(),
                limit: settings.duration("archive.command_timeout"),
            }),
        }))
    }

    /// Whether the files of a stream are never removed.
    pub(super) fn keeps_forever(&self, stream: &str) -> bool {
        let mut patterns = self.keep_forever.iter();
        patterns.any(|pattern| log_files::names_stream(pattern, stream))
    }
}

/// Whether log files are archived if nobody says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchivesByDefault {
    /// They are, as with the standard directories.
    Yes,
    /// They stay where they are.
    No,
}
