use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use ipnet::IpNet;
use tempfile::TempDir;

use super::*;
use crate::config::{Peer, Way};
use crate::lease::Holder;

fn networks() -> (TempDir, Networks) {
    let dir = tempfile::tempdir().expect("a directory");
    let networks = Networks::open(&pod::Store::open(dir.path()).expect("a store"));
    (dir, networks)
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a subnet")
}

fn config(name: &str, bridge: &str, subnet: &str) -> NetworkConfig {
    NetworkConfig::new(name, bridge, [net(subnet)])
}

fn create(networks: &Networks, config: &NetworkConfig) -> Result<StoredNetwork> {
    networks.create(&networks.changing().expect("locked"), config)
}

fn remove(networks: &Networks, name: &str) -> Result<()> {
    networks.remove(&networks.changing().expect("locked"), name)
}

fn holder(pod: &str) -> Holder {
    Holder { pod: pod.into(), id: format!("id-of-{pod}") }
}

/// All there is below the directory of networks.
fn tree(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(tree(&path).iter().map(|inner| format!("{name}/{inner}")));
        }
        found.push(name);
    }
    found.sort();
    found
}

#[test]
fn a_network_is_created_found_and_removed() {
    let (dir, networks) = networks();
    let web = config("web", "podlet0", "10.89.0.0/24");
    let created = create(&networks, &web).expect("created");
    assert_eq!(networks.get("web").expect("found"), created);
    assert_eq!(created.config(), &web);
    create(&networks, &config("db", "podlet1", "10.89.1.0/24")).expect("created");
    assert_eq!(networks.names().expect("listed"), ["db", "web"]);
    assert_eq!(networks.list().expect("listed").len(), 2);
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(created.dir()), 0o700);
    assert_eq!(mode(created.hosts().path()), 0o644);

    let leases = created.leases();
    assert_eq!(leases.take(&[], &holder("a")).expect("taken"), ["10.89.0.2".parse::<IpAddr>().expect("an address")]);
    let error = remove(&networks, "web").expect_err("used").to_string();
    assert_eq!(error, "network web is used by pod a: remove them first");
    assert_eq!(networks.get("web").expect("still there"), created);
    leases.give_back("id-of-a").expect("given back");
    remove(&networks, "web").expect("removed");
    assert_eq!(remove(&networks, "web"), Err(Error::NotFound("network web".into())));
    remove(&networks, "db").expect("removed");
    assert_eq!(tree(dir.path()), [".networks", ".networks/.lock"]);
}

#[test]
fn a_network_that_meets_another_is_refused_and_leaves_nothing() {
    let (dir, networks) = networks();
    let peer =
        Peer { via: "192.0.2.2".parse().expect("an address"), subnets: vec![net("10.90.0.0/16")], way: Way::Underlay };
    let mut web = config("web", "podlet0", "10.89.0.0/24");
    web.peers.push(peer);
    create(&networks, &web).expect("created");
    let before = tree(dir.path());
    for (config, expected) in [
        (config("web", "podlet1", "10.80.0.0/24"), "network web exists already"),
        (config("db", "podlet0", "10.80.0.0/24"), "bridge \"podlet0\": network web has it"),
        (config("db", "podlet1", "10.88.0.0/13"), "subnet \"10.88.0.0/13\": overlaps 10.89.0.0/24 of network web"),
        (config("db", "podlet1", "10.90.7.0/24"), "overlaps 10.90.0.0/16 of network web"),
        (config("host", "podlet1", "10.80.0.0/24"), "network name \"host\""),
        (config("db", "podlet1", "10.80.0.0/31"), "subnet \"10.80.0.0/31\""),
        (NetworkConfig { version: 7, ..config("db", "podlet1", "10.80.0.0/24") }, "version \"7\""),
    ] {
        let error = create(&networks, &config).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(tree(dir.path()), before);
    }
    for name in ["none", "../web", ""] {
        assert!(matches!(networks.get(name), Err(Error::Invalid { .. })));
    }
}

#[test]
fn half_made_networks_count_as_not_there_and_are_swept() {
    let (dir, networks) = networks();
    create(&networks, &config("web", "podlet0", "10.89.0.0/24")).expect("created");
    let half = |name: &str| {
        let half = dir.path().join(".networks").join(name);
        fs::create_dir_all(half.join("leases")).expect("made");
        for file in ["hosts", ".hosts.lock", ".newABC", "leases/.lock", "leases/.next4", "leases/10.0.0.9"] {
            fs::write(half.join(file), r#"{"pod":"a","id":"b"}"#).expect("written");
        }
    };
    half("half");
    let before = tree(dir.path());
    let using = networks.using().expect("locked");
    assert_eq!(networks.list().expect("listed").len(), 1);
    assert_eq!(tree(dir.path()), before, "somebody may be making it");
    drop(using);
    assert!(matches!(networks.get("half"), Err(Error::NotFound(_))));
    // A program that another test is starting has the lock until execve.
    while dir.path().join(".networks/half").exists() {
        assert_eq!(networks.list().expect("listed").len(), 1);
    }
    half("half");
    create(&networks, &config("half", "podlet1", "10.80.0.0/24")).expect("created");
    let leases = networks.get("half").expect("found").leases();
    assert_eq!(leases.holders().expect("read"), []);
}

#[test]
fn what_others_put_there_stays() {
    let (dir, networks) = networks();
    let there = dir.path().join(".networks");
    let web = create(&networks, &config("web", "podlet0", "10.89.0.0/24")).expect("created");
    fs::write(there.join("README"), "").expect("written");
    fs::create_dir(there.join("not a name")).expect("made");
    fs::write(web.dir().join("notes"), "").expect("written");
    remove(&networks, "web").expect("removed");
    assert_eq!(networks.list().expect("listed"), []);
    assert_eq!(tree(&there), [".lock", "README", "not a name", "web", "web/notes"]);
    create(&networks, &config("web", "podlet0", "10.89.0.0/24")).expect("created anew");
    assert!(there.join("web/notes").exists());
}

#[test]
fn records_that_cannot_be_read_say_why_and_can_be_removed() {
    let (_dir, networks) = networks();
    let web = create(&networks, &config("web", "podlet0", "10.89.0.0/24")).expect("created");
    let record = web.dir().join("network.json");
    let good = fs::read_to_string(&record).expect("read");
    for (text, expected) in [
        (String::new(), "EOF"),
        (good.replace("\"internal\": false", "\"internal\": \"no\""), "network.json: internal: invalid type"),
        (good.replace("10.89.0.0/24", "10.89.0.0/33"), "subnets[0]: "),
        (good.replace("\"mtu\"", "\"MTU\""), "unknown field `MTU`"),
        (good.replace("\"web\"", "\"db\""), "name: says \"db\", and its directory \"web\""),
        (good.replace("10.89.0.0/24", "127.0.0.0/24"), "subnet \"127.0.0.0/24\": 127.0.0.0/8 is loopback"),
    ] {
        fs::write(&record, text).expect("written");
        let error = networks.get("web").expect_err(expected);
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(networks.list().expect("the others").is_empty(), "it does not keep others from being used");
    }
    fs::write(&record, good.replace("\"version\": 1", "\"colour\": 3, \"version\": 2")).expect("written");
    assert!(matches!(networks.get("web"), Err(Error::Newer { version: 2, known: 1, .. })));
    assert!(matches!(remove(&networks, "web"), Err(Error::Newer { .. })), "it may have what this build does not know");
    fs::write(&record, "garbage").expect("written");
    web.leases().take(&[], &holder("a")).expect("taken");
    assert!(matches!(remove(&networks, "web"), Err(Error::State { .. })), "also then it is used");
    web.leases().give_back("id-of-a").expect("given back");
    remove(&networks, "web").expect("removed");
    assert!(!web.dir().exists());
}
