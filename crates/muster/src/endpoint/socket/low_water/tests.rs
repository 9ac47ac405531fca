use super::*;

/// Writes at a rate for a time, and returns the marks that were set.
fn marks(
    low_water: &mut LowWater,
    clock: &mut Instant,
    rate: u64,
    duration: Duration,
    write: usize,
) -> Vec<u32> {
    let end = *clock + duration;
    let mut marks = Vec::new();
    while *clock < end {
        *clock += Duration::from_nanos(write as u64 * 1_000_000_000 / rate);
        marks.extend(low_water.wrote(write, || *clock));
    }
    marks
}

#[test]
fn the_mark_is_what_a_link_carries_in_a_millisecond() {
    for (rate, mark) in [
        (32_000_000, LOWEST),
        (100_000_000, LOWEST),
        (600_000_000, 600_000),
        (1_250_000_000, 1_250_000),
        (7_000_000_000, HIGHEST),
    ] {
        for write in [1_000, 64 << 10, 256 << 10] {
            let mut low_water = LowWater::new();
            let mut clock = Instant::now();
            marks(
                &mut low_water,
                &mut clock,
                rate,
                Duration::from_secs(1),
                write,
            );
            let reached = low_water.mark;
            assert!(
                reached > mark / 2 && reached < mark.saturating_mul(2),
                "{rate} in writes of {write}: {reached}, not {mark}"
            );
        }
    }
}

#[test]
fn a_steady_rate_sets_it_a_few_times_and_no_more() {
    let mut low_water = LowWater::new();
    let mut clock = Instant::now();
    let second = Duration::from_secs(1);
    let set = marks(&mut low_water, &mut clock, 3_000_000_000, second, 256 << 10);
    assert!((1..=3).contains(&set.len()), "{set:?}");
    let more = marks(&mut low_water, &mut clock, 2_500_000_000, second, 256 << 10);
    assert!(more.is_empty(), "{more:?}");
}

/// What is urgent would wait for all that lies in the system.
#[test]
fn a_link_that_becomes_slow_has_the_lowest_mark_at_once() {
    let mut low_water = LowWater::new();
    let mut clock = Instant::now();
    let second = Duration::from_secs(1);
    marks(&mut low_water, &mut clock, 7_000_000_000, second, 256 << 10);
    assert!(low_water.mark > HIGHEST / 2);
    marks(
        &mut low_water,
        &mut clock,
        32_000_000,
        4 * LONGEST,
        64 << 10,
    );
    assert_eq!(low_water.mark, LOWEST);
}

#[test]
fn whoever_rests_has_a_low_mark_and_no_overflow() {
    let mut low_water = LowWater::new();
    let mut clock = Instant::now();
    let second = Duration::from_secs(1);
    marks(&mut low_water, &mut clock, 7_000_000_000, second, 256 << 10);
    clock += Duration::from_secs(3600);
    assert_eq!(low_water.wrote(STEP, || clock), Some(LOWEST));
    // A clock that stands still, and one that goes back.
    for _ in 0..100_000 {
        assert_eq!(low_water.wrote(1 << 20, || clock), None);
    }
    let earlier = clock.checked_sub(second).unwrap();
    assert_eq!(low_water.wrote(1 << 20, || earlier), None);
}
