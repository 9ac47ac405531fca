//! The tables of a voter's file.

use std::path::Path;
use std::time::Duration;

use muster_consensus::{ClusterId, DiskId, Entry, Kept, MAX_MESSAGE, Promise, Snapshot};
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, params};

use super::contents::{Contents, MAX_BYTES, MAX_ENTRIES, Rows, checksum};
use super::error::Trouble;

/// What SQLite's header says of the file: "MuVo".
const APPLICATION: i32 = i32::from_be_bytes(*b"MuVo");

/// The format of the tables.
pub(super) const VERSION: i64 = 1;

/// The most bytes that the rollback journal keeps of the disk between two commits.
const JOURNAL_BYTES: i64 = 1024 * 1024;

/// The tables, by name. They are compared with those of a file, so their text is a part of the format.
const TABLES: [(&str, &str); 4] = [
    (
        "entry",
        "CREATE TABLE entry(number INTEGER PRIMARY KEY, content BLOB NOT NULL, checksum INTEGER NOT NULL)",
    ),
    (
        "promise",
        "CREATE TABLE promise(id INTEGER PRIMARY KEY CHECK(id = 1), content BLOB NOT NULL, seal INTEGER NOT NULL)",
    ),
    (
        "snapshot",
        "CREATE TABLE snapshot(id INTEGER PRIMARY KEY CHECK(id = 1), content BLOB NOT NULL, checksum INTEGER NOT NULL)",
    ),
    (
        "voter",
        "CREATE TABLE voter(id INTEGER PRIMARY KEY CHECK(id = 1), disk BLOB NOT NULL, cluster BLOB, checksum INTEGER NOT NULL)",
    ),
];

/// Makes the tables of a new file that nobody knows of yet. The caller syncs it.
pub(super) fn make(path: &Path, disk: DiskId) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    // A crash leaves a file that is thrown away, so nothing is there to be rolled back.
    connection.pragma_update_and_check(None, "journal_mode", "MEMORY", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    let transaction = connection.transaction()?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    for (_, text) in TABLES {
        transaction.execute(text, [])?;
    }
    let sum = identity_checksum(disk, None);
    transaction.execute(
        "INSERT INTO voter(id, disk, cluster, checksum) VALUES(1, ?, NULL, ?)",
        params![&disk.0[..], sum],
    )?;
    transaction.commit()?;
    connection.close().map_err(|(_, error)| error)
}

/// Opens a file, and keeps others from it until the connection ends.
pub(super) fn open(path: &Path) -> Result<Connection, Trouble> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    // Whoever has the file has it for as long as it lives: there is nothing to wait for.
    connection.busy_timeout(Duration::ZERO)?;
    // No row is larger, whatever the file says.
    let limit = i32::try_from(MAX_MESSAGE + 4096).unwrap_or(i32::MAX);
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, limit)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // Nothing is changed in a file before it is known to be one of ours.
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    if number("application_id")? != i64::from(APPLICATION) {
        return Err(Trouble::Foreign("it is another program's database"));
    }
    match number("user_version")? {
        VERSION => {}
        found if found > VERSION => {
            return Err(Trouble::Newer {
                found,
                known: VERSION,
            });
        }
        found => return Err(Trouble::Damaged(format!("there is no format {found}"))),
    }
    // The lock is taken with the first access, and kept.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    // With a write-ahead log, one flipped bit in it would silently take back all commits from there on, and a voter that forgets
    // its promises is worse than one that stops. With a rollback journal the file itself has everything at any time.
    let journal: String =
        connection.pragma_update_and_check(None, "journal_mode", "PERSIST", |row| row.get(0))?;
    if journal != "persist" {
        let reason = format!("its journal is `{journal}` and cannot be another");
        return Err(Trouble::Damaged(reason));
    }
    connection.pragma_update_and_check(None, "journal_size_limit", JOURNAL_BYTES, |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
    Ok(connection)
}

/// Reads what a file has.
pub(super) fn read(connection: &Connection) -> Result<(Contents, Option<Kept>), Trouble> {
    check_tables(connection)?;
    let (disk, cluster) = read_identity(connection)?;
    let mut contents = Contents::new(disk);
    contents.cluster = cluster;
    let promise = read_promise(connection)?;
    let snapshot = read_snapshot(connection, &mut contents)?;
    let base = snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
    let entries = read_entries(connection, base, &mut contents)?;
    let (Some(cluster), Some((promise, seal))) = (cluster, promise) else {
        let is_new = cluster.is_none() && promise.is_none();
        if is_new && snapshot.is_none() && entries.is_empty() {
            return Ok((contents, None));
        }
        return Err(damaged("what it begins with is missing"));
    };
    if snapshot.is_none() && !entries.is_empty() {
        return Err(damaged("the state before its entries is missing"));
    }
    contents.promise = promise;
    if seal != i64::from(contents.seal()) {
        return Err(damaged("its parts do not belong together"));
    }
    let kept = Kept {
        cluster,
        disk,
        promise,
        snapshot,
        entries,
    };
    Ok((contents, Some(kept)))
}

/// Writes batches, all or none, and with them the seal of what there is then.
pub(super) fn write(
    connection: &mut Connection,
    batches: &[Rows],
    contents: &Contents,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    write_all(&transaction, batches, contents)?;
    transaction.commit()
}

/// Writes batches, without making it final.
pub(super) fn write_all(
    transaction: &Transaction<'_>,
    batches: &[Rows],
    contents: &Contents,
) -> rusqlite::Result<()> {
    for rows in batches {
        write_rows(transaction, rows, contents.disk)?;
    }
    transaction.execute(
        "INSERT OR REPLACE INTO promise(id, content, seal) VALUES(1, ?, ?)",
        params![contents.promise.encode(), contents.seal()],
    )?;
    Ok(())
}

fn write_rows(transaction: &Transaction<'_>, rows: &Rows, disk: DiskId) -> rusqlite::Result<()> {
    if let Some(cluster) = rows.cluster {
        transaction.execute(
            "UPDATE voter SET cluster = ?, checksum = ?",
            params![&cluster.0[..], identity_checksum(disk, Some(cluster))],
        )?;
    }
    if let Some(row) = &rows.snapshot {
        let covered = if rows.clears {
            i64::MAX
        } else {
            signed(row.number)
        };
        transaction.execute("DELETE FROM entry WHERE number <= ?", [covered])?;
        transaction.execute(
            "INSERT OR REPLACE INTO snapshot(id, content, checksum) VALUES(1, ?, ?)",
            params![row.content, row.checksum],
        )?;
    }
    if let Some(first) = rows.entries.first() {
        let from = signed(first.number);
        transaction.execute("DELETE FROM entry WHERE number >= ?", [from])?;
    }
    let mut insert = transaction
        .prepare_cached("INSERT INTO entry(number, content, checksum) VALUES(?, ?, ?)")?;
    for row in &rows.entries {
        insert.execute(params![signed(row.number), row.content, row.checksum])?;
    }
    Ok(())
}

/// Looks at the file as SQLite sees it, and whether its tables are ours.
fn check_tables(connection: &Connection) -> Result<(), Trouble> {
    let query = "SELECT name, sql FROM sqlite_schema ORDER BY name LIMIT 5";
    let mut statement = connection.prepare(query)?;
    let rows = statement.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    })?;
    let tables: Vec<_> = rows.collect::<rusqlite::Result<_>>()?;
    let found = tables.iter().map(|(name, text)| (&**name, &**text));
    if !found.eq(TABLES) {
        return Err(damaged("its tables are others"));
    }
    let verdict: String =
        connection.pragma_query_value(None, "integrity_check", |row| row.get(0))?;
    if verdict != "ok" {
        return Err(Trouble::Damaged(one_line(&verdict)));
    }
    Ok(())
}

fn read_identity(connection: &Connection) -> Result<(DiskId, Option<ClusterId>), Trouble> {
    let query = "SELECT disk, cluster, checksum FROM voter";
    let found = connection.query_row(query, [], |row| {
        let cluster: Option<[u8; 16]> = row.get(1)?;
        Ok((
            DiskId(row.get(0)?),
            cluster.map(ClusterId),
            row.get::<_, i64>(2)?,
        ))
    });
    match found.optional()? {
        Some((disk, cluster, sum)) if sum == i64::from(identity_checksum(disk, cluster)) => {
            Ok((disk, cluster))
        }
        Some(_) => Err(damaged("its identity has another checksum")),
        None => Err(damaged("its identity is missing")),
    }
}

/// The promise, and the seal of the whole file.
fn read_promise(connection: &Connection) -> Result<Option<(Promise, i64)>, Trouble> {
    let query = "SELECT content, seal FROM promise";
    let found = connection.query_row(query, [], |row| {
        Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?))
    });
    let Some((content, seal)) = found.optional()? else {
        return Ok(None);
    };
    let promise = Promise::decode(&content)
        .map_err(|error| Trouble::Damaged(format!("its promise cannot be read: {error}")))?;
    Ok(Some((promise, seal)))
}

fn read_snapshot(
    connection: &Connection,
    contents: &mut Contents,
) -> Result<Option<Snapshot>, Trouble> {
    let query = "SELECT content, checksum FROM snapshot";
    let found = connection.query_row(query, [], |row| {
        Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?))
    });
    let Some((content, sum)) = found.optional()? else {
        return Ok(None);
    };
    let computed = checksum(&content);
    if sum != i64::from(computed) {
        return Err(damaged("its state has another checksum"));
    }
    let snapshot = Snapshot::decode(&content)
        .map_err(|error| Trouble::Damaged(format!("its state cannot be read: {error}")))?;
    contents.snapshot = Some((snapshot.index, computed));
    Ok(Some(snapshot))
}

fn read_entries(
    connection: &Connection,
    base: u64,
    contents: &mut Contents,
) -> Result<Vec<Entry>, Trouble> {
    let query = "SELECT number, content, checksum FROM entry ORDER BY number";
    let mut statement = connection.prepare(query)?;
    let mut rows = statement.query([])?;
    let (mut entries, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let number = base + entries.len() as u64 + 1;
        if row.get::<_, i64>(0)? != signed(number) {
            return Err(Trouble::Damaged(format!("entry {number} is missing")));
        }
        let content = row.get_ref(1)?.as_blob().unwrap_or_default();
        let computed = checksum(content);
        if row.get::<_, i64>(2)? != i64::from(computed) {
            let reason = format!("entry {number} has another checksum");
            return Err(Trouble::Damaged(reason));
        }
        let entry = Entry::decode(content).ok();
        let Some(entry) = entry.filter(|entry| entry.index == number) else {
            return Err(Trouble::Damaged(format!("entry {number} is none")));
        };
        bytes += content.len();
        contents.entries.push((computed, content.len()));
        entries.push(entry);
        if entries.len() > MAX_ENTRIES || bytes > MAX_BYTES {
            return Err(damaged("it has more entries than a voter's file may"));
        }
    }
    Ok(entries)
}

fn identity_checksum(disk: DiskId, cluster: Option<ClusterId>) -> u32 {
    let mut bytes = disk.0.to_vec();
    bytes.extend(cluster.iter().flat_map(|cluster| cluster.0));
    checksum(&bytes)
}

fn damaged(reason: &str) -> Trouble {
    Trouble::Damaged(reason.to_owned())
}

/// The first line of what SQLite says, not too much of it.
fn one_line(text: &str) -> String {
    let line = text.lines().find(|line| !line.starts_with("***"));
    line.unwrap_or(text).chars().take(200).collect()
}

/// SQLite's numbers have a sign. No index comes near it.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
