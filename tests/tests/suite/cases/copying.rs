//! `cp`: what goes where, whose it is then, and that nothing leads outside.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use pod::{ContainerSpec, CopyOptions, Io, Pod, PodOptions, Root};

use crate::bed::Bed;
use crate::modes::Mode;

crate::tests![
    files_and_directories_go_both_ways,
    a_copy_is_made_where_cp_makes_it,
    copies_belong_to_the_containers_root_or_keep_their_owners,
    copies_into_a_pod_with_its_own_ids_are_its_roots,
    what_is_mounted_in_a_container_is_copied_to_and_from,
    links_of_a_container_lead_nowhere_outside,
    a_directory_that_becomes_a_link_leads_nowhere_outside,
    a_container_that_does_not_run_has_its_root_copied,
    copies_that_cannot_be_are_refused,
];

/// A container that runs.
fn runs(bed: &Bed) {
    bed.podlet("run -d --name web --rootfs ROOT /probe block").ok();
}

/// A tree with a directory, a link and files.
fn tree(path: &Path) {
    fs::create_dir_all(path.join("sub/empty")).expect("directories");
    fs::write(path.join("file"), "file").expect("a file");
    fs::write(path.join("sub/below"), "below").expect("a file");
    fs::set_permissions(path.join("sub/below"), fs::Permissions::from_mode(0o640)).expect("its mode");
    symlink("../file", path.join("sub/link")).expect("a link");
}

#[track_caller]
fn is_tree(path: &Path) {
    let read = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!((read("file"), read("sub/below"), read("sub/link")), ("file".into(), "below".into(), "file".into()));
    assert_eq!(fs::symlink_metadata(path.join("sub/below")).expect("a file").mode() & 0o7777, 0o640);
    assert_eq!(fs::read_link(path.join("sub/link")).expect("a link"), Path::new("../file"));
    assert!(path.join("sub/empty").is_dir());
}

fn files_and_directories_go_both_ways(bed: &Bed) {
    runs(bed);
    tree(&bed.dir.join("tree"));
    bed.podlet("cp DIR/tree web:/srv").ok();
    is_tree(&bed.inside("/srv/tree"));
    assert_eq!(bed.podlet("exec web /probe read /srv/tree/sub/link").ok(), "file\n");
    bed.podlet("cp web:/srv/tree DIR/back").ok();
    is_tree(&bed.dir.join("back"));
    let times = |path: &Path| fs::metadata(path).expect("a file").modified().expect("a time");
    assert_eq!(times(&bed.dir.join("back/sub/below")), times(&bed.dir.join("tree/sub/below")));
    // From one container to another, and to itself.
    bed.podlet("cp web:/srv/tree web:/tmp/again").ok();
    is_tree(&bed.inside("/tmp/again"));
    // Over what is there already.
    fs::write(bed.dir.join("tree/file"), "file").expect("a file");
    fs::write(bed.inside("/srv/tree/file"), "something longer").expect("a file");
    bed.podlet("cp DIR/tree web:/srv").ok();
    is_tree(&bed.inside("/srv/tree"));
    // Relative paths begin at its root, too.
    bed.podlet("run -d --name other -w /srv --rootfs ROOT /probe block").ok();
    bed.podlet("cp other:srv/tree/file DIR/one").ok();
    assert_eq!(fs::read_to_string(bed.dir.join("one")).expect("a file"), "file");
}

/// As cp(1) with `-r`, and podman.
fn a_copy_is_made_where_cp_makes_it(bed: &Bed) {
    runs(bed);
    tree(&bed.dir.join("tree"));
    for (source, target, made) in [
        ("DIR/tree/file", "web:/tmp", "/tmp/file"),
        ("DIR/tree/file", "web:/tmp/", "/tmp/file"),
        ("DIR/tree/file", "web:/tmp/name", "/tmp/name"),
        ("DIR/tree/file", "web:/tmp/name", "/tmp/name"),
        ("DIR/tree", "web:/tmp/new", "/tmp/new/file"),
        ("DIR/tree", "web:/tmp/new", "/tmp/new/tree/file"),
        ("DIR/tree/.", "web:/sub", "/sub/file"),
        ("DIR/tree/.", "web:/tmp/made", "/tmp/made/file"),
        ("DIR/tree/sub/link", "web:/tmp", "/tmp/link"),
        ("DIR/tree/file", "web:/", "/file"),
    ] {
        bed.podlet(&format!("cp {source} {target}")).ok();
        let made = bed.inside(made);
        assert_eq!(fs::read_to_string(&made).expect(target), "file", "{source} {target}");
        assert!(fs::symlink_metadata(&made).expect("it").is_file());
        fs::remove_file(&made).expect("removed");
    }
    for (source, target, words) in [
        ("DIR/tree/file", "web:/none/file", &["No such file", "/none"][..]),
        ("DIR/tree/file", "web:/tmp/none/", &["No such file", "/tmp/none/"]),
        ("DIR/tree", "web:/etc/passwd", &["Not a directory", "/etc/passwd"]),
        ("DIR/tree/file", "web:/etc/passwd/", &["Not a directory", "/etc/passwd"]),
        ("DIR/none", "web:/tmp", &["No such file", "DIR/none"]),
        ("web:/none", "DIR", &["No such file", "/none", "web/web"]),
        ("web:/srv", "web:/srv/below", &["into itself"]),
    ] {
        let words: Vec<_> = words.iter().map(|word| bed.expand(word).join(" ")).collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        bed.podlet(&format!("cp {source} {target}")).fails(125, &words);
    }
}

fn ids(path: &Path) -> (u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (meta.uid(), meta.gid())
}

fn copies_belong_to_the_containers_root_or_keep_their_owners(bed: &Bed) {
    runs(bed);
    let own = ids(&bed.inside("/probe"));
    let file = bed.dir.join("file");
    fs::write(&file, "").expect("a file");
    if bed.mode == Mode::Root {
        std::os::unix::fs::chown(&file, Some(1234), Some(1235)).expect("its owner");
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).expect("its mode");
    bed.podlet("cp DIR/file web:/tmp/file").ok();
    assert_eq!(ids(&bed.inside("/tmp/file")), own, "the container's root");
    assert_eq!(fs::metadata(bed.inside("/tmp/file")).expect("it").mode() & 0o7777, 0o4755);
    // Nothing that a container has made runs with more rights outside.
    bed.podlet("cp web:/tmp/file DIR/out").ok();
    assert_eq!(fs::metadata(bed.dir.join("out")).expect("it").mode() & 0o7777, 0o755);
    if bed.mode == Mode::Root {
        bed.podlet("cp -a DIR/file web:/tmp/kept").ok();
        assert_eq!(ids(&bed.inside("/tmp/kept")), (1234, 1235));
        bed.podlet("cp -a web:/tmp/kept DIR/kept").ok();
        assert_eq!(ids(&bed.dir.join("kept")), (1234, 1235));
        assert_eq!(fs::metadata(bed.dir.join("kept")).expect("it").mode() & 0o7777, 0o4755);
        bed.podlet("cp web:/tmp/kept DIR/mine").ok();
        assert_eq!(ids(&bed.dir.join("mine")), (0, 0));
    }
}

/// Where the machine's ids are none of the pod's.
fn copies_into_a_pod_with_its_own_ids_are_its_roots(bed: &Bed) {
    if bed.mode != Mode::Root {
        return;
    }
    bed.podlet("create web --share net,pid,ipc,uts,user --uidmap 0:100000:65536 --gidmap 0:100000:65536").ok();
    tree(&bed.dir.join("tree"));
    std::os::unix::fs::chown(bed.dir.join("tree/file"), Some(33), Some(34)).expect("its owner");
    for (name, options) in [("a", "--rootfs ROOT"), ("b", "--tmpfs /tmp host")] {
        let program = if name == "a" { "/probe block" } else { "sleep 1000" };
        bed.podlet(&format!("run -d --pod web --name {name} {options} {program}")).ok();
        bed.podlet(&format!("cp DIR/tree web/{name}:/tmp/tree")).ok();
        bed.podlet(&format!("cp -a DIR/tree web/{name}:/tmp/kept")).ok();
        let root = format!("/proc/{}/root/tmp", bed.pid_of(&format!("web/{name}")));
        assert_eq!(ids(Path::new(&format!("{root}/tree/file"))), (100_000, 100_000), "{name}");
        assert_eq!(ids(Path::new(&format!("{root}/tree/sub/link"))), (100_000, 100_000), "{name}");
        assert_eq!(ids(Path::new(&format!("{root}/kept/file"))), (100_033, 100_034), "{name}");
        bed.podlet(&format!("cp -a web/{name}:/tmp/kept DIR/back-{name}")).ok();
        assert_eq!(ids(&bed.dir.join(format!("back-{name}/file"))), (33, 34), "{name}");
    }
}

fn what_is_mounted_in_a_container_is_copied_to_and_from(bed: &Bed) {
    let volume = bed.dir.join("volume");
    fs::create_dir(&volume).expect("a directory");
    fs::write(bed.dir.join("file"), "text").expect("a file");
    bed.podlet("run -d --name web -v DIR/volume:/sub --tmpfs /srv --rootfs ROOT /probe write /srv/inside text , echo up , block").ok();
    bed.await_log("web", "up");
    bed.podlet("cp DIR/file web:/sub").ok();
    assert_eq!(fs::read_to_string(volume.join("file")).expect("a file"), "text");
    bed.podlet("cp web:/srv/inside DIR/out").ok();
    assert_eq!(fs::read_to_string(bed.dir.join("out")).expect("a file"), "text");
    bed.podlet("cp DIR/file web:/srv").ok();
    assert_eq!(bed.podlet("exec web /probe read /srv/file").ok(), "text\n");
    // What the kernel makes up is no file to be copied, and is told.
    let said = bed.podlet("cp web:/ DIR/all").code(0);
    assert!(said.err.contains("left out") && said.err.contains("proc"), "{}", said.err);
    assert!(bed.dir.join("all/probe").exists() && !bed.dir.join("all/proc/1").exists());
    bed.podlet("cp web:/proc/1/status DIR/status").fails(125, &["/proc/1/status", "kernel"]);
    // Read-only is read-only.
    bed.podlet("run -d --name fixed --read-only --rootfs ROOT /probe block").ok();
    bed.podlet("cp DIR/file fixed:/srv/file").fails(125, &["Read-only", "/srv/file"]);
}

fn links_of_a_container_lead_nowhere_outside(bed: &Bed) {
    let outside = bed.dir.join("outside");
    fs::create_dir(&outside).expect("a directory");
    fs::write(outside.join("secret"), "secret").expect("a file");
    fs::write(bed.dir.join("file"), "text").expect("a file");
    tree(&bed.dir.join("tree"));
    runs(bed);
    symlink(&outside, bed.inside("/srv/dir")).expect("a link");
    symlink(outside.join("secret"), bed.inside("/srv/secret")).expect("a link");
    symlink("../".repeat(20) + outside.to_str().expect("a path"), bed.inside("/srv/up")).expect("a link");
    symlink("/proc/1/root", bed.inside("/srv/magic")).expect("a link");
    for path in ["/srv/dir/secret", "/srv/secret", "/srv/up/secret", "/srv/magic/etc", "/proc/1/cwd"] {
        bed.podlet(&format!("cp web:{path} DIR/out")).code(125);
        bed.podlet(&format!("cp DIR/file web:{path}")).code(125);
    }
    // Links below what is copied are copied as links.
    bed.podlet("cp web:/srv DIR/out").ok();
    assert_eq!(fs::read_link(bed.dir.join("out/dir")).expect("a link"), outside);
    // Where the path of a link is in the container, that is meant.
    let there = bed.inside(outside.to_str().expect("a path"));
    fs::create_dir_all(&there).expect("directories");
    fs::write(there.join("secret"), "inside").expect("a file");
    bed.podlet("cp web:/srv/secret DIR/seen").ok();
    assert_eq!(fs::read_to_string(bed.dir.join("seen")).expect("a file"), "inside");
    bed.podlet("cp DIR/file web:/srv/dir").ok();
    assert!(there.join("file").exists());
    // A link where a directory comes is not followed, and one where a file comes goes.
    fs::create_dir_all(bed.inside("/sub/tree")).expect("a directory");
    symlink(&outside, bed.inside("/sub/tree/sub")).expect("a link");
    symlink(outside.join("secret"), bed.inside("/sub/tree/file")).expect("a link");
    bed.podlet("cp DIR/tree web:/sub").code(125);
    assert_eq!(fs::read_to_string(bed.inside("/sub/tree/file")).expect("a file"), "file");
    let left: Vec<_> = fs::read_dir(&outside).expect("it").map(|entry| entry.expect("one").file_name()).collect();
    assert_eq!(
        (left, fs::read_to_string(outside.join("secret")).expect("it")),
        (vec!["secret".into()], "secret".into())
    );
}

fn a_directory_that_becomes_a_link_leads_nowhere_outside(bed: &Bed) {
    let (outside, tree) = (bed.dir.join("outside"), bed.dir.join("tree"));
    fs::create_dir(&outside).expect("a directory");
    fs::create_dir_all(tree.join("swap")).expect("a directory");
    for number in 0..20 {
        fs::write(outside.join(number.to_string()), "secret").expect("a file");
        fs::write(tree.join("swap").join(number.to_string()), "text").expect("a file");
    }
    fs::create_dir_all(bed.inside("/srv/tree/swap")).expect("a directory");
    symlink(&outside, bed.inside("/srv/link")).expect("a link");
    bed.podlet("run -d --name web --rootfs ROOT /probe swap /srv/tree/swap /srv/link").ok();
    let pod = Pod::open(&bed.store(), "web").expect("a pod");
    let (web, options) = (pod.container("web").expect("a container"), CopyOptions::default());
    let mut came_through = [0, 0];
    for round in 0..bed.rounds(300) {
        // Either may fail, for what it goes through is a link just then.
        let into = web.copy_in(&tree.join("."), Path::new("/srv/tree"), &options);
        let out = bed.dir.join(format!("out{round}"));
        let outward = web.copy_out(Path::new("/srv/tree"), &out, &options);
        came_through[0] += u32::from(into.is_ok());
        came_through[1] += u32::from(outward.is_ok());
        for number in 0..20 {
            assert_eq!(fs::read_to_string(outside.join(number.to_string())).expect("it"), "secret", "written outside");
            let copied = fs::symlink_metadata(out.join("swap")).is_ok_and(|meta| meta.is_dir());
            let text = fs::read_to_string(out.join("swap").join(number.to_string())).unwrap_or_default();
            assert!(!copied || text != "secret", "read outside");
        }
    }
    assert!(came_through.iter().all(|count| *count > 0), "no copy came through: {came_through:?}");
}

fn a_container_that_does_not_run_has_its_root_copied(bed: &Bed) {
    tree(&bed.dir.join("tree"));
    bed.podlet("run --name web --rootfs ROOT /probe exit 0").ok();
    bed.podlet("cp web:/etc/passwd DIR/passwd").ok();
    assert!(fs::read_to_string(bed.dir.join("passwd")).expect("a file").starts_with("root:"));
    bed.podlet("cp DIR/tree web:/srv").ok();
    is_tree(&bed.inside("/srv/tree"));
    assert_eq!(ids(&bed.inside("/srv/tree/file")), ids(&bed.inside("/probe")));
    bed.podlet("run --name fixed --read-only --rootfs ROOT /probe exit 0").ok();
    bed.podlet("cp DIR/tree fixed:/tmp").fails(125, &["fixed", "read-only", "start it first"]);
    let pod = Pod::create(&bed.store(), PodOptions::new("host")).expect("a pod");
    let spec = ContainerSpec::new("a", Root::Host).args(["true"]);
    pod.run(&spec, Io::null()).expect("a start").wait().expect("its end");
    bed.podlet("cp host:/etc/passwd DIR/other").fails(125, &["host/a", "overlay", "start it first"]);
    pod.remove().expect("its removal");
}

fn copies_that_cannot_be_are_refused(bed: &Bed) {
    runs(bed);
    fs::write(bed.dir.join("file"), "").expect("a file");
    bed.podlet("cp DIR/file DIR/other").fails(125, &["neither", "POD:PATH"]);
    bed.podlet("cp - web:/tmp").fails(125, &["\"-\"", "tar"]);
    bed.podlet("cp web:/tmp -").fails(125, &["\"-\"", "tar"]);
    bed.podlet("cp DIR/file gone:/tmp").fails(125, &["no such", "gone"]);
    bed.podlet("cp DIR/file web/gone:/tmp").fails(125, &["no such", "web/gone"]);
    bed.podlet("cp DIR/file web:").fails(125, &["web:", "behind the colon"]);
    bed.podlet("cp DIR/file").fails(125, &["TARGET"]);
    bed.podlet("cp --pause DIR/file web:/tmp").fails(125, &["--pause", "no need"]);
    nix::unistd::mkfifo(&bed.dir.join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    bed.podlet("cp DIR/pipe web:/tmp").fails(125, &["source", "a pipe", "plain file"]);
    nix::unistd::mkfifo(&bed.inside("/tmp/pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    bed.podlet("cp web:/tmp/pipe DIR/other").fails(125, &["a pipe"]);
    bed.podlet("cp DIR/file web:/tmp/pipe").fails(125, &["target", "a pipe"]);
    assert!(!bed.dir.join("other").exists());
}
