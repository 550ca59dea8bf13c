//! Plugins that note how they were called.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::mount::{MntFlags, umount2};
use pod::Pod;
use serde_json::{Value, json};

use super::{Bed, binds, die, in_a_machine, options};
use crate::NetworkOptions;
use crate::check::Verdict;
use crate::cni::CheckReport;

/// The namespace's file system, how many records there are, and what was said; an
/// address that says which call it was.
const SCRIPT: &str = r#"#!/bin/sh
d=/run/bed
me=${0##*/}
read=$(cat)
kind=none
[ -n "$CNI_NETNS" ] && kind=$(stat -f -c %T "$CNI_NETNS")
records=$(ls $d/records | wc -l)
printf '%s\n' "$me $CNI_COMMAND $CNI_IFNAME|$kind|$records|$CNI_NETNS|$read" >>$d/calls
[ -e $d/$me.$CNI_COMMAND ] && . $d/$me.$CNI_COMMAND
[ $CNI_COMMAND = ADD ] && echo x >>$d/adds
nth=$(cat $d/adds | wc -l)
[ $CNI_COMMAND = ADD ] && printf '{"interfaces": [{"name": "br9"}, {"name": "veth9"},
  {"name": "%s", "mac": "0a:00:00:00:00:01", "sandbox": "%s"}],
  "ips": [{"interface": 2, "address": "10.7.0.%s/24", "gateway": "10.7.0.1"}],
  "dns": {"nameservers": ["10.7.0.53"], "search": ["%s.example"]}}' $CNI_IFNAME $CNI_NETNS $nth $me
exit 0
"#;

/// How a plugin was called.
#[derive(Debug, Clone)]
struct Call {
    /// Such as `one ADD eth0`.
    what: String,
    kind: String,
    records: String,
    netns: String,
    stdin: Value,
}

/// A machine with these plugins, each of which alone makes the network of its name.
fn with_plugins(plugins: &[&str], act: impl FnOnce(&Bed) + Send) {
    in_a_machine(&[], |bed| {
        for plugin in plugins {
            let path = bed.dir.join("bin").join(plugin);
            fs::write(&path, SCRIPT).expect("a program");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
            let capabilities = json!({"portMappings": true, "ips": true, "mac": true, "aliases": true, "dns": true});
            bed.network(
                plugin,
                "1.1.0",
                json!([{"type": plugin, "capabilities": capabilities, "subnet": "10.7.0.0/24"}]),
            );
        }
        act(bed);
    });
}

fn calls(bed: &Bed) -> Vec<Call> {
    let text = fs::read_to_string(bed.dir.join("calls")).unwrap_or_default();
    fs::remove_file(bed.dir.join("calls")).unwrap_or_default();
    let call = |line: &str| {
        let mut parts = line.splitn(5, '|').map(str::to_owned);
        let mut next = || parts.next().expect("five parts");
        let (what, kind, records, netns) = (next(), next(), next(), next());
        Call { what, kind, records, netns, stdin: serde_json::from_str(&next()).expect("JSON") }
    };
    text.lines().map(call).collect()
}

fn called(bed: &Bed) -> Vec<String> {
    calls(bed).into_iter().map(|call| call.what).collect()
}

/// What a plugin does for a command before what it does else.
fn on(bed: &Bed, plugin: &str, command: &str, script: &str) {
    fs::write(bed.dir.join(format!("{plugin}.{command}")), script).expect("a script");
}

#[test]
fn networks_are_joined_in_their_order_and_left_in_reverse_while_there_is_a_namespace() {
    with_plugins(&["one", "two"], |bed| {
        let pod = bed.pod("web");
        let attachment = bed.attach(&pod, &["cni:one", "cni:two"], &[]).expect("attached");
        let path = bed.store.root().join("web/ext/net/netns").display().to_string();
        let added = calls(bed);
        let expected = [("one ADD eth0", "1"), ("two ADD eth1", "2")];
        for (call, (what, records)) in added.iter().zip(expected) {
            assert_eq!((call.what.as_str(), call.kind.as_str(), call.netns.as_str()), (what, "nsfs", path.as_str()));
            assert_eq!(call.records, records, "recorded before");
        }
        assert_eq!((added.len(), binds()), (2, 1), "one bind for all");
        let [one, two] = &attachment.networks[..] else { panic!("two networks: {attachment:?}") };
        assert_eq!((one.addresses.len(), two.addresses.len()), (1, 1));
        assert_eq!((one.host_interface.as_str(), one.mac.as_str()), ("veth9", "0a:00:00:00:00:01"));
        assert_eq!(bed.attachment("web"), attachment, "it is recorded");
        pod.remove().expect("removed");
        let deleted = calls(bed);
        assert_eq!(deleted.iter().map(|call| call.what.as_str()).collect::<Vec<_>>(), ["two DEL eth1", "one DEL eth0"]);
        assert!(deleted.iter().all(|call| call.kind == "nsfs" && call.netns == path), "{deleted:?}");
        assert!(deleted.iter().all(|call| call.stdin.get("prevResult").is_some()), "with the result");
        assert_eq!(bed.told(), [""; 0]);
        bed.is_clean();
    });
}

#[test]
fn a_pod_that_is_stopped_leaves_and_one_that_is_started_joins_anew() {
    with_plugins(&["one"], |bed| {
        let mut pod = bed.pod("web");
        bed.attach(&pod, &["cni:one"], &["8080:80"]).expect("attached");
        assert_eq!(called(bed), ["one ADD eth0"]);
        pod.kill().expect("stopped");
        assert_eq!(called(bed), ["one DEL eth0"]);
        bed.is_clean();
        assert_eq!(bed.attachment("web").addresses().count(), 0);
        assert!(!bed.file("web", "/etc/hosts").lines().any(|line| line.starts_with("10.7")));
        pod.start().expect("started");
        let added = calls(bed);
        assert_eq!((added.len(), added[0].what.as_str(), added[0].kind.as_str()), (1, "one ADD eth0", "nsfs"));
        let port = &added[0].stdin["runtimeConfig"]["portMappings"][0];
        assert_eq!(
            (&port["hostPort"], &port["containerPort"], &port["protocol"]),
            (&json!(8080), &json!(80), &json!("tcp"))
        );
        assert_eq!(bed.attachment("web").addresses().count(), 1);
        pod.remove().expect("removed");
        bed.is_clean();
    });
}

#[test]
fn a_pod_that_ended_by_itself_is_left_while_its_path_keeps_the_namespace() {
    with_plugins(&["one"], |bed| {
        let mut pod = bed.pod("web");
        bed.attach(&pod, &["cni:one"], &[]).expect("attached");
        die(bed, "web");
        assert_eq!((called(bed), binds()), (vec!["one ADD eth0".into()], 1));
        pod.start().expect("started");
        let begun = calls(bed);
        assert_eq!(begun.iter().map(|call| call.what.as_str()).collect::<Vec<_>>(), ["one DEL eth0", "one ADD eth0"]);
        assert!(begun.iter().all(|call| call.kind == "nsfs"), "{begun:?}");
        die(bed, "web");
        pod.remove().expect("removed");
        let deleted = calls(bed);
        assert_eq!((deleted.len(), deleted[0].what.as_str(), deleted[0].kind.as_str()), (1, "one DEL eth0", "nsfs"));
        bed.is_clean();
    });
}

#[test]
fn an_own_network_beside_is_joined_anew_though_the_path_kept_the_link() {
    with_plugins(&["one"], |bed| {
        let _ = bed.networks.create_network(&NetworkOptions::new("own")).expect("a network");
        let mut pod = bed.pod("web");
        let before = bed.attach(&pod, &["cni:one", "own"], &[]).expect("attached");
        assert_eq!(before.networks[1].interface, "eth1");
        die(bed, "web");
        pod.start().expect("started");
        assert_eq!(bed.attachment("web").networks[1], before.networks[1], "what is its own it still has");
        let found = bed.networks.check(&pod).expect("looked at");
        assert!(found.iter().all(|finding| finding.verdict != Verdict::Stops), "{found:?}");
        pod.remove().expect("removed");
        bed.is_clean();
    });
}

#[test]
fn a_missing_plugin_does_not_keep_a_pod_and_is_tried_again() {
    with_plugins(&["one", "two"], |bed| {
        let pod = bed.pod("web");
        bed.attach(&pod, &["cni:one", "cni:two"], &["8080:80"]).expect("attached");
        calls(bed);
        let (program, away) = (bed.dir.join("bin/one"), bed.dir.join("one.away"));
        fs::rename(&program, &away).expect("moved");
        pod.remove().expect("removed nevertheless");
        assert_eq!(called(bed), ["two DEL eth1"], "the others are told");
        let told = bed.told();
        assert!(told.len() == 1 && told[0].contains("pod web") && told[0].contains("\"one\""), "{told:?}");
        assert_eq!((bed.records(), binds()), (1, 0));
        let notes = bed.networks.collect_cni().expect("collected").0;
        assert!(notes.len() == 1 && notes[0].contains("no such program"), "{notes:?}");
        assert!(notes[0].contains("unless you remove its record from /run/bed/records"), "{notes:?}");
        fs::rename(&away, &program).expect("moved back");
        let notes = bed.networks.collect_cni().expect("collected").0;
        assert_eq!(notes, ["pod web is gone, and has been taken out of CNI network one"]);
        let collected = calls(bed);
        assert_eq!(collected.iter().map(|call| call.what.as_str()).collect::<Vec<_>>(), ["one DEL eth0", "one GC "]);
        assert_eq!((collected[0].kind.as_str(), collected[0].netns.as_str()), ("none", ""), "its namespace is gone");
        bed.is_clean();
    });
}

#[test]
fn a_plugin_that_fails_at_the_second_network_leaves_nothing_of_the_first() {
    with_plugins(&["one", "two"], |bed| {
        on(bed, "two", "ADD", "printf '{\"code\": 100, \"msg\": \"no more addresses\"}'; exit 1");
        let pod = bed.pod("web");
        let error = bed.attach(&pod, &["cni:one", "cni:two"], &["8080:80"]).expect_err("refused").to_string();
        assert!(error.contains("no more addresses") && error.contains("\"two\""), "{error}");
        assert_eq!(called(bed), ["one ADD eth0", "two ADD eth1", "two DEL eth1", "one DEL eth0"]);
        assert_eq!(bed.networks.attachment("web").expect("read"), None);
        bed.is_clean();
        pod.remove().expect("removed");
        assert_eq!(called(bed), [""; 0]);
    });
}

#[test]
fn ports_are_one_pods_before_any_plugin_is_executed() {
    with_plugins(&["one", "two"], |bed| {
        let (web, db) = (bed.pod("web"), bed.pod("db"));
        bed.attach(&web, &["cni:one"], &["8080:80"]).expect("attached");
        calls(bed);
        let error = bed.attach(&db, &["cni:two"], &["8080:80"]).expect_err("taken").to_string();
        assert!(error.contains("8080") && error.contains("web"), "{error}");
        assert_eq!(called(bed), [""; 0]);
        let error = bed.networks.add_ports(&web, &options(&[], &["81:81"]).ports).expect_err("not later").to_string();
        assert!(error.contains("cni:one"), "{error}");
        // One that is dead keeps none, once its plugin has let go of it.
        die(bed, "web");
        bed.attach(&db, &["cni:two"], &["8080:80"]).expect("free now");
        assert_eq!(called(bed), ["one DEL eth0", "two ADD eth0"]);
        for pod in [web, db] {
            pod.remove().expect("removed");
        }
        bed.is_clean();
    });
}

#[test]
fn what_no_plugin_declares_is_refused_before_anything_is_made() {
    with_plugins(&["one"], |bed| {
        bed.network("bare", "1.0.0", json!([{"type": "one"}]));
        bed.network("lost", "1.0.0", json!([{"type": "nowhere"}]));
        let pod = bed.pod("web");
        let refused = |options| bed.attach_by(&pod, &options).expect_err("refused").to_string();
        let error = refused(options(&["cni:bare"], &["80"]));
        assert!(error.contains("portMappings") && error.contains("bare"), "{error}");
        let mut ip = options(&["cni:bare"], &[]);
        ip.networks[0].addresses = vec!["10.7.0.9".parse().expect("an address")];
        assert!(refused(ip).contains("capability ips"));
        let mut mac = options(&["cni:bare"], &[]);
        mac.networks[0].mac = Some([2, 0, 0, 0, 0, 9]);
        assert!(refused(mac).contains("capability mac"));
        assert!(refused(options(&["cni:one", "cni:lost"], &[])).contains("no such program"));
        assert!(refused(options(&["cni:none"], &[])).contains("CNI network \"none\" in /run/bed/net.d"));
        assert!(refused(options(&["cni:a/b"], &[])).contains("name of a CNI network \"a/b\""));
        assert_eq!((called(bed), bed.networks.attachment("web").expect("read")), (vec![], None));
        pod.remove().expect("removed");
        bed.is_clean();
    });
}

#[test]
fn plugins_are_told_what_was_asked_and_the_pods_files_what_they_answer() {
    with_plugins(&["one"], |bed| {
        let pod = bed.pod("web");
        let mut options = options(&["cni:one"], &[]);
        options.networks[0].addresses = vec!["10.7.0.9".parse().expect("an address")];
        options.networks[0].mac = Some([2, 0, 0, 0, 0, 9]);
        options.networks[0].aliases = vec!["www".into()];
        options.resolver.options = vec!["ndots:3".into()];
        bed.attach_by(&pod, &options).expect("attached");
        let told = calls(bed).remove(0).stdin["runtimeConfig"].clone();
        assert_eq!(told["ips"], json!(["10.7.0.9/24"]), "with the subnet's length");
        assert_eq!((&told["mac"], &told["aliases"]), (&json!("02:00:00:00:00:09"), &json!(["www"])));
        assert_eq!(told["dns"], json!({"options": ["ndots:3"]}));
        assert_eq!(bed.file("web", "/etc/resolv.conf"), "search one.example\nnameserver 10.7.0.53\noptions ndots:3\n");
        let mate = bed.pod("db");
        bed.attach(&mate, &["cni:one"], &[]).expect("attached");
        for pod in ["web", "db"] {
            let hosts = bed.file(pod, "/etc/hosts");
            assert!(hosts.contains("10.7.0.1\tweb www") && hosts.contains("10.7.0.2\tdb"), "{hosts}");
        }
        for pod in [pod, mate] {
            pod.remove().expect("removed");
        }
        bed.networks.prune().expect("pruned");
        assert!(!bed.store.root().join(".networks").exists(), "nor names");
        bed.is_clean();
    });
}

#[test]
fn leases_that_survive_the_restart_of_the_machine_are_found_by_records_that_do() {
    with_plugins(&["one"], |bed| {
        let (gone, alive) = (bed.pod("gone"), bed.pod("alive"));
        for pod in [&gone, &alive] {
            bed.attach(pod, &["cni:one"], &[]).expect("attached");
        }
        calls(bed);
        // What was in memory is not there any more.
        die(bed, "gone");
        let dir = bed.store.root().join("gone");
        umount2(&dir.join("ext/net/netns"), MntFlags::MNT_DETACH).expect("unmounted");
        fs::remove_dir_all(&dir).expect("removed");
        assert_eq!(bed.networks.collect_cni().expect("collected").0.len(), 1, "the one that is gone");
        let collected = calls(bed);
        assert_eq!(collected.iter().map(|call| call.what.as_str()).collect::<Vec<_>>(), ["one DEL eth0", "one GC "]);
        let valid = json!([{"containerID": alive.id(), "ifname": "eth0"}]);
        assert_eq!(collected[1].stdin["cni.dev/valid-attachments"], valid, "the living one stays");
        assert_eq!(bed.records(), 1);
        alive.remove().expect("removed");
        drop(gone);
        bed.is_clean();
        // Nor what a program left that was killed as it wrote a record.
        fs::create_dir_all(bed.dir.join("records")).expect("a directory");
        fs::write(bed.dir.join("records/.newhalf"), "{").expect("a file");
        assert_eq!(bed.networks.collect_cni().expect("collected").0, [""; 0]);
        assert!(!bed.dir.join("records").exists(), "nor locks");
    });
}

#[test]
fn an_unreadable_record_is_no_reason_for_no_del() {
    with_plugins(&["one"], |bed| {
        let pod = bed.pod("web");
        bed.attach(&pod, &["cni:one"], &[]).expect("attached");
        calls(bed);
        let record = bed.dir.join(format!("records/one@{}@eth0", pod.id()));
        fs::write(record, "{").expect("damaged");
        pod.remove().expect("removed");
        let deleted = calls(bed);
        assert_eq!((deleted.len(), deleted[0].what.as_str()), (1, "one DEL eth0"));
        assert_eq!(deleted[0].stdin.get("prevResult"), None);
        bed.is_clean();
    });
}

#[test]
fn a_pod_whose_own_record_is_damaged_is_left_by_its_name() {
    with_plugins(&["one"], |bed| {
        let pod = bed.pod("web");
        bed.attach(&pod, &["cni:one"], &[]).expect("attached");
        calls(bed);
        die(bed, "web");
        fs::write(bed.store.root().join("web/pod.json"), "{").expect("damaged");
        drop(pod);
        Pod::remove_damaged(&bed.store, "web").expect("removed");
        assert_eq!(called(bed), ["one DEL eth0"]);
        assert!(!Path::new("/run/bed/store/web").exists());
        bed.is_clean();
    });
}

#[test]
fn checks_are_reports_for_each_network() {
    with_plugins(&["one", "two"], |bed| {
        let pod = bed.pod("web");
        bed.attach(&pod, &["cni:one", "cni:two"], &[]).expect("attached");
        on(bed, "two", "CHECK", "printf '{\"code\": 100, \"msg\": \"no route\"}'; exit 1");
        let reports = bed.networks.check_cni(&pod).expect("asked");
        let [(one, CheckReport::AsMade), (two, CheckReport::Failed(error))] = &reports[..] else {
            panic!("one as made, two not: {reports:?}")
        };
        assert_eq!((one.as_str(), two.as_str()), ("cni:one", "cni:two"));
        assert!(error.to_string().contains("no route"), "{error}");
        let found: Vec<_> = bed.networks.check(&pod).expect("looked at").iter().map(ToString::to_string).collect();
        let [good, stops] = &found[..] else { panic!("one each: {found:?}") };
        assert!(good.contains("ok") && good.contains("cni:one") && stops.contains("STOPS"), "{found:?}");
        pod.kill().expect("stopped");
        let reports = bed.networks.check_cni(&pod).expect("asked");
        assert!(reports.iter().all(|(_, report)| matches!(report, CheckReport::NotAsked(_))), "{reports:?}");
        pod.remove().expect("removed");
    });
}

#[test]
fn networks_are_listed_with_their_pods_and_with_what_is_none() {
    with_plugins(&["one", "two"], |bed| {
        fs::write(bed.dir.join("net.d/wrong.conf"), "{").expect("a file");
        let pod = bed.pod("web");
        bed.attach(&pod, &["cni:two"], &[]).expect("attached");
        let (networks, notes) = bed.networks.cni_networks().expect("listed");
        let shown: Vec<_> =
            networks.iter().map(|net| (net.name.as_str(), net.plugins.join("+"), net.pods.join(" "))).collect();
        assert_eq!(shown, [("cni:one", "one".to_owned(), String::new()), ("cni:two", "two".into(), "web".into())]);
        assert!(notes.0.len() == 1 && notes.0[0].contains("wrong.conf"), "{notes:?}");
        pod.remove().expect("removed");
    });
}
