//! What a container gets unless told otherwise, and when told.

use std::fs;

use crate::bed::Bed;
use crate::modes::Mode;

crate::tests![
    capabilities_and_no_new_privileges,
    only_descriptors_0_to_2_a_session_and_default_signals,
    a_clean_environment,
    the_default_file_systems_and_devices,
    masked_and_read_only_paths,
    volumes_and_tmpfs,
    a_read_only_root,
    users_are_looked_up_in_the_image,
    the_working_directory_and_the_path,
    standard_streams,
    the_old_root_is_gone,
];

const DEFAULT_SET: &str = "00000000a80425fb";

fn one(bed: &Bed, options: &str, script: &str) -> String {
    bed.podlet(&format!("run --rm {options} --rootfs ROOT /probe {script}")).ok()
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(":"))
        .unwrap_or_else(|| panic!("no {name}"))
        .trim()
}

fn capabilities_and_no_new_privileges(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run --pod web -d --name a --rootfs ROOT /probe block").ok();
    for status in [one(bed, "", "status"), bed.podlet("exec web/a /probe status").ok()] {
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            assert_eq!(field(&status, set), DEFAULT_SET, "{set}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(field(&status, set), "0000000000000000", "{set}");
        }
        assert_eq!(field(&status, "NoNewPrivs"), "1");
    }
    let none = one(bed, "--cap-drop ALL", "status");
    assert_eq!(field(&none, "CapEff"), "0000000000000000");
    assert_eq!(field(&none, "CapBnd"), "0000000000000000");
    let single = one(bed, "--cap-drop all --cap-add net_admin", "status");
    assert_eq!(field(&single, "CapEff"), "0000000000001000");
    let less = one(bed, "--cap-drop CAP_CHOWN", "status");
    assert_eq!(field(&less, "CapEff"), "00000000a80425fa");
    if bed.mode.has_ids() {
        let other = one(bed, "-u web", "status");
        assert_eq!(field(&other, "CapEff"), "0000000000000000", "another user than root has none");
    }
    let denied = one(bed, "", "mount tmpfs /tmp , settime , setns /proc/1/ns/net");
    assert_eq!(denied.matches("errno").count(), 3, "{denied}");
}

fn only_descriptors_0_to_2_a_session_and_default_signals(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run --pod web -d --name a --rootfs ROOT /probe block").ok();
    // The caller is careless: descriptors without close-on-exec, signals
    // ignored and blocked.
    let mut run = std::process::Command::new("/proc/self/exe");
    run.args(["--embed", "-", "-", "careless"]).arg(bed.command(&[""]).get_program()).arg("--root").arg(bed.state());
    let script = "fds , status , session , umask";
    for line in [format!("run --rm --rootfs ROOT /probe {script}"), format!("exec web/a /probe {script}")] {
        let mut command = std::process::Command::new(run.get_program());
        command.args(run.get_args()).args(bed.expand(&line)).stdin(std::process::Stdio::null());
        let said = bed.finish(command).ok();
        let fds: Vec<_> = said.lines().filter(|line| line.starts_with("fd ")).collect();
        assert_eq!(fds.len(), 3, "{fds:?}");
        assert!(fds.iter().zip(0..).all(|(line, number)| line.starts_with(&format!("fd {number} "))), "{fds:?}");
        for set in ["SigBlk", "SigIgn", "SigCgt"] {
            assert_eq!(field(&said, set), "0000000000000000", "{set}");
        }
        let session = said.lines().find(|line| line.starts_with("pid ")).expect("a session");
        let words: Vec<_> = session.split(' ').collect();
        assert_eq!((words[1], words[1]), (words[5], words[7]), "its own session and group: {session}");
        assert!(session.ends_with("tty false"), "{session}");
        assert!(said.lines().any(|line| line == "22"), "the umask: {said}");
    }
}

fn a_clean_environment(bed: &Bed) {
    let mut run = bed.command(&bed.expand("run --rm -e A=1 -e A=2 -e B=x=y -e FROM -e GONE --rootfs ROOT /probe env"));
    run.env("SECRET", "x").env("FROM", "outside").env("LD_PRELOAD", "/nothing").env_remove("GONE");
    let said = bed.finish(run).ok();
    let mut lines: Vec<_> = said.lines().collect();
    lines.sort();
    let path = format!("PATH={}", pod::spec::DEFAULT_PATH);
    assert_eq!(lines, ["A=2", "B=x=y", "FROM=outside", "HOME=/root", &path, "container=podlet"]);
}

fn the_default_file_systems_and_devices(bed: &Bed) {
    let script = "mounts , stat /dev/null , stat /dev/zero , stat /dev/full , stat /dev/random , stat /dev/urandom , \
                  stat /dev/tty , stat /dev/ptmx , stat /dev/fd , stat /dev/stdin , stat /dev/shm , write /dev/null x , \
                  write /dev/shm/x x , write /dev/full x , ls /dev , ls /dev/pts";
    let said = one(bed, "", script);
    let mount = |target: &str| {
        said.lines()
            .find(|line| line.split(' ').nth(4) == Some(target))
            .unwrap_or_else(|| panic!("no {target}: {said}"))
    };
    for (target, kind, options) in [
        ("/proc", "proc", ["nosuid", "nodev", "noexec"]),
        ("/dev", "tmpfs", ["nosuid", "nosuid", "nosuid"]),
        ("/dev/pts", "devpts", ["nosuid", "noexec", "noexec"]),
        ("/dev/shm", "tmpfs", ["nosuid", "nodev", "noexec"]),
        ("/dev/mqueue", "mqueue", ["nosuid", "nodev", "noexec"]),
        ("/sys", "sysfs", ["nosuid", "nodev", "ro,"]),
    ] {
        let line = mount(target);
        assert!(line.contains(&format!(" - {kind} ")), "{target}: {line}");
        for option in options {
            assert!(line.contains(option), "{target} {option}: {line}");
        }
    }
    for (name, number) in
        [("null", "1:3"), ("zero", "1:5"), ("full", "1:7"), ("random", "1:8"), ("urandom", "1:9"), ("tty", "5:0")]
    {
        let line = said.lines().find(|line| line.starts_with(&format!("stat /dev/{name}:"))).expect("a stat");
        assert!(line.contains("char 666") && line.contains(&format!(" {number} ")), "{line}");
    }
    assert!(said.contains("write /dev/null: ok"), "{said}");
    assert!(said.contains("write /dev/shm/x: ok"), "{said}");
    assert!(said.contains("write /dev/full: errno 28"), "{said}");
    assert!(said.contains("ls /dev/pts: ptmx"), "{said}");
    assert!(said.contains("ls /dev: console") || said.contains("ls /dev: fd full"), "nothing else: {said}");
}

fn masked_and_read_only_paths(bed: &Bed) {
    let said = one(
        bed,
        "",
        "head /proc/kcore , head /proc/keys , head /proc/timer_list , ls /sys/firmware , ls /proc/scsi , ls /proc/acpi , \
         write /proc/sysrq-trigger h , write /proc/sys/kernel/hostname x , write /sys/kernel/mm/ksm/run 0 , \
         write /proc/irq/default_smp_affinity 1 , mkdir /sys/fs/cgroup/x , read /proc/sys/kernel/hostname",
    );
    for line in said.lines() {
        let good = match line {
            _ if line.starts_with("head ") => line.ends_with(": 0 bytes") || line.ends_with("errno 2"),
            _ if line.starts_with("ls ") => line.ends_with(":") || line.ends_with(": ") || line.ends_with("errno 2"),
            _ if line.starts_with("write ") => line.ends_with("errno 30") || line.ends_with("errno 2"),
            _ if line.starts_with("mkdir ") => {
                ["errno 30", "errno 13", "errno 1", "errno 2"].iter().any(|e| line.ends_with(e))
            }
            _ => true,
        };
        assert!(good, "{line}");
    }
}

fn volumes_and_tmpfs(bed: &Bed) {
    let volume = bed.dir.join("volume");
    fs::create_dir(&volume).expect("a volume");
    fs::write(volume.join("file"), "content").expect("a file");
    let said = one(
        bed,
        "-v DIR/volume:/srv -v DIR/volume:/made/on/demand:ro -v DIR/volume/file:/etc/one:ro --tmpfs /sub",
        "read /srv/file , write /srv/new x , read /made/on/demand/file , write /made/on/demand/no x , read /etc/one , \
         write /etc/one x , write /sub/x y , remount-rw /made/on/demand",
    );
    assert_eq!(said.matches("content").count(), 3, "{said}");
    assert!(said.contains("write /srv/new: ok"), "{said}");
    assert!(said.contains("write /made/on/demand/no: errno 30"), "{said}");
    assert!(said.contains("write /etc/one: errno 30"), "{said}");
    assert!(said.contains("write /sub/x: ok"), "{said}");
    assert!(said.contains("remount /made/on/demand: errno 1"), "{said}");
    assert_eq!(fs::read_to_string(volume.join("new")).expect("written through"), "x");
    assert!(!bed.inside("sub/x").exists(), "the tmpfs covers");
    assert_eq!(fs::read_to_string(volume.join("file")).expect("the file"), "content");
    // Relative sources are the caller's.
    let mut run = bed.command(&bed.expand("run --rm -v volume:/srv --rootfs ROOT /probe read /srv/file"));
    assert_eq!(
        bed.finish({
            run.current_dir(&bed.dir);
            run
        })
        .ok()
        .trim(),
        "content"
    );
}

fn a_read_only_root(bed: &Bed) {
    for dir in ["proc", "dev", "sys"] {
        fs::create_dir_all(bed.inside(dir)).expect("a mount point");
    }
    let script =
        "write /x 1 , write /etc/passwd 1 , mkdir /newdir , write /dev/shm/x 1 , write /tmp/x 1 , remount-rw /";
    let said = one(bed, "--read-only --tmpfs /tmp", script);
    assert!(said.contains("write /x: errno 30"), "{said}");
    assert!(said.contains("write /etc/passwd: errno 30"), "{said}");
    assert!(said.contains("mkdir /newdir: errno 30"), "{said}");
    assert!(said.contains("write /dev/shm/x: ok"), "{said}");
    assert!(said.contains("write /tmp/x: ok"), "{said}");
    assert!(said.contains("remount /: errno 1"), "{said}");
    assert!(fs::read_to_string(bed.inside("etc/passwd")).expect("passwd").contains("web"));
}

fn users_are_looked_up_in_the_image(bed: &Bed) {
    let ids = |user: &str| one(bed, &format!("-u {user}"), "ids , env");
    // The groups of a user of the image, where the kernel lets podlet set any.
    let member = if bed.mode.has_ids() { "Groups: 4" } else { "Groups:" };
    for (user, groups) in [("root", member), ("0", member), ("0:0", "Groups:"), ("root:root", "Groups:")] {
        let said = ids(user);
        assert!(said.contains(&format!("Uid: 0 0 0 0\nGid: 0 0 0 0\n{groups}")), "{user}: {said}");
    }
    if bed.mode.has_ids() {
        for (user, uid, gid, groups) in [
            ("web", 33, 34, "Groups: 4"),
            ("33", 33, 34, "Groups: 4"),
            ("web:adm", 33, 4, "Groups:"),
            ("7:8", 7, 8, "Groups:"),
        ] {
            let said = ids(user);
            assert!(
                said.contains(&format!("Uid: {uid} {uid} {uid} {uid}\nGid: {gid} {gid} {gid} {gid}\n{groups}\n")),
                "{user}: {said}"
            );
        }
        assert!(ids("web").contains("HOME=/srv"));
        bed.podlet("run --name w -d -u web --rootfs ROOT /probe block").ok();
        assert!(bed.podlet("exec w /probe ids").ok().contains("Uid: 33 33"), "exec is the container's user");
        assert!(bed.podlet("exec -u 0 w /probe ids").ok().contains("Uid: 0 0"), "unless told otherwise");
    } else {
        bed.podlet("run --rm -u web --rootfs ROOT /probe ids").fails(125, &["mapping"]);
        bed.podlet("run --rm -u 7:8 --rootfs ROOT /probe ids").fails(125, &["mapping"]);
    }
    // No user keeps the caller's groups, where the kernel lets podlet drop them.
    if bed.mode == Mode::Root || bed.mode == Mode::Delegated {
        assert!(ids("0:0").contains("Groups:\n"));
    }
}

fn the_working_directory_and_the_path(bed: &Bed) {
    assert_eq!(one(bed, "", "cwd").trim(), "/");
    assert_eq!(one(bed, "-w /srv", "cwd").trim(), "/srv");
    std::os::unix::fs::symlink("/srv", bed.inside("link")).expect("a link");
    assert_eq!(one(bed, "-w /link", "cwd").trim(), "/srv");
    bed.podlet("run --rm -w /none --rootfs ROOT /probe cwd").fails(125, &["none", "does not exist in the container"]);
    bed.podlet("run --rm -w /probe --rootfs ROOT /probe cwd").fails(125, &["/probe", "not a directory"]);
    // Looked for along PATH inside.
    assert_eq!(bed.podlet("run --rm --rootfs ROOT probe echo found").ok().trim(), "found");
    assert_eq!(bed.podlet("run --rm -e PATH=/none:/bin --rootfs ROOT probe echo found").ok().trim(), "found");
    bed.podlet("run --rm -e PATH=/none --rootfs ROOT probe echo found").fails(127, &["probe"]);
    assert_eq!(bed.podlet("run --rm -w /bin --rootfs ROOT ./probe echo here").ok().trim(), "here");
    // Its own /proc/self, and not H's.
    bed.podlet("create web").ok();
    bed.podlet("run --pod web -d --name a --rootfs ROOT /probe block").ok();
    for command in ["run --rm --pod web --rootfs ROOT -w /proc/self", "exec -w /proc/self web/a"] {
        let said = bed.podlet(&format!("{command} /probe cwd , stat status")).ok();
        assert!(said.starts_with("/proc/") && said.contains("stat status: file"), "{said}");
    }
    bed.podlet("rm -f web").ok();
}

fn standard_streams(bed: &Bed) {
    let mut run = bed.command(&bed.expand("run --rm --rootfs ROOT /probe stdin , err to_err"));
    let input = bed.dir.join("input");
    fs::write(&input, "given").expect("a file");
    run.stdin(fs::File::open(&input).expect("a file"));
    let said = bed.finish(run);
    assert_eq!((said.out.trim(), said.err.trim()), ("stdin \"given\"", "to_err"));
    // In the background it reads nothing.
    bed.podlet("run -d --name a --pod web --rootfs ROOT /probe stdin").fails(125, &["web"]);
    bed.podlet("create web").ok();
    bed.podlet("run -d --name a --pod web --rootfs ROOT /probe stdin , err to_err").ok();
    bed.podlet("wait web/a").ok();
    let said = bed.podlet("logs web/a");
    assert_eq!((said.out.as_str(), said.err.as_str()), ("stdin \"\"\n", "to_err\n"));
}

fn the_old_root_is_gone(bed: &Bed) {
    let said = one(bed, "--cap-add sys_admin", "mounts , ls /");
    let marker = bed.dir.display().to_string();
    for line in said.lines().filter(|line| line.contains(" - ")) {
        let target = line.split(' ').nth(4).expect("a target");
        assert!(!target.contains("podlet-suite"), "a mount of the machine: {line}");
    }
    assert!(!one(bed, "", &format!("ls {marker}")).contains("rootfs"));
    let said = one(bed, "", "chroot /proc/1/root , ls /proc/1/root");
    assert!(said.contains("chroot /proc/1/root: errno"), "{said}");
}
