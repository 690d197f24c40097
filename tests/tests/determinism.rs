//! One seed gives one run: two runs of a schedule have the same event log, line by line.

use store_tests::sim::run::{Options, run_caught};
use store_tests::sim::schedule::Schedule;
use store_tests::sim::steps::Steps;

#[test]
fn a_seed_always_gives_the_same_run() {
    // Both engines, and all kinds of ends.
    for seed in 1..8 {
        let mut schedule = Schedule::draw(seed);
        schedule.setup.work_ms = schedule.setup.work_ms.min(10_000);
        schedule.setup.real_engine = seed % 2;
        let options =
            Options { steps: Steps { digests: true, ..Steps::default() }, ..Options::default() };
        let one = run_caught(&schedule, &options);
        let other = run_caught(&schedule, &options);
        assert!(one.events > 1000 && one.digest != 0);
        assert_eq!((one.digest, one.events, one.at), (other.digest, other.events, other.at));
        assert_eq!(one.broken, other.broken);
    }
}
