//! What an image has where a bundle mounts, masks or works.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nix::mount::{MsFlags, mount, umount};
use nix::unistd::Gid;
use serde_json::json;

use super::oci::{config, list, write};
use super::oci_namespaces::open_to_all;
use crate::bed::Bed;
use crate::leaks;
use crate::modes::{Mode, hierarchy};

crate::tests![
    file_systems_on_themselves,
    mounts_are_listed_in_their_order,
    mounts_are_shown_with_their_source,
    masks_follow_links_of_the_image,
    a_missing_working_directory_is_made,
    a_working_directory_that_only_one_may_enter,
    cve_2026_55686_working_directory_does_not_follow_links,
    images_with_links_where_mounts_go,
    links_that_an_earlier_mount_hides_or_brings,
];

fn mounts_are_shown_with_their_source(bed: &Bed) {
    let mut config = config(bed, "mounts");
    for (destination, kind) in [("/new", "tmpfs"), ("/copy", "tmpfs")] {
        let options: &[&str] = if destination == "/copy" { &["tmpcopyup"] } else { &[] };
        list(&mut config["mounts"]).push(json!({ "destination": destination, "type": kind, "options": options }));
    }
    if bed.mode.nests_users() {
        // What the image has is copied for root only.
        list(&mut config["mounts"]).retain(|mount| mount["destination"] != "/copy");
    }
    for mount in list(&mut config["mounts"]) {
        mount["source"] = json!(format!("from{}", mount["destination"].as_str().expect("a path").replace('/', "-")));
        if mount["destination"] == "/new" {
            mount["source"] = json!("x".repeat(3000));
        }
    }
    fs::create_dir(bed.inside("copy")).expect("a directory of the image");
    write(bed, &config);
    let said = bed.oci("run --bundle DIR c").ok();
    for mount in config["mounts"].as_array().expect("a list") {
        let (at, source) = (mount["destination"].as_str().expect("a path"), mount["source"].as_str().expect("a name"));
        let is_it = |line: &str| line.contains(&format!(" {at} ")) && line.contains(&format!(" {source} "));
        assert!(said.lines().any(is_it), "{at} from {source}: {said}");
    }
}

fn masks_follow_links_of_the_image(bed: &Bed) {
    let mut config = config(bed, "read /secret , ls /dir , write /open/x y , write /free x");
    fs::write(bed.inside("secret"), "told").expect("a file");
    for (dir, link) in [("dir", "to-dir"), ("open", "to-open")] {
        fs::create_dir_all(bed.inside(dir).join("entry")).expect("a directory");
        symlink(format!("/{dir}"), bed.inside(link)).expect("a link");
    }
    symlink("secret", bed.inside("to-secret")).expect("a link");
    symlink("nothing", bed.inside("dangling")).expect("a link");
    config["linux"]["maskedPaths"] = json!(["/to-secret", "/to-dir", "/dangling"]);
    config["linux"]["readonlyPaths"] = json!(["/to-open", "/dangling"]);
    write(bed, &config);
    let said = bed.oci("run --bundle DIR c").ok();
    assert!(!said.contains("told") && !said.contains("entry"), "{said}");
    assert!(said.contains("write /open/x: errno 30") && said.contains("write /free: ok"), "{said}");
}

/// As runc does it.
/// A program that compares the list with the config finds them there one after the
/// other. (A user namespace has its trees opened before: Linux 6.8 and newer list
/// those first.)
fn mounts_are_listed_in_their_order(bed: &Bed) {
    if bed.mode != Mode::Root {
        return;
    }
    let mut config = config(bed, "mounts");
    let targets = ["/a", "/b", "/c", "/d"];
    for (i, target) in targets.into_iter().enumerate() {
        let options = if i % 2 == 0 { json!(["ro"]) } else { json!(["rbind"]) };
        let (kind, source) = if i % 2 == 0 { ("tmpfs", json!("tmpfs")) } else { ("bind", json!(bed.dir)) };
        let mount = json!({ "destination": target, "type": kind, "source": source, "options": options });
        list(&mut config["mounts"]).push(mount);
    }
    write(bed, &config);
    let said = bed.oci("run --bundle DIR c").ok();
    let listed = said.lines().filter_map(|line| line.split(' ').nth(4));
    let listed: Vec<_> = listed.filter(|target| targets.contains(target)).collect();
    assert_eq!(listed, targets, "{said}");
    bed.is_clean();
}

/// The machine's own may be there already, by an earlier mount: mount(2) does
/// not put a file system on itself.
fn file_systems_on_themselves(bed: &Bed) {
    let mut config = config(bed, "mounts");
    let mounts = list(&mut config["mounts"]);
    for (target, kind) in [("/proc", "proc"), ("/sys", "sysfs"), ("/q", "mqueue")] {
        for options in [json!(["nosuid"]), json!(["noexec", "ro"])] {
            mounts.push(json!({ "destination": target, "type": kind, "source": "label", "options": options }));
        }
    }
    if hierarchy().is_some() && bed.mode == Mode::Root {
        let sys = bed.dir.join("sys");
        let below = sys.join("fs/cgroup");
        fs::create_dir_all(&below).expect("directories");
        mount(Some("cgroup2"), &below, Some("cgroup2"), MsFlags::empty(), None::<&str>).expect("a mount");
        mounts.push(json!({ "destination": "/s", "type": "bind", "source": sys, "options": ["rbind", "ro"] }));
        mounts.push(json!({ "destination": "/s/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"] }));
    }
    write(bed, &config);
    let said = bed.oci("run --bundle DIR c").ok();
    if bed.mode == Mode::Root {
        umount(&bed.dir.join("sys/fs/cgroup")).ok();
    }
    for (target, kind, times) in [("/proc", "proc", 3), ("/sys", "sysfs", 2), ("/q", "mqueue", 2)] {
        let there = said.lines().filter(|line| line.contains(&format!(" {target} ")) && line.contains(kind));
        let there: Vec<_> = there.collect();
        assert_eq!(there.len(), times, "{target}: {said}");
        assert!(there[times - 1].contains(" ro,noexec,"), "{}", there[times - 1]);
    }
    let cgroups = said.lines().filter(|line| line.contains(" /s/fs/cgroup ")).count();
    assert_eq!(cgroups, if bed.mode == Mode::Root && hierarchy().is_some() { 2 } else { 0 }, "{said}");
    bed.is_clean();
}

fn a_missing_working_directory_is_made(bed: &Bed) {
    let mut config = config(bed, "cwd , stat /new/work");
    config["process"]["cwd"] = json!("/new/work");
    config["process"]["args"][0] = json!("/probe");
    write(bed, &config);
    let said = bed.oci("run --bundle DIR c").ok();
    assert!(said.starts_with("/new/work\n") && said.contains("stat /new/work: dir 755 0:0"), "{said}");
    assert!(bed.inside("new/work").is_dir());
    config["process"]["cwd"] = json!("/none/../new/./work");
    write(bed, &config);
    assert!(bed.oci("run --bundle DIR c").ok().starts_with("/new/work\n"));
    // Where it cannot be made, it says so.
    config["process"]["cwd"] = json!("/probe/below");
    write(bed, &config);
    bed.oci("run --bundle DIR c").fails(1, &["probe"]);
}

fn cve_2026_55686_working_directory_does_not_follow_links(bed: &Bed) {
    let outside = bed.dir.join("outside");
    fs::create_dir(&outside).expect("a directory");
    std::os::unix::fs::symlink(&outside, bed.inside("link")).expect("a link");
    std::os::unix::fs::symlink("../../../../../..", bed.inside("up")).expect("a link");
    let mut config = config(bed, "cwd");
    for cwd in ["/link/made".to_string(), format!("/up{}/made", outside.display()), "/../../made".into()] {
        config["process"]["cwd"] = json!(cwd);
        write(bed, &config);
        bed.oci("run --bundle DIR c");
        assert_eq!(leaks::tree(&outside), [""; 0]);
        assert!(!Path::new("/made").exists());
    }
    // CVE-2024-21626
    for number in 3..32 {
        config["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
        write(bed, &config);
        bed.oci("run --bundle DIR c").code(1);
    }
    bed.is_clean();
}

/// The user, or the container's root, which C is while it prepares for the user. As
/// runc and crun do it.
fn a_working_directory_that_only_one_may_enter(bed: &Bed) {
    let closed = bed.inside("closed");
    fs::create_dir(&closed).expect("a directory");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("a mode");
    let mut config = config(bed, "cwd , block");
    config["process"]["cwd"] = json!("/closed");
    write(bed, &config);
    bed.oci_detached("run -d --bundle DIR c").ok();
    assert_eq!(bed.oci("exec c /probe cwd").ok(), "/closed\n");
    bed.oci("delete --force c").ok();
    let line = "--cap-drop ALL -w /closed --rootfs ROOT /probe cwd";
    assert_eq!(bed.podlet(&format!("run --rm {line}")).ok(), "/closed\n");
    assert_eq!(bed.podlet(&format!("run --rm --share net,ipc,uts {line}")).ok(), "/closed\n");
    bed.podlet("run -d --name web --cap-drop ALL --rootfs ROOT /probe block").ok();
    assert_eq!(bed.podlet("exec -w /closed web /probe cwd").ok(), "/closed\n");
    bed.podlet("rm -f web").ok();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).expect("a mode");
    if bed.mode == Mode::Root {
        // Root of the namespace cannot: neither user nor group are its own.
        nix::unistd::chown(&closed, None, Some(Gid::from_raw(200_034))).expect("a group");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o710)).expect("a mode");
        open_to_all(bed);
        let map = json!([{ "containerID": 0, "hostID": 200_000, "size": 1000 }]);
        list(&mut config["linux"]["namespaces"]).push(json!({ "type": "user" }));
        (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (map.clone(), map);
        config["process"]["args"] = json!(["/probe", "cwd"]);
        write(bed, &config);
        bed.oci("run --bundle DIR c").fails(1, &["Permission denied"]);
        config["process"]["user"] = json!({ "uid": 33, "gid": 34 });
        write(bed, &config);
        assert_eq!(bed.oci("run --bundle DIR c").ok(), "/closed\n");
    }
    bed.is_clean();
}

/// SECURITY: CVE-2019-19921, CVE-2023-27561, CVE-2026-41579, CVE-2024-5154.
fn images_with_links_where_mounts_go(bed: &Bed) {
    let outside = bed.dir.join("outside");
    fs::create_dir(&outside).expect("a directory");
    for name in ["proc", "dev", "mine"] {
        std::os::unix::fs::symlink(&outside, bed.inside(name)).expect("a link");
        let mut config = config(bed, "exit 0");
        list(&mut config["mounts"]).push(json!(
            { "destination": "/mine/deep/er", "type": "tmpfs", "source": "tmpfs" }
        ));
        write(bed, &config);
        bed.oci("run --bundle DIR c");
        assert_eq!(leaks::tree(&outside), [""; 0], "through {name}");
        fs::remove_file(bed.inside(name)).ok();
        fs::remove_dir_all(bed.inside(name)).ok();
        bed.is_clean();
    }
}

fn links_that_an_earlier_mount_hides_or_brings(bed: &Bed) {
    let volume = bed.dir.join("volume");
    fs::create_dir(&volume).expect("a directory");
    symlink("/srv/where", volume.join("sub")).expect("a link");
    // Covered by the mount on /run.
    fs::create_dir_all(bed.inside("run")).expect("a directory");
    symlink("/srv/hidden", bed.inside("run/hidden")).expect("a link");
    let mut config = config(bed, "mounts");
    let tmpfs = |path: &str| json!({ "destination": path, "type": "tmpfs", "source": "tmpfs" });
    list(&mut config["mounts"]).extend([
        tmpfs("/run"),
        tmpfs("/run/hidden"),
        json!({ "destination": "/x", "type": "bind", "source": volume, "options": ["bind"] }),
        tmpfs("/x/sub"),
        tmpfs("/srv/../tmp/./up"),
    ]);
    write(bed, &config);
    let said = bed.oci("run --bundle DIR c").ok();
    for target in ["/run/hidden", "/srv/where", "/tmp/up"] {
        assert!(said.contains(&format!(" {target} ")), "{target}: {said}");
    }
    bed.is_clean();
}
