use super::super::node::Mode;
use super::*;

fn index(number: u16) -> Index {
    Index::new(number).unwrap()
}

fn given(parameters: &[(&str, &str)]) -> Set {
    let parameters = parameters.iter().map(|(flag, value)| ((*flag).into(), (*value).into()));
    Set { provider: None, mode: None, parameters: parameters.collect() }
}

fn linux() -> Set {
    let hop = [("-t", "100"), ("-r", "192.0.2.0/24"), ("-n", "10.0.0.2")];
    Set { provider: Some(Provider::Linux), ..given(&hop) }
}

#[test]
fn r08_a_node_is_created_with_what_its_provider_requires() {
    let mut table = Table::default();
    assert_eq!(table.create(index(7), &linux(), None), Ok(Change::Created));
    let node = table.find(index(7)).unwrap();
    assert_eq!(node.parameters["nextHop"], "10.0.0.2".into());
    let few = Set { provider: Some(Provider::Linux), ..given(&[("-t", "100")]) };
    let Err(Refusal::Usage(why)) = table.create(index(8), &few, None) else { panic!() };
    assert_eq!(why, "linux requires -r, -n");
    assert_eq!(table.find(index(8)), None);
}

#[test]
fn r08_a_node_that_exists_is_changed_by_create() {
    let mut table = Table::default();
    table.create(index(7), &linux(), None).unwrap();
    assert_eq!(table.create(index(7), &linux(), None), Ok(Change::Unchanged));
    // An existing node needs neither the provider nor the required parameters again.
    assert_eq!(table.create(index(7), &given(&[("-n", "10.0.0.3")]), None), Ok(Change::Modified));
    assert_eq!(table.find(index(7)).unwrap().parameters["table"], "100".into());
    let other = Set { provider: Some(Provider::Aws), ..Set::default() };
    assert!(matches!(table.create(index(7), &other, None), Err(Refusal::Contradiction(_))));
}

#[test]
fn the_provider_may_be_left_out_where_there_is_a_default() {
    let aws = given(&[("-t", "rtb-12345678"), ("-rg", "us-east-1"), ("-n", "eni-12345678")]);
    let mut table = Table::default();
    assert!(matches!(table.create(index(1), &aws, None), Err(Refusal::Usage(_))));
    assert_eq!(table.create(index(1), &aws, Some(Provider::Aws)), Ok(Change::Created));
    assert_eq!(table.find(index(1)).unwrap().provider, Provider::Aws);
}

#[test]
fn r09_set_changes_what_is_given_and_nothing_else() {
    let mut table = Table::default();
    table.create(index(7), &linux(), None).unwrap();
    let two = Set { mode: Some(Mode::Primary), ..given(&[("-n", "10.0.0.9"), ("-dev", "eth1")]) };
    assert_eq!(table.set(index(7), &two), Ok(Change::Modified));
    let node = table.find(index(7)).unwrap();
    assert_eq!(node.mode(), Mode::Primary);
    let expected =
        [("device", "eth1"), ("nextHop", "10.0.0.9"), ("route", "192.0.2.0/24"), ("table", "100")];
    assert_eq!(node.parameters, expected.map(|(name, value)| (name, value.into())).into());
    assert_eq!(table.set(index(8), &two), Err(Refusal::Unknown));
}

#[test]
fn r09_one_wrong_value_changes_nothing() {
    let mut table = Table::default();
    table.create(index(7), &linux(), None).unwrap();
    let before = table.clone();
    assert!(table.set(index(7), &given(&[("-t", "101"), ("-n", "nowhere")])).is_err());
    assert!(table.set(index(7), &given(&[("-t", "101"), ("-rg", "x")])).is_err());
    assert!(table.set(index(7), &given(&[("-n", "2001:db8::1")])).is_err());
    assert_eq!(table, before);
}

#[test]
fn r10_clear_takes_the_named_parameters_away() {
    let mut table = Table::default();
    let set = Set { mode: Some(Mode::Primary), ..linux() };
    table.create(index(7), &set, None).unwrap();
    let clear = Clear { mode: true, parameters: ["-r".into(), "-dev".into()].into() };
    assert_eq!(table.clear(index(7), &clear), Ok(Change::Modified));
    let node = table.find(index(7)).unwrap();
    assert_eq!(node.mode(), Mode::Secondary);
    assert_eq!(node.parameters.keys().copied().collect::<Vec<_>>(), ["nextHop", "table"]);
    assert_eq!(table.clear(index(8), &clear), Err(Refusal::Unknown));
}

#[test]
fn r11_deleting_what_is_not_there_is_no_error() {
    let mut table = Table::default();
    table.create(index(7), &linux(), None).unwrap();
    assert_eq!(table.delete(index(7)), Change::Deleted);
    assert_eq!(table.delete(index(7)), Change::Unchanged);
}

#[test]
fn r18_the_nodes_are_walked_in_order_across_deleted_ones() {
    let mut table = Table::default();
    for number in (1..=Index::MAX).rev() {
        table.create(index(number), &linux(), None).unwrap();
    }
    assert_eq!(table.len(), 1023);
    let deleted = |number: u16| number.is_multiple_of(3);
    for number in (1..=Index::MAX).filter(|number| deleted(*number)) {
        assert_eq!(table.delete(index(number)), Change::Deleted);
    }
    let (mut at, mut walked) = (None, Vec::new());
    while let Some((next, _)) = table.next(at) {
        walked.push(next.number());
        at = Some(next);
    }
    let expected: Vec<u16> = (1..=Index::MAX).filter(|n| !deleted(*n)).collect();
    assert_eq!(walked, expected);
    // The iteration may also start at an index without a node.
    assert_eq!(table.next(Some(index(3))).unwrap().0, index(4));
}

#[test]
fn r02_one_destination_in_two_tables_is_two_routes() {
    let mut table = Table::default();
    table.create(index(1), &linux(), None).unwrap();
    let other = Set { provider: None, mode: None, parameters: linux().parameters };
    let mut other = Set { provider: Some(Provider::Linux), ..other };
    other.parameters.insert("-t".into(), "200".into());
    table.create(index(2), &other, None).unwrap();
    table.set(index(2), &given(&[("-n", "10.0.0.7")])).unwrap();
    assert_eq!(table.find(index(1)).unwrap().parameters["nextHop"], "10.0.0.2".into());
}
