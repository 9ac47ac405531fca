//! How a node's process is started: with which program, with which text of the layout, and where its own words go.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use tokio::process::Command;

use super::News;
use crate::cluster::load_text;

/// The end of a process log that an exit is explained with, in bytes.
const LOG_TAIL: u64 = 4096;

/// The file of the running program on Linux, even when another one has taken its place.
const OWN_IMAGE: &str = "/proc/self/exe";

/// Makes the command lines of nodes.
#[derive(Debug)]
pub(super) struct Launcher {
    layout_file: PathBuf,
    directory: PathBuf,
    settings: Vec<String>,
    extra: Vec<String>,
    /// Where this program was when it started.
    program: PathBuf,
    /// The last text of the layout that had no errors.
    layout: Option<String>,
    /// What is wrong with the layout by now.
    problem: Option<String>,
    is_program_gone: bool,
    news: Vec<News>,
}

impl Launcher {
    pub(super) fn new(
        layout_file: PathBuf,
        directory: PathBuf,
        settings: &[String],
        extra: Vec<String>,
    ) -> Self {
        Self {
            layout_file,
            directory,
            settings: settings.to_vec(),
            extra,
            program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from(OWN_IMAGE)),
            layout: None,
            problem: None,
            is_program_gone: false,
            news: Vec::new(),
        }
    }

    /// The command that runs a node: the program that is on disk now, with the layout as it is now, or as it was before it
    /// had errors.
    pub(super) fn command(&mut self, name: &str) -> Result<Command> {
        let log = self.log_file(name);
        let file = open_log(&log)?;
        let layout = self.layout()?;
        let mut command = Command::new(self.program());
        command
            .arg("node")
            .arg(name)
            .arg("--layout")
            .arg(&self.layout_file)
            .arg("--layout-text")
            .arg(layout)
            .arg("--process-log")
            .arg(log)
            .arg("--supervised");
        for setting in &self.settings {
            command.arg("--set").arg(setting);
        }
        command
            .args(&self.extra)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            // Ctrl-C is for the supervisor: it stops the nodes in order.
            .process_group(0)
            .kill_on_drop(true);
        Ok(command)
    }

    /// Takes what is worth telling.
    pub(super) fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// What whoever asks for a restart should know: which layout and which program the node has.
    pub(super) fn note(&mut self) -> Option<String> {
        // What is wrong with a first layout is told when the node does not start.
        let _ = self.layout();
        self.program();
        let layout = self.problem.as_ref().map(|_| {
            "the node has the layout as it was before: the file has errors by now".to_owned()
        });
        let program = self.is_program_gone.then(|| {
            let program = self.program.display();
            format!("the node runs the program that the supervisor runs: {program} is gone")
        });
        let notes: Vec<String> = layout.into_iter().chain(program).collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    /// Where a node's own words go.
    pub(super) fn log_file(&self, name: &str) -> PathBuf {
        self.directory.join("nodes").join(format!("{name}.log"))
    }

    /// The last line of a node's process log, which tells why the process ended.
    pub(super) fn last_line(&self, name: &str) -> Option<String> {
        last_line(&self.log_file(name))
    }

    /// The file with the layout that a node is started with.
    fn layout(&mut self) -> Result<PathBuf> {
        let copy = self.directory.join("nodes").join("layout.toml");
        let file = &self.layout_file;
        let read = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))
            .and_then(|text| load_text(file, &text, &self.settings).map(|_| text));
        match (read, &self.layout) {
            (Ok(text), before) => {
                self.problem = None;
                if before.as_ref() != Some(&text) || !copy.exists() {
                    write_whole(&copy, &text)?;
                    self.layout = Some(text);
                }
            }
            (Err(error), None) => return Err(error),
            (Err(error), Some(before)) => {
                if !copy.exists() {
                    write_whole(&copy, before)?;
                }
                let problem = error.to_string();
                if self.problem.as_ref() != Some(&problem) {
                    self.news.push(News::Note(format!(
                        "the layout has errors by now; nodes start with what it was before:\n{problem}"
                    )));
                    self.problem = Some(problem);
                }
            }
        }
        Ok(copy)
    }

    /// The program that is on disk, or this very one if there is none any more.
    fn program(&mut self) -> &Path {
        let is_there = std::fs::metadata(&self.program)
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
        if !is_there && !self.is_program_gone {
            self.news.push(News::Note(format!(
                "{} is gone: nodes run the program that this one runs",
                self.program.display()
            )));
        }
        self.is_program_gone = !is_there;
        if is_there {
            &self.program
        } else {
            Path::new(OWN_IMAGE)
        }
    }
}

/// Replaces a file, so that whoever reads it has it whole. It may hold a passphrase, and is for its owner alone.
fn write_whole(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("new");
    let _ = std::fs::remove_file(&new);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&new, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Opens a process log to append to it.
pub(in crate::cluster) fn open_log(path: &Path) -> Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The last line of a process log, which tells why the process ended.
fn last_line(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))
        .ok()?;
    let mut tail = Vec::new();
    file.take(LOG_TAIL).read_to_end(&mut tail).ok()?;
    let tail = String::from_utf8_lossy(&tail);
    let line = tail
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty() && !line.starts_with("hint:"))?;
    Some(line.to_owned())
}
