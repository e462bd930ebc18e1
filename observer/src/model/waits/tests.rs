use super::*;
use crate::gobin::naming::CallsiteName;
use crate::probe::ReasonWaits;

const SECOND: Duration = Duration::from_secs(1);

/// A window of a second with parks, and waits that lasted so long.
fn window(parks: u64, waits: &[(Duration, u64)]) -> TargetWaits {
    let mut counts = abi::WaitCounts { parks, ..abi::WaitCounts::NONE };
    for (length, number) in waits {
        let nanoseconds = length.as_nanos() as u64;
        counts.until_run.buckets[abi::Durations::bucket(nanoseconds)] += number;
        counts.until_run.sum_ns += nanoseconds * number;
    }
    let on = OnTime { complete: SECOND, ..OnTime::default() };
    let seen = ReasonWaits { counts, ..ReasonWaits::default() };
    TargetWaits { on, reasons: [(7, seen)].into_iter().collect() }
}

/// What was measured in a tenth of the time is a tenth of what happened.
#[test]
fn windows_stand_for_the_time_between() {
    let now = Instant::now();
    let mut meter = WaitMeter::new(now);
    let short = Duration::from_micros(3);
    let increment = meter.close(now + 10 * SECOND, &window(50, &[(short, 40)]), &Parked::default());
    let wait = &increment.waits[&7];
    assert_eq!((wait.parks, wait.until_run.count().round()), (500.0, 400.0));
    assert!((wait.until_run.seconds / (400.0 * short.as_secs_f64()) - 1.0).abs() < 0.01);
    let next = meter.close(now + 12 * SECOND, &window(50, &[]), &Parked::default());
    assert_eq!((next.waits[&7].parks, next.elapsed, next.measured), (100.0, 2 * SECOND, SECOND));
    assert_eq!(meter.coverage(now + 20 * SECOND), 0.1);
}

/// Of waits as long as half the window, half are seen from begin to end, and count twice; those that no
/// window could see count for no more than four.
#[test]
fn long_waits_weigh_more() {
    let now = Instant::now();
    let half = Duration::from_nanos(((1_u64 << 29) as f64 / std::f64::consts::SQRT_2) as u64);
    let increment = WaitMeter::new(now).close(now + SECOND, &window(0, &[(half, 10)]), &Parked::default());
    let seen = increment.waits[&7].until_run.count();
    assert!((seen - 10.0 / (1.0 - half.as_secs_f64())).abs() < 0.2, "{seen}");
    let increment =
        WaitMeter::new(now).close(now + SECOND, &window(0, &[(5 * SECOND, 10)]), &Parked::default());
    assert_eq!(increment.waits[&7].until_run.count(), 40.0);
}

/// A window that is open for long gives what was added since it was read last.
#[test]
fn an_open_window_is_read_piece_by_piece() {
    let now = Instant::now();
    let mut meter = WaitMeter::new(now);
    assert_eq!(meter.read(now + SECOND, &window(50, &[]), &Parked::default(), None).waits[&7].parks, 50.0);
    let mut later = window(70, &[]);
    later.on.complete = 2 * SECOND;
    assert_eq!(meter.read(now + 2 * SECOND, &later, &Parked::default(), None).waits[&7].parks, 20.0);
    assert!(
        meter.read(now + 3 * SECOND, &later, &Parked::default(), None).waits.is_empty(),
        "nothing was measured"
    );
}

/// What was counted without a break is not scaled, however the clocks were read.
#[test]
fn an_open_window_is_exact() {
    let now = Instant::now();
    let mut meter = WaitMeter::new(now);
    meter.read(now + SECOND, &window(50, &[]), &Parked::default(), None);
    let mut later = window(1050, &[]);
    later.on.complete = 2 * SECOND;
    let late = now + 2 * SECOND + SECOND / 10;
    assert_eq!(meter.read(late, &later, &Parked::default(), None).waits[&7].parks, 1000.0);
}

/// Parks of a callsite are scaled as those of a wait reason, and told once.
#[test]
fn parks_of_callsites_are_scaled() {
    let (now, key) = (Instant::now(), CallsiteKey { gopc: 1, entry: 2 });
    let mut meter = WaitMeter::new(now);
    let parked = |parks| Parked::from_iter([(key, parks)]);
    assert_eq!(meter.close(now + 10 * SECOND, &window(50, &[]), &parked(50)).parks[&key], 500.0);
    let next = meter.close(now + 12 * SECOND, &window(10, &[]), &parked(60));
    assert_eq!(next.parks[&key], 20.0);
    let mut recent = RecentWaits::default();
    recent.push(now, next);
    let name = CallsiteName { created_by: "f".into(), entry: "g".into(), file: String::new(), line: 1 };
    let names = FxHashMap::from_iter([(key, Arc::new(CallsiteLabel::new(&name, false, str::to_owned)))]);
    assert_eq!(recent.parks_per_second(&names)[&(1, "g".into())], 10.0);
    assert!(meter.close(now + 14 * SECOND, &window(0, &[]), &parked(60)).parks.is_empty());
}

/// A quantile is the bound of the bucket that it is in.
#[test]
fn quantiles() {
    let mut spread = Spread::default();
    assert_eq!(spread.quantile(0.5), None);
    spread.buckets[0] = 98.0;
    spread.buckets[3] = 1.5;
    spread.buckets[abi::Durations::BUCKETS - 1] = 0.5;
    assert_eq!(spread.quantile(0.5), Some(1.024e-6));
    assert_eq!(spread.quantile(0.99), Some(8.192e-6));
    assert_eq!(spread.quantile(1.0), Some(f64::INFINITY));
}

/// A program that parks all the time is slowed down by being watched: its own count of runs tells how much it did
/// meanwhile, and how much outside of windows. Where it tells too little, time does.
#[test]
fn a_slowed_program_is_scaled_by_its_own_count() {
    let (now, key) = (Instant::now(), CallsiteKey { gopc: 1, entry: 2 });
    let parked = |parks| Parked::from_iter([(key, parks)]);
    let mut meter = WaitMeter::new(now);
    let mut window = |at: u32, (opened, ended): (u64, u64), (before, after): (u64, u64)| {
        meter.open(now + at * SECOND, Some((opened, before)));
        meter.end(Some((ended, after)));
        // Some are counted while the probes go.
        let window = self::window(after - before, &[]);
        meter.close(now + at * SECOND, &window, &parked(after + 60)).parks.get(&key).copied()
    };
    // Before the first window nobody had looked.
    assert_eq!(window(10, (5000, 5200), (0, 1600)), Some(1660.0 * 10.0));
    // 100 000 runs since, at eight parks each.
    let parks = window(20, (105_000, 105_200), (1660, 3260)).unwrap();
    assert!((parks - 800_000.0).abs() < 1.0, "{parks}");
    // Then it went on for a while and ended: the window behind sees nothing of that.
    let rest = window(30, (115_200, 115_200), (3320, 3320)).unwrap();
    assert!((rest - 80_060.0).abs() < 1.0, "{rest}");
    // Little was done since: too little to conclude from.
    assert_eq!(window(40, (115_350, 115_350), (3380, 3380)), Some(600.0));
}

/// A target that claims to have run more often than anything can doesn't make its counters explode.
#[test]
fn claims_are_bounded() {
    let (now, key) = (Instant::now(), CallsiteKey { gopc: 1, entry: 2 });
    let parked = |parks| Parked::from_iter([(key, parks)]);
    let mut meter = WaitMeter::new(now);
    let mut window = |at: u32, (opened, ended): (u64, u64), parks: u64| {
        meter.open(now + at * SECOND, Some((opened, parks - 100)));
        meter.end(Some((ended, parks)));
        meter.close(now + at * SECOND, &self::window(100, &[]), &parked(parks)).parks[&key]
    };
    assert_eq!(window(10, (1000, 1200), 100), 1000.0);
    assert_eq!(window(20, (u64::MAX - 200, u64::MAX), 200), 1000.0 * MOST_OFF);
}

/// Between two windows what the last one saw is told as it goes on; when the target begins to do more, nothing is told
/// until the next window has seen what.
#[test]
fn what_goes_on_is_told_at_once() {
    let (start, key) = (Instant::now(), CallsiteKey { gopc: 1, entry: 2 });
    let parked = |parks| Parked::from_iter([(key, parks)]);
    let mut meter = WaitMeter::new(start);
    let mut told = 0.0;
    let mut tell = |increment: WaitIncrement| {
        told += increment.parks.get(&key).copied().unwrap_or_default();
        told
    };
    // 1000 runs a second, and eight parks for each.
    assert_eq!(tell(meter.pass(start, 0)), 0.0);
    assert_eq!(tell(meter.pass(start + 9 * SECOND, 9000)), 0.0, "nobody has looked yet");
    meter.open(start + 10 * SECOND, Some((10_000, 0)));
    meter.end(Some((10_200, 1600)));
    assert_eq!(tell(meter.close(start + 11 * SECOND, &window(1600, &[]), &parked(1600))), 81_600.0);
    assert_eq!(tell(meter.pass(start + 12 * SECOND, 11_200)), 89_600.0);
    assert_eq!(tell(meter.pass(start + 13 * SECOND, 12_200)), 97_600.0);
    assert_eq!(meter.coverage(start + 13 * SECOND), 1.0 / 13.0);
    // Then ten times as many, of goroutines that park once for each that is counted.
    for second in 14..20 {
        let runs = 12_200 + u64::from(second - 13) * 10_000;
        assert_eq!(tell(meter.pass(start + second * SECOND, runs)), 97_600.0, "{second}");
    }
    meter.open(start + 20 * SECOND, Some((82_200, 1600)));
    meter.end(Some((84_200, 3600)));
    assert_eq!(
        tell(meter.close(start + 21 * SECOND, &window(2000, &[]), &parked(3600))),
        97_600.0 + 72_000.0
    );
}
