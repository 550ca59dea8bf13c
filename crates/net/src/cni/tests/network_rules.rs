//! What concerns a network as a whole, and operations at the same time.

use std::fs;
use std::io::Read;
use std::thread;

use pod::Error;
use serde_json::json;

use super::fake::{Fake, GoOn, NETNS, SHORT, assert_has, attachment, fifo, ignore, list, parse};
use crate::cni::{Attachment, Failure, Record, Runtime, StatusReport, Survey};

// Rule 3.
#[test]
fn asking_for_gc_or_status_before_1_1() {
    let fake = Fake::new(&["one", "two"]);
    let old = list("1.0.0", &["one", "two"]);
    assert!(matches!(fake.runtime.status(&old), Ok(StatusReport::NotAsked(_))));
    fake.runtime.gc(&old, &mut || Ok(Survey::default()), &mut ignore).expect("nothing to do");
    assert!(fake.called().is_empty());
    let new = list("1.1.0", &["one", "two"]);
    assert!(matches!(fake.runtime.status(&new), Ok(StatusReport::Ready)));
    fake.runtime.gc(&new, &mut || Ok(Survey::default()), &mut ignore).expect("collected");
    assert_eq!(fake.called(), ["one STATUS", "two STATUS", "one GC", "two GC"]);
    fake.on("two", "STATUS", r#"echo '{"code": 50, "msg": "no daemon"}'; exit 1"#);
    let Ok(StatusReport::NotReady(error)) = fake.runtime.status(&new) else { panic!("ready") };
    assert_has(&error.to_string(), &["\"two\"", "STATUS", "code 50", "no daemon"]);
    assert_eq!(Failure::of(&error).and_then(|failure| failure.code), Some(50));
}

// Rule 4.
#[test]
fn stale_attachments_that_gc_leaves() {
    let fake = Fake::new(&["one"]);
    let network = list("1.1.0", &["one"]);
    let quiet = parse(json!({"name": "net", "cniVersion": "1.1.0", "disableGC": true, "plugins": [{"type": "one"}]}));
    for (network, expected) in [(&network, vec!["one DEL", "one GC"]), (&quiet, vec!["one DEL"])] {
        let record_of = |id: &str, network: &_| Record::begun(network, &Attachment::new(id, NETNS, "eth0"));
        let other = parse(json!({"name": "other", "cniVersion": "1.1.0", "plugins": [{"type": "one"}]}));
        let records = vec![record_of("lives", network), record_of("dead", network), record_of("alien", &other)];
        let valid = vec![records[0].name()];
        let mut survey = || Ok(Survey { records: records.clone(), valid: valid.clone() });
        let mut gone = Vec::new();
        let mut store = |record: &Record| {
            gone.push((record.name().container_id, record.is_gone()));
            Ok(())
        };
        fake.runtime.gc(network, &mut survey, &mut store).expect("collected");
        assert_eq!(gone, [("dead".to_owned(), true)]);
        assert_eq!(fake.called(), expected);
    }
    // One that fails does not keep the others, nor GC.
    fake.on("one", "DEL", r#"[ $CNI_CONTAINERID = a ] && { echo '{"code": 100, "msg": "busy"}'; exit 1; }"#);
    let records: Vec<Record> = ["a", "b"].map(|id| Record::begun(&network, &Attachment::new(id, NETNS, "eth0"))).into();
    let mut survey = || Ok(Survey { records: records.clone(), valid: vec![] });
    let error = fake.runtime.gc(&network, &mut survey, &mut ignore).expect_err("busy");
    assert_has(&error.to_string(), &["collecting", "\"net\"", "busy"]);
    assert_eq!(fake.called(), ["one DEL", "one DEL", "one GC"]);
}

// Rule 5.
#[test]
fn one_of_two_names_for_valid_attachments() {
    let fake = Fake::new(&["one"]);
    let network = list("1.1.0", &["one"]);
    let valid = vec![Record::begun(&network, &attachment()).name()];
    let mut survey = || Ok(Survey { records: vec![], valid: valid.clone() });
    fake.runtime.gc(&network, &mut survey, &mut ignore).expect("collected");
    let told = fake.calls().pop().expect("a call").stdin;
    let expected = json!([{"containerID": "web", "ifname": "eth0"}]);
    assert_eq!((&told["cni.dev/valid-attachments"], &told["cni.dev/attachments"]), (&expected, &expected));
}

/// Lets ADD of `web` begin and stand still while `meanwhile` happens.
fn during_an_add(fake: &Fake, meanwhile: impl FnOnce(&Runtime)) {
    let (begun, go_on) = (fake.path("begun"), fake.path("go-on"));
    fifo(&begun);
    fifo(&go_on);
    let (first, second) = (begun.display(), go_on.display());
    let script = format!("[ $CNI_CONTAINERID = web ] && {{ echo x >{first}; read x <{second}; }}\n");
    fake.on("one", "ADD", &script);
    let impatient = Runtime { deadline: SHORT, del_deadline: SHORT, ..fake.runtime.clone() };
    thread::scope(|scope| {
        let adding = scope.spawn(|| fake.add(&list("1.1.0", &["one"])).expect("added"));
        fs::File::open(&begun).expect("a fifo").read_to_string(&mut String::new()).expect("it begins");
        let go_on = GoOn(go_on);
        meanwhile(&impatient);
        drop(go_on);
        adding.join().expect("it ends");
    });
}

// Rule 6.
#[test]
fn an_add_while_gc_collects() {
    let fake = Fake::new(&["one"]);
    let network = list("1.1.0", &["one"]);
    let mut asked = false;
    let mut survey = || {
        asked = true;
        Ok(Survey::default())
    };
    during_an_add(&fake, |impatient| {
        let error = impatient.gc(&network, &mut survey, &mut ignore).expect_err("not while an ADD goes on");
        assert_has(&error.to_string(), &["the end of all CNI ADD and DEL"]);
    });
    assert!(!asked);
    let impatient = Runtime { deadline: SHORT, del_deadline: SHORT, ..fake.runtime.clone() };
    let mut survey = || {
        let other = Attachment::new("other", NETNS, "eth0");
        let added = impatient.add(&network, &other, &mut ignore).expect_err("not while GC goes on");
        let deleted = impatient.del(&Record::begun(&network, &other), &mut ignore).expect_err("neither");
        for error in [added, deleted] {
            assert_has(&error.to_string(), &["the end of a CNI GC"]);
        }
        Ok(Survey::default())
    };
    fake.runtime.gc(&network, &mut survey, &mut ignore).expect("collected");
}

// Rule 25.
#[test]
fn two_operations_for_one_container() {
    let fake = Fake::new(&["one"]);
    let network = list("1.1.0", &["one"]);
    during_an_add(&fake, |impatient| {
        let second = Attachment::new("web", NETNS, "eth1");
        let error = impatient.add(&network, &second, &mut ignore).expect_err("one after the other");
        assert!(matches!(&error, Error::Deadline { what, .. } if what.contains("web")), "{error}");
        impatient.del(&Record::begun(&network, &attachment()), &mut ignore).expect_err("neither");
    });
    assert_eq!(fake.called(), ["one ADD"]);
}

// Rule 25.
#[test]
fn containers_that_wait_for_one_another() {
    let fake = Fake::new(&["one"]);
    let network = list("1.1.0", &["one"]);
    during_an_add(&fake, |impatient| {
        let other = Attachment::new("other", NETNS, "eth0");
        let (record, _) = impatient.add(&network, &other, &mut ignore).expect("at the same time");
        impatient.del(&record, &mut ignore).expect("this too");
    });
    assert_eq!(fake.called(), ["one ADD", "one ADD", "one DEL"]);
}
