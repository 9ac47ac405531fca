//! The processes of nodes that run already, by the sockets that they listen on.

use std::path::{Path, PathBuf};

use tokio::io::AsyncWriteExt;

use super::Fleet;
use crate::node_socket::{NodeConnection, Word};
use crate::place::Places;
use crate::process::{Process, raw};
use crate::supervisor::STOP_LIMIT;

impl Fleet {
    /// Stops the processes of nodes that are not of this box any more.
    pub(super) fn stop_strangers(&mut self) {
        let here = self.nodes.iter().filter(|node| node.is_here);
        let known: Vec<PathBuf> = here
            .map(|node| self.places.node_socket(&node.name))
            .collect();
        for socket in running_sockets(&self.places) {
            if known.contains(&socket) {
                continue;
            }
            let name = name_of(&socket);
            let Ok(Some(connection)) = NodeConnection::open(&socket) else {
                continue;
            };
            let note = format!(
                "{name} runs as process {} and is not in the layout of this box any more: it is stopped",
                raw(connection.pid)
            );
            self.tell_note(note);
            tokio::spawn(stop_stranger(connection));
        }
    }
}

/// Returns the names of the nodes whose processes listen on their sockets, whether or not an agent has them.
pub fn running_nodes(places: &Places) -> Vec<String> {
    let mut names: Vec<String> = running_sockets(places)
        .iter()
        .map(|path| name_of(path))
        .collect();
    names.sort();
    names
}

fn name_of(socket: &Path) -> String {
    let name = socket.file_stem().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn running_sockets(places: &Places) -> Vec<PathBuf> {
    let directories = places.socket_directories();
    let entries = directories
        .iter()
        .filter_map(|path| std::fs::read_dir(path).ok());
    let paths = entries.flatten().flatten().map(|entry| entry.path());
    let sockets = paths.filter(|path| path.extension().is_some_and(|end| end == "sock"));
    let running = sockets.filter(|path| matches!(NodeConnection::open(path), Ok(Some(_))));
    running.collect()
}

/// Stops a process that is none of this box's any more; kills it if it does not stop.
async fn stop_stranger(connection: NodeConnection) {
    let Ok(process) = Process::of(connection.pid) else {
        return;
    };
    if let Ok((_reports, mut writer)) = connection.split() {
        let line = format!("{}\n", Word::Stop.name());
        let _ = tokio::time::timeout(STOP_LIMIT, writer.write_all(line.as_bytes())).await;
        if tokio::time::timeout(STOP_LIMIT, process.ended())
            .await
            .is_ok()
        {
            return;
        }
    }
    process.kill();
}
