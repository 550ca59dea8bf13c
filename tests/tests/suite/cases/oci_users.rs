//! Containers in a user namespace that root makes for them: what only a process
//! outside of it can make.

use std::fs;

use serde_json::{Value, json};

use super::oci::{config, list, write};
use super::oci_namespaces::open_to_all;
use crate::bed::Bed;
use crate::modes::Mode;

crate::tests![devices_belong_to_the_user_namespace, many_mounts_in_a_user_namespace];

/// Root's, in a user namespace of its own.
fn mapped(bed: &Bed, script: &str) -> Value {
    let mut config = config(bed, script);
    let map = json!([{ "containerID": 0, "hostID": 200_000, "size": 1000 }]);
    list(&mut config["linux"]["namespaces"]).push(json!({ "type": "user" }));
    (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (map.clone(), map);
    open_to_all(bed);
    config
}

fn devices_belong_to_the_user_namespace(bed: &Bed) {
    if bed.mode != Mode::Root {
        return;
    }
    let mut config = mapped(bed, "stat /dev/a , stat /dev/deep/b , stat /dev/c , stat /dev/p , write /dev/a x");
    let device = |path: &str, kind: &str, minor: u32| json!({ "path": path, "type": kind, "major": 1, "minor": minor });
    let mut devices = json!([
        device("/dev/a", "c", 3),
        // Which no machine has.
        device("/dev/deep/b", "b", 200),
        device("/dev/c", "c", 5),
        { "path": "/dev/p", "type": "p", "fileMode": 0o600 },
    ]);
    (devices[1]["uid"], devices[1]["gid"], devices[1]["fileMode"]) = (json!(7), json!(5), json!(0o640));
    (devices[2]["gid"], devices[2]["fileMode"]) = (json!(9), json!(0o606));
    config["linux"]["devices"] = devices;
    write(bed, &config);
    let said = bed.oci("run --bundle DIR c").ok();
    for words in [
        "stat /dev/a: char 666 0:0 1:3 ",
        "stat /dev/deep/b: other 640 7:5 1:200 ",
        "stat /dev/c: char 606 0:9 1:5 ",
        "stat /dev/p: other 600 0:0 ",
        "write /dev/a: ok",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    for id in ["uid", "gid"] {
        config["linux"]["devices"][1][id] = json!(1000);
        write(bed, &config);
        bed.oci("run --bundle DIR c").fails(1, &["/dev/deep/b", id, "1000", "not mapped"]);
        config["linux"]["devices"][1][id] = json!(0);
    }
    bed.is_clean();
}

fn many_mounts_in_a_user_namespace(bed: &Bed) {
    if bed.mode != Mode::Root {
        return;
    }
    fs::write(bed.dir.join("file"), "content").expect("a file");
    let mut config = mapped(bed, "mounts , read /dev/149");
    for i in 0..150 {
        let (target, source) = (format!("/dev/{i}"), bed.dir.join("file"));
        let bind = json!({ "destination": target, "type": "bind", "source": source, "options": ["bind", "ro"] });
        list(&mut config["mounts"]).push(bind);
    }
    write(bed, &config);
    let said = bed.oci("run --bundle DIR c").ok();
    assert_eq!(said.lines().filter(|line| line.contains("/file /dev/")).count(), 150, "{said}");
    assert!(said.ends_with("content") || said.contains("content\n"), "{said}");
    bed.is_clean();
}
