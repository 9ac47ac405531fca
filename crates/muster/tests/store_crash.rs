//! `kill -9` in the middle of writes: whatever was acknowledged as durable is in the file.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use muster::store::{Backend, PrimaryOptions, Sqlite, SqliteOptions, StoreName};
use muster::{Endpoint, EndpointConfig};

/// Names the file in the process that is killed.
const FILE: &str = "MUSTER_TEST_CRASH_FILE";

/// The writes that must have been acknowledged in all.
const WRITES: u64 = 10_000;

/// The writes that are under way at one time.
const AT_ONCE: u64 = 100;

/// Not a test of its own: the process that is killed. It writes for ever, from where its file ends, and prints
/// the number of each write that was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_that_is_killed() {
    let Ok(file) = std::env::var(FILE) else {
        return;
    };
    let endpoint = Endpoint::start(EndpointConfig::default()).unwrap();
    let options = PrimaryOptions {
        backend: Some(Box::new(Sqlite::new(file, SqliteOptions::default()))),
        ..PrimaryOptions::default()
    };
    let name = StoreName::new("crash").unwrap();
    let store = endpoint.open_primary(&name, options).await.unwrap();
    let begin = store.size().await.unwrap();
    let store = store.durable();
    let lanes = (0..AT_ONCE).map(|lane| {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0u64.. {
                let number = begin + round * AT_ONCE + lane;
                store.put(&number, &(number * 7)).await.unwrap();
                let _ = writeln!(std::io::stdout(), "\nacknowledged {number}");
            }
        })
    });
    for lane in lanes.collect::<Vec<_>>() {
        lane.await.unwrap();
    }
}

/// Lets a process write until so many more are acknowledged, and kills it.
fn write_and_kill(file: &Path, more: usize, acknowledged: &mut BTreeSet<u64>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_process_that_is_killed", "--nocapture"])
        .env(FILE, file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut read = 0;
    for line in lines.map_while(Result::ok) {
        let number = line.strip_prefix("acknowledged ");
        let Some(number) = number.and_then(|number| number.parse().ok()) else {
            continue;
        };
        acknowledged.insert(number);
        read += 1;
        if read == more {
            // SIGKILL; what it has acknowledged since counts as well.
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(read >= more, "the process ended by itself after {read}");
}

#[test]
fn every_acknowledged_write_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("crash.sqlite");
    let mut acknowledged = BTreeSet::new();
    for round in 0.. {
        write_and_kill(&file, 700 + 377 * round, &mut acknowledged);
        let mut backend = Sqlite::new(
            &file,
            SqliteOptions {
                integrity_check: true,
                ..SqliteOptions::default()
            },
        );
        let kept = backend.load().unwrap();
        let values: std::collections::BTreeMap<u64, u64> = kept
            .entries
            .iter()
            .map(|(key, entry)| (key.view().to().unwrap(), entry.value.view().to().unwrap()))
            .collect();
        for number in &acknowledged {
            assert_eq!(values.get(number), Some(&(number * 7)), "{number} is lost");
        }
        backend.close().unwrap();
        if acknowledged.len() as u64 >= WRITES {
            break;
        }
    }
}
