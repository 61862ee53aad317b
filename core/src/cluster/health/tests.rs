use super::*;

fn check(node: &str, id: &str, process: Option<u64>, passing: bool, index: u64) -> Check {
    let process = process.map(Fid::process);
    Check { node: node.into(), id: id.into(), process, named: true, passing, index }
}

fn health(checks: &[Check]) -> Health {
    let mut health = Health::default();
    for check in checks {
        let reading = Source::Reading(check.index);
        health.apply(check.clone(), reading, &mut Dirty::default());
    }
    health
}

#[test]
fn ids_of_both_forms_are_understood() {
    assert_eq!(process_of_service_id("4"), Some(Fid::process(4)));
    assert_eq!(process_of_service_id("0x7200000000000001:0x0004"), Some(Fid::process(4)));
    for id in ["web-1", "", "0x7300000000000001:0x4", "99999999999999999999", "+4"] {
        assert_eq!(process_of_service_id(id), None, "{id}");
    }
}

#[test]
fn a_failing_node_pulls_down_its_services_whatever_the_order() {
    let node = check("ssu1:aa", "serfHealth", None, false, 9);
    let service = check("ssu1:aa", "service:4", Some(4), true, 8);
    for checks in [[node.clone(), service.clone()], [service, node]] {
        assert_eq!(health(&checks).verdict(Fid::process(4), Some("ssu1")), Verdict::Failing);
    }
}

#[test]
fn the_newest_index_wins() {
    let old = check("ssu1", "service:4", Some(4), false, 7);
    let new = check("ssu1", "service:4", Some(4), true, 8);
    for checks in [[old.clone(), new.clone()], [new, old]] {
        assert_eq!(health(&checks).verdict(Fid::process(4), None), Verdict::Passing);
    }
}

#[test]
fn a_reading_is_the_truth_though_a_later_index_was_known() {
    // A snapshot was restored, and the KV store was written since.
    let mut health = health(&[check("ssu1", "service:4", Some(4), false, 8)]);
    let restored = check("ssu1", "service:4", Some(4), true, 5);
    let mut concerned = Dirty::default();
    health.apply(restored.clone(), Source::Reading(7), &mut concerned);
    let verdict = |health: &Health| health.verdict(Fid::process(4), Some("ssu1"));
    assert_eq!(verdict(&health), Verdict::Failing, "newer than the reading");
    health.apply(restored, Source::Reading(9), &mut concerned);
    assert_eq!(verdict(&health), Verdict::Passing);
    assert_eq!(concerned.processes, BTreeSet::from([Fid::process(4)]));
}

#[test]
fn a_former_life_of_a_node_does_not_count_whenever_it_was_written() {
    for (old, new) in [(30, 19), (19, 30)] {
        let health = health(&[
            check("ssu1:aa", "serfHealth", None, false, old),
            check("ssu1:aa", "service:4", Some(4), false, 10 + old),
            check("ssu1:bb", "serfHealth", None, true, new),
            check("ssu1:bb", "service:4", Some(4), true, new),
        ]);
        let (process, host) = (Fid::process(4), Some("ssu1"));
        assert_eq!(health.verdict(process, host), Verdict::Passing);
        assert!(health.host_passes("ssu1"));
        assert_eq!(health.process_failing_since(process, host), None);
        assert_eq!(health.host_failing_since("ssu1"), None);
    }
}

#[test]
fn a_node_that_is_back_under_a_new_name_vouches_before_its_services_are_there() {
    let mut health = health(&[
        check("ssu1:aa", "serfHealth", None, false, 30),
        check("ssu1:aa", "service:4", Some(4), true, 10),
        check("ssu1:bb", "serfHealth", None, true, 19),
    ]);
    let (process, host) = (Fid::process(4), Some("ssu1"));
    assert_eq!(health.verdict(process, host), Verdict::Unregistered);
    let new = check("ssu1:bb", "serfHealth", None, false, 40);
    health.apply(new, Source::Reading(100), &mut Dirty::default());
    assert_eq!(health.verdict(process, host), Verdict::Failing);
    assert_eq!(health.host_failing_since("ssu1"), Some(40), "when the last one died");
}

#[test]
fn a_service_elsewhere_with_the_same_id_says_nothing() {
    let foreign = check("billing-host", "service:4", Some(4), false, 50);
    let own = check("ssu1:aa", "service:4", Some(4), true, 10);
    let process = Fid::process(4);
    assert_eq!(health(&[foreign.clone(), own]).verdict(process, Some("ssu1")), Verdict::Passing);
    let alone = health(&[foreign]);
    assert_eq!(alone.verdict(process, Some("ssu1")), Verdict::Unregistered);
    assert_eq!(alone.process_failing_since(process, Some("ssu1")), None);
}

#[test]
fn of_two_services_with_one_id_the_one_counts_that_has_a_name_of_motr_s() {
    let own = check("ssu1:aa", "service:4", Some(4), false, 10);
    let foreign =
        Check { named: false, passing: true, ..check("ssu1:ab", "web", Some(4), true, 9) };
    let process = Fid::process(4);
    let both = health(&[foreign.clone(), own]);
    assert_eq!(both.verdict(process, Some("ssu1")), Verdict::Failing);
    assert_eq!(health(&[foreign]).verdict(process, Some("ssu1")), Verdict::Passing);
}

#[test]
fn maintenance_is_told_from_death() {
    let health = health(&[
        check("ssu1", "serfHealth", None, true, 5),
        check("ssu1", "_node_maintenance", None, false, 9),
        check("ssu2", "serfHealth", None, false, 9),
    ]);
    assert_eq!(health.verdict(Fid::process(4), Some("ssu1")), Verdict::Failing);
    assert_eq!(health.maintenance_since("ssu1"), Some(9));
    assert_eq!(
        (health.host_failing_since("ssu2"), health.maintenance_since("ssu2")),
        (Some(9), None)
    );
    assert!(counts_for_node("serfHealth") && !counts_for_node("mem"));
}

#[test]
fn an_unregistered_process_is_judged_by_its_node() {
    let health = health(&[check("ssu1:aa", "serfHealth", None, false, 5)]);
    assert_eq!(health.verdict(Fid::process(4), Some("ssu1")), Verdict::Failing);
    assert_eq!(health.verdict(Fid::process(4), Some("ssu2")), Verdict::Unregistered);
}

#[test]
fn a_node_is_known_by_its_whole_name() {
    let checks = [("ssu1", true, 5), ("ssu10", false, 6), ("ssu", false, 7)];
    let checks = checks.map(|(host, passes, index)| {
        check(&alloc::format!("{host}:0a1b2c3d"), "serfHealth", None, passes, index)
    });
    let health = health(&checks);
    assert!(health.host_passes("ssu1") && !health.host_passes("ssu10"));
    assert!(!health.host_passes("ssu"));
}

#[test]
fn a_node_that_left_the_catalog_is_gone_until_it_is_back() {
    let read = |checks: &[Check]| -> BTreeSet<(Box<str>, Box<str>)> {
        checks.iter().map(|check| (check.node.clone(), check.id.clone())).collect()
    };
    let other = check("ssu2:cc", "serfHealth", None, true, 5);
    let mut health = health(&[
        check("ssu1:aa", "serfHealth", None, true, 5),
        check("ssu1:aa", "service:4", Some(4), true, 5),
        other.clone(),
    ]);
    let mut concerned = Dirty::default();
    health.retain(10, &read(core::slice::from_ref(&other)), &mut concerned);
    assert!(concerned.hosts.contains("ssu1"));
    assert!(health.is_gone("ssu1"));
    assert_eq!(health.host_failing_since("ssu1"), Some(10));
    // The verdict on the node's process, and a node that was never in the catalog, are not affected.
    assert_eq!(health.verdict(Fid::process(4), Some("ssu1")), Verdict::Unregistered);
    assert_eq!(health.host_failing_since("ssu9"), None);
    let back = check("ssu1:bb", "serfHealth", None, true, 11);
    health.apply(back.clone(), Source::Reading(11), &mut concerned);
    health.retain(11, &read(&[other, back]), &mut concerned);
    assert!(!health.is_gone("ssu1"));
    assert_eq!(health.host_failing_since("ssu1"), None);
}

#[test]
fn a_node_that_only_a_post_has_named_is_not_gone() {
    let mut health = health(&[]);
    let mut concerned = Dirty::default();
    health.apply(check("ssu1", "serfHealth", None, true, 5), Source::Post, &mut concerned);
    health.retain(10, &BTreeSet::new(), &mut concerned);
    assert!(!health.is_gone("ssu1"));
    assert_eq!(health.host_failing_since("ssu1"), None);
}

#[test]
fn a_node_that_was_renamed_is_not_gone() {
    let new = check("ssu1:bb", "serfHealth", None, true, 9);
    let mut health = health(&[check("ssu1:aa", "serfHealth", None, false, 5), new.clone()]);
    let read = BTreeSet::from([(new.node, new.id)]);
    health.retain(10, &read, &mut Dirty::default());
    assert!(!health.is_gone("ssu1"));
}

#[test]
fn a_reading_drops_what_is_gone_and_keeps_what_is_newer() {
    let mut health = health(&[
        check("ssu1", "service:4", Some(4), true, 5),
        check("ssu1", "service:5", Some(5), true, 50),
    ]);
    let mut concerned = Dirty::default();
    health.retain(10, &BTreeSet::new(), &mut concerned);
    assert_eq!(concerned.processes, BTreeSet::from([Fid::process(4)]));
    assert_eq!(health.len(), 1);
}
