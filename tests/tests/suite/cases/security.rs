//! Ways out of a container that others have had, each by its name.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;

use pod::{ExecSpec, Io, Pod, PodOptions};

use super::revealed::is_denied;
use crate::bed::{self, Bed};
use crate::modes::Mode;
use crate::{leaks, sys};

crate::tests![
    cve_2016_9962_a_pod_mate_with_ptrace_gets_nothing_of_a_thousand_launches,
    cve_2024_21626_leaked_directory_descriptors,
    cve_2019_5736_proc_self_exe_is_not_podlet,
    cve_2023_27561_proc_and_sys_of_the_image_as_links,
    cve_2026_41579_dev_of_the_image_as_link,
    cve_2021_30465_a_mount_target_behind_a_link_stays_inside,
    cve_2026_55686_a_working_directory_behind_a_link_stays_inside,
    cve_2024_5154_planted_passwd,
    cve_2022_29162_and_36109_inheritable_capabilities_and_groups,
    cve_2020_15257_no_abstract_socket,
    a_container_cannot_join_a_siblings_mounts,
    in_no_order_of_mounts_is_a_proc_left_that_shows_everything,
];

fn cve_2016_9962_a_pod_mate_with_ptrace_gets_nothing_of_a_thousand_launches(bed: &Bed) {
    let marker = bed.dir.join("marker");
    fs::write(&marker, "of the machine").expect("a marker");
    let watch = |bed: &Bed| {
        fs::remove_file(bed.inside("stop")).ok();
        bed.podlet("create web").ok();
        let script = format!("watch /stop {}", marker.display());
        bed.podlet(&format!("run --pod web -d --name watcher --cap-add SYS_PTRACE --rootfs ROOT /probe {script}")).ok();
        bed.await_log("web/watcher", "watching");
    };
    let result = |bed: &Bed| {
        fs::write(bed.inside("stop"), "").expect("a file");
        bed.podlet("wait web/watcher").ok();
        let log = bed.podlet("logs web/watcher").ok();
        bed.podlet("rm -f web").ok();
        log
    };
    watch(bed);
    let pod = Pod::open(&bed.store(), "web").expect("the pod");
    let script = bed.container("a", "exit 0");
    pod.run(&script, Io::log()).expect("a start").wait().expect("its end");
    let launches = if bed.mode == Mode::Root { 1000 } else { 200 };
    for _ in 0..bed.rounds(launches) {
        pod.container("a").expect("a container").start(Io::log()).expect("a start").wait().expect("its end");
    }
    let said = result(bed);
    assert!(said.contains(" read=0 seized=0 "), "{said}");
    let host = bed.dir.display().to_string();
    for line in said.lines().filter(|line| line.starts_with("descriptor ")) {
        // Anything of the machine but the pod's lock, an empty file.
        assert!(!line.contains(&host) || line.ends_with("/state/web/lock"), "{line}");
    }
    // It watched, and saw processes that were about to become the container.
    assert!(!said.contains("(any 0)"), "the watcher is blind: {said}");
    if bed.mode == Mode::Root {
        // The negative control: in the old order of a launch it catches something.
        watch(bed);
        for _ in 0..bed.rounds(200) {
            bed.podlet_old_order("run --pod web --rm --rootfs ROOT /probe exit 0");
        }
        let said = result(bed);
        assert!(!said.contains(" seized=0 "), "the watcher would not have seen it: {said}");
    }
}

fn cve_2024_21626_leaked_directory_descriptors(bed: &Bed) {
    let leaked: Vec<_> = (0..8).map(|_| sys::open_careless(c"/").expect("an open")).collect();
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    let main = pod.run(&bed.container("main", "fds , echo up , block"), Io::log()).expect("a start");
    bed.await_log("web/main", "up");
    symlink("/proc/1/root", bed.inside("out")).expect("a link");
    let others = ["/proc/1/root", "/proc/1/cwd", "/proc/self/cwd", "/out", "/out/tmp"].map(String::from);
    for cwd in (3..64).map(|number| format!("/proc/self/fd/{number}")).chain(others) {
        let started = pod.run(&bed.container("a", "cwd").cwd(&cwd), Io::log());
        assert!(started.is_err(), "{cwd}: {started:?}");
        let command = ExecSpec::new(["/probe", "cwd"]).cwd(&cwd);
        let started = pod.container("main").expect("a container").exec(&command, Io::log());
        assert!(started.is_err(), "exec in {cwd}: {started:?}");
    }
    let command = ExecSpec::new(["/probe", "fds"]);
    pod.container("main").expect("a container").exec(&command, Io::log()).expect("an exec").wait().expect("its end");
    let log = bed::logged(&pod.container("main").expect("a container"));
    let fds: Vec<_> = log.lines().filter(|line| line.starts_with("fd ")).collect();
    assert_eq!(fds.len(), 6, "0 to 2, twice: {fds:?}");
    drop(main);
    pod.remove().expect("removal");
    leaked.into_iter().for_each(sys::close);
}

fn cve_2019_5736_proc_self_exe_is_not_podlet(bed: &Bed) {
    fs::write(bed.inside("self"), "#!/proc/self/exe\n").expect("a script");
    fs::set_permissions(bed.inside("self"), fs::Permissions::from_mode(0o755)).expect("mode");
    let program = bed.command(&[""]).get_program().to_os_string();
    let before = fs::read(&program).expect("podlet");
    bed.podlet("create web").ok();
    bed.podlet("run --pod web -d --name a --rootfs ROOT /probe block").ok();
    for _ in 0..20 {
        let said = bed.podlet("exec web/a /self");
        assert!(!said.status.success() && said.status.signal().is_none(), "{:?}", said.status);
    }
    bed.podlet("run --rm --pod web --name b --rootfs ROOT /self");
    let said = bed.podlet("exec web/a /probe touch-rw /proc/1/exe , touch-rw /proc/self/exe , head /proc/1/exe").ok();
    assert!(said.contains("open-rw /proc/1/exe: errno"), "{said}");
    assert!(said.contains("head /proc/1/exe: errno"), "{said}");
    assert!(said.contains("open-rw /proc/self/exe: errno 26"), "its own program, busy: {said}");
    assert_eq!(fs::read(&program).expect("podlet"), before);
}

fn link_out(bed: &Bed, name: &str) -> std::path::PathBuf {
    let outside = bed.dir.join("outside");
    fs::create_dir_all(&outside).expect("a directory");
    symlink(&outside, bed.inside(name)).expect("a link");
    outside
}

fn cve_2023_27561_proc_and_sys_of_the_image_as_links(bed: &Bed) {
    for name in ["proc", "sys"] {
        // Out of the image, by an absolute and a relative link; and inside.
        for target in [bed.dir.join("outside"), "../outside".into(), "/tmp".into()] {
            fs::create_dir_all(bed.dir.join("outside")).expect("a directory");
            symlink(&target, bed.inside(name)).expect("a link");
            bed.podlet("run --rm --rootfs ROOT /probe mounts").fails(125, &["symbolic link"]);
            assert_eq!(leaks::tree(&bed.dir.join("outside")), Vec::<String>::new());
            assert_eq!(leaks::tree(&bed.inside("tmp")), Vec::<String>::new());
            fs::remove_file(bed.inside(name)).expect("removal");
        }
        fs::write(bed.inside(name), "a file").expect("a file");
        bed.podlet("run --rm --rootfs ROOT /probe mounts").fails(125, &["not a directory"]);
        fs::remove_file(bed.inside(name)).expect("removal");
    }
    bed.is_clean();
}

fn cve_2026_41579_dev_of_the_image_as_link(bed: &Bed) {
    let outside = link_out(bed, "dev");
    bed.podlet("run --rm --rootfs ROOT /probe mounts").fails(125, &["symbolic link"]);
    assert_eq!(leaks::tree(&outside), Vec::<String>::new());
    // Below it nothing of the image counts: it is a fresh tmpfs.
    fs::remove_file(bed.inside("dev")).expect("removal");
    fs::create_dir(bed.inside("dev")).expect("a directory");
    link_out(bed, "dev/shm");
    link_out(bed, "dev/null");
    bed.podlet("run --rm --rootfs ROOT /probe write /dev/shm/x 1 , write /dev/null 1").ok();
    assert_eq!(leaks::tree(&outside), Vec::<String>::new());
}

fn cve_2021_30465_a_mount_target_behind_a_link_stays_inside(bed: &Bed) {
    let outside = link_out(bed, "link");
    fs::create_dir(bed.dir.join("volume")).expect("a volume");
    fs::write(bed.dir.join("volume/file"), "content").expect("a file");
    for target in ["/link", "/link/deep/er", "/link/file"] {
        let said = bed.podlet(&format!("run --rm -v DIR/volume:{target} --rootfs ROOT /probe mounts"));
        // Made inside, or refused; outside nothing happens.
        assert!(matches!(said.status.code(), Some(0 | 125)), "{target}");
        assert_eq!(leaks::tree(&outside), Vec::<String>::new(), "{target}");
    }
    symlink("../../../../../../../../tmp", bed.inside("up")).expect("a link");
    let said =
        bed.podlet("run --rm -v DIR/volume:/up/podlet-escape --rootfs ROOT /probe read /tmp/podlet-escape/file").ok();
    assert_eq!(said.trim(), "content");
    assert!(!std::path::Path::new("/tmp/podlet-escape").exists());
}

fn cve_2026_55686_a_working_directory_behind_a_link_stays_inside(bed: &Bed) {
    let outside = link_out(bed, "link");
    bed.podlet("run --rm -w /link --rootfs ROOT /probe cwd").fails(125, &["/link"]);
    bed.podlet("run --rm -w /link/below --rootfs ROOT /probe cwd").fails(125, &["/link/below"]);
    assert_eq!(leaks::tree(&outside), Vec::<String>::new());
    symlink("../../../..", bed.inside("up")).expect("a link");
    assert_eq!(bed.podlet("run --rm -w /up --rootfs ROOT /probe cwd").ok().trim(), "/");
}

fn cve_2024_5154_planted_passwd(bed: &Bed) {
    let secret = bed.dir.join("passwd");
    fs::write(&secret, "planted:x:0:0::/:\n").expect("a file");
    for target in
        [secret.clone(), "../../passwd".into(), "/proc/self/root/../passwd".into(), "/proc/1/root/etc/passwd".into()]
    {
        fs::remove_file(bed.inside("etc/passwd")).ok();
        symlink(&target, bed.inside("etc/passwd")).expect("a link");
        bed.podlet("run --rm -u planted --rootfs ROOT /probe ids").fails(125, &["planted", "no such user"]);
        bed.podlet("run --rm --rootfs ROOT /probe ids").ok();
    }
    assert_eq!(fs::read_to_string(&secret).expect("unchanged"), "planted:x:0:0::/:\n");
}

fn cve_2022_29162_and_36109_inheritable_capabilities_and_groups(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run --pod web -d --name a --rootfs ROOT /probe block").ok();
    for line in ["run --rm --rootfs ROOT /probe status", "exec web/a /probe status"] {
        let mut command = std::process::Command::new("/proc/self/exe");
        command.args(["--embed", "-", "-", "careless"]).arg(bed.command(&[""]).get_program());
        command.arg("--root").arg(bed.state()).args(bed.expand(line)).stdin(std::process::Stdio::null());
        let said = bed.finish(command).ok();
        assert!(said.contains("CapInh:\t0000000000000000"), "{said}");
        assert!(said.contains("CapAmb:\t0000000000000000"), "{said}");
        if bed.mode.has_ids() {
            let groups = said.lines().find(|line| line.starts_with("Groups:")).expect("groups");
            // The image's root is in one, and the caller's are not there.
            assert_eq!(groups.split_whitespace().collect::<Vec<_>>(), ["Groups:", "4"]);
        }
    }
}

fn cve_2020_15257_no_abstract_socket(bed: &Bed) {
    let abstract_sockets = || {
        let table = fs::read_to_string("/proc/net/unix").expect("sockets");
        table.lines().filter_map(|line| line.split('@').nth(1)).filter(|name| name.contains("podlet")).count()
    };
    let before = abstract_sockets();
    bed.podlet("create web").ok();
    bed.podlet("run --pod web -d --name a --rootfs ROOT /probe block").ok();
    assert_eq!(abstract_sockets(), before);
    // And a pod's state is for no other user.
    let mode = fs::metadata(bed.state().join("web")).expect("the pod's directory").permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

fn a_container_cannot_join_a_siblings_mounts(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run --pod web -d --name a --rootfs ROOT /probe session , block").ok();
    bed.until("the first line", || bed.podlet("logs web/a").ok().contains("pid "));
    let log = bed.podlet("logs web/a").ok();
    let pid = log.split(' ').nth(1).expect("a pid").to_string();
    let said = bed.podlet(&format!("run --pod web --rm --rootfs ROOT /probe setns /proc/{pid}/ns/mnt")).ok();
    assert!(said.contains(": errno 1"), "{said}");
}

/// Of the machine's, or of pause's, from which the container's is a copy.
fn in_no_order_of_mounts_is_a_proc_left_that_shows_everything(bed: &Bed) {
    let line = "run --rm --security-opt seccomp=unconfined --rootfs ROOT /probe anew /sub , mounts";
    is_denied(&bed.podlet(line).ok());
    is_denied(&bed.podlet_old_order(line).ok());
}
