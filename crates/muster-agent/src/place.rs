//! Where the files of a box are.

use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};

/// The longest path of a socket in bytes, with some room: `sun_path` has 108 (`unix(7)`).
const LONGEST_SOCKET_PATH: usize = 100;

/// The directories of a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Sockets and the lock. May be gone after a start of the machine.
    pub run: PathBuf,
    /// What has to survive: stores, positions in inputs, what the agent knows of its nodes.
    pub state: PathBuf,
    /// The log files that loggers write.
    pub logs: PathBuf,
    /// The log files that they have ended, compressed; made with the first of them.
    pub archive: PathBuf,
    /// What the nodes' processes say of themselves.
    pub process_logs: PathBuf,
    /// Audit and events of the box.
    pub journal: PathBuf,
}

impl Places {
    /// Returns the places of a cluster that has everything in one directory.
    pub fn in_one(directory: &Path) -> Self {
        Self {
            run: directory.to_owned(),
            state: directory.to_owned(),
            logs: directory.to_owned(),
            archive: directory.join("archive"),
            process_logs: directory.join("nodes"),
            journal: directory.to_owned(),
        }
    }

    /// Returns the standard places of a box, below a root: `/run/muster`, `/var/lib/muster` and `/var/log/muster`, as the
    /// Filesystem Hierarchy Standard has them.
    pub fn standard(root: &Path) -> Self {
        let logs = root.join("var/log/muster");
        Self {
            run: root.join("run/muster"),
            state: root.join("var/lib/muster"),
            logs: logs.join("current"),
            archive: logs.join("archive"),
            process_logs: logs.join("nodes"),
            journal: logs,
        }
    }

    /// Where the agent listens for whoever may change something.
    pub fn agent_socket(&self) -> PathBuf {
        socket_path(&self.run, "agent.sock")
    }

    /// Where the agent listens for whoever may only look.
    pub fn view_socket(&self) -> PathBuf {
        socket_path(&self.run, "view.sock")
    }

    /// Where a node listens for its agent: in the directory of the others, or, if that path is too long, in that for temporary
    /// files.
    pub fn node_socket(&self, node: &str) -> PathBuf {
        let [here, short] = self.socket_directories();
        let digest = muster_cluster::fnv1a32(node.as_bytes());
        let fits = |path: &PathBuf| path.as_os_str().len() <= LONGEST_SOCKET_PATH;
        let named = [&here, &short].map(|directory| directory.join(format!("{node}.sock")));
        named
            .into_iter()
            .find(fits)
            .unwrap_or_else(|| short.join(format!("{digest:08x}.sock")))
    }

    /// Where sockets of nodes may be: below [`Places::run`], or in the system's directory for temporary files if that path
    /// is too long.
    pub(crate) fn socket_directories(&self) -> [PathBuf; 2] {
        let run = canonical(&self.run);
        let digest = muster_cluster::fnv1a32(run.as_os_str().as_encoded_bytes());
        let short = std::env::temp_dir().join(format!("muster-{digest:08x}"));
        [run.join("nodes"), short]
    }

    /// Where a node's own words go.
    pub fn process_log(&self, node: &str) -> PathBuf {
        self.process_logs.join(format!("{node}.log"))
    }

    /// All directories, those first that others are in.
    pub fn directories(&self) -> Vec<PathBuf> {
        vec![
            self.run.clone(),
            self.run.join("nodes"),
            self.state.clone(),
            self.journal.clone(),
            self.logs.clone(),
            self.process_logs.clone(),
        ]
    }
}

/// Where a socket of a directory is. The path of a socket is short by nature: a long directory has it in the system's
/// temporary one. It is the same however the directory is spelled, once that exists.
pub fn socket_path(directory: &Path, name: &str) -> PathBuf {
    let path = canonical(directory).join(name);
    if path.as_os_str().len() <= LONGEST_SOCKET_PATH {
        return path;
    }
    let digest = muster_cluster::fnv1a32(path.as_os_str().as_encoded_bytes());
    std::env::temp_dir().join(format!("muster-{digest:08x}.sock"))
}

/// Returns whether a directory is one of those for sockets whose paths would be too long elsewhere.
pub(crate) fn is_short_directory(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let digest = name.and_then(|name| name.strip_prefix("muster-"));
    let is_digest = digest.is_some_and(|digest| {
        digest.len() == 8 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    is_digest && path.parent() == Some(&std::env::temp_dir())
}

fn canonical(directory: &Path) -> PathBuf {
    std::fs::canonicalize(directory).unwrap_or_else(|_| directory.to_path_buf())
}

/// Returns whether an address is this machine's: one that it can be reached at, or the unspecified one.
pub fn is_of_this_machine(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_socket_is_the_same_however_its_directory_is_spelled() {
        let directory = tempfile::tempdir().unwrap();
        let long = directory.path().join("d".repeat(LONGEST_SOCKET_PATH));
        std::fs::create_dir(&long).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&long, &link).unwrap();
        let path = socket_path(&long, "agent.sock");
        assert!(path.as_os_str().len() <= LONGEST_SOCKET_PATH);
        assert_eq!(socket_path(&link, "agent.sock"), path);
        assert_eq!(socket_path(&long.join("../link"), "agent.sock"), path);
        assert_ne!(socket_path(&long, "view.sock"), path);
    }

    #[test]
    fn each_node_has_a_socket_that_can_be_listened_on() {
        let directory = tempfile::tempdir().unwrap();
        let long = directory.path().join("d".repeat(LONGEST_SOCKET_PATH));
        std::fs::create_dir(&long).unwrap();
        for run in [directory.path(), &long] {
            let places = Places::in_one(run);
            let names = ["a".to_owned(), "b".to_owned(), "c".repeat(200)];
            let paths: std::collections::BTreeSet<_> =
                names.iter().map(|name| places.node_socket(name)).collect();
            assert_eq!(paths.len(), names.len());
            for path in paths {
                assert!(path.as_os_str().len() <= LONGEST_SOCKET_PATH, "{path:?}");
                let parent = path.parent().unwrap();
                assert!(
                    places
                        .socket_directories()
                        .iter()
                        .any(|known| known == parent)
                );
                let is_short = parent != places.run.join("nodes");
                assert_eq!(is_short_directory(parent), is_short);
            }
        }
    }

    #[test]
    fn standard_places_are_below_their_root() {
        let places = Places::standard(Path::new("/srv/boxes/a"));
        for directory in places.directories() {
            assert!(directory.starts_with("/srv/boxes/a"), "{directory:?}");
        }
        assert_eq!(
            Places::standard(Path::new("/")).agent_socket(),
            Path::new("/run/muster/agent.sock")
        );
    }
}
