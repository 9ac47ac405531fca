//! A store's entries as lines of JSON: what `dump` prints, `load` reads.

use std::io::{BufRead, BufReader, Read as _, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use muster::store::{Encoded, Entry, Store};
use muster_data::{Data, Limits, Timestamp, json};
use serde_json::value::RawValue;

use crate::output::Failure;

/// The longest line of JSON, in bytes.
const LONGEST_LINE: u64 = 64 << 20;

/// The writes of `load` that are under way at one time.
const AT_ONCE: usize = 4096;

/// One line of JSON for each entry.
pub(super) fn dump(entries: &[(Encoded, Entry)]) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut line = Vec::new();
    for (key, entry) in entries {
        line.clear();
        line.extend_from_slice(b"{\"key\":");
        json::write(&mut line, key.view());
        line.extend_from_slice(b",\"value\":");
        json::write(&mut line, entry.value.view());
        if let Some(expires) = entry.expires {
            line.extend_from_slice(format!(",\"expires\":\"{expires}\"").as_bytes());
        }
        line.extend_from_slice(b"}\n");
        out.write_all(&line)?;
    }
    out.flush()?;
    Ok(())
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    key: &'a RawValue,
    #[serde(borrow)]
    value: &'a RawValue,
    expires: Option<String>,
}

/// Puts the entries of lines of JSON, many at a time.
pub(super) async fn load(store: &Store, file: Option<String>) -> Result<()> {
    let source: Box<dyn std::io::Read + Send> = match &file {
        Some(file) => {
            let opened = std::fs::File::open(file);
            Box::new(opened.with_context(|| format!("cannot read {file}"))?)
        }
        None => Box::new(std::io::stdin()),
    };
    let mut source = BufReader::new(source);
    let mut under_way = tokio::task::JoinSet::new();
    let (mut loaded, mut over) = (0u64, 0u64);
    for number in 1.. {
        let mut line = String::new();
        let read = source.by_ref().take(LONGEST_LINE).read_line(&mut line);
        if read.with_context(|| format!("line {number}"))? == 0 {
            break;
        }
        if line.trim().is_empty() {
            continue;
        }
        let (key, value, lifetime) = entry_of(number, &line)?;
        if lifetime.is_some_and(|lifetime| lifetime.is_zero()) {
            over += 1;
            continue;
        }
        while under_way.len() >= AT_ONCE {
            settle(&mut under_way).await?;
        }
        let store = store.clone();
        under_way.spawn(async move {
            match lifetime {
                Some(lifetime) => store.put_for(&key, &value, lifetime).await,
                None => store.put(&key, &value).await,
            }
        });
        loaded += 1;
    }
    while !under_way.is_empty() {
        settle(&mut under_way).await?;
    }
    let passed_over = if over > 0 {
        format!("; {over} whose lifetime is over were left out")
    } else {
        String::new()
    };
    let _ = writeln!(std::io::stderr(), "loaded {loaded} entries{passed_over}");
    Ok(())
}

async fn settle(
    under_way: &mut tokio::task::JoinSet<Result<(), muster::store::StoreError>>,
) -> Result<()> {
    if let Some(done) = under_way.join_next().await {
        done??;
    }
    Ok(())
}

fn entry_of(number: usize, line: &str) -> Result<(Data, Data, Option<Duration>)> {
    let failed = |problem: String| {
        Failure::new(format!("line {number}: {problem}"))
            .hint("each line must be as `muster store ... dump` prints it: {\"key\": ..., \"value\": ...}")
    };
    let line: Line<'_> = serde_json::from_str(line).map_err(|error| failed(error.to_string()))?;
    let data = |raw: &RawValue| {
        let read = json::read(raw.get().as_bytes(), &Limits::default());
        read.map_err(|error| failed(error.to_string()))
    };
    let expires = line.expires.map(|expires| {
        let expires: Result<Timestamp, _> = expires.parse();
        expires.map_err(|error| failed(format!("`expires`: {error}")))
    });
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let lifetime = expires.transpose()?.map(|expires| {
        let end = u64::try_from(expires.as_nanos()).unwrap_or(0);
        Duration::from_nanos(end).saturating_sub(now)
    });
    Ok((data(line.key)?, data(line.value)?, lifetime))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::shown;
    use super::*;
    use crate::arguments::Format;

    #[test]
    fn a_dumped_line_reads_back() {
        let key = Data::vector([Data::Count(1), Data::from("a")]);
        let line = format!(
            "{{\"key\":{},\"value\":{},\"expires\":\"2100-01-01T00:00:00Z\"}}",
            shown(&key, Format::Json),
            shown(&Data::Count(5), Format::Json)
        );
        let (found, value, lifetime) = entry_of(1, &line).unwrap();
        assert_eq!((found, value), (key, Data::Count(5)));
        assert!(lifetime.unwrap() > Duration::from_secs(365 * 86_400));
        let error = entry_of(7, "{\"key\":1}").err().unwrap().to_string();
        assert!(error.starts_with("line 7: "), "{error}");
    }
}
