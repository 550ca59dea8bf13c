//! Roots of layers: what is seen of them, where changes go, and what of them is
//! refused.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode as Permissions, SFlag, mknod};
use pod::spec::{Mount, MountKind};
use pod::{ContainerSpec, Error, Io, Layers, Pod, PodOptions, Root};

use crate::bed::Bed;
use crate::modes::Mode;
use crate::sys;

crate::tests![
    layers_come_together_and_the_topmost_is_the_first,
    a_user_is_who_the_layers_say_together,
    attributes_that_are_not_overlayfs_own_do_not_keep_a_user_from_being_found,
    what_is_mounted_in_a_layer_is_not_seen_by_the_lookup_of_a_user,
    a_user_is_looked_up_in_what_the_container_has_changed,
    no_layer_can_send_the_lookup_of_a_user_outside,
    a_mount_goes_where_a_link_of_another_layer_leads,
    a_tmpfs_begins_with_what_the_layers_have_there,
    own_changes_stay_until_the_container_is_removed,
    changes_go_where_the_caller_says_and_stay_there,
    two_containers_do_not_write_to_one_directory,
    a_hundred_layers_of_odd_and_long_names,
    a_pods_user_namespace_owns_layers_of_the_machines,
    what_other_users_of_a_container_made_is_removed_with_it,
    what_other_users_of_a_damaged_pod_made_is_removed_with_it,
    layers_that_cannot_be_are_refused_by_name,
];

/// A new directory with these files; a name that ends in `/` is a directory.
fn layer(bed: &Bed, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let top = bed.dir.join(name);
    fs::create_dir_all(&top).expect("a layer");
    for (path, content) in files {
        let path = top.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        match path.to_string_lossy().ends_with('/') {
            true => fs::create_dir_all(&path).expect("a directory"),
            false => fs::write(&path, content).expect("a file"),
        }
    }
    top
}

/// Deletes a name of the layers below.
fn whiteout(layer: &Path, name: &str) {
    let path = layer.join(name);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    // Everybody may make this one.
    mknod(&path, SFlag::S_IFCHR, Permissions::empty(), 0).expect("a whiteout");
}

/// What overlayfs' attributes begin with for this user.
fn attributes(bed: &Bed) -> &'static str {
    if matches!(bed.mode, Mode::Root | Mode::Vm) { "trusted" } else { "user" }
}

/// Hides what the layers below have in a directory.
fn make_opaque(bed: &Bed, dir: &Path) {
    sys::set_attribute(dir, &format!("{}.overlay.opaque", attributes(bed)), "y");
}

/// Runs the probe in layers, the topmost first, and comes back with what it says.
fn run(bed: &Bed, layers: &[&Path], options: &str, script: &str) -> crate::bed::Said {
    let mut args = vec!["run".to_string(), "--rm".into()];
    for layer in layers {
        args.extend(["--rootfs-layer".into(), layer.display().to_string()]);
    }
    args.extend(bed.expand(options));
    args.extend(bed.expand(&format!("/probe {script}")));
    bed.podlet_args(&args)
}

fn of_layers(name: &str, layers: Layers, script: &str) -> ContainerSpec {
    let args = std::iter::once("/probe").chain(script.split_whitespace());
    ContainerSpec::new(name, Root::Layers(layers)).args(args)
}

fn layers_come_together_and_the_topmost_is_the_first(bed: &Bed) {
    let base = bed.rootfs();
    for (path, content) in [("srv/low", "low"), ("srv/gone", "x"), ("sub/hidden", "x"), ("same", "base"), ("kind", "x")]
    {
        fs::write(base.join(path), content).expect("a file");
    }
    let middle = layer(
        bed,
        "middle",
        &[("srv/mid", "mid"), ("same", "middle"), ("sub/shown", "x"), ("kind/now", "a directory")],
    );
    whiteout(&middle, "srv/gone");
    make_opaque(bed, &middle.join("sub"));
    let top = layer(bed, "top", &[("srv/top", "top"), ("same", "top")]);
    whiteout(&top, "srv/mid");
    fs::set_permissions(&top, fs::Permissions::from_mode(0o711)).expect("mode");
    let script = "ls /srv , ls /sub , read /same , read /kind/now , stat / , write /new x , write /srv/low y , mounts";
    let said = run(bed, &[&top, &middle, &base], "", script).ok();
    for line in ["ls /srv: low top", "ls /sub: shown", "top", "a directory", "write /new: ok", "write /srv/low: ok"] {
        assert!(said.lines().any(|found| found == line), "{line}: {said}");
    }
    assert!(said.contains("stat /: dir 711 0:0 "), "the root is as the topmost layer has it: {said}");
    let root = said.lines().find(|line| line.contains(" - overlay ")).expect("an overlay");
    assert!(root.contains(",nodev"), "{root}");
    // The other way round, and one alone.
    let said = run(bed, &[&base, &middle, &top], "", "read /same , ls /sub , ls /srv").ok();
    assert!(said.starts_with("base\nls /sub: hidden shown\nls /srv: gone low mid top\n"), "{said}");
    let said = run(bed, &[&base], "--read-only", "ls /srv , write /new x").ok();
    assert!(said.contains("ls /srv: gone low\n") && said.contains("write /new: errno 30"), "{said}");
    // None of it is in the layers.
    assert_eq!(fs::read_to_string(base.join("srv/low")).expect("a file"), "low");
    assert!([&top, &middle, &base].iter().all(|layer| !layer.join("new").exists() && !layer.join("proc").exists()));
    bed.is_clean();
}

fn a_user_is_who_the_layers_say_together(bed: &Bed) {
    let base = bed.rootfs();
    fs::write(base.join("etc/passwd"), "low:x:0:0::/low:\n").expect("passwd");
    let home = |layers: &[&Path], user: &str| run(bed, layers, &format!("-u {user}"), "env").ok();
    assert!(home(&[&layer(bed, "empty", &[]), &base], "low").contains("HOME=/low\n"));
    let top = layer(bed, "top", &[("etc/passwd", "high:x:0:0::/high:\n")]);
    assert!(home(&[&top, &base], "high").contains("HOME=/high\n"));
    run(bed, &[&top, &base], "-u low", "env").fails(125, &["user", "low"]);
    // Deleted, as a file and with its directory, or hidden.
    let deleted = layer(bed, "deleted", &[]);
    whiteout(&deleted, "etc/passwd");
    run(bed, &[&deleted, &base], "-u low", "env").fails(125, &["user", "low"]);
    assert!(home(&[&top, &deleted, &base], "high").contains("HOME=/high\n"));
    let without = layer(bed, "without", &[]);
    whiteout(&without, "etc");
    run(bed, &[&without, &base], "-u low", "env").fails(125, &["user", "low"]);
    let opaque = layer(bed, "opaque", &[("etc/other", "")]);
    make_opaque(bed, &opaque.join("etc"));
    run(bed, &[&opaque, &base], "-u low", "env").fails(125, &["user", "low"]);
    // A link of one layer to a directory of another, and a file where a directory was.
    let linked = layer(bed, "linked", &[]);
    symlink("/conf/now", linked.join("etc")).expect("a link");
    let conf = layer(bed, "conf", &[("conf/then/passwd", "linked:x:0:0::/linked:\n")]);
    symlink("../conf/then", conf.join("conf/now")).expect("a link");
    assert!(home(&[&linked, &conf, &base], "linked").contains("HOME=/linked\n"));
    let file = layer(bed, "file", &[("etc", "a file")]);
    run(bed, &[&file, &base], "-u low", "env").fails(125, &["user", "low"]);
    bed.is_clean();
}

fn attributes_that_are_not_overlayfs_own_do_not_keep_a_user_from_being_found(bed: &Bed) {
    let base = bed.rootfs();
    fs::write(base.join("etc/passwd"), "low:x:0:0::/low:\n").expect("passwd");
    // Longer than any of overlayfs'.
    let top = layer(bed, "top", &[("etc/other", "")]);
    sys::set_attribute(&top.join("etc"), &format!("{}.overlay.opaque", attributes(bed)), &"y".repeat(300));
    assert!(run(bed, &[&top, &base], "-u low", "env").ok().contains("HOME=/low\n"));
    // In a directory that its owner may enter and not read.
    let closed = layer(bed, "closed", &[("etc/other", "")]);
    fs::set_permissions(closed.join("etc"), fs::Permissions::from_mode(0o311)).expect("a mode");
    let said = run(bed, &[&closed, &base], "-u low", "env");
    fs::set_permissions(closed.join("etc"), fs::Permissions::from_mode(0o755)).expect("a mode");
    assert!(said.ok().contains("HOME=/low\n"));
    bed.is_clean();
}

fn what_is_mounted_in_a_layer_is_not_seen_by_the_lookup_of_a_user(bed: &Bed) {
    if !matches!(bed.mode, Mode::Root | Mode::Mapped) {
        return;
    }
    let base = bed.rootfs();
    fs::write(base.join("etc/passwd"), "low:x:0:0::/low:\n").expect("passwd");
    let (top, others) =
        (layer(bed, "top", &[("etc/other", "")]), layer(bed, "others", &[("passwd", "odd:x:0:0::/:\n")]));
    // Of the same file system, so that nothing but the mount tells.
    let none: Option<&str> = None;
    mount(Some(&others), &top.join("etc"), none, MsFlags::MS_BIND, none).expect("a mount");
    let said = ["low", "odd"].map(|user| run(bed, &[&top, &base], &format!("-u {user}"), "env"));
    umount2(&top.join("etc"), MntFlags::MNT_DETACH).expect("unmounting");
    let [low, odd] = said;
    assert!(low.ok().contains("HOME=/low\n"));
    odd.fails(125, &["user", "odd"]);
    bed.is_clean();
}

fn a_user_is_looked_up_in_what_the_container_has_changed(bed: &Bed) {
    let layers = Layers::new([layer(bed, "top", &[("etc/passwd", "web:x:0:0::/before:\n")]), bed.rootfs()]);
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    let script = "save-env /env , write /etc/passwd web:x:0:0::/after:";
    let container = of_layers("a", layers, script).user("web");
    let run = |again: bool| {
        let process = if again {
            pod.container("a").expect("the container").start(Io::log())
        } else {
            pod.run(&container, Io::log())
        };
        assert_eq!(process.expect("a start").wait().expect("its end").shell_code(), 0);
        fs::read_to_string(bed.state().join("web/containers/a/upper/env")).expect("what it was given")
    };
    assert!(run(false).contains("HOME=/before"));
    assert!(run(true).contains("HOME=/after"));
}

fn no_layer_can_send_the_lookup_of_a_user_outside(bed: &Bed) {
    let base = bed.rootfs();
    fs::create_dir(bed.dir.join("etc")).expect("a directory beside the layers");
    fs::write(bed.dir.join("etc/passwd"), "outside:x:0:0::/outside:\n").expect("a file");
    fs::write(base.join("inside"), "inside:x:0:0::/inside:\n").expect("a file");
    let deep = format!("{}{}", "../".repeat(20), "inside");
    for (name, target, user) in [
        ("absolute", bed.dir.join("etc/passwd").display().to_string(), None),
        ("upward", "../../etc/passwd".into(), None),
        ("magic", "/proc/self/root/etc/passwd".into(), None),
        ("itself", "/etc/passwd".into(), None),
        // `..` of the root is the root.
        ("deep", deep, Some("inside")),
    ] {
        let top = layer(bed, name, &[("etc/", "")]);
        symlink(&target, top.join("etc/passwd")).expect("a link");
        match user {
            Some(user) => {
                assert!(run(bed, &[&top, &base], &format!("-u {user}"), "env").ok().contains("HOME=/inside\n"));
            }
            None => drop(run(bed, &[&top, &base], "-u outside", "env").code(125)),
        }
    }
    // A directory that is a link out.
    let top = layer(bed, "above", &[]);
    symlink(bed.dir.join("etc"), top.join("etc")).expect("a link");
    run(bed, &[&top, &base], "-u outside", "env").fails(125, &["user", "outside"]);
    let top = layer(bed, "pipe", &[("etc/", "")]);
    nix::unistd::mkfifo(&top.join("etc/passwd"), Permissions::from_bits_truncate(0o600)).expect("a pipe");
    run(bed, &[&top, &base], "-u outside", "env").fails(125, &["passwd", "pipe"]);
    bed.is_clean();
}

fn a_mount_goes_where_a_link_of_another_layer_leads(bed: &Bed) {
    let top = layer(bed, "top", &[]);
    symlink("/conf", top.join("link")).expect("a link");
    let middle = layer(bed, "middle", &[("conf/", "")]);
    symlink("../run/made/file", middle.join("conf/file")).expect("a link to what is not there");
    fs::write(bed.dir.join("source"), "mounted").expect("a file");
    let said = run(bed, &[&top, &middle, &bed.rootfs()], "-v DIR/source:/link/file", "read /run/made/file").ok();
    assert!(said.starts_with("mounted\n"), "{said}");
    assert!(!middle.join("run").exists());
}

fn a_tmpfs_begins_with_what_the_layers_have_there(bed: &Bed) {
    let top = layer(bed, "top", &[("srv/top", "top")]);
    whiteout(&top, "srv/gone");
    fs::write(bed.inside("srv/gone"), "x").expect("a file");
    fs::write(bed.inside("srv/low"), "low").expect("a file");
    let mut mount = Mount::new("/srv", MountKind::Tmpfs);
    mount.copy_up = true;
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    for (name, layers) in [("a", vec![top, bed.rootfs()]), ("b", vec![bed.rootfs()])] {
        let several = layers.len() > 1;
        let mut container = of_layers(name, Layers::new(layers), "ls /srv , read /srv/low");
        container.mounts.push(mount.clone());
        match pod.run(&container, Io::log()) {
            Ok(process) => assert_eq!(process.wait().expect("its end").shell_code(), 0),
            // As of a directory; and what reads layers for it.
            Err(Error::Invalid { value, reason, .. }) => {
                assert!(
                    value == "tmpcopyup"
                        && ["an ordinary user", "6.5", "denied here"].iter().any(|word| reason.contains(word))
                );
                let has_calls = pod::facts::Facts::read().expect("facts").calls;
                assert!(bed.mode.nests_users() || !has_calls.layers || !has_calls.new_mount_api(), "{reason}");
                continue;
            }
            Err(error) => panic!("{error}"),
        }
        let log = bed.podlet(&format!("logs web/{name}")).ok();
        let expected = if several { "ls /srv: low top\nlow\n" } else { "ls /srv: gone low\nlow\n" };
        assert_eq!(log, expected);
    }
}

fn own_changes_stay_until_the_container_is_removed(bed: &Bed) {
    let top = layer(bed, "top", &[("srv/file", "as it was")]);
    let layers = || Layers::new([top.clone(), bed.rootfs()]);
    bed.podlet("create web").ok();
    let pod = Pod::open(&bed.store(), "web").expect("a pod");
    let script = "read /srv/file , write /srv/file changed , rm /etc/group , stat /etc/group";
    for name in ["a", "b"] {
        let process = pod.run(&of_layers(name, layers(), script), Io::log()).expect("a start");
        assert_eq!(process.wait().expect("its end").shell_code(), 0);
        assert!(bed.podlet(&format!("logs web/{name}")).ok().starts_with("as it was\n"), "another container's");
    }
    let said = |name: &str| bed.podlet(&format!("logs web/{name}")).ok();
    pod.container("a").expect("the container").start(Io::log()).expect("a start").wait().expect("its end");
    assert!(said("a").contains("changed\nwrite /srv/file: ok\nrm /etc/group: errno 2"), "{}", said("a"));
    let upper = bed.state().join("web/containers/a/upper");
    assert!(upper.join("srv/file").exists());
    bed.podlet("rm web/a").ok();
    assert!(!upper.exists());
    pod.run(&of_layers("a", layers(), script), Io::log()).expect("a start").wait().expect("its end");
    assert!(said("a").starts_with("as it was\n"));
    bed.podlet("rm -f web").ok();
    assert_eq!(fs::read_to_string(top.join("srv/file")).expect("a file"), "as it was");
    bed.is_clean();
}

fn changes_go_where_the_caller_says_and_stay_there(bed: &Bed) {
    let changes = bed.dir.join("changes: \\ a,b");
    fs::create_dir(&changes).expect("a directory");
    let (upper, work) = (changes.join("upper"), changes.join("work"));
    fs::create_dir(&upper).expect("a directory");
    fs::set_permissions(&upper, fs::Permissions::from_mode(0o751)).expect("mode");
    fs::create_dir(&work).expect("a directory");
    let layers = Layers::new([layer(bed, "top", &[("srv/file", "x")]), bed.rootfs()]).upper(&upper, &work);
    bed.podlet("create web").ok();
    let pod = Pod::open(&bed.store(), "web").expect("a pod");
    let container = of_layers("a", layers, "stat / , write /srv/file changed , read /srv/more , write /srv/more x");
    for read in ["read /srv/more: errno 2", "x"] {
        pod.run(&container, Io::log()).expect("a start").wait().expect("its end");
        let said = bed.podlet("logs web/a").ok();
        assert!(said.starts_with("stat /: dir 751 ") && said.lines().any(|line| line == read), "{said}");
        bed.podlet("rm web/a").ok();
        assert_eq!(fs::read_to_string(upper.join("srv/file")).expect("a file"), "changed");
    }
    bed.podlet("rm -f web").ok();
    bed.is_clean();
    assert!(upper.join("srv/more").exists() && work.exists());
}

fn two_containers_do_not_write_to_one_directory(bed: &Bed) {
    let (upper, work, other) = (bed.dir.join("upper"), bed.dir.join("work"), bed.dir.join("other"));
    [&upper, &work, &other].iter().for_each(|dir| fs::create_dir(dir).expect("a directory"));
    let link = bed.dir.join("link");
    symlink(&upper, &link).expect("a link");
    let layers = |upper: &Path, work: &Path| Layers::new([bed.rootfs()]).upper(upper, work);
    let pods: Vec<_> = ["one", "two"]
        .map(|name| {
            bed.podlet(&format!("create {name}")).ok();
            Pod::open(&bed.store(), name).expect("a pod")
        })
        .into();
    let first = of_layers("a", layers(&upper, &work), "block");
    pods[0].run(&first, Io::log()).expect("the first");
    let fourth = bed.dir.join("fourth");
    fs::create_dir(&fourth).expect("a directory");
    for (pod, upper, work, field) in [
        (&pods[0], &upper, &other, "root.layers.upper"),
        (&pods[1], &upper, &work, "root.layers.upper"),
        (&pods[1], &link, &other, "root.layers.upper"),
        (&pods[1], &fourth, &work, "root.layers.work"),
    ] {
        match pod.run(&of_layers("b", layers(upper, work), "exit 0"), Io::log()) {
            Err(Error::Invalid { field: found, reason, .. }) => {
                assert!(found == field && reason.contains("one/a"), "{reason}")
            }
            other => panic!("{field}: {:?}", other.map(|process| process.wait())),
        }
        assert!(pod.container("b").is_err());
    }
    // Not its own, and not one that has ended.
    bed.podlet("restart -t 0 one/a").ok();
    pods[0].container("a").expect("it").kill_all().expect("its end");
    pods[0].container("a").expect("it").process().expect("a process").wait().expect("its end");
    let next = pods[1].run(&of_layers("b", layers(&upper, &work), "exit 3"), Io::log()).expect("after it");
    assert_eq!(next.wait().expect("its end").shell_code(), 3);
    ["one", "two"].iter().for_each(|pod| drop(bed.podlet(&format!("rm -f {pod}")).ok()));
}

fn a_hundred_layers_of_odd_and_long_names(bed: &Bed) {
    let odd = ["colon:", "comma,", "back\\slash", "space ", "\\:,", "plus+=", "ü"];
    let mut layers: Vec<PathBuf> =
        odd.iter().map(|name| layer(bed, name, &[(&format!("odd/{}", name.len()), "x")])).collect();
    layers.extend((0..128).map(|number| layer(bed, &format!("layers/{number}"), &[(&format!("n/{number}"), "x")])));
    layers.push(bed.rootfs());
    let look = |layers: &[PathBuf]| {
        let layers: Vec<_> = layers.iter().map(PathBuf::as_path).collect();
        run(bed, &layers, "", "ls /n , ls /odd , write /x y").ok()
    };
    let listed = |said: &str, dir: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("ls {dir}: ")).map(str::to_string));
        line.unwrap_or_default().split_whitespace().count()
    };
    let said = look(&layers);
    assert_eq!((listed(&said, "/n"), said.contains("write /x: ok")), (128, true), "{said}");
    assert!(listed(&said, "/odd") > 3, "{said}");
    // Few enough to be named at once.
    let few = [&layers[..7], &layers[layers.len() - 1..]].concat();
    assert!(listed(&look(&few), "/odd") > 3);
    // A name that is longer than what the kernel takes of one.
    let long = format!("{}/{}/{}", "a".repeat(120), "b".repeat(120), "c:".repeat(20));
    layers[9] = layer(bed, &long, &[("n/long", "x")]);
    assert_eq!(listed(&look(&layers), "/n"), 128);
    bed.is_clean();
}

fn a_pods_user_namespace_owns_layers_of_the_machines(bed: &Bed) {
    if !matches!(bed.mode, Mode::Root | Mode::Vm) {
        return;
    }
    let top = layer(bed, "top", &[("srv/file", "x")]);
    std::os::unix::fs::chown(top.join("srv/file"), Some(33), Some(34)).expect("chown");
    whiteout(&top, "etc/group");
    let share = "--share net,pid,ipc,uts,user --uidmap 0:200000:65536 --gidmap 0:200000:65536";
    bed.podlet(&format!("create web {share}")).ok();
    let pod = Pod::open(&bed.store(), "web").expect("a pod");
    let script = "stat / , stat /srv/file , stat /etc/group , write /srv/file y , write /new x , stat /new";
    let (upper, work) = (bed.dir.join("changes/upper"), bed.dir.join("changes/work"));
    [&upper, &work].iter().for_each(|dir| fs::create_dir_all(dir).expect("a directory"));
    let lower = || Layers::new([top.clone(), bed.rootfs()]);
    for (name, layers, upper) in
        [("a", lower(), bed.state().join("web/containers/a/upper")), ("b", lower().upper(&upper, &work), upper.clone())]
    {
        let process = pod.run(&of_layers(name, layers, script), Io::log()).expect("a start");
        assert_eq!(process.wait().expect("its end").shell_code(), 0);
        let said = bed.podlet(&format!("logs web/{name}")).ok();
        for part in ["stat /: dir 755 0:0 ", "stat /srv/file: file 644 33:34 ", "stat /new: file 644 0:0 "] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(said.contains("stat /etc/group: errno 2") && said.contains("write /srv/file: ok"), "{said}");
        // On disk they are as in any image.
        let owner = |path: &str| fs::metadata(upper.join(path)).expect("a file").uid();
        assert_eq!((owner("new"), owner("srv/file")), (0, 33));
    }
    // Of both kinds.
    std::os::unix::fs::chown(&top, Some(200_000), Some(200_000)).expect("chown");
    let error = pod.run(&of_layers("c", lower(), "exit 0"), Io::log()).expect_err("half of it").to_string();
    assert!(error.contains("root.layers.lower[1]") && error.contains("chown"), "{error}");
    std::os::unix::fs::chown(&top, Some(0), Some(0)).expect("chown");
    let other = bed.dir.join("other");
    fs::create_dir(&other).expect("a directory");
    let error =
        pod.run(&of_layers("c", lower().upper(&upper, &other), "exit 0"), Io::log()).expect_err("apart").to_string();
    assert!(error.contains("root.layers.work") && error.contains("beside"), "{error}");
    bed.podlet("rm -f web").ok();
    bed.is_clean();
}

fn what_other_users_of_a_container_made_is_removed_with_it(bed: &Bed) {
    let user = if bed.mode.has_ids() { "33" } else { "0" };
    bed.podlet("create web").ok();
    let script = "mkdir /tmp/a , mkdir /tmp/a/b , write /tmp/a/b/file x , deep /tmp/a d 40 write end x , \
                  chmod 0 /tmp/a/b , chmod 0 /tmp/a";
    for remove in ["rm web/a", "rm -f web"] {
        let line = format!("run --pod web --name a -u {user} --rootfs-layer ROOT /probe {script}");
        let said = bed.podlet(&line).ok();
        assert!(said.contains("chmod /tmp/a: ok") && said.contains("write end: ok"), "{said}");
        bed.podlet(remove).ok();
        assert!(!bed.state().join("web/containers/a").exists());
    }
    bed.is_clean();
}

fn what_other_users_of_a_damaged_pod_made_is_removed_with_it(bed: &Bed) {
    let user = if bed.mode.has_ids() { "33" } else { "0" };
    bed.podlet("create web").ok();
    let script = "mkdir /tmp/a , write /tmp/a/file x , chmod 0 /tmp/a";
    bed.podlet(&format!("run --pod web --name a -u {user} --rootfs-layer ROOT /probe {script}")).ok();
    fs::write(bed.state().join("web/pod.json"), "{").expect("damage");
    bed.podlet("rm -f web").ok();
    assert_eq!(fs::read_dir(bed.state().join(".sweep")).map_or(0, Iterator::count), 0, "what is left of it");
    bed.is_clean();
}

fn layers_that_cannot_be_are_refused_by_name(bed: &Bed) {
    let (upper, work) = (bed.dir.join("upper"), bed.dir.join("work"));
    [&upper, &work, &upper.join("in")].iter().for_each(|dir| fs::create_dir(dir).expect("a directory"));
    let other = PathBuf::from("/dev/shm");
    let base = bed.rootfs();
    let inside = base.join("sub");
    let lower = |paths: &[&Path]| Layers::new(paths.iter().map(|path| path.to_path_buf()));
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    for (layers, field, word) in [
        (lower(&[]), "root.layers.lower", "topmost"),
        (lower(&[&base, Path::new("x")]), "root.layers.lower[1]", "absolute"),
        (lower(&[&bed.dir.join("none"), &base]), "root.layers.lower[0]", "No such file"),
        (lower(&[&base, &upper, &base]), "root.layers.lower[2]", "same directory"),
        (lower(&[&inside, &base]), "root.layers.lower[0]", "lies in"),
        (lower(&[&base]).upper(&base, &work), "root.layers.lower[0]", "written"),
        (lower(&[&base]).upper(&upper, &upper), "root.layers.work", "side by side"),
        (lower(&[&base]).upper(&upper, upper.join("in")), "root.layers.work", "side by side"),
        (lower(&[&base]).upper(&upper, &other), "root.layers.work", "file system"),
        (lower(&[&base]).upper("upper", &work), "root.layers.upper", "absolute"),
        (lower(&[&base]).upper(&upper, bed.dir.join("none")), "root.layers.work", "No such file"),
    ] {
        match pod.run(&of_layers("a", layers, "exit 0"), Io::log()) {
            Err(Error::Invalid { field: found, reason, .. }) => {
                assert!(found == field && reason.contains(word), "{field}, {word}: {found}, {reason}");
            }
            other => panic!("{field}: {:?}", other.map(|process| process.wait())),
        }
    }
    assert!(pod.containers().expect("names").is_empty());
    if bed.mode == Mode::Root {
        refused_file_systems(bed, &pod, &base);
    }
}

/// What only who may mount can have in a test.
fn refused_file_systems(bed: &Bed, pod: &Pod, base: &Path) {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let none: Option<&str> = None;
    let point = layer(bed, "point", &[]);
    let (low, one, two) =
        (layer(bed, "low", &[("up/", ""), ("work/", "")]), layer(bed, "one", &[]), layer(bed, "two", &[]));
    let options = format!("lowerdir={},upperdir={},workdir={}", low.display(), one.display(), two.display());
    let overlay = || mount(Some("overlay"), &point, Some("overlay"), MsFlags::empty(), Some(options.as_str()));
    let bound = || mount(Some(&low), &point, none, MsFlags::MS_BIND, none);
    let read_only = || {
        bound()?;
        mount(none, &point, none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY, none)
    };
    type Make<'a> = &'a dyn Fn() -> nix::Result<()>;
    let makers: [(Make<'_>, &str, &str); 3] = [
        (&overlay, "root.layers.upper", "overlay"),
        (&read_only, "root.layers.upper", "read-only"),
        (&bound, "root.layers.work", "mount"),
    ];
    for (make, field, word) in makers {
        make().expect("a mount");
        let work = if field.ends_with("work") { low.join("work") } else { point.join("work") };
        let layers = Layers::new([base]).upper(point.join("up"), work);
        let started = pod.run(&of_layers("a", layers, "exit 0"), Io::log()).map(|process| process.wait());
        umount2(&point, MntFlags::MNT_DETACH).expect("unmounting");
        match started {
            Err(Error::Invalid { field: found, reason, .. }) => {
                assert!(found == field && reason.contains(word), "{field}, {word}: {found}, {reason}");
            }
            other => panic!("{field}: {other:?}"),
        }
    }
}
