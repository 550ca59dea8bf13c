//! Records and exit tables of other builds: older ones are understood, later
//! ones refused by name.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::{Value, json};

use super::oci::{config, ends, pid, start, write};
use crate::bed::Bed;
use crate::leaks;

crate::tests![
    pods_of_the_build_before_go_on,
    containers_of_the_build_before_go_on,
    records_say_their_version,
    a_pod_of_a_later_build_is_refused_by_name,
    a_container_of_a_later_build_is_refused_by_name,
];

fn pods_of_the_build_before_go_on(bed: &Bed) {
    bed.former("create web").wait().ok();
    bed.former("run -d --pod web --name a --rootfs ROOT /probe trap TERM 3 , echo up , block").wait().ok();
    bed.former("run -d --pod web --name ended --rootfs ROOT /probe exit 5").wait().ok();
    bed.former("run -d --name alone --rootfs ROOT /probe block").wait().ok();
    bed.former("create dead").wait().ok();
    bed.former("run -d --pod dead --name a --rootfs ROOT /probe block").wait().ok();
    bed.kill(bed.pause_of("dead"), nix::sys::signal::Signal::SIGKILL);
    bed.until("its end", || bed.inspect("dead")["state"] == "exited");
    bed.await_log("web/a", "up");

    // Listed and looked at.
    let (pause, a) = (bed.pause_of("web"), bed.pid_of("web/a"));
    let names: Vec<_> =
        bed.list().as_array().expect("a list").iter().map(|pod| pod["name"].as_str().map(String::from)).collect();
    assert_eq!(names, ["alone", "dead", "web"].map(|name| Some(name.into())));
    assert_eq!(bed.inspect("web/ended")["exit_code"], 5);
    assert_eq!(bed.podlet("wait web/ended").ok().trim(), "5");
    assert_eq!(bed.inspect("dead/a")["exit_code"], 137);
    // Executed in, and joined by new containers: pause is the former build's.
    assert_eq!(bed.podlet("exec web/a /probe echo inside").ok(), "inside\n");
    bed.podlet("exec web/a /probe exit 7").code(7);
    bed.podlet("exec alone /probe exit 8").code(8);
    bed.podlet("run --rm --pod web --name b --rootfs ROOT /probe exit 9").code(9);
    bed.podlet("run -d --pod web --name c --rootfs ROOT /probe orphan block , block").ok();
    bed.podlet("restart -t 0 web/c").ok();
    // Stopped, started again, removed.
    bed.podlet("stop web/a").ok();
    ends(a);
    assert_eq!(bed.inspect("web/a")["exit_code"], 3);
    bed.podlet("start web/a").ok();
    bed.podlet("start web/ended").ok();
    assert_eq!(bed.podlet("wait web/ended").ok().trim(), "5");
    assert_eq!(bed.pause_of("web"), pause);
    bed.podlet("rm web/ended").ok();
    bed.podlet("start dead/a").ok();
    assert_eq!(bed.inspect("dead/a")["state"], "running");
    for pod in ["web", "alone", "dead"] {
        bed.podlet(&format!("rm -f {pod}")).ok();
    }
    bed.is_clean();
}

fn containers_of_the_build_before_go_on(bed: &Bed) {
    write(bed, &config(bed, "orphan block , block"));
    bed.former("oci run -d --bundle DIR --pid-file DIR/pid runs").wait().ok();
    let runs = pid(bed);
    bed.former("oci create --bundle DIR --pid-file DIR/pid waits").wait().ok();
    let waits = pid(bed);
    bed.former("oci run -d --bundle DIR --pid-file DIR/pid ended").wait().ok();
    bed.former("oci kill ended KILL").wait().ok();
    ends(pid(bed));
    assert_eq!(bed.oci("list -q").ok(), "ended\nruns\nwaits\n");
    for (id, status) in [("runs", "running"), ("waits", "created"), ("ended", "stopped")] {
        assert_eq!(bed.oci_state_of(id)["status"], status, "{id}");
    }
    assert_eq!(bed.oci("exec runs /probe echo inside").ok(), "inside\n");
    // Its gate, and the sealed program behind it, are the former build's.
    bed.oci("start waits").ok();
    assert_eq!(bed.oci_state_of("waits")["status"], "running");
    bed.oci("exec waits /probe exit 7").code(7);
    bed.oci("kill waits KILL").ok();
    ends(waits);
    bed.oci("delete waits").ok();
    bed.oci("delete ended").ok();
    bed.oci("delete --force runs").ok();
    ends(runs);
    bed.is_clean();
}

/// The JSON files of a state directory.
fn records(dir: &Path) -> Vec<String> {
    leaks::tree(dir).into_iter().filter(|path| path.ends_with(".json")).collect()
}

fn read(path: impl AsRef<Path>) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("a record")).expect("JSON")
}

fn records_say_their_version(bed: &Bed) {
    bed.podlet("run -d --name web --rootfs ROOT /probe block").ok();
    start(bed, "c", "block");
    let all = [records(&bed.state()), records(&bed.oci_state())].concat();
    assert_eq!(all.len(), 7, "{all:?}");
    for record in all {
        assert_eq!(read(&record)["version"], 1, "{record}");
    }
}

/// Has a record say another version.
fn set_version(path: &Path, version: u32) {
    let mut record = read(path);
    record["version"] = json!(version);
    fs::write(path, record.to_string()).expect("a record");
}

fn a_pod_of_a_later_build_is_refused_by_name(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run -d --pod web --name a --rootfs ROOT /probe block").ok();
    let (pause, a) = (bed.pause_of("web"), bed.pid_of("web/a"));
    let dir = bed.state().join("web");
    for record in ["pod.json", "pause.json", "containers/a/container.json", "table"] {
        let path = dir.join(record);
        let kept = fs::read(&path).expect("a record");
        // pause has the table mapped.
        let table = File::options().write(true).open(&path).expect("the table");
        match record {
            "table" => table.write_all_at(&77u32.to_ne_bytes(), 0).expect("its version"),
            _ => set_version(&path, 77),
        }
        let before = leaks::tree(&bed.state());
        for line in ["inspect web", "exec web/a /probe", "stop -t 0 web/a", "rm -f web/a"] {
            bed.podlet(line)
                .fails(125, &[record, "version 77", "knows no later one than 1", "use the build that made it"]);
        }
        if !record.starts_with("containers") {
            bed.podlet("stop web").fails(125, &[record, "version 77"]);
            bed.podlet("rm -f web").fails(125, &[record, "version 77"]);
        }
        assert_eq!(leaks::tree(&bed.state()), before, "something was changed");
        match record {
            "table" => table.write_all_at(&kept[..4], 0).expect("its version"),
            _ => fs::write(&path, kept).expect("a record"),
        }
        assert_eq!((bed.pause_of("web"), bed.pid_of("web/a")), (pause, a));
    }
}

fn a_container_of_a_later_build_is_refused_by_name(bed: &Bed) {
    let pid = start(bed, "c", "block");
    for record in ["record.json", "process.json"] {
        let path = bed.oci_state().join("c").join(record);
        let kept = fs::read(&path).expect("a record");
        set_version(&path, 77);
        for line in ["state c", "kill c KILL", "delete c", "delete --force c"] {
            bed.oci(line).fails(1, &[record, "version 77", "knows no later one than 1", "use the build that made it"]);
        }
        fs::write(&path, kept).expect("a record");
        assert_eq!(bed.oci_state_of("c")["pid"], pid);
    }
}
