//! The clock that leases go by.

use muster_wire::Mono;

/// Returns the time since the machine was started, times at which it was suspended included: a lease goes on while everything
/// stands still, and whoever was stopped has to see it.
pub fn since_boot() -> Mono {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Mono(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}
