//! Who has shown wrong tokens of late, by address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::api::Refusal;

/// Failures of one address within [`WITHIN`], after which it is not heard.
pub(crate) const MOST: u32 = 5;

/// See [`MOST`].
const WITHIN: Duration = Duration::from_secs(60);

/// The most addresses whose failures are remembered.
const MOST_ADDRESSES: usize = 1024;

/// Wrong tokens of the last minute.
#[derive(Debug, Default)]
pub(crate) struct Failures(HashMap<IpAddr, (Instant, u32)>);

impl Failures {
    /// Refuses whoever has failed too often.
    pub(crate) fn hear(&mut self, from: IpAddr, now: Instant) -> Result<(), Refusal> {
        self.0
            .retain(|_, (since, _)| now.saturating_duration_since(*since) < WITHIN);
        match self.0.get(&from) {
            Some((_, failures)) if *failures >= MOST => Err(Refusal::forbidden(
                "too many tokens of this address were wrong: wait a minute",
            )),
            _ => Ok(()),
        }
    }

    /// Notes one more.
    pub(crate) fn failed(&mut self, from: IpAddr, now: Instant) {
        if self.0.len() < MOST_ADDRESSES || self.0.contains_key(&from) {
            let (_, failures) = self.0.entry(from).or_insert((now, 0));
            *failures = failures.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_failed_too_often_is_heard_again_after_a_minute() {
        let mut failures = Failures::default();
        let [one, other] = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        let first = Instant::now();
        for _ in 0..MOST {
            assert!(failures.hear(one, first).is_ok());
            failures.failed(one, first);
        }
        assert!(failures.hear(one, first).is_err());
        assert!(failures.hear(other, first).is_ok());
        assert!(failures.hear(one, first + WITHIN).is_ok());
    }

    #[test]
    fn addresses_are_bounded() {
        let mut failures = Failures::default();
        let now = Instant::now();
        for number in 0..2 * u16::try_from(MOST_ADDRESSES).unwrap_or(u16::MAX) {
            let [high, low] = number.to_be_bytes();
            failures.failed([10, 0, high, low].into(), now);
        }
        assert_eq!(failures.0.len(), MOST_ADDRESSES);
    }
}
