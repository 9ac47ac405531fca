//! The system's journal, in its own protocol: a datagram for each record, with a field on each line.

use std::borrow::Cow;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::fs::Stat;

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// The variable by which a service knows that its stderr is the journal: device and inode.
const STREAM: &str = "JOURNAL_STREAM";

/// A way to the journal.
#[derive(Debug)]
pub(super) struct JournalSocket(UnixDatagram);

impl JournalSocket {
    /// The journal's, if stderr goes there.
    pub(super) fn of_stderr() -> Option<Self> {
        let stream = std::env::var(STREAM).ok()?;
        let stderr = rustix::fs::fstat(rustix::stdio::stderr()).ok()?;
        if !is_stream(&stream, &stderr) {
            return None;
        }
        Self::at(Path::new(SOCKET))
    }

    fn at(path: &Path) -> Option<Self> {
        let socket = UnixDatagram::unbound().ok()?;
        socket.connect(path).ok()?;
        Some(Self(socket))
    }

    /// Sends records that have empty lines between them. Returns the messages of those that could not be sent.
    pub(super) fn send(&self, records: &[u8]) -> String {
        let records = String::from_utf8_lossy(records);
        let mut lost = String::new();
        for record in records.split("\n\n").filter(|record| !record.is_empty()) {
            let whole = format!("{record}\n");
            if self.0.send(whole.as_bytes()).is_err() {
                // Too long, or journald is being replaced. Its stream takes lines.
                lost.push_str(&message(record));
                lost.push('\n');
            }
        }
        lost
    }
}

/// The first line's text.
fn message(record: &str) -> Cow<'_, str> {
    let first = record.lines().next().unwrap_or_default();
    first.strip_prefix("MESSAGE=").unwrap_or(first).into()
}

/// Whether a file is the one that is meant by `DEVICE:INODE`.
fn is_stream(stream: &str, file: &Stat) -> bool {
    let (device, inode) = stream.split_once(':').unwrap_or_default();
    device.parse() == Ok(file.st_dev) && inode.parse() == Ok(file.st_ino)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn stderr_is_the_journal_if_it_is_that_very_file() {
        let directory = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| {
            let file = std::fs::File::create(directory.path().join(name)).unwrap();
            rustix::fs::fstat(file).unwrap()
        });
        let stream = format!("{}:{}", one.st_dev, one.st_ino);
        assert!(is_stream(&stream, &one));
        assert!(!is_stream(&stream, &other));
        for wrong in ["", ":", "8", "a:b", "8:"] {
            assert!(!is_stream(wrong, &one), "{wrong}");
        }
    }

    #[test]
    fn each_record_is_a_datagram_and_what_is_lost_is_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        assert!(JournalSocket::at(&path).is_none());
        let journal = UnixDatagram::bind(&path).unwrap();
        let socket = JournalSocket::at(&path).unwrap();
        let two = b"MESSAGE=one\nPRIORITY=3\n\nMESSAGE=two\nPRIORITY=6\n\n";
        assert_eq!(socket.send(two), "");
        for expected in ["MESSAGE=one\nPRIORITY=3\n", "MESSAGE=two\nPRIORITY=6\n"] {
            let mut buffer = [0; 100];
            let length = journal.recv(&mut buffer).unwrap();
            assert_eq!(std::str::from_utf8(&buffer[..length]).unwrap(), expected);
        }
        let long = format!("MESSAGE={}\n\n", "x".repeat(10 << 20));
        assert_eq!(socket.send(long.as_bytes()).len(), (10 << 20) + 1);
        drop(journal);
        assert_eq!(socket.send(two), "one\ntwo\n");
    }
}
