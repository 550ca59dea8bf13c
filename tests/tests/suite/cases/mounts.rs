//! Mounts: what their options do, where they go, and how many there may be.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pod::spec::{Device, DeviceKind, Mount, MountIds, MountKind};
use pod::{ContainerSpec, Io, Pod, PodOptions};
use serde_json::{Value, json};

use crate::bed::{self, Bed};
use crate::modes::Mode;

crate::tests![
    options_of_binds_in_their_order,
    options_for_the_mounts_below,
    options_of_new_file_systems,
    a_tmpfs_that_is_read_only_still_gets_what_is_below,
    remounts,
    volumes_propagate_as_asked,
    the_root_propagates_as_asked,
    ids_of_a_mount,
    tmpcopyup_begins_with_what_the_image_has,
    a_thousand_mounts,
    devices_by_their_numbers,
    masks_do_not_trust_the_images_dev,
    errors_of_mounts_name_the_destination,
    places_in_the_image,
];

/// A config with `/proc` and these mounts, which runs the probe.
fn config(bed: &Bed, mounts: Value, script: &str) -> Value {
    let mut all = vec![json!({ "destination": "/proc", "type": "proc", "source": "proc" })];
    all.extend(mounts.as_array().expect("a list").iter().cloned());
    let args: Vec<_> = std::iter::once("/probe").chain(script.split_whitespace()).collect();
    let kinds = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({ "type": kind }));
    let config = json!({
        "ociVersion": "1.3.0",
        "root": { "path": "rootfs" },
        "process": { "user": { "uid": 0, "gid": 0 }, "args": args, "cwd": "/" },
        "mounts": all,
        "linux": { "namespaces": kinds }
    });
    write(bed, &config);
    config
}

fn write(bed: &Bed, config: &Value) {
    fs::write(bed.dir.join("config.json"), config.to_string()).expect("config.json");
}

fn run(bed: &Bed, mounts: Value, script: &str) -> String {
    config(bed, mounts, script);
    bed.podlet("run --rm --bundle DIR").ok()
}

/// The line of a mount point in `/proc/self/mountinfo`.
#[track_caller]
fn line<'a>(mountinfo: &'a str, target: &str) -> &'a str {
    let found = mountinfo.lines().rfind(|line| line.split(' ').nth(4) == Some(target));
    found.unwrap_or_else(|| panic!("no {target}: {mountinfo}"))
}

/// Its own options, and what it says of propagation.
#[track_caller]
fn options(mountinfo: &str, target: &str) -> (Vec<String>, String) {
    let line = line(mountinfo, target);
    let own = line.split(' ').nth(5).expect("options").split(',').map(String::from).collect();
    let optional = line.split(" - ").next().expect("a part").split(' ').skip(6).collect::<Vec<_>>().join(" ");
    (own, optional)
}

/// Mounts a tmpfs, shared, whose mounts the modes of ordinary users cannot
/// make; it goes with the test's mount namespace.
fn shared_tmpfs(at: &Path) {
    let none: Option<&str> = None;
    fs::create_dir_all(at).expect("a directory");
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), none).expect("a tmpfs");
    mount(none, at, none, MsFlags::MS_SHARED, none).expect("shared");
}

/// Makes a directory of the test's own file system, whose ids every kernel can map,
/// a shared mount; it goes with the test's mount namespace.
fn shared_bind(at: &Path) {
    let none: Option<&str> = None;
    fs::create_dir_all(at).expect("a directory");
    mount(Some(at), at, none, MsFlags::MS_BIND, none).expect("a bind");
    mount(none, at, none, MsFlags::MS_SHARED, none).expect("shared");
}

fn options_of_binds_in_their_order(bed: &Bed) {
    fs::create_dir(bed.dir.join("volume")).expect("a volume");
    // The time of access of a mount from outside is locked in a user namespace.
    let atime = bed.mode == Mode::Root;
    let mut names = vec!["ro", "nosuid", "nodev", "noexec", "nosymfollow"];
    if atime {
        names.extend(["noatime", "nodiratime"]);
    }
    let bind = |target: &str, options: &[&str]| {
        let options: Vec<_> = std::iter::once("bind").chain(options.iter().copied()).collect();
        json!({ "destination": target, "type": "none", "source": "volume", "options": options })
    };
    let mut mounts: Vec<_> = names.iter().map(|name| bind(&format!("/m/{name}"), &[name])).collect();
    mounts.push(bind("/m/ro-rw", &["ro", "rw"]));
    mounts.push(bind("/m/rw-ro", &["rw", "ro"]));
    mounts.push(bind("/m/noexec-exec", &["noexec", "exec"]));
    mounts.push(bind("/m/plain", if atime { &["noatime", "strictatime"] } else { &[] }));
    let said = run(bed, json!(mounts), "mounts");
    for name in names.iter().copied() {
        let (own, _) = options(&said, &format!("/m/{name}"));
        assert!(own.iter().any(|option| option == name), "{name}: {own:?}");
        for other in names.iter().filter(|other| **other != name && **other != "nodev") {
            let source = options(&said, "/m/plain").0;
            assert!(
                source.iter().any(|option| option == other) || !own.iter().any(|option| option == other),
                "{own:?}"
            );
        }
    }
    let has = |target: &str, option: &str| options(&said, target).0.iter().any(|own| own == option);
    assert!(has("/m/ro-rw", "rw") && has("/m/rw-ro", "ro"), "{said}");
    assert!(!has("/m/noexec-exec", "noexec"), "{said}");
    if !atime {
        noatime_is_explained(bed, bind("/m", &["noatime"]));
        return;
    }
    assert!(!has("/m/plain", "noatime") && !has("/m/plain", "relatime"), "{said}");
}

fn noatime_is_explained(bed: &Bed, mount: Value) {
    config(bed, json!([mount]), "mounts");
    bed.podlet("run --rm --bundle DIR").fails(125, &["the mount on /m", "time of access"]);
}

fn options_for_the_mounts_below(bed: &Bed) {
    let volume = bed.dir.join("volume");
    fs::create_dir(&volume).expect("a volume");
    let below = bed.mode == Mode::Root || bed.mode == Mode::Mapped;
    if below {
        fs::create_dir(volume.join("sub")).expect("a directory");
        let flags = MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
        let none: Option<&str> = None;
        mount(Some("tmpfs"), &volume.join("sub"), Some("tmpfs"), flags, none).expect("a tmpfs");
    }
    let bind = |target: &str, options: &[&str]| json!({ "destination": target, "type": "bind", "source": "volume", "options": options });
    let mounts = json!([
        bind("/rro", &["rbind", "rro", "rnosuid"]),
        bind("/ro", &["rbind", "ro"]),
        bind("/top", &["rbind", "rro", "rw"]),
        bind("/clear", &["rbind", "rexec", "ratime"]),
        bind("/bind", &["bind", "rro"]),
    ]);
    let said = run(bed, mounts, "mounts");
    let has = |target: &str, option: &str| options(&said, target).0.iter().any(|own| own == option);
    assert!(has("/rro", "ro") && has("/rro", "nosuid") && has("/ro", "ro") && has("/top", "rw"), "{said}");
    if below {
        assert!(has("/rro/sub", "ro") && has("/rro/sub", "nosuid"), "{said}");
        assert!(has("/rro/sub", "noexec") && has("/rro/sub", "noatime"), "what it had: {said}");
        assert!(has("/ro/sub", "rw") && has("/top/sub", "ro"), "{said}");
        assert!(!has("/clear/sub", "noexec") && !has("/clear/sub", "noatime"), "{said}");
        assert!(!said.lines().any(|line| line.contains(" /bind/sub ")), "{said}");
        umount2(&volume.join("sub"), MntFlags::MNT_DETACH).expect("unmounting");
    }
}

fn options_of_new_file_systems(bed: &Bed) {
    for layer in ["one", "two"] {
        fs::create_dir(bed.dir.join(layer)).expect("a layer");
        fs::write(bed.dir.join(layer).join(layer), layer).expect("a file");
    }
    let layers = format!("lowerdir={0}/one:{0}/two", bed.dir.display());
    let mounts = json!([
        { "destination": "/layers", "type": "overlay", "source": "overlay", "options": [layers, "ro", "nosuid"] },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755"] },
        { "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"] },
        { "destination": "/a", "type": "tmpfs", "options": ["size=64k", "mode=700", "nr_inodes=11", "noexec", "sync", "huge=never"] },
        { "destination": "/ram", "type": "ramfs", "source": "ramfs", "options": ["nosuid", "mode=711"] },
        { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid"] },
    ]);
    let said = run(bed, mounts, "mounts , stat /a , stat /ram , stat /dev/ptmx , ls /dev , ls /layers");
    assert!(said.contains("ls /layers: one two") && line(&said, "/layers").contains(" ro,nosuid"), "{said}");
    let a = line(&said, "/a");
    for word in ["noexec", "size=64k", "nr_inodes=11", "mode=700"] {
        assert!(a.contains(word), "{word}: {a}");
    }
    assert!(a.split(" - ").nth(1).expect("a file system").contains("rw,sync"), "{a}");
    assert!(said.contains("stat /a: dir 700") && said.contains("stat /ram: dir 711"), "{said}");
    assert!(line(&said, "/ram").contains(" - ramfs ramfs"), "{said}");
    let cgroup = line(&said, "/sys/fs/cgroup");
    assert!(cgroup.contains(" ro,") && cgroup.contains(" - cgroup2 "), "{cgroup}");
    assert!(said.contains("stat /dev/ptmx: link"), "{said}");
    // Options of /proc take a /proc of one's own.
    let mut config = config(bed, json!([]), "mounts , ls /proc");
    config["mounts"][0]["options"] = json!(["hidepid=invisible", "subset=pid", "nosuid"]);
    write(bed, &config);
    let said = bed.podlet("run --rm --share net,ipc,uts --bundle DIR").ok();
    let proc = line(&said, "/proc");
    assert!(proc.contains("hidepid=invisible") && proc.contains("subset=pid"), "{proc}");
    assert!(!said.contains("cmdline"), "only processes: {said}");
}

fn a_tmpfs_that_is_read_only_still_gets_what_is_below(bed: &Bed) {
    fs::create_dir(bed.dir.join("volume")).expect("a volume");
    fs::write(bed.dir.join("volume/file"), "content").expect("a file");
    let mounts = json!([
        { "destination": "/dev", "type": "tmpfs", "options": ["ro", "mode=755"] },
        { "destination": "/t", "type": "tmpfs", "options": ["rro"] },
        { "destination": "/t/deep/below", "type": "bind", "source": "volume", "options": ["rbind"] },
    ]);
    let said = run(bed, mounts, "read /t/deep/below/file , write /t/x y , write /dev/x y , write /dev/null x");
    assert!(said.contains("content"), "{said}");
    assert!(said.contains("write /t/x: errno 30") && said.contains("write /dev/x: errno 30"), "{said}");
    assert!(said.contains("write /dev/null: ok"), "{said}");
}

fn remounts(bed: &Bed) {
    let mounts = json!([
        { "destination": "/a", "type": "tmpfs", "options": ["mode=755"] },
        { "destination": "/a/x/y", "type": "tmpfs" },
        { "destination": "/a", "options": ["remount", "bind", "ro", "nosuid"] },
        { "destination": "/b", "type": "tmpfs", "options": ["mode=755"] },
        { "destination": "/b", "type": "tmpfs", "options": ["remount", "size=128k"] },
    ]);
    let said = run(bed, mounts, "mounts , write /a/z y , write /b/z y");
    assert!(line(&said, "/a").contains(" ro,nosuid"), "{said}");
    assert!(said.contains("write /a/z: errno 30") && said.contains("write /b/z: ok"), "{said}");
    assert!(line(&said, "/b").contains("size=128k") && line(&said, "/b").contains("nodev"), "{said}");
    config(bed, json!([{ "destination": "/a", "options": ["remount", "bind", "dev"] }]), "mounts");
    bed.podlet("run --rm --bundle DIR").fails(125, &["the mount on /a", "\"dev\""]);
    config(bed, json!([{ "destination": "/srv", "options": ["remount", "bind", "ro"] }]), "mounts");
    bed.podlet("run --rm --bundle DIR").fails(125, &["the mount on /srv"]);
}

fn volumes_propagate_as_asked(bed: &Bed) {
    if bed.mode != Mode::Root {
        // Only root has mounts that others can have a part in.
        let said = bed.podlet("run --rm -v DIR/rootfs:/srv:rslave --rootfs ROOT /probe mounts").ok();
        assert!(!options(&said, "/srv").1.contains("shared"), "{said}");
        return;
    }
    let volume = bed.dir.join("volume");
    shared_tmpfs(&volume);
    for dir in ["early", "late", "inside"] {
        fs::create_dir(volume.join(dir)).expect("a directory");
    }
    bed.podlet("create web").ok();
    let volumes = "-v DIR/volume:/private -v DIR/volume:/slave:rslave,ro -v DIR/volume:/shared:rshared";
    let script =
        "mounts , wait-file /srv/go , mounts , mount tmpfs /shared/inside , mount tmpfs /private/inside , exit 0";
    bed.podlet(&format!("run --pod web -d --name a --cap-add SYS_ADMIN {volumes} --rootfs ROOT /probe {script}")).ok();
    bed.until("its first mounts", || bed.podlet("logs web/a").ok().contains("/shared"));
    let none: Option<&str> = None;
    mount(Some("tmpfs"), &volume.join("late"), Some("tmpfs"), MsFlags::empty(), none).expect("a tmpfs");
    fs::write(bed.inside("srv/go"), "").expect("a file");
    bed.podlet("wait web/a").ok();
    let said = bed.podlet("logs web/a").ok();
    assert!(said.contains("mount /shared/inside: ok"), "{said}");
    assert!(options(&said, "/private").1.is_empty(), "{said}");
    let (own, slave) = options(&said, "/slave");
    assert!(slave.starts_with("master:") && own.contains(&"ro".to_string()), "{said}");
    assert!(options(&said, "/shared").1.starts_with("shared:"), "{said}");
    line(&said, "/slave/late");
    line(&said, "/shared/late");
    assert!(!said.contains(" /private/late "), "{said}");
    let outside = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let came_out = outside.lines().filter(|line| line.contains(&format!("{}/inside ", volume.display()))).count();
    assert_eq!(came_out, 1, "the shared one's and no other: {outside}");
    bed.podlet("rm -f web").ok();
    umount2(&volume, MntFlags::MNT_DETACH).expect("unmounting");
}

fn the_root_propagates_as_asked(bed: &Bed) {
    for (name, root, fresh) in [
        ("", "", ""),
        ("private", "", ""),
        ("rprivate", "", ""),
        ("slave", "", ""),
        ("rslave", "", ""),
        ("shared", "shared:", ""),
        ("rshared", "shared:", "shared:"),
        ("unbindable", "unbindable", ""),
        ("runbindable", "unbindable", "unbindable"),
    ] {
        let mounts = json!([{ "destination": "/t", "type": "tmpfs", "options": [] }]);
        let mut config = config(bed, mounts, "mounts");
        config["linux"]["rootfsPropagation"] = json!(name);
        write(bed, &config);
        let said = bed.podlet("run --rm --bundle DIR").ok();
        let found = options(&said, "/").1;
        assert!(found.starts_with(root) && found.is_empty() == root.is_empty(), "{name}: {said}");
        let found = options(&said, "/t").1;
        assert!(found.starts_with(fresh) && found.is_empty() == fresh.is_empty(), "{name}: {said}");
    }
    if bed.mode != Mode::Root {
        return;
    }
    // A bind without a word on it receives, unless the root is private.
    let volume = bed.dir.join("volume");
    shared_tmpfs(&volume);
    for (name, expected) in [("", "master:"), ("private", ""), ("rslave", "master:"), ("rshared", "shared:")] {
        let bind = |target: &str, option: &str| json!({ "destination": target, "type": "bind", "source": "volume", "options": ["bind", option] });
        let mut config = config(bed, json!([bind("/m", "rw"), bind("/p", "private")]), "mounts");
        config["linux"]["rootfsPropagation"] = json!(name);
        write(bed, &config);
        let said = bed.podlet("run --rm --bundle DIR").ok();
        let found = options(&said, "/m").1;
        assert!(found.starts_with(expected) && found.is_empty() == expected.is_empty(), "{name:?}: {said}");
        // What is said of the whole root afterwards is said of this one, too.
        assert!(!options(&said, "/p").1.contains("master:"), "{name:?}: {said}");
    }
    umount2(&volume, MntFlags::MNT_DETACH).expect("unmounting");
}

fn ids_of_a_mount(bed: &Bed) {
    let volume = bed.dir.join("volume");
    let maps = json!([{ "containerID": 0, "hostID": 100_000, "size": 1000 }]);
    let bind = |target: &str, options: &[&str], maps: &Value| {
        let mut bind = json!({ "destination": target, "type": "bind", "source": "volume", "options": options });
        if !maps.is_null() {
            bind["uidMappings"] = maps.clone();
            bind["gidMappings"] = maps.clone();
        }
        bind
    };
    if bed.mode != Mode::Root {
        fs::create_dir(&volume).expect("a volume");
        config(bed, json!([bind("/m", &["bind", "idmap"], &Value::Null)]), "stat /m/file");
        bed.podlet("run --rm --bundle DIR").fails(125, &["the mount on /m", "idmap"]);
        return;
    }
    shared_bind(&volume);
    for dir in ["", "sub"] {
        fs::create_dir_all(volume.join(dir)).expect("a directory");
        if dir == "sub" {
            shared_bind(&volume.join(dir));
        }
        fs::write(volume.join(dir).join("file"), "").expect("a file");
        chown(volume.join(dir).join("file"), Some(7), Some(8)).expect("an owner");
    }
    let mounts = json!([
        bind("/plain", &["rbind"], &Value::Null),
        bind("/m", &["rbind", "idmap"], &maps),
        bind("/r", &["rbind", "ridmap"], &maps),
        bind("/implied", &["bind"], &maps),
    ]);
    let script =
        "stat /plain/file , stat /m/file , stat /m/sub/file , stat /r/file , stat /r/sub/file , stat /implied/file";
    let said = run(bed, mounts, script);
    for (file, owner) in [
        ("/plain/file", "7:8"),
        ("/m/file", "100007:100008"),
        ("/m/sub/file", "7:8"),
        ("/r/file", "100007:100008"),
        ("/r/sub/file", "100007:100008"),
        ("/implied/file", "100007:100008"),
    ] {
        assert!(said.contains(&format!("stat {file}: file 644 {owner} ")), "{file} {owner}: {said}");
    }
    // Without mappings: those of the container, if it has any.
    config(bed, json!([bind("/m", &["bind", "idmap"], &Value::Null)]), "stat /m/file , write /m/new x");
    bed.podlet("run --rm --bundle DIR").fails(125, &["idmap", "uidMappings"]);
    let users = "--share net,ipc,uts,pid,user --uidmap 0:100000:65536 --gidmap 0:100000:65536";
    let said = bed.podlet(&format!("run --rm {users} --bundle DIR")).ok();
    assert!(said.contains("stat /m/file: file 644 7:8 ") && said.contains("write /m/new: ok"), "{said}");
    assert_eq!(fs::metadata(volume.join("new")).expect("a file").uid(), 0, "on disk it is root's");
    umount2(&volume, MntFlags::MNT_DETACH).expect("unmounting");
}

fn tmpcopyup_begins_with_what_the_image_has(bed: &Bed) {
    let dir = bed.inside("etc/tree");
    fs::create_dir_all(dir.join("deep/empty")).expect("a directory");
    fs::write(dir.join("deep/file"), "content").expect("a file");
    fs::write(dir.join("plain"), "plain").expect("a file");
    fs::set_permissions(dir.join("deep/file"), fs::Permissions::from_mode(0o4755)).expect("mode");
    fs::set_permissions(dir.join("deep"), fs::Permissions::from_mode(0o711)).expect("mode");
    symlink("/nowhere", dir.join("link")).expect("a link");
    symlink("etc/tree", bed.inside("via")).expect("a link");
    nix::unistd::mkfifo(&dir.join("fifo"), nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
    let owned = bed.mode == Mode::Root;
    if owned {
        chown(dir.join("deep/file"), Some(33), Some(34)).expect("an owner");
        fs::set_permissions(dir.join("deep/file"), fs::Permissions::from_mode(0o4755)).expect("mode");
    }
    let options = ["tmpcopyup", "nosuid", "noexec", "size=1m"];
    let mounts = json!([
        { "destination": "/via", "type": "tmpfs", "options": options },
        { "destination": "/made", "type": "tmpfs", "options": ["tmpcopyup", "ro"] },
    ]);
    let script = "mounts , read /etc/tree/deep/file , stat /etc/tree/deep/file , stat /etc/tree/deep , stat /etc/tree/link , \
                  stat /etc/tree/deep/empty , stat /etc/tree/fifo , write /etc/tree/plain new , ls /made , write /made/x y";
    config(bed, mounts, script);
    if bed.mode.nests_users() {
        bed.podlet("run --rm --bundle DIR").fails(125, &["the mount on /via", "tmpcopyup"]);
        return;
    }
    let said = bed.podlet("run --rm --bundle DIR").ok();
    let line = line(&said, "/etc/tree");
    assert!(line.contains("nosuid,nodev,noexec") && line.contains("size=1024k"), "{line}");
    let owner = if owned { "33:34" } else { "0:0" };
    assert!(said.contains("content"), "{said}");
    assert!(said.contains(&format!("stat /etc/tree/deep/file: file 4755 {owner} ")), "{said}");
    assert!(said.contains("stat /etc/tree/deep: dir 711"), "{said}");
    assert!(said.contains("stat /etc/tree/link: link") && said.contains("stat /etc/tree/deep/empty: dir"), "{said}");
    assert!(said.contains("stat /etc/tree/fifo: other 400"), "{said}");
    assert!(said.contains("write /etc/tree/plain: ok") && said.contains("write /made/x: errno 30"), "{said}");
    assert_eq!(fs::read_to_string(dir.join("plain")).expect("the image's"), "plain");
    if owned {
        let users = "--share net,ipc,uts,pid,user --uidmap 0:100000:65536 --gidmap 0:100000:65536";
        let said = bed.podlet(&format!("run --rm {users} --bundle DIR")).ok();
        assert!(said.contains("stat /etc/tree/deep/file: file 4755 33:34 "), "{said}");
    }
}

fn a_thousand_mounts(bed: &Bed) {
    let volume = bed.dir.join("volume");
    fs::create_dir(&volume).expect("a volume");
    fs::write(volume.join("file"), "content").expect("a file");
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    let mut container = bed.container("a", "mounts , read /many/499/file , read /files/499 , write /many/0/x y");
    for i in 0..500 {
        container = container.bind(&volume, format!("/many/{i}"), i > 0);
        container = container.bind(volume.join("file"), format!("/files/{i}"), true);
    }
    let output = start(&pod, container);
    for prefix in ["/many/", "/files/"] {
        let mounted = |line: &&str| line.split(' ').nth(4).is_some_and(|target| target.starts_with(prefix));
        assert_eq!(output.lines().filter(|line| line.contains(" - ")).filter(mounted).count(), 500, "{prefix}");
    }
    assert_eq!(output.matches("content").count(), 2);
    assert!(output.contains("write /many/0/x: ok"));
    assert_eq!(fs::read_to_string(volume.join("x")).expect("written"), "y");
    pod.remove().expect("removal");
}

/// Starts a container and returns what it printed.
fn start(pod: &Pod, container: ContainerSpec) -> String {
    let code = pod.run(&container, Io::log()).expect("a start").wait().expect("its end").shell_code();
    let log = bed::logged(&pod.container(&container.name).expect("the container"));
    assert_eq!(code, 0, "{log}");
    log
}

fn devices_by_their_numbers(bed: &Bed) {
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    let device = |path: &str, kind, major, minor| Device {
        path: path.into(),
        kind,
        major,
        minor,
        mode: Some(0o640),
        uid: None,
        gid: None,
    };
    let container = || {
        bed.container(
            "a",
            "stat /dev/nil , write /dev/nil x , stat /dev/deep/pipe , stat /srv/zero , write /srv/zero x",
        )
    };
    let devices = vec![
        device("/dev/nil", DeviceKind::Char, 1, 3),
        device("/dev/deep/pipe", DeviceKind::Fifo, 0, 0),
        device("/srv/zero", DeviceKind::Char, 1, 5),
    ];
    let with = |name: &str, devices| {
        let mut container = container();
        container.name = name.into();
        container.devices = devices;
        container
    };
    let said = start(&pod, with("a", devices));
    assert!(said.contains("stat /dev/nil: char") && said.contains(" 1:3 "), "{said}");
    assert!(said.contains("stat /srv/zero: char") && said.contains(" 1:5 "), "{said}");
    assert!(said.contains("write /dev/nil: ok") && said.contains("write /srv/zero: ok"), "{said}");
    assert!(said.contains("stat /dev/deep/pipe: other 640"), "{said}");
    let none = with("b", vec![device("/dev/x", DeviceKind::Block, 1, 3)]);
    let error = pod.run(&none, Io::log()).expect_err("no such device");
    assert!(error.to_string().contains("/dev/x") && error.to_string().contains("1:3"), "{error}");
    pod.remove().expect("removal");
}

fn masks_do_not_trust_the_images_dev(bed: &Bed) {
    fs::create_dir(bed.inside("dev")).expect("a directory");
    fs::write(bed.inside("dev/null"), "of the image").expect("a file");
    fs::write(bed.inside("etc/secret"), "secret").expect("a file");
    let mut config =
        config(bed, json!([]), "read /etc/secret , stat /etc/secret , write /etc/secret x , read /dev/null");
    config["linux"]["maskedPaths"] = json!(["/etc/secret"]);
    write(bed, &config);
    let said = bed.podlet("run --rm --bundle DIR").ok();
    assert!(said.contains("stat /etc/secret: char") && said.contains(" 1:3 "), "{said}");
    assert!(!said.contains("secret\n") && said.matches("of the image").count() == 1, "{said}");
    assert_eq!(fs::read_to_string(bed.inside("dev/null")).expect("as it was"), "of the image");
    // A fresh /dev that is covered again is no better.
    config["mounts"] = json!([
        { "destination": "/proc", "type": "proc" },
        { "destination": "/dev", "type": "tmpfs" },
        { "destination": "/dev/null", "type": "bind", "source": "rootfs/dev/null" },
    ]);
    write(bed, &config);
    let said = bed.podlet("run --rm --bundle DIR").ok();
    assert!(said.contains("stat /etc/secret: char") && said.contains(" 1:3 "), "{said}");
}

fn errors_of_mounts_name_the_destination(bed: &Bed) {
    fs::create_dir(bed.dir.join("volume")).expect("a volume");
    fs::write(bed.dir.join("volume/file"), "").expect("a file");
    for (mount, words) in [
        (
            json!({ "destination": "/srv", "type": "bind", "source": "volume/file", "options": ["bind"] }),
            &["the mount on /srv", "a directory can only be mounted on a directory"][..],
        ),
        (
            json!({ "destination": "/etc/passwd", "type": "bind", "source": "volume", "options": ["bind"] }),
            &["the mount on /etc/passwd", "not a directory"],
        ),
        (json!({ "destination": "/srv", "type": "tmpfs", "options": ["frob=1"] }), &["the mount on /srv", "option"]),
        (json!({ "destination": "/srv", "type": "frobfs" }), &["the mount on /srv", "/proc/filesystems"]),
        (json!({ "destination": "/srv", "type": "bind", "source": "gone" }), &["gone"]),
    ] {
        config(bed, json!([mount]), "mounts");
        bed.podlet("run --rm --bundle DIR").fails(125, words);
    }
    bed.is_clean();
}

fn places_in_the_image(bed: &Bed) {
    let volume = bed.dir.join("volume");
    fs::create_dir_all(volume.join("sub")).expect("a volume");
    fs::write(volume.join("file"), "content").expect("a file");
    nix::unistd::mkfifo(&volume.join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let _socket = std::os::unix::net::UnixListener::bind(volume.join("socket")).expect("a socket");
    // Links of the image, as the container would follow them.
    symlink("/srv", bed.inside("absolute")).expect("a link");
    symlink("../../../../sub", bed.inside("etc/up")).expect("a link");
    symlink("../run/made/later", bed.inside("etc/resolv.conf")).expect("a link");
    symlink("/not/there", bed.inside("var")).expect("a link");
    let bind = |target: &str, source: &str| json!({ "destination": target, "type": "bind", "source": source, "options": ["rbind"] });
    let mounts = json!([
        bind("/absolute/in", "volume"),
        bind("etc/up", "volume"),
        bind("/etc/resolv.conf", "volume/file"),
        bind("/var/lib", "volume"),
        bind("/fifo", "volume/fifo"),
        bind("/socket", "volume/socket"),
        bind("/nested", "volume"),
        bind("/nested/sub", "rootfs/etc"),
    ]);
    let script = "read /srv/in/file , read /sub/file , read /run/made/later , read /not/there/lib/file , stat /fifo , \
                  stat /socket , read /nested/sub/group , read /nested/file";
    let said = run(bed, mounts, script);
    assert_eq!(said.matches("content").count(), 5, "{said}");
    assert!(said.contains("stat /fifo: other") && said.contains("stat /socket: other"), "{said}");
    assert!(said.contains("www:x:34"), "{said}");
    assert!(!bed.dir.join("sub").exists() && !Path::new("/not/there").exists(), "nothing outside");
    // By the library, too.
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    let mut container = bed.container("a", "read /here/file");
    let source = volume.clone();
    container.mounts.push(Mount::new("/here", MountKind::Bind { source, recursive: false }));
    assert!(start(&pod, container).contains("content"));
    let mut wrong = bed.container("b", "exit 0").tmpfs("/t");
    wrong.mounts.last_mut().expect("a mount").ids = Some(MountIds::default());
    let error = pod.run(&wrong, Io::log()).expect_err("not a bind");
    assert!(error.to_string().contains("/t"), "{error}");
    pod.remove().expect("removal");
}
