use alloc::string::ToString as _;
use alloc::vec::Vec;

use super::super::provider::Cloud;
use super::*;

const AZURE: Provider = Provider::Azure(Cloud::Public);

fn set(provider: Provider, flag: &str, value: &str) -> Result<(), String> {
    find(provider, flag)?.set(&mut Parameters::new(), value)
}

#[test]
fn r06_each_provider_s_parameters_are_checked() {
    let eni = "eni-0123456789abcdef0";
    for (provider, flag, right, wrong) in [
        (Provider::Linux, "-t", "1", "0"),
        (Provider::Linux, "-t", "4294967295", "4294967296"),
        (Provider::Linux, "-t", "main", "local"),
        (Provider::Linux, "-r", "0.0.0.0/0", "0.0.0.0/33"),
        (Provider::Linux, "-r", "192.0.2.128/25", "192.0.2.128/24"),
        (Provider::Linux, "-r", "2001:db8::/32", "2001:db8::/129"),
        (Provider::Linux, "-r", "::/0", "::1/0"),
        (Provider::Linux, "-r", "192.0.2.1/32", "192.0.2.1"),
        (Provider::Linux, "-r", "10.0.0.0/8", "10.0.0.0/+8"),
        (Provider::Linux, "-n", "2001:db8::1", "router2"),
        (Provider::Linux, "-dev", "eth0", "a/b"),
        (Provider::Linux, "-dev", "fifteen-letters", "sixteen-letters!"),
        (Provider::Linux, "-ns", "blue", "../blue"),
        (Provider::Linux, "-group", "edge-1", "edge/1"),
        (Provider::Gcp, "-group", "a.b_c", "two words"),
        (Provider::Consul, "-t", "vpc one", "vpc\none"),
        (Provider::Consul, "-prefix", "net/routes", "ha/route"),
        (Provider::Aws, "-t", "rtb-12345678", "rtb-1234567"),
        (Provider::Aws, "-n", eni, "eni-badbadxx"),
        (Provider::Aws, "-rg", "us-east-1", "us\u{7f}"),
        (Provider::Aws, "-rg", "cn-north-1", "x.example/?"),
        (AZURE, "-n", "10.0.0.4", "10.0.0"),
        (AZURE, "-k", "file:/etc/hax/key", "file:key"),
        (AZURE, "-k", "env:APP_KEY", "env:"),
        (Provider::Gcp, "-a", "a-route-1", "A-route"),
        (Provider::Gcp, "-v", "x", "x-"),
        (Provider::Gcp, "-o", "65534", "65535"),
        (Provider::Gcp, "-o", "1", "0"),
    ] {
        assert_eq!(set(provider, flag, right), Ok(()), "{flag} {right}");
        let why = set(provider, flag, wrong).unwrap_err();
        assert!(why.starts_with(flag), "{flag} {wrong}: {why}");
    }
}

#[test]
fn a_network_that_is_meant_is_named() {
    let why = set(Provider::Linux, "-r", "192.0.2.1/24").unwrap_err();
    assert!(why.contains("192.0.2.0/24"), "{why}");
}

#[test]
fn a_secret_is_taken_by_reference_and_never_repeated() {
    let why = set(AZURE, "-k", "s3cret/with+signs==").unwrap_err();
    assert!(!why.contains("s3cret"), "{why}");
}

#[test]
fn r06_a_provider_has_its_own_parameters_only() {
    assert!(find(Provider::Linux, "-rg").unwrap_err().contains("linux has no such parameter"));
    assert!(is_flag("-rg") && !is_flag("-x") && !is_flag("-i"));
    for provider in Provider::ALL {
        let (mut flags, mut names): (Vec<_>, Vec<_>) =
            of(provider).iter().map(|p| (p.flag, p.name)).unzip();
        flags.sort_unstable();
        names.sort_unstable();
        let all = flags.len();
        flags.dedup();
        names.dedup();
        assert_eq!((flags.len(), names.len()), (all, all), "{provider:?}");
    }
}

#[test]
fn what_an_event_needs_is_known() {
    let mut node = Node::new(Provider::Aws);
    let lacks = |node: &Node| missing(node).map(|p| p.flag.to_string()).collect::<Vec<_>>();
    assert_eq!(lacks(&node), ["-t", "-rg", "-n"]);
    find(Provider::Aws, "-t").unwrap().set(&mut node.parameters, "rtb-12345678").unwrap();
    assert_eq!(lacks(&node), ["-rg", "-n"]);
}

#[test]
fn parameters_have_to_stand_together() {
    let node = |provider, given: &[(&str, &str)]| {
        let mut node = Node::new(provider);
        for (flag, value) in given {
            find(provider, flag).unwrap().set(&mut node.parameters, value).unwrap();
        }
        node
    };
    let mixed = node(Provider::Linux, &[("-r", "10.0.0.0/8"), ("-n", "2001:db8::1")]);
    assert!(check_together(&mixed).is_err());
    let same = node(Provider::Linux, &[("-r", "2001:db8::/32"), ("-n", "2001:db8::1")]);
    assert!(check_together(&same).is_ok());
    let mixed = node(Provider::Gcp, &[("-r", "10.0.0.0/8"), ("-n", "2001:db8::1")]);
    assert!(check_together(&mixed).is_err());
    let half = node(AZURE, &[("-a", "app"), ("-d", "tenant")]);
    assert!(check_together(&half).is_err());
    let whole = node(AZURE, &[("-a", "app"), ("-d", "tenant"), ("-k", "env:KEY")]);
    assert!(check_together(&whole).is_ok());
}
