//! Signatures that failed to verify, counted by client address, so that an address with too many is refused before the next one
//! is decompressed or checked.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use quick_cache::sync::Cache;

/// Addresses in memory, about 150 bytes each; the cache evicts others.
const REMEMBERED: usize = 50_000;
const MINUTE_NANOS: u64 = 60_000_000_000;

/// Limits the rate of failures for each address by the generic cell rate algorithm. It keeps one number for each address: the
/// time at which all its failures are forgotten.
#[derive(Debug)]
pub(super) struct Failures {
    /// What one failure adds, in nanoseconds.
    interval: u64,
    began: Instant,
    addresses: Cache<IpAddr, Arc<AtomicU64>>,
}

impl Failures {
    /// Allows `per_minute` failures a minute, at once or spread; returns `None` for 0, which means no limit.
    pub(super) fn new(per_minute: u32) -> Option<Self> {
        let interval = MINUTE_NANOS.checked_div(per_minute.into())?;
        Some(Self { interval, began: Instant::now(), addresses: Cache::new(REMEMBERED) })
    }

    /// Checks whether this address may try another signature; the error is the number of seconds to wait.
    pub(super) fn check(&self, address: IpAddr) -> Result<(), u64> {
        self.check_at(address, self.now())
    }

    /// Counts a failure.
    pub(super) fn count(&self, address: IpAddr) {
        self.count_at(address, self.now());
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn check_at(&self, address: IpAddr, now: u64) -> Result<(), u64> {
        let Some(until) = self.addresses.get(&group(address)) else { return Ok(()) };
        let after_one_more = until.load(Ordering::Relaxed).max(now).saturating_add(self.interval);
        let too_much = after_one_more.saturating_sub(now).saturating_sub(MINUTE_NANOS);
        if too_much == 0 { Ok(()) } else { Err(too_much.div_ceil(1_000_000_000)) }
    }

    fn count_at(&self, address: IpAddr, now: u64) {
        let new = || Ok::<_, Infallible>(Arc::new(AtomicU64::new(now)));
        let Ok(until) = self.addresses.get_or_insert_with(&group(address), new);
        let add = |until: u64| Some(until.max(now).saturating_add(self.interval));
        // Never fails: there is always a next value.
        let _ = until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

/// The address under which failures are counted: for IPv6 the network of 64 bits, because one subscriber has all of it.
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_may_fail_so_often_a_minute_and_then_once_for_each_interval() {
        let failures = Failures::new(6).expect("a limit");
        let alice = address("192.0.2.1");
        for _ in 0..6 {
            failures.check_at(alice, 5).expect("within the rate");
            failures.count_at(alice, 5);
        }
        assert_eq!(failures.check_at(alice, 5), Err(10));
        assert_eq!(failures.check_at(alice, 9 * SECOND), Err(2));
        failures.check_at(alice, 10 * SECOND + 5).expect("one interval later");
        failures.count_at(alice, 10 * SECOND + 5);
        assert_eq!(failures.check_at(alice, 10 * SECOND + 5), Err(10));
        failures.check_at(address("192.0.2.2"), 5).expect("another address");
        for _ in 0..6 {
            failures.check_at(alice, 1000 * SECOND).expect("all is forgotten");
            failures.count_at(alice, 1000 * SECOND);
        }
        assert!(failures.check_at(alice, 1000 * SECOND).is_err());
        assert!(Failures::new(0).is_none());
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one() {
        let failures = Failures::new(1).expect("a limit");
        failures.count_at(address("2001:db8:1:2::1"), 0);
        failures.count_at(address("192.0.2.1"), 0);
        for (other, is_refused) in [
            ("2001:db8:1:2:ffff::9", true),
            ("2001:db8:1:3::1", false),
            ("::ffff:192.0.2.1", true),
            ("192.0.2.2", false),
        ] {
            assert_eq!(failures.check_at(address(other), 0).is_err(), is_refused, "{other}");
        }
    }

    #[test]
    fn the_memory_of_failures_is_bounded() {
        let failures = Failures::new(1).expect("a limit");
        for number in 0..u32::try_from(REMEMBERED).expect("it fits") * 2 {
            failures.count_at(IpAddr::V4(number.into()), 0);
        }
        assert!(failures.addresses.len() <= REMEMBERED, "{}", failures.addresses.len());
    }
}
