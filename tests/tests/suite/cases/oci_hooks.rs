//! Hooks of a bundle: when they run, what they see, and what follows if one
//! fails (runtime-spec 1.3, Lifecycle and POSIX-platform Hooks).

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::oci::{config, pid, write};
use crate::bed::Bed;
use crate::leaks;

crate::tests![
    all_hooks_in_their_order,
    what_a_hook_sees,
    a_hook_without_an_environment_has_another_ones,
    hooks_that_fail_before_the_container_is_created,
    hooks_that_fail_at_the_start,
    hooks_that_fail_at_the_end,
    hooks_that_hang,
    delete_force_ends_a_hook_that_hangs,
];

/// A hook of the machine's shell; `DIR` is the test's directory.
pub fn sh(bed: &Bed, script: &str) -> Value {
    let script = script.replace("DIR", &bed.dir.display().to_string());
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin", "A=b c"] })
}

/// One of the container's probe.
pub fn probe(words: &str) -> Value {
    json!({ "path": "/probe", "args": words.split(' ').collect::<Vec<_>>(), "env": ["A=b c"] })
}

fn read(bed: &Bed, name: &str) -> String {
    fs::read_to_string(bed.dir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn all_hooks_in_their_order(bed: &Bed) {
    let mut config = config(bed, "wait-file /go , exit 0");
    let note = |name: &str| {
        sh(bed, &format!("echo {name} >>DIR/order; test -e DIR/rootfs/started && echo late >>DIR/order; :"))
    };
    config["hooks"] = json!({
        "prestart": [note("prestart-1"), note("prestart-2")],
        "createRuntime": [note("createRuntime-1"), note("createRuntime-2")],
        "createContainer": [note("createContainer-1"), note("createContainer-2")],
        "startContainer": [probe("hook write /started x")],
        "poststart": [note("poststart-1"), note("poststart-2")],
        "poststop": [note("poststop-1"), note("poststop-2")],
    });
    write(bed, &config);
    let twice = |name: &str, after: &str| format!("{name}-1\n{after}{name}-2\n{after}");
    let created = ["prestart", "createRuntime", "createContainer"].map(|name| twice(name, "")).concat();
    bed.oci_detached("create --bundle DIR c").ok();
    assert_eq!(read(bed, "order"), created);
    assert!(!bed.inside("started").exists());
    bed.oci("start c").ok();
    let started = created.clone() + &twice("poststart", "late\n");
    assert_eq!(read(bed, "order"), started);
    bed.oci("delete --force c").ok();
    assert_eq!(read(bed, "order"), started + &twice("poststop", "late\n"));
    // Created and started in one, by `run`.
    fs::remove_file(bed.dir.join("order")).expect("the notes");
    fs::remove_file(bed.inside("started")).expect("the mark");
    fs::write(bed.inside("go"), "").expect("a file");
    bed.oci("run --bundle DIR c").ok();
    assert_eq!(read(bed, "order"), created + &twice("poststart", "late\n") + &twice("poststop", "late\n"));
    bed.is_clean();
}

fn what_a_hook_sees(bed: &Bed) {
    let mut config = config(bed, "block");
    let look = |name: &str| {
        let files = "cat >DIR/NAME.state; pwd >DIR/NAME.cwd; env >DIR/NAME.env; echo \"$0\" >DIR/NAME.name; \
                     readlink /proc/self/ns/mnt /proc/self/ns/net >DIR/NAME.ns; ls /proc/self/fd >DIR/NAME.fds";
        sh(bed, &files.replace("NAME", name))
    };
    config["hooks"] = json!({
        "prestart": [look("prestart")], "createRuntime": [look("createRuntime")],
        "createContainer": [look("createContainer")], "startContainer": [probe("hook save-stdin /state , save-env /env")],
        "poststart": [look("poststart")], "poststop": [look("poststop")],
    });
    write(bed, &config);
    bed.oci_detached("create --bundle DIR --pid-file DIR/pid c").ok();
    bed.oci("start c").ok();
    let pid = pid(bed);
    let link = |kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace").display().to_string();
    let (mounts, net) = (link("mnt"), link("net"));
    bed.oci("delete --force c").ok();
    let bundle = bed.dir.display().to_string();
    for (name, status, seen_pid) in [
        ("prestart", "creating", pid),
        ("createRuntime", "creating", pid),
        ("createContainer", "creating", 1),
        ("startContainer", "created", 1),
        ("poststart", "running", pid),
        ("poststop", "stopped", 0),
    ] {
        let inside = name == "startContainer";
        let text = if inside {
            fs::read_to_string(bed.inside("state")).expect("a state")
        } else {
            read(bed, &format!("{name}.state"))
        };
        let state: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error} in {text:?}"));
        let wanted = json!({
            "ociVersion": "1.3.0", "id": "c", "status": status, "pid": seen_pid, "bundle": bundle,
            "annotations": { "org.example.key": "value" },
        });
        assert_eq!(state, wanted, "{name}");
        if inside {
            assert_eq!(fs::read_to_string(bed.inside("env")).expect("an environment"), "A=b c\n");
            continue;
        }
        let env = read(bed, &format!("{name}.env"));
        let mut own: Vec<_> = env
            .lines()
            .filter(|line| !["PWD=", "SHLVL=", "_=", "OLDPWD="].iter().any(|own| line.starts_with(own)))
            .collect();
        own.sort_unstable();
        assert_eq!(own, ["A=b c", "PATH=/bin:/usr/bin"], "{name}");
        assert_eq!(read(bed, &format!("{name}.name")), "sh\n");
        // 3 is what ls itself has open.
        assert_eq!(read(bed, &format!("{name}.fds")), "0\n1\n2\n3\n", "{name}");
        let namespaces = read(bed, &format!("{name}.ns"));
        let is_inside = name == "createContainer";
        assert_eq!(namespaces == format!("{mounts}\n{net}\n"), is_inside, "{name}: {namespaces}");
        let cwd = PathBuf::from(read(bed, &format!("{name}.cwd")).trim());
        assert_eq!(cwd, if is_inside { bed.rootfs() } else { bed.dir.clone() }, "{name}");
    }
}

/// The runtime's, or the container's inside of that.
fn a_hook_without_an_environment_has_another_ones(bed: &Bed) {
    let mut config = config(bed, "exit 0");
    let look = |name: &str| {
        let mut hook = sh(bed, &format!("/usr/bin/env >DIR/{name}"));
        hook.as_object_mut().expect("a hook").remove("env");
        hook
    };
    config["process"]["env"] = json!(["PATH=/bin", "OF=the container"]);
    config["process"]["cwd"] = json!("/srv");
    config["hooks"] = json!({
        "createRuntime": [look("createRuntime")], "createContainer": [look("createContainer")],
        "startContainer": [{ "path": "/probe", "args": ["hook", "save-env", "/env", ",", "write", "here", "x"] }],
        "poststop": [look("poststop")],
    });
    write(bed, &config);
    let mut command = bed.oci_command(&bed.expand("run --bundle DIR c"));
    bed.finish({
        command.env("OF", "the runtime");
        command
    })
    .ok();
    for (name, of) in [("createRuntime", "runtime"), ("createContainer", "container"), ("poststop", "runtime")] {
        assert!(read(bed, name).lines().any(|line| line == format!("OF=the {of}")), "{name}");
    }
    let env = fs::read_to_string(bed.inside("env")).expect("an environment");
    let mut env: Vec<_> = env.lines().collect();
    env.sort_unstable();
    assert_eq!(env, ["HOME=/root", "OF=the container", "PATH=/bin"]);
    assert!(bed.inside("srv/here").exists());
    bed.is_clean();
}

fn hooks_that_fail_before_the_container_is_created(bed: &Bed) {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let mut config = config(bed, "block");
        config["hooks"] = json!({
            kind: [sh(bed, "echo so it is >&2; exit 3"), sh(bed, "touch DIR/never")],
            "poststop": [sh(bed, "touch DIR/stopped")],
        });
        write(bed, &config);
        for line in ["create --bundle DIR c", "run --bundle DIR c", "run -d --bundle DIR c"] {
            bed.oci(line).fails(1, &[kind, "/bin/sh", "ended with 3", "so it is"]);
            bed.oci("state c").fails(1, &["does not exist"]);
            bed.is_clean();
            // The specification: the lifecycle goes on at the deletion.
            assert!(bed.dir.join("stopped").exists(), "no poststop hook after {kind}");
            fs::remove_file(bed.dir.join("stopped")).expect("the mark");
        }
        assert!(!bed.dir.join("never").exists());
        for (path, words) in [("/none/hook", "No such file"), ("/etc/passwd", "Permission denied")] {
            config["hooks"][kind][0] = json!({ "path": path });
            write(bed, &config);
            bed.oci("create --bundle DIR c").fails(1, &[kind, path, words]);
            bed.is_clean();
        }
    }
    let body = std::process::id();
    bed.until("the end of every process", || leaks::descendants(body).is_empty());
}

fn hooks_that_fail_at_the_start(bed: &Bed) {
    for kind in ["startContainer", "poststart"] {
        let mut config = config(bed, "block");
        let (fails, path) = match kind {
            "startContainer" => (probe("hook echo so it is , exit 3"), "/probe"),
            _ => (sh(bed, "echo so it is; exit 3"), "/bin/sh"),
        };
        config["hooks"] = json!({ kind: [fails], "poststop": [sh(bed, "touch DIR/stopped")] });
        write(bed, &config);
        bed.oci_detached("create --bundle DIR c").ok();
        bed.oci("start c").fails(1, &[kind, path, "ended with 3", "so it is"]);
        // The specification wants it destroyed.
        bed.oci("state c").fails(1, &["no such", "container"]);
        assert!(bed.dir.join("stopped").exists());
        bed.oci("run -d --bundle DIR c").fails(1, &[kind, "ended with 3"]);
        bed.is_clean();
    }
}

fn hooks_that_fail_at_the_end(bed: &Bed) {
    let mut config = config(bed, "exit 6");
    config["hooks"] = json!({ "poststop": [sh(bed, "exit 3"), sh(bed, "touch DIR/second")] });
    write(bed, &config);
    let said = bed.oci("run --bundle DIR c").code(6);
    assert!(said.err.contains("level=warning") && said.err.contains("poststop"), "{}", said.err);
    assert!(bed.dir.join("second").exists());
    bed.is_clean();
}

fn hooks_that_hang(bed: &Bed) {
    let mut config = config(bed, "block");
    for kind in ["createRuntime", "createContainer"] {
        let mut hangs = sh(bed, "exec sleep 1000");
        hangs["timeout"] = json!(1);
        config["hooks"] = json!({ kind: [hangs] });
        write(bed, &config);
        bed.oci("create --bundle DIR c").fails(1, &[kind, "/bin/sh", "did not end within 1 s"]);
        bed.is_clean();
    }
    for timeout in [0, -1] {
        config["hooks"]["createContainer"][0]["timeout"] = json!(timeout);
        write(bed, &config);
        bed.oci("create --bundle DIR c").fails(1, &["hooks.createContainer[0].timeout"]);
    }
    let body = std::process::id();
    bed.until("the end of every process", || leaks::descendants(body).is_empty());
}

fn delete_force_ends_a_hook_that_hangs(bed: &Bed) {
    let mut config = config(bed, "block");
    let begun = bed.dir.join("begun");
    for (kind, hook, line) in [
        ("createRuntime", sh(bed, "echo >DIR/begun; exec sleep 1000"), "create --bundle DIR c"),
        ("createContainer", sh(bed, "echo >DIR/begun; exec sleep 1000"), "run -d --bundle DIR c"),
        ("startContainer", probe("hook write /begun x , block"), "start c"),
    ] {
        config["hooks"] = json!({ kind: [hook] });
        write(bed, &config);
        if line == "start c" {
            bed.oci_detached("create --bundle DIR c").ok();
        }
        let maker = bed.spawn_command(bed.oci_command(&bed.expand(line)));
        let begun = if line == "start c" { bed.inside("begun") } else { begun.clone() };
        bed.until("the hook", || begun.exists());
        fs::remove_file(&begun).expect("a file");
        bed.oci("delete --force c").ok();
        maker.wait().fails(1, &[]);
        bed.is_clean();
    }
    let body = std::process::id();
    bed.until("the end of every process", || leaks::descendants(body).is_empty());
}
