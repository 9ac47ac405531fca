//! What the owners of keys have logged, so that they do not do so again.

use std::time::Duration;

use muster_cluster::node::{Context, KeyedContext, KeyedTable};
use muster_cluster::{Key, PoolName};
use muster_data::{DecodeOwned, Encode, Timespan, Timestamp};

/// How often what has ended is removed.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Rows under the keys that this node owns, each of which ends some time: what was logged lately.
///
/// Owner and standby have them, so that the next owner knows them as well. At most so many are kept on a node; the ones that would end
/// first are forgotten first.
#[derive(Debug)]
pub(crate) struct Logged<K, R> {
    table: KeyedTable<K, R, Timestamp>,
    most: usize,
    expiry: Timespan,
    /// How many there are, at least if no other node has taken over keys since it was counted.
    count: usize,
    /// The token of the timer that sweeps; whether it runs.
    token: u64,
    sweeps: bool,
}

impl<K, R> Logged<K, R>
where
    K: Encode + DecodeOwned + Clone + Into<Key> + Ord,
    R: Encode + DecodeOwned + Ord,
{
    pub(crate) fn new(
        table: KeyedTable<K, R, Timestamp>,
        most: usize,
        expiry: Duration,
        token: u64,
    ) -> Self {
        Self {
            table,
            most: most.max(1),
            expiry: expiry.into(),
            count: 0,
            token,
            sweeps: false,
        }
    }

    /// Returns `true` if it is not known that this was logged lately. From then on it is.
    pub(crate) fn is_new(&mut self, row: &R, cx: &mut KeyedContext<'_, '_, K>) -> bool {
        let now = cx.wall();
        let known = cx.row(&self.table, row);
        if known.is_some_and(|until| until > now) {
            return false;
        }
        if cx.set(&self.table, row, &(now + self.expiry)) {
            self.count += usize::from(known.is_none());
        }
        if self.count > self.most {
            cx.cancel(self.token);
            cx.schedule_mono(Duration::ZERO, self.token);
        } else if !self.sweeps {
            cx.schedule_mono(SWEEP_EVERY, self.token);
        }
        self.sweeps = true;
        true
    }

    /// Removes what has ended, and what is too much. Returns how many rows were forgotten too early. It is called when the timer is due.
    pub(crate) fn sweep(&mut self, cx: &mut Context<'_>) -> u64 {
        let (pool, now) = (PoolName::proxy(), cx.wall());
        let mut rows = cx.owned_rows(&pool, &self.table);
        rows.sort_by_key(|(_, _, until)| *until);
        let ended = rows.partition_point(|(_, _, until)| *until <= now);
        let kept = rows.len() - ended;
        // Some more, so that it is not swept for every row.
        let too_many = if kept > self.most {
            kept - (self.most - self.most / 16)
        } else {
            0
        };
        rows.truncate(ended + too_many);
        for (key, row, _) in &rows {
            cx.with_key(&pool, key, |cx| cx.remove(&self.table, row));
        }
        self.count = kept - too_many;
        self.sweeps = self.count > 0;
        if self.sweeps {
            cx.schedule_mono(SWEEP_EVERY, self.token);
        }
        too_many as u64
    }

    /// Counts anew, with the rows that another node had before.
    pub(crate) fn gained(&mut self, cx: &mut Context<'_>) {
        self.sweeps = true;
        cx.cancel(self.token);
        cx.schedule_mono(Duration::ZERO, self.token);
    }
}

/// 64 bits of FNV-1a over parts, each with its length: what others choose, and may be long, is kept as that.
pub(crate) fn digest_of(parts: &[&[u8]]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    parts.iter().fold(0xcbf2_9ce4_8422_2325, |hash, part| {
        let hash = part.len().to_le_bytes().iter().fold(hash, fold);
        part.iter().fold(hash, fold)
    })
}

#[cfg(test)]
mod tests {
    use super::digest_of;

    #[test]
    fn parts_are_told_apart() {
        let parts = [&[b"ab".as_slice(), b"c"][..], &[b"a", b"bc"], &[b"abc"]];
        let digests = parts.map(digest_of);
        assert!(digests[0] != digests[1] && digests[1] != digests[2]);
    }
}
