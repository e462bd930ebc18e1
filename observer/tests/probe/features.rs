//! The features that are said to be there.

use observer::probe::calibrate;
use observer::probe::features::FEATURES;

use crate::spawner;

/// With all privileges every feature works on a kernel that is new enough: a failure here means that a
/// minimum version or a check is wrong.
#[test]
fn root_has_every_feature() {
    if !spawner::can_run() {
        return;
    }
    for feature in FEATURES {
        assert_eq!(feature.check(), Ok(()), "{}", feature.name);
    }
}

/// The probe on the observer's own function counts every call and costs something.
#[test]
fn a_hit_has_a_cost() {
    if !spawner::can_run() {
        return;
    }
    let cost = calibrate().unwrap().hit_alone;
    println!("one hit costs {cost:?}");
    assert!(!cost.is_zero());
}
