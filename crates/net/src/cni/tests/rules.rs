//! ADD, DEL and CHECK by plugins that are scripts.

use std::fs;

use pod::Error;
use serde_json::{Value, json};

use super::fake::{Fake, NETNS, assert_has, attachment, ignore, list, parse};
use crate::cni::{Attachment, CheckReport, Conflist, Failure, Record, Stage};

// Rule 2.
#[test]
fn hiding_what_a_plugin_says_of_a_version() {
    let fake = Fake::new(&["old"]);
    fake.on(
        "old",
        "ADD",
        r#"echo '{"code": 1, "msg": "incompatible CNI versions", "details": "config is \"1.1.0\""}'; exit 1"#,
    );
    let error = fake.add(&list("1.1.0", &["old"])).expect_err("refused");
    let parts =
        ["\"old\"", "\"net\"", "ADD", "code 1", "incompatible CNI versions", "config is", "set cniVersion to 1.0.0"];
    assert_has(&error.to_string(), &parts);
    assert_eq!(Failure::of(&error).and_then(|failure| failure.code), Some(1));
}

// Rule 8.
#[test]
fn an_add_that_no_record_knows_of() {
    let fake = Fake::new(&["one"]);
    let mut stages = Vec::new();
    let mut store = |record: &Record| {
        stages.push((record.stage().clone(), fake.calls().len()));
        Ok(())
    };
    let (record, result) = fake.runtime.add(&list("1.0.0", &["one"]), &attachment(), &mut store).expect("added");
    assert!(matches!(&stages[..], [(Stage::Begun, 0), (Stage::Attached(_), 1)]), "{stages:?}");
    assert_eq!(record.result(), Some(result));
    // Nothing is done that could not be noted.
    let full = |_: &Record| Err(Error::state("disk", "is full"));
    fake.called();
    let error = fake.runtime.add(&list("1.0.0", &["one"]), &attachment(), &mut { full }).expect_err("not stored");
    assert_eq!((error, fake.called()), (Error::state("disk", "is full"), vec![]));
    // Nor does anything stay of which the result could not be noted.
    let mut late = |record: &Record| match record.stage() {
        Stage::Attached(_) => Err(Error::state("disk", "is full")),
        _ => Ok(()),
    };
    let error = fake.runtime.add(&list("1.0.0", &["one"]), &attachment(), &mut late).expect_err("not stored");
    assert_eq!(error, Error::state("disk", "is full"));
    assert_eq!(fake.called(), ["one ADD", "one DEL"]);
}

// Rule 8.
#[test]
fn a_plugin_whose_add_nobody_saw_the_end_of() {
    let fake = Fake::new(&["one", "two"]);
    let network = list("1.0.0", &["one", "two"]);
    let mut stored = Vec::new();
    let mut store = |record: &Record| {
        stored.push(record.to_bytes()?);
        Ok(())
    };
    fake.runtime.add(&network, &attachment(), &mut store).expect("added");
    fake.called();
    // Of a program that was killed while two did ADD.
    let record = Record::from_bytes(&stored[1], "/record".as_ref()).expect("a record");
    assert_eq!(record.result(), None, "it did not come to its end");
    assert!(matches!(fake.runtime.check(&record), Err(Error::State { .. })));
    fake.runtime.del(&record, &mut ignore).expect("deleted");
    let previous: Vec<Option<String>> = fake.calls().iter().map(previous_of).collect();
    assert_eq!(previous, vec![Some("one".to_owned()); 2]);
}

// Rule 8.
#[test]
fn an_unreadable_record_without_a_del() {
    let fake = Fake::new(&["one", "two"]);
    let network = list("1.0.0", &["one", "two"]);
    fake.add(&network).expect("added");
    fake.called();
    Record::from_bytes(b"", "/record".as_ref()).expect_err("unreadable");
    fake.runtime.del(&Record::begun(&network, &attachment()), &mut ignore).expect("deleted");
    let calls = fake.calls();
    assert!(calls.iter().all(|call| call.stdin.get("prevResult").is_none()), "{calls:?}");
    assert_eq!(fake.called(), ["two DEL", "one DEL"]);
}

// Rule 9.
#[test]
fn what_a_failed_add_leaves_behind() {
    let fake = Fake::new(&["one", "two", "three"]);
    let network = list("1.0.0", &["one", "two", "three"]);
    fake.on("two", "ADD", r#"echo '{"code": 999, "msg": "range is full"}'; exit 1"#);
    let mut last = None;
    let mut store = |record: &Record| {
        last = Some(record.clone());
        Ok(())
    };
    let error = fake.runtime.add(&network, &attachment(), &mut store).expect_err("full");
    assert_has(&error.to_string(), &["attaching eth0 of web", "\"two\"", "code 999", "range is full"]);
    // Two may have made something before it failed: it is told what it was told then.
    let previous: Vec<Option<String>> = fake.calls().iter().map(previous_of).collect();
    assert_eq!(previous, [None, Some("one"), Some("one"), Some("one"), Some("one")].map(|of| of.map(String::from)));
    assert_eq!(fake.called(), ["one ADD", "two ADD", "three DEL", "two DEL", "one DEL"]);
    assert!(last.is_some_and(|record| record.is_gone()));
    // What cannot be taken back stays known, and is said.
    fake.on("one", "DEL", r#"echo '{"code": 100, "msg": "busy"}'; exit 1"#);
    let mut stages = Vec::new();
    let mut store = |record: &Record| {
        stages.push(record.stage().clone());
        Ok(())
    };
    let error = fake.runtime.add(&network, &attachment(), &mut store).expect_err("full");
    assert_has(&error.to_string(), &["range is full", "\"one\"", "DEL", "busy"]);
    assert!(matches!(stages[..], [Stage::Begun, Stage::Adding(_)]), "{stages:?}");
    // A result that is wrong is a failed ADD, too.
    fake.off("one", "DEL");
    fake.on("two", "ADD", "echo '{\"ips\": [{\"address\": \"10.0.0.1/99\"}]}'; exit 0");
    fake.called();
    assert_has(&fake.add(&network).expect_err("wrong").to_string(), &["\"two\"", "wrong"]);
    assert_eq!(fake.called().len(), 5);
}

// Rule 10.
#[test]
fn del_in_the_order_of_add() {
    let fake = Fake::new(&["one", "two", "three"]);
    let record = fake.add(&list("0.4.0", &["one", "two", "three"])).expect("added");
    let previous: Vec<Option<String>> = fake.calls().iter().map(previous_of).collect();
    assert_eq!(previous, [None, Some("one".into()), Some("two".into())]);
    fake.called();
    let mut gone = false;
    let mut store = |record: &Record| {
        gone = record.is_gone();
        Ok(())
    };
    fake.runtime.del(&record, &mut store).expect("deleted");
    let previous: Vec<Option<String>> = fake.calls().iter().map(previous_of).collect();
    assert_eq!(previous, vec![Some("three".to_owned()); 3]);
    assert_eq!(fake.called(), ["three DEL", "two DEL", "one DEL"]);
    assert!(gone);
    // Before 0.4.0 DEL has no result.
    let record = fake.add(&list("0.3.1", &["one"])).expect("added");
    fake.runtime.del(&record, &mut ignore).expect("deleted");
    assert_eq!(fake.calls().last().and_then(previous_of), None);
}

fn previous_of(call: &super::fake::Call) -> Option<String> {
    call.stdin.pointer("/prevResult/dns/domain").and_then(Value::as_str).map(str::to_owned)
}

// Rule 11.
#[test]
fn a_del_with_a_path_that_leads_nowhere() {
    let fake = Fake::new(&["one"]);
    let bind = fake.path("bind");
    // As a bind is until its namespace is gone.
    std::os::unix::fs::symlink(NETNS, &bind).expect("a link");
    let attachment = Attachment::new("web", &bind, "eth0");
    let (record, _) = fake.runtime.add(&list("1.0.0", &["one"]), &attachment, &mut ignore).expect("added");
    fake.runtime.del(&record, &mut ignore).expect("deleted");
    assert_eq!(fake.calls().last().map(|call| call.netns.clone()), Some(bind.display().to_string()));
    fs::remove_file(&bind).expect("removed");
    fake.runtime.del(&record, &mut ignore).expect("deleted");
    assert_eq!(fake.calls().last().map(|call| call.netns.clone()), Some(String::new()));
    // As it is after the machine's restart.
    fs::write(&bind, "").expect("a file");
    fake.runtime.del(&record, &mut ignore).expect("deleted");
    assert_eq!(fake.calls().last().map(|call| call.netns.clone()), Some(String::new()));
    fake.called();
    // And ADD is refused there, before anything.
    let error = fake.runtime.add(&list("1.0.0", &["one"]), &attachment, &mut ignore).expect_err("no namespace");
    assert_has(&error.to_string(), &["netns", &bind.display().to_string(), "not a network namespace"]);
    assert!(fake.called().is_empty());
}

// Rule 12.
#[test]
fn a_repeated_del_that_fails() {
    let fake = Fake::new(&["one"]);
    let record = fake.add(&list("1.0.0", &["one"])).expect("added");
    let mut last = record;
    for _ in 0..3 {
        let mut next = last.clone();
        let mut store = |record: &Record| {
            next = record.clone();
            Ok(())
        };
        fake.runtime.del(&last, &mut store).expect("deleted");
        last = next;
    }
    fake.on("one", "DEL", r#"echo '{"code": 3, "msg": "unknown container"}'; exit 1"#);
    fake.runtime.del(&last, &mut ignore).expect("code 3 says that there is nothing to be done");
    assert!(!fake.path("locks/web.lock").exists());
}

// Rule 13.
#[test]
fn a_missing_plugin_that_blocks_del() {
    let fake = Fake::new(&["one", "two", "three"]);
    let record = fake.add(&list("1.0.0", &["one", "two", "three"])).expect("added");
    fs::remove_file(fake.path("bin/two")).expect("removed");
    fake.called();
    let error = fake.runtime.del(&record, &mut ignore).expect_err("missing");
    let dir = fake.path("bin").display().to_string();
    assert_has(&error.to_string(), &["\"two\"", "DEL", "no such program in", &dir, "containernetworking-plugins"]);
    assert_eq!(fake.called(), ["three DEL", "one DEL"]);
    // ADD is refused before the first plugin is executed.
    let mut stored = false;
    let mut store = |_: &Record| {
        stored = true;
        Ok(())
    };
    let error = fake.runtime.add(record.network(), &attachment(), &mut store).expect_err("missing");
    assert_has(&error.to_string(), &["\"two\"", "no such program"]);
    assert!(!stored && fake.called().is_empty());
}

// Rule 13.
#[test]
fn a_plugin_that_may_not_be_executed() {
    let mut fake = Fake::new(&["one"]);
    fs::create_dir(fake.path("first")).expect("a directory");
    fs::write(fake.path("first/one"), "").expect("a file");
    fake.runtime.plugin_dirs.insert(0, fake.path("first"));
    fake.add(&list("1.0.0", &["one"])).expect("added by the one that may");
    fs::remove_file(fake.path("bin/one")).expect("removed");
    let mut stored = false;
    let mut store = |_: &Record| {
        stored = true;
        Ok(())
    };
    let error = fake.runtime.add(&list("1.0.0", &["one"]), &attachment(), &mut store).expect_err("refused");
    assert_has(&error.to_string(), &["\"one\"", "first/one may not be executed", "chmod +x"]);
    assert!(!stored, "before anything");
}

// Rule 14.
#[test]
fn a_del_by_a_changed_configuration() {
    let fake = Fake::new(&["one", "two"]);
    fs::create_dir(fake.path("conf")).expect("a directory");
    let write = |list: Value| fs::write(fake.path("conf/a.conflist"), list.to_string()).expect("a file");
    write(json!({"name": "net", "cniVersion": "1.0.0", "plugins":
        [{"type": "one", "vlan": 1, "capabilities": {"aliases": true}}]}));
    let network = Conflist::load("net", &[fake.path("conf")]).expect("a network");
    let mut asked = attachment();
    asked.args.insert("A".into(), "b".into());
    asked.capabilities.aliases = vec!["www".into()];
    let (record, _) = fake.runtime.add(&network, &asked, &mut ignore).expect("added");
    write(json!({"name": "net", "cniVersion": "0.4.0", "plugins": [{"type": "two", "vlan": 2}]}));
    let stored = Record::from_bytes(&record.to_bytes().expect("bytes"), "/record".as_ref()).expect("a record");
    fake.runtime.check(&stored).expect("checked");
    fake.runtime.del(&stored, &mut ignore).expect("deleted");
    let calls = fake.calls();
    for call in &calls {
        assert_eq!((call.stdin["vlan"].as_i64(), call.args.as_str()), (Some(1), "IgnoreUnknown=1;A=b"));
        assert_eq!((call.netns.as_str(), &call.stdin["runtimeConfig"]), (NETNS, &json!({"aliases": ["www"]})));
    }
    assert_eq!(fake.called(), ["one ADD", "one CHECK", "one DEL"]);
}

// Rule 15.
#[test]
fn a_failed_check_that_ends_something() {
    let fake = Fake::new(&["one", "two"]);
    let record = fake.add(&list("1.0.0", &["one", "two"])).expect("added");
    fake.called();
    assert!(matches!(fake.runtime.check(&record), Ok(CheckReport::AsMade)));
    fake.on("one", "CHECK", r#"echo '{"code": 100, "msg": "address is missing"}'; exit 1"#);
    let Ok(CheckReport::Failed(report)) = fake.runtime.check(&record) else { panic!("no report") };
    assert_has(&report.to_string(), &["\"one\"", "CHECK", "address is missing"]);
    assert_eq!(fake.called(), ["one CHECK", "two CHECK", "one CHECK"]);
    let quiet =
        parse(json!({"name": "n", "cniVersion": "1.0.0", "disableCheck": "true", "plugins": [{"type": "one"}]}));
    for network in [quiet, list("0.3.1", &["one"])] {
        let record = fake.add(&network).expect("added");
        fake.called();
        assert!(matches!(fake.runtime.check(&record), Ok(CheckReport::NotAsked(_))));
        assert!(fake.called().is_empty());
    }
    let begun = Record::begun(&list("1.0.0", &["one"]), &attachment());
    assert!(matches!(fake.runtime.check(&begun), Err(Error::State { .. })));
}

// Rule 18.
#[test]
fn errors_looked_for_on_stderr() {
    let fake = Fake::new(&["one"]);
    let said = |script: &str| {
        fake.on("one", "ADD", script);
        fake.add(&list("1.0.0", &["one"])).expect_err("fails").to_string()
    };
    let text = said(r#"echo '{"code": 7, "msg": "bad", "details": "worse"}'; echo noise >&2; exit 3"#);
    assert_has(&text, &["code 7", "bad", "worse", "it wrote: noise"]);
    assert_has(&said("echo 'panic: nil map'; exit 2"), &["ended with 2", "panic: nil map"]);
    assert_has(&said("echo 'command not found' >&2; exit 127"), &["ended with 127", "command not found"]);
    assert_has(&said("exit 4"), &["ended with 4 and said nothing"]);
    assert_has(&said("kill -9 $$"), &["killed by signal 9 and said nothing"]);
}

// Rule 19.
#[test]
fn a_result_asked_of_del_and_check() {
    let fake = Fake::new(&["one"]);
    let record = fake.add(&list("1.0.0", &["one"])).expect("added");
    for script in ["exit 0", "echo 'done'; exit 0"] {
        fake.on("one", "CHECK", script);
        fake.on("one", "DEL", script);
        assert!(matches!(fake.runtime.check(&record), Ok(CheckReport::AsMade)));
        fake.runtime.del(&record, &mut ignore).expect("deleted");
    }
}

// Rule 23.
#[test]
fn a_record_that_the_restart_of_the_machine_takes() {
    let fake = Fake::new(&["one"]);
    let bind = fake.path("bind");
    std::os::unix::fs::symlink(NETNS, &bind).expect("a link");
    let mut stored = Vec::new();
    let mut store = |record: &Record| {
        stored = record.to_bytes()?;
        Ok(())
    };
    let attachment = Attachment::new("web", &bind, "eth0");
    fake.runtime.add(&list("1.0.0", &["one"]), &attachment, &mut store).expect("added");
    // Of all that was in memory nothing is left.
    fs::remove_file(&bind).expect("removed");
    fs::remove_dir_all(fake.path("locks")).expect("removed");
    let record = Record::from_bytes(&stored, "/record".as_ref()).expect("a record");
    fake.called();
    fake.runtime.del(&record, &mut ignore).expect("deleted");
    let call = fake.calls().pop().expect("a call");
    assert_eq!((call.netns.as_str(), &call.stdin["prevResult"]["ips"][0]["address"]), ("", &json!("10.1.2.3/24")));
}
