//! What the log says of connections that are refused: each peer and reason once, then how often from time to time. Who
//! makes them cannot fill a disk.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use muster_wire::Mono;

/// Lines in one [`SPAN`], whoever is refused.
const TOLD: u32 = 10;
const SPAN: Duration = Duration::from_secs(10);

/// How long a peer that is refused for the same reason is only counted.
const REPEATED: Duration = Duration::from_secs(600);

/// The most peers and reasons that are remembered. The one that was refused least recently is forgotten first.
const MOST: usize = 256;

/// The connections that were refused.
#[derive(Debug, Default)]
pub(super) struct RefusedConnections {
    /// All of them, told or not.
    total: u64,
    known: HashMap<(String, String), Known>,
    /// Since when lines are counted, how many there were, and how many connections have none.
    since: Mono,
    told: u32,
    untold: u64,
}

/// A peer that was refused for a reason before.
#[derive(Debug, Clone, Copy)]
struct Known {
    told: Mono,
    last: Mono,
    untold: u64,
}

impl RefusedConnections {
    /// Takes a refused connection. Returns what the log says.
    pub(super) fn take(&mut self, address: &str, reason: &str, now: Mono) -> Vec<String> {
        self.total += 1;
        let mut lines = Vec::new();
        if now.since(self.since) >= SPAN {
            let untold = std::mem::take(&mut self.untold);
            if untold > 0 {
                lines.push(format!(
                    "refused {untold} more connections of others that are not named here"
                ));
            }
            (self.since, self.told) = (now, 0);
        }
        let host = host(address);
        let key = (host.clone(), reason.to_owned());
        if let Some(known) = self.known.get_mut(&key) {
            known.last = now;
            known.untold += 1;
            if now.since(known.told) >= REPEATED && self.told < TOLD {
                let minutes = now.since(known.told).as_secs() / 60;
                let count = std::mem::take(&mut known.untold);
                known.told = now;
                self.told += 1;
                lines.push(format!(
                    "refused {count} more connections from {host} in {minutes} minutes: {reason}"
                ));
            }
            return lines;
        }
        if self.told >= TOLD {
            self.untold += 1;
            return lines;
        }
        self.told += 1;
        self.remember(key, now);
        let last = if self.told == TOLD {
            "; others are only counted for a while"
        } else {
            ""
        };
        lines.push(format!(
            "refused a connection from {address}: {reason}; more for this reason are counted and told after {} minutes{last}",
            REPEATED.as_secs() / 60
        ));
        lines
    }

    /// All connections that were refused so far.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    fn remember(&mut self, key: (String, String), now: Mono) {
        if self.known.len() >= MOST {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.last);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone())
                && let Some(known) = self.known.remove(&oldest)
            {
                self.untold += known.untold;
            }
        }
        let known = Known {
            told: now,
            last: now,
            untold: 0,
        };
        self.known.insert(key, known);
    }
}

/// The address without the port, which is another for each connection.
fn host(address: &str) -> String {
    match address.parse::<SocketAddr>() {
        Ok(address) => address.ip().to_string(),
        Err(_) => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::default().after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_stranger_that_dials_every_second_is_told_once_and_then_counted() {
        let mut refused = RefusedConnections::default();
        let mut lines = Vec::new();
        for second in 0..3000_u64 {
            let address = format!("[2001:db8::1]:{}", 1024 + second);
            lines.extend(refused.take(&address, "speaks HTTP", at(second)));
        }
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert!(lines[0].starts_with("refused a connection from [2001:db8::1]:1024: speaks HTTP"));
        assert_eq!(
            lines[1],
            "refused 600 more connections from 2001:db8::1 in 10 minutes: speaks HTTP"
        );
        assert_eq!(refused.total(), 3000);
        // For another reason, and another peer, it is news.
        let is_news = |lines: &[String]| lines.len() == 1 && lines[0].contains("a connection");
        assert!(is_news(&refused.take(
            "[2001:db8::1]:1",
            "speaks SSH",
            at(3000)
        )));
        assert!(is_news(&refused.take(
            "192.0.2.1:1",
            "speaks HTTP",
            at(3000)
        )));
        assert!(
            refused
                .take("192.0.2.1:2", "speaks HTTP", at(3001))
                .is_empty()
        );
    }

    #[test]
    fn many_are_counted_in_bounded_memory() {
        let mut refused = RefusedConnections::default();
        let mut lines = Vec::new();
        for number in 0..100_000_u64 {
            lines.extend(refused.take(&format!("peer {number}"), "reason", at(number / 1000)));
        }
        let named = lines.iter().filter(|line| line.contains("a connection"));
        assert_eq!(named.count(), 100);
        assert!(lines.len() <= 110 && refused.known.len() <= MOST);
        assert!(lines[10].starts_with("refused 9990 more connections of others"));
        for number in 0..1000 {
            refused.take(&format!("{number}"), "reason", at(200 + 10 * number));
        }
        assert_eq!((refused.known.len(), refused.total()), (MOST, 101_000));
    }
}
