use super::*;

fn net(text: &str) -> IpNet {
    text.parse().expect("a subnet")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn config() -> NetworkConfig {
    NetworkConfig::new("web", "podlet0", [net("10.89.0.0/24"), net("fd12:3456:789a::/64")])
}

/// That a changed network is refused, with this field, value and part of the reason.
fn refused(change: impl FnOnce(&mut NetworkConfig), expected: (&str, &str, &str)) {
    let mut config = config();
    change(&mut config);
    let error = config.check().expect_err(expected.1);
    let Error::Invalid { field, value, reason, .. } = &error else { panic!("{error}") };
    assert_eq!((field.as_str(), value.as_str()), (expected.0, expected.1), "{error}");
    assert!(reason.contains(expected.2), "{error}");
}

#[test]
fn a_whole_network_is_written_and_read_again() {
    let mut config = config();
    config.gateways = vec![ip("10.89.0.254")];
    config.mtu = Some(1280);
    config.peers = vec![
        Peer { via: ip("192.0.2.2"), subnets: vec![net("10.90.0.0/24")], way: Way::Underlay },
        Peer { via: ip("192.0.2.3"), subnets: vec![net("10.91.0.0/16")], way: Way::Vxlan { vni: 7 } },
    ];
    config.check().expect("in order");
    let text = serde_json::to_string(&config).expect("written");
    assert!(text.contains(r#""way":"underlay""#) && text.contains(r#""way":{"vxlan":{"vni":7}}"#), "{text}");
    assert_eq!(serde_json::from_str::<NetworkConfig>(&text).expect("read"), config);
    let more = text.replacen('{', r#"{"colour":"red","#, 1);
    let error = serde_json::from_str::<NetworkConfig>(&more).expect_err("unknown").to_string();
    assert!(error.contains("unknown field `colour`"), "{error}");
}

#[test]
fn names_are_checked() {
    for name in ["", "-web", "a:b", "cni:web", "a/b", "a b", &"a".repeat(64)] {
        refused(|config| config.name = name.into(), ("network name", name, "1 to 63 of"));
    }
    for name in ["none", "host"] {
        refused(|config| config.name = name.into(), ("network name", name, "means something else"));
    }
    for name in [
        "",
        "sixteen-letters-",
        "a/b",
        "a b",
        "a\tb",
        "..",
        "eth%d",
        "all",
        "eth0:1",
        "a\"b",
        "a'b",
        "a\\b",
        "ä",
        "-x",
        "lo",
    ] {
        refused(|config| config.bridge = name.into(), ("bridge", name, "1 to 15 bytes"));
    }
    let mut config = config();
    config.bridge = "fifteen-letters".into();
    config.check().expect("as long as a name can be");
}

#[test]
fn subnets_are_checked() {
    refused(|config| config.subnets.clear(), ("subnet", "", "a network needs one"));
    for (subnet, reason) in [
        ("10.0.0.0/7", "from /8 to /30"),
        ("10.0.0.0/31", "from /8 to /30"),
        ("fd00::/47", "from /48 to /126"),
        ("fd00::/127", "from /48 to /126"),
        ("10.89.0.1/24", "give 10.89.0.0/24"),
        ("fd00::1/64", "give fd00::/64"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.1.0/24", "link-local"),
        ("224.0.0.0/24", "multicast"),
        ("240.0.0.0/8", "reserved"),
        ("0.1.0.0/16", "this network"),
        ("::/64", "no address"),
        ("::/126", "no address"),
        ("::ffff:10.0.0.0/120", "IPv4 in IPv6 spelling"),
        ("fe80::/64", "link-local"),
        ("ff02::/64", "multicast"),
    ] {
        refused(|config| config.subnets = vec![net(subnet)], ("subnet", &net(subnet).to_string(), reason));
    }
    refused(
        |config| config.subnets.push(net("10.90.0.0/24")),
        ("subnet", "10.90.0.0/24", "10.89.0.0/24 is of the same"),
    );
    for subnet in ["10.0.0.0/8", "10.0.0.0/30", "fd00::/48", "fd00::/126"] {
        assert_eq!(parse_subnet(subnet).expect(subnet), net(subnet));
    }
    for text in ["10.0.0.0/33", "10.0.0.0", "fd00::/129", "web", ""] {
        let error = parse_subnet(text).expect_err(text).to_string();
        assert!(error.contains("no subnet: give an address and a prefix"), "{error}");
    }
}

#[test]
fn the_gateway_is_the_first_unless_it_is_said() {
    let mut config = config();
    let (v4, v6) = (config.subnets[0], config.subnets[1]);
    assert_eq!(config.gateway(&v4), ip("10.89.0.1"));
    assert_eq!(config.gateway(&v6), ip("fd12:3456:789a::1"));
    config.gateways = vec![ip("10.89.0.254")];
    config.check().expect("in order");
    assert_eq!(config.gateway(&v4), ip("10.89.0.254"));
    assert_eq!(config.gateway(&v6), ip("fd12:3456:789a::1"));
    for (gateway, reason) in [
        ("10.90.0.1", "in none of the subnets (10.89.0.0/24, fd12:3456:789a::/64)"),
        ("10.89.0.0", "no host of 10.89.0.0/24 can have it"),
        ("10.89.0.255", "such as 10.89.0.1"),
        ("fd12:3456:789a::", "no host of"),
    ] {
        refused(|config| config.gateways = vec![ip(gateway)], ("gateway", gateway, reason));
    }
    let two = vec![ip("10.89.0.1"), ip("10.89.0.2")];
    refused(|config| config.gateways = two, ("gateway", "10.89.0.2", "10.89.0.1 is in 10.89.0.0/24, too"));
}

#[test]
fn the_mtu_is_one_that_the_family_can_have() {
    for mtu in [0, 1279, 65536] {
        refused(|config| config.mtu = Some(mtu), ("mtu", &mtu.to_string(), "IPv6 needs 1280 to 65535"));
    }
    let v4 = |mtu| NetworkConfig { mtu: Some(mtu), ..NetworkConfig::new("web", "podlet0", [net("10.0.0.0/24")]) };
    v4(68).check().expect("the least of IPv4");
    assert!(v4(67).check().is_err());
}

#[test]
fn peers_are_checked() {
    let peer = |via: &str, subnets: &[&str], way| Peer {
        via: ip(via),
        subnets: subnets.iter().map(|subnet| net(subnet)).collect(),
        way,
    };
    let vxlan = |vni| Way::Vxlan { vni };
    for (peers, value, reason) in [
        (vec![peer("10.89.0.7", &["10.90.0.0/24"], Way::Underlay)], "10.89.0.7", "a subnet of pods"),
        (vec![peer("10.90.0.7", &["10.90.0.0/24"], Way::Underlay)], "10.90.0.7", "a subnet of pods"),
        (vec![peer("127.0.0.1", &["10.90.0.0/24"], Way::Underlay)], "127.0.0.1", "another machine"),
        (vec![peer("192.0.2.2", &[], Way::Underlay)], "192.0.2.2", "give ADDRESS=SUBNET"),
        (vec![peer("192.0.2.2", &["10.90.0.1/24"], Way::Underlay)], "10.90.0.1/24", "give 10.90.0.0/24"),
        (
            vec![peer("192.0.2.2", &["10.89.0.128/25"], Way::Underlay)],
            "192.0.2.2=10.89.0.128/25",
            "overlaps 10.89.0.0/24",
        ),
        (vec![peer("192.0.2.2", &["fd01::/64"], Way::Underlay)], "192.0.2.2=fd01::/64", "address of IPv6"),
        (vec![peer("192.0.2.2", &["10.90.0.0/24"], vxlan(0))], "192.0.2.2", "from 1 to 16777215"),
        (vec![peer("192.0.2.2", &["10.90.0.0/24"], vxlan(1 << 24))], "192.0.2.2", "from 1 to 16777215"),
        (
            vec![peer("192.0.2.2", &["10.90.0.0/24"], vxlan(1)), peer("192.0.2.3", &["10.91.0.0/24"], vxlan(2))],
            "192.0.2.3",
            "but peer 192.0.2.2 has 1",
        ),
        (
            vec![peer("192.0.2.2", &["10.90.0.0/24"], vxlan(1)), peer("2001:db8::3", &["10.91.0.0/24"], vxlan(1))],
            "2001:db8::3",
            "another family",
        ),
        (
            vec![
                peer("192.0.2.2", &["10.90.0.0/16"], Way::Underlay),
                peer("192.0.2.3", &["10.90.1.0/24"], Way::Underlay),
            ],
            "192.0.2.3=10.90.1.0/24",
            "overlaps 10.90.0.0/16",
        ),
    ] {
        refused(|config| config.peers = peers, ("peer", value, reason));
    }
    let mut one = NetworkConfig::new("web", "podlet0", [net("10.89.0.0/24")]);
    one.peers = vec![peer("192.0.2.2", &["fd01::/64"], vxlan(1))];
    let error = one.check().expect_err("no IPv6 here").to_string();
    assert!(error.contains("no subnet of IPv6 itself"), "{error}");
    let mut both = config();
    both.peers = vec![peer("192.0.2.2", &["10.90.0.0/24", "fd01::/64"], vxlan(1))];
    both.check().expect("a tunnel carries both families");
}

#[test]
fn chosen_subnets_overlap_nothing_that_is_taken() {
    let (v4, v6) = choose_subnets(&[]).expect("all free");
    assert_eq!(v4.to_string(), "10.89.0.0/24");
    assert_eq!((v6.addr().octets()[0], v6.prefix_len()), (0xfd, 64));
    assert_ne!(choose_subnets(&[]).expect("all free").1, v6, "random");
    check_subnet(&v6.into()).expect("one that a network can have");

    let taken = |texts: &[&str]| texts.iter().map(|text| net(text)).collect::<Vec<_>>();
    for (routes, expected) in [
        (taken(&["10.89.0.0/24", "10.89.1.128/25", "10.89.3.0/24"]), "10.89.2.0/24"),
        (taken(&["10.89.0.0/16"]), "10.90.0.0/24"),
        (taken(&["10.88.0.0/14", "0.0.0.0/0", "::/0"]), "10.92.0.0/24"),
        (taken(&["10.89.0.17/32"]), "10.89.1.0/24"),
    ] {
        assert_eq!(choose_subnets(&routes).expect("free ones").0.to_string(), expected);
    }
    let error = choose_subnets(&[net("10.0.0.0/8")]).expect_err("all taken").to_string();
    assert!(error.contains("10.89.0.0/24 on is taken"), "{error}");
    let error = choose_subnets(&[net("fc00::/7")]).expect_err("all taken").to_string();
    assert!(error.contains("fd00::/8 is taken"), "{error}");
    assert_eq!(unique_local([1, 2, 3, 4, 5]).to_string(), "fd01:203:405::/64");
}

#[test]
fn the_first_free_bridge_is_chosen() {
    let taken = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(choose_bridge(&[]), "podlet0");
    assert_eq!(choose_bridge(&taken(&["podlet0", "podlet2"])), "podlet1");
}

#[test]
fn addresses_are_numbered_from_the_first() {
    for (subnet, number, address) in [
        ("10.89.0.0/24", 17, "10.89.0.17"),
        ("10.0.0.0/8", 70000, "10.1.17.112"),
        ("fd00::/64", 1 << 32, "fd00::1:0:0"),
    ] {
        assert_eq!(address_at(&net(subnet), number), ip(address));
        assert_eq!(number_of(&net(subnet), ip(address)), Some(number));
    }
    assert_eq!(number_of(&net("10.89.0.0/24"), ip("10.90.0.1")), None);
    assert_eq!(number_of(&net("10.89.0.0/24"), ip("fd00::1")), None);
}
