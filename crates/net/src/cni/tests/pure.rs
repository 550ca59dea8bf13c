//! What needs no plugin: versions, configurations, names, ports, results.

use std::fs;

use pod::Error;
use serde_json::json;

use super::fake::{NETNS, assert_has, attachment, list, parse, refusal};
use crate::cni::request::{About, check_capabilities, config};
use crate::cni::{Attachment, Bandwidth, CniResult, Conflist, PortMapping, Protocol, Record, Version};

// Rule 1.
#[test]
fn speaking_less_than_the_highest_known_version() {
    let offers = |one: &str, more: &[&str]| {
        parse(json!({"name": "n", "cniVersion": one, "cniVersions": more, "plugins": [{"type": "a"}]})).version()
    };
    assert_eq!(offers("0.4.0", &["0.3.1", "1.0.0", "1.1.0"]), Version::V1_1_0);
    assert_eq!(offers("1.1.0", &["0.4.0"]), Version::V1_1_0);
    assert_eq!(offers("0.4.0", &["9.0.0", "1.0.0", "0.2.0"]), Version::V1_0_0);
    assert_eq!(offers("0.3.1", &[]), Version::V0_3_1);
}

#[test]
fn versions_that_are_not_spoken_are_refused_with_the_cure() {
    for version in ["0.1.0", "0.2.0"] {
        let said = refusal(json!({"name": "n", "cniVersion": version, "plugins": [{"type": "a"}]}));
        assert_has(&said, &["cniVersion", version, "no longer spoken", "set cniVersion to 1.0.0"]);
    }
    assert_has(&refusal(json!({"name": "n", "plugins": [{"type": "a"}]})), &["missing", "set cniVersion to 1.0.0"]);
    assert_has(&refusal(json!({"name": "n", "cniVersion": "2.0.0", "type": "a"})), &["2.0.0", "none of"]);
}

// Rule 7.
#[test]
fn flags_as_strings_taken_for_false() {
    let flags = |check: serde_json::Value, gc: serde_json::Value| {
        let list = json!({"name": "n", "cniVersion": "1.1.0", "disableCheck": check, "disableGC": gc,
                          "plugins": [{"type": "a"}]});
        Conflist::parse(list.to_string().as_bytes()).map(|list| (list.disable_check, list.disable_gc))
    };
    assert_eq!(flags(json!("true"), json!("True")), Ok((true, true)));
    assert_eq!(flags(json!(true), json!("false")), Ok((true, false)));
    assert_has(&flags(json!("yes"), json!(false)).expect_err("no flag").to_string(), &["disableCheck", "yes"]);
}

// Rule 16.
#[test]
fn runtime_config_for_who_declares_nothing() {
    let list = parse(json!({"name": "n", "cniVersion": "1.0.0", "plugins": [
        {"type": "a", "capabilities": {"portMappings": true, "mac": false}, "x": 1}, {"type": "b"}]}));
    let mut attachment = attachment();
    attachment.capabilities.port_mappings = vec![mapping(8080, 80)];
    let about = About::Attachment { attachment: &attachment, netns: None, previous: None };
    let told = config(&list, &list.plugins[0], about);
    let expected = json!({"type": "a", "x": 1, "name": "n", "cniVersion": "1.0.0", "runtimeConfig": {
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}});
    assert_eq!(serde_json::Value::Object(told), expected);
    let told = config(&list, &list.plugins[1], about);
    assert_eq!(serde_json::Value::Object(told), json!({"type": "b", "name": "n", "cniVersion": "1.0.0"}));
}

// Rule 16.
#[test]
fn ports_that_nobody_maps() {
    let mut attachment = attachment();
    attachment.capabilities.port_mappings = vec![mapping(8080, 80)];
    let said = check_capabilities(&list("1.0.0", &["a"]), &attachment).expect_err("nobody does").to_string();
    assert_has(&said, &["portMappings", "8080", "\"net\"", "portmap"]);
    // Declared as false is not declared.
    let list = parse(json!({"name": "n", "cniVersion": "1.0.0", "plugins": [
        {"type": "a", "capabilities": {"portMappings": false}}]}));
    assert!(check_capabilities(&list, &attachment).is_err());
    attachment.capabilities.port_mappings.clear();
    attachment.capabilities.mac = Some("c2:11:22:33:44:55".into());
    assert_has(&check_capabilities(&list, &attachment).expect_err("no mac").to_string(), &["mac", "declare"]);
}

fn mapping(host_port: u16, container_port: u16) -> PortMapping {
    PortMapping { host_port, container_port, protocol: Protocol::Tcp, host_ip: None }
}

// Rule 17.
#[test]
fn args_that_plugins_do_not_know() {
    let mut attachment = attachment();
    assert_eq!(attachment.joined_args(), "");
    attachment.args.insert("K8S_POD_NAME".into(), "web".into());
    assert_eq!(attachment.joined_args(), "IgnoreUnknown=1;K8S_POD_NAME=web");
    attachment.args.insert("IgnoreUnknown".into(), "0".into());
    assert_eq!(attachment.joined_args(), "IgnoreUnknown=0;K8S_POD_NAME=web");
    attachment.args.insert("A".into(), "b;IP=1.2.3.4".into());
    assert_has(&attachment.validate().expect_err("two in one").to_string(), &["CNI argument", "A=b;IP"]);
}

// Rule 20.
#[test]
fn a_result_that_is_believed_unseen() {
    let wrong = |printed: serde_json::Value| {
        CniResult::parse(printed.to_string().as_bytes(), Version::V1_0_0).expect_err("a wrong result")
    };
    assert_has(&wrong(json!({"ips": [{"address": "10.0.0.1"}]})), &["wrong"]);
    assert_has(&wrong(json!({"ips": [{"address": "10.0.0.1/24", "interface": 0}]})), &["interface 0"]);
    assert_has(&wrong(json!({"ips": [{"address": "10.0.0.1/24", "gateway": "fd00::1"}]})), &["fd00::1", "family"]);
    assert_has(&wrong(json!({"routes": [{"dst": "0.0.0.0/0", "gw": "fd00::1"}]})), &["route", "family"]);
    assert_has(&wrong(json!({"interfaces": [{"name": ""}]})), &["name"]);
    assert_has(&wrong(json!({"dns": {"search": ["a\nnameserver 6.6.6.6"]}})), &["more than one word"]);
    assert_has(&wrong(json!({"cniVersion": "0.2.0", "ip4": {}})), &["0.2.0"]);
    assert_has(&wrong(json!({"code": 7, "msg": "no"})), &["printed an error"]);
    assert_has(&wrong(json!([])), &["not JSON"]);
    assert_has(&CniResult::parse(b" \n", Version::V1_0_0).expect_err("nothing"), &["printed no result"]);
}

#[test]
fn what_is_null_in_a_result_is_not_there() {
    let printed = json!({"interfaces": [{"name": "eth0", "mac": null, "sandbox": "/ns"}], "routes": null,
        "ips": [{"address": "10.0.0.2/24", "gateway": null, "interface": 0}], "dns": {"nameservers": null}});
    let (raw, result) = CniResult::parse(printed.to_string().as_bytes(), Version::V1_0_0).expect("a result");
    assert_eq!((result.addresses().count(), result.dns.nameservers.len()), (1, 0));
    assert_eq!(raw["dns"], json!({"nameservers": null}), "as it was printed");
}

#[test]
fn results_are_the_same_for_all_versions() {
    let printed = json!({"cniVersion": "0.4.0", "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/ns"}],
        "ips": [{"version": "4", "address": "10.0.0.2/24", "gateway": "10.0.0.1", "interface": 1},
                {"version": "6", "address": "fd00::2/64"}, {"version": "4", "address": "10.0.0.1/24", "interface": 0}],
        "routes": [{"dst": "0.0.0.0/0"}], "dns": null, "more": {"kept": 1}});
    let bytes = printed.to_string();
    let (raw, result) = CniResult::parse(bytes.as_bytes(), Version::V0_4_0).expect("a result");
    assert_eq!(raw["ips"][0]["version"], "4");
    assert_eq!(raw["more"]["kept"], 1);
    let (newer, same) = CniResult::parse(bytes.as_bytes(), Version::V1_0_0).expect("a result");
    assert_eq!(result, same);
    assert_eq!((newer["cniVersion"].as_str(), newer["ips"][0].get("version")), (Some("1.0.0"), None));
    let addresses: Vec<String> = result.addresses().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.2/24", "fd00::2/64"]);
    assert_eq!(result.interface("eth0").map(|eth0| eth0.sandbox.as_str()), Some("/ns"));
    let back = serde_json::Value::Object(newer).to_string();
    let (older, _) = CniResult::parse(back.as_bytes(), Version::V0_3_1).expect("a result");
    assert_eq!((&older["ips"][1]["version"], &older["cniVersion"]), (&json!("6"), &json!("0.3.1")));
}

// Rule 21.
#[test]
fn ports_that_plugins_make_nonsense_of() {
    let refused = |mappings: Vec<PortMapping>| {
        let mut attachment = attachment();
        attachment.capabilities.port_mappings = mappings;
        attachment.validate().expect_err("bad ports").to_string()
    };
    assert_has(&refused(vec![mapping(0, 80)]), &["0:80", "1 to 65535"]);
    assert_has(&refused(vec![mapping(80, 0)]), &["80:0"]);
    assert_has(&refused(vec![mapping(80, 80), mapping(80, 81)]), &["80:81", "twice"]);
    let local = PortMapping { host_ip: Some([127, 0, 0, 1].into()), ..mapping(80, 82) };
    assert_has(&refused(vec![mapping(80, 80), local.clone()]), &["80:82", "twice"]);
    let udp = PortMapping { protocol: Protocol::Udp, ..mapping(80, 80) };
    let other = PortMapping { host_ip: Some([127, 0, 0, 2].into()), ..mapping(80, 80) };
    let mut attachment = attachment();
    attachment.capabilities.port_mappings = vec![local, udp, other];
    attachment.validate().expect("different ports");
    let protocol =
        serde_json::from_value::<PortMapping>(json!({"hostPort": 1, "containerPort": 1, "protocol": "icmp"}));
    assert!(protocol.is_err());
}

// Rule 22.
#[test]
fn names_that_plugins_refuse() {
    let refused = |id: &str, ifname: &str| Attachment::new(id, NETNS, ifname).validate().is_err();
    for id in ["", "-a", ".a", "a/b", "a b", "ä"] {
        assert!(refused(id, "eth0"), "{id:?}");
        let list = json!({"name": id, "cniVersion": "1.0.0", "plugins": [{"type": "a"}]});
        assert_has(&refusal(list), &["name of a CNI network"]);
    }
    for ifname in ["", ".", "..", "a/b", "a:b", "a b", "sixteen-bytes-ab"] {
        assert!(refused("web", ifname), "{ifname:?}");
    }
    assert!(!refused("Web_1.a-b", "fifteen-bytes-a"));
    for kind in ["", "../sh", "/bin/sh", ".."] {
        assert_has(&refusal(json!({"name": "n", "cniVersion": "1.0.0", "plugins": [{"type": kind}]})), &["type"]);
    }
}

#[test]
fn other_settings_that_mean_nothing_are_refused() {
    let mut bad = attachment();
    bad.capabilities.bandwidth = Some(Bandwidth { ingress_rate: 1000, ..Bandwidth::default() });
    assert_has(&bad.validate().expect_err("no burst").to_string(), &["bandwidth ingress", "burst"]);
    for mac in ["", "c2:11:22:33:44", "+2:11:22:33:44:55", "01:11:22:33:44:55", "00:00:00:00:00:00"] {
        let mut bad = attachment();
        bad.capabilities.mac = Some(mac.into());
        assert!(bad.validate().is_err(), "{mac:?}");
    }
    let relative = Attachment::new("web", "ns/net", "eth0");
    assert_has(&relative.validate().expect_err("relative").to_string(), &["netns", "ns/net", "absolute"]);
}

// Rule 27.
#[test]
fn plugins_in_the_folder_overlooked() {
    let dir = tempfile::tempdir().expect("a directory");
    let dirs = [dir.path().join("none"), dir.path().to_owned()];
    let write =
        |name: &str, json: serde_json::Value| fs::write(dir.path().join(name), json.to_string()).expect("a file");
    fs::create_dir(dir.path().join("net")).expect("a folder");
    write("net/20-c.conf", json!({"type": "c"}));
    write("net/10-b.conf", json!({"type": "b"}));
    write("net/30-d.conflist", json!({"type": "d"}));
    let types = || -> Vec<String> {
        let list = Conflist::load("net", &dirs).expect("a network");
        list.plugin_types().map(str::to_owned).collect()
    };
    let with = |only: serde_json::Value| {
        json!({"name": "net", "cniVersion": "1.1.0", "plugins": [{"type": "a"}],
                                                "loadOnlyInlinedPlugins": only})
    };
    write("net.conflist", with(json!(false)));
    assert_eq!(types(), ["a", "b", "c"]);
    write("net.conflist", with(json!(true)));
    assert_eq!(types(), ["a"]);
    write("net.conflist", with(json!("true")));
    assert_eq!(types(), ["a"]);
    write("net.conflist", json!({"name": "net", "cniVersion": "1.1.0"}));
    assert_eq!(types(), ["b", "c"]);
    write("net.conflist", json!({"name": "net", "cniVersion": "1.1.0", "loadOnlyInlinedPlugins": true}));
    let said = Conflist::load("net", &dirs).expect_err("no plugins").to_string();
    assert_has(&said, &["net.conflist", "plugins", "has none"]);
}

#[test]
fn networks_are_found_by_name_in_lexical_order_beside_broken_ones() {
    let dir = tempfile::tempdir().expect("a directory");
    let dirs = [dir.path().to_owned()];
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("a file");
    write("30.json", r#"{"name": "a", "cniVersion": "0.3.1", "type": "three"}"#);
    write("20.conf", r#"{"name": "a", "cniVersion": "0.4.0", "type": "two"}"#);
    write("10.conflist", r#"{"name": "#);
    write("05.conf~", r#"{"name": "a", "cniVersion": "0.4.0", "type": "none"}"#);
    write("40.conflist", r#"{"name": "b", "cniVersion": "1.0.0", "plugins": [{"type": "four"}]}"#);
    let first = Conflist::load("a", &dirs).expect("a network");
    assert_eq!((first.plugin_types().next(), first.version()), (Some("two"), Version::V0_4_0));
    assert_eq!(Conflist::load("b", &dirs).expect("a network").plugin_types().next(), Some("four"));
    let found: Vec<bool> = Conflist::list(&dirs).expect("a list").iter().map(|found| found.conflist.is_ok()).collect();
    assert_eq!(found, [false, true, true, true]);
    let said = Conflist::load("c", &dirs).expect_err("no such network").to_string();
    assert_has(&said, &["no such CNI network \"c\"", &dirs[0].display().to_string(), "10.conflist"]);
}

#[test]
fn a_record_of_a_later_build_or_with_damage_is_refused_by_its_path() {
    let record = Record::begun(&list("1.0.0", &["a"]), &attachment());
    let path = std::path::Path::new("/ext/net/record");
    let bytes = record.to_bytes().expect("bytes");
    assert_eq!(Record::from_bytes(&bytes, path), Ok(record));
    let half = Record::from_bytes(&bytes[..bytes.len() / 2], path);
    assert!(matches!(half, Err(Error::Corrupt { path, .. }) if path == "/ext/net/record"));
    let later = String::from_utf8(bytes).expect("text").replace("\"format\":1", "\"format\":2");
    assert!(matches!(Record::from_bytes(later.as_bytes(), path), Err(Error::Newer { version: 2, known: 1, .. })));
}
