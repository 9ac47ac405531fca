//! How a node's process is started: with which program, with which text of the layout, and where its own words go.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::place::Places;
use crate::process_logs::message;

/// The end of a process log that an exit is explained with, in bytes.
const LOG_TAIL: u64 = 4096;

/// The file of the running program on Linux, even when another one has taken its place.
const OWN_IMAGE: &str = "/proc/self/exe";

/// Why a node is not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum LaunchError {
    /// A file cannot be used.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The layout has errors, and there is none from before.
    #[error("{0}")]
    Layout(String),
    /// The system refused.
    #[error("cannot start the program {}: {source}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// What listens on the node's socket cannot be used.
    #[error("cannot use the node's socket {}: {source}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn file_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LaunchError {
    let path = path.to_owned();
    move |source| LaunchError::File { what, path, source }
}

/// Finds the errors of a layout's text.
pub type CheckLayout = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// How nodes are started.
pub struct Launch {
    /// The layout's file; absolute. It is read anew for each start.
    pub layout_file: PathBuf,
    /// Finds the errors of its text.
    pub check_layout: CheckLayout,
    /// What is added to the command line of each node.
    pub arguments: Vec<String>,
    /// Whether nodes end when this process does.
    pub lives: Lives,
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("layout_file", &self.layout_file)
            .field("arguments", &self.arguments)
            .field("lives", &self.lives)
            .finish_non_exhaustive()
    }
}

/// What the end of an agent means to its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lives {
    /// Nothing: they go on.
    Own,
    /// They end, too.
    Tied,
}

/// Makes the command lines of nodes.
#[derive(Debug)]
pub(crate) struct Launcher {
    launch: Launch,
    places: Places,
    /// Where this program was when it started.
    program: PathBuf,
    /// The last text of the layout that had no errors.
    layout: Option<String>,
    /// What is wrong with the layout by now.
    problem: Option<String>,
    is_program_gone: bool,
    notes: Vec<String>,
}

impl Launcher {
    pub(crate) fn new(launch: Launch, places: Places) -> Self {
        Self {
            launch,
            places,
            program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from(OWN_IMAGE)),
            layout: None,
            problem: None,
            is_program_gone: false,
            notes: Vec::new(),
        }
    }

    pub(crate) fn lives(&self) -> Lives {
        self.launch.lives
    }

    /// Where this program was when it started; another one may be there by now.
    pub(crate) fn own_program(&self) -> &Path {
        &self.program
    }

    /// The command that runs a node: the program that is on disk now, with the layout as it is now, or as it was before it
    /// had errors.
    pub(crate) fn command(&mut self, name: &str) -> Result<Command, LaunchError> {
        let log = self.places.process_log(name);
        let file = open_log(&log).map_err(file_error("write", &log))?;
        let layout = self.layout()?;
        let mut command = Command::new(self.program());
        command
            .arg("node")
            .arg(name)
            .arg("--layout")
            .arg(&self.launch.layout_file)
            .arg("--layout-text")
            .arg(layout)
            .arg("--process-log")
            .arg(log)
            .arg("--socket")
            .arg(self.places.node_socket(name))
            .args(&self.launch.arguments)
            .stdout(Stdio::null())
            .stderr(file)
            // Ctrl-C is for the agent: it stops the nodes in order.
            .process_group(0);
        match self.launch.lives {
            Lives::Own => command.stdin(Stdio::null()),
            Lives::Tied => command.arg("--tied").stdin(Stdio::piped()),
        };
        Ok(command)
    }

    /// Takes what is worth telling.
    pub(crate) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// What whoever asks for a restart should know: which layout and which program the node has.
    pub(crate) fn note(&mut self) -> Option<String> {
        // What is wrong with a first layout is told when the node does not start.
        let _ = self.layout();
        self.program();
        let layout = self.problem.as_ref().map(|_| {
            "the node has the layout as it was before: the file has errors by now".to_owned()
        });
        let program = self.is_program_gone.then(|| {
            let program = self.program.display();
            format!("the node runs the program that its agent runs: {program} is gone")
        });
        let notes: Vec<String> = layout.into_iter().chain(program).collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    /// The last line of a node's process log, which tells why the process ended.
    pub(crate) fn last_line(&self, name: &str) -> Option<String> {
        last_line(&self.places.process_log(name))
    }

    /// Reads the layout, and finds its errors.
    pub(crate) fn read_layout(&self) -> Result<String, String> {
        let file = &self.launch.layout_file;
        std::fs::read_to_string(file)
            .map_err(|error| format!("cannot read {}: {error}", file.display()))
            .and_then(|text| (self.launch.check_layout)(&text).map(|()| text))
    }

    /// The file with the layout that a node is started with.
    fn layout(&mut self) -> Result<PathBuf, LaunchError> {
        let copy = self.places.run.join("nodes").join("layout.toml");
        let read = self.read_layout();
        match (read, &self.layout) {
            (Ok(text), before) => {
                self.problem = None;
                if before.as_ref() != Some(&text) || !copy.exists() {
                    write_whole(&copy, text.as_bytes()).map_err(file_error("write", &copy))?;
                    self.layout = Some(text);
                }
            }
            (Err(problem), None) => return Err(LaunchError::Layout(problem)),
            (Err(problem), Some(before)) => {
                if !copy.exists() {
                    write_whole(&copy, before.as_bytes()).map_err(file_error("write", &copy))?;
                }
                if self.problem.as_ref() != Some(&problem) {
                    self.notes.push(format!(
                        "the layout has errors by now; nodes start with what it was before:\n{problem}"
                    ));
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
            self.notes.push(format!(
                "{} is gone: nodes run the program that this one runs",
                self.program.display()
            ));
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
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let new = path.with_extension("new");
    let _ = std::fs::remove_file(&new);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    std::fs::rename(&new, path)
}

/// Opens a process log to append to it.
///
/// # Errors
///
/// Fails if the system refuses.
pub fn open_log(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
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
    Some(message(line))
}
