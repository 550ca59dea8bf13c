//! Which files are installed, and that no other is removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Bed, has, sources};

impl Bed {
    /// `make install` or `uninstall` without the builds, below `root`.
    fn install(&self, verb: &str, root: &str) -> Command {
        let mut make = Command::new("make");
        make.arg("--silent").arg("--no-print-directory").arg("-C").arg(sources()).args([verb, "--old-file=build"]);
        make.args(["--old-file=pages", "TARGET="]);
        make.arg(format!("PROGRAMS={}", self.path("programs").display()));
        make.arg(format!("PAGES={}", self.path("pages").display()));
        make.arg(format!("DESTDIR={}", self.path(root).display())).env_remove("MAKEFLAGS");
        make
    }

    /// All files below a directory, by their paths in it, sorted.
    fn files(&self, root: &str) -> Vec<String> {
        let root = self.path(root);
        let mut found = Vec::new();
        collect(&root, &mut found);
        let mut paths: Vec<_> =
            found.iter().map(|path| format!("/{}", path.strip_prefix(&root).expect("it is below").display())).collect();
        paths.sort_unstable();
        paths
    }
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { collect(&path, into) } else { into.push(path) }
    }
}

#[test]
fn install_puts_each_file_where_distributions_look_and_uninstall_removes_those_alone() {
    let bed = Bed::new();
    bed.ok(&mut bed.install("install", "root"));
    let files = bed.files("root");
    for wanted in [
        "/etc/apparmor.d/podlet",
        "/usr/local/bin/podlet",
        "/usr/local/bin/podlet-oci",
        "/usr/local/lib/systemd/system/podlet-networks.service",
        "/usr/local/share/bash-completion/completions/podlet",
        "/usr/local/share/doc/podlet/NOTICE",
        "/usr/local/share/fish/vendor_completions.d/podlet-oci.fish",
        "/usr/local/share/man/man1/podlet-network-create.1",
        "/usr/local/share/man/man8/podlet-oci.8",
        "/usr/local/share/zsh/site-functions/_podlet",
    ] {
        assert!(files.iter().any(|path| path == wanted), "{wanted}: {files:#?}");
    }
    for named in ["etc/apparmor.d/podlet", "usr/local/lib/systemd/system/podlet-networks.service"] {
        let text = fs::read_to_string(bed.path("root").join(named)).expect("it is installed");
        assert!(text.contains("/usr/local/bin/podlet ") && !text.contains("@BINDIR@"), "{named}: {text}");
    }

    // What others have put beside.
    let others = ["/etc/apparmor.d/local/podlet", "/usr/local/bin/podlet-mine", "/usr/local/share/man/man1/podlet-x.1"];
    for other in others {
        let path = bed.path("root").join(&other[1..]);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, "").expect("a file");
    }
    bed.ok(&mut bed.install("uninstall", "root"));
    assert_eq!(bed.files("root"), others);
    assert!(!bed.path("root/usr/local/share/podlet").exists() && !bed.path("root/usr/local/share/doc/podlet").exists());
}

#[test]
fn apparmor_takes_the_profile() {
    // Without it AppArmor is older than the rule.
    if !has("apparmor_parser") || !Path::new("/etc/apparmor.d/abi/4.0").exists() {
        return;
    }
    let bed = Bed::new();
    bed.ok(&mut bed.install("install", "root"));
    let mut parser = Command::new("apparmor_parser");
    parser.args(["--quiet", "--names", "--skip-kernel-load", "--skip-cache"]);
    assert_eq!(bed.ok(parser.arg(bed.path("root/etc/apparmor.d/podlet"))), "podlet\npodlet-oci\n");
}

#[test]
fn a_page_of_a_command_that_is_gone_goes_with_the_next_install() {
    let bed = Bed::new();
    let page = bed.path("pages/man/podlet-sing.1");
    fs::write(&page, "").expect("a file");
    bed.ok(&mut bed.install("install", "root"));
    let before = bed.files("root");
    fs::remove_file(page).expect("it is ours");
    bed.ok(&mut bed.install("install", "root"));
    let mut wanted = before.clone();
    wanted.retain(|path| path != "/usr/local/share/man/man1/podlet-sing.1");
    assert_eq!(bed.files("root"), wanted);
    assert_eq!(wanted.len() + 1, before.len());
}

#[test]
fn uninstall_where_nothing_was_installed_says_so() {
    let bed = Bed::new();
    fs::create_dir(bed.path("root")).expect("a directory");
    let output = bed.install("uninstall", "root").output().expect("make is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("nothing is removed: say the DESTDIR and PREFIX"), "{said}");
}

/// A package of the bed's programs.
fn package(bed: &Bed, into: &str) -> PathBuf {
    let mut build = Command::new(sources().join("packaging/deb/build"));
    build.args(["programs", "pages", into].map(|name| bed.path(name))).env("SOURCE_DATE_EPOCH", "1700000000");
    bed.ok(&mut build);
    let mut made = fs::read_dir(bed.path(into)).expect("it is made");
    made.next().expect("a package").expect("an entry").path()
}

#[test]
fn a_package_has_everything_and_is_the_same_each_time() {
    if !has("dpkg-deb") {
        return;
    }
    let bed = Bed::new();
    let (first, second) = (package(&bed, "first"), package(&bed, "second"));
    let bytes = |path| fs::read(path).expect("a package");
    assert!(bytes(&first) == bytes(&second), "another package by the same date");

    let list = bed.ok(Command::new("dpkg-deb").arg("--contents").arg(&first));
    for wanted in [
        "-rwxr-xr-x root/root",
        " ./usr/bin/podlet\n",
        " ./usr/lib/systemd/system/podlet-networks.service\n",
        " ./usr/share/doc/podlet/NOTICE\n",
        " ./usr/share/doc/podlet/changelog.gz\n",
        " ./usr/share/doc/podlet/copyright\n",
        " ./usr/share/man/man1/podlet-run.1.gz\n",
        " ./usr/share/podlet/apparmor/podlet\n",
        " ./usr/share/zsh/vendor-completions/_podlet\n",
    ] {
        assert!(list.contains(wanted), "{wanted}: {list}");
    }
    assert!(!list.contains("/usr/local/") && !list.contains("./etc/"), "{list}");
    let control = bed.ok(Command::new("dpkg-deb").arg("--field").arg(&first));
    assert!(
        control.contains("\nRecommends: passt, uidmap\n") && control.contains("\nArchitecture: amd64\n"),
        "{control}"
    );

    let unpacked = bed.path("unpacked");
    bed.ok(Command::new("dpkg-deb").arg("--raw-extract").arg(&first).arg(&unpacked));
    bed.ok(Command::new("md5sum").args(["--check", "--quiet", "DEBIAN/md5sums"]).current_dir(&unpacked));
    let summed = fs::read_to_string(unpacked.join("DEBIAN/md5sums")).expect("it is there").lines().count();
    let control_files = bed.files("unpacked").iter().filter(|path| path.starts_with("/DEBIAN/")).count();
    assert_eq!(summed + control_files, bed.files("unpacked").len());
}

/// As root only: dpkg gives files to root. Nothing is run in another root or touches
/// this one: the scripts know `DPKG_ROOT`.
#[test]
fn dpkg_installs_and_removes_a_package() {
    let is_root = fs::metadata("/proc/self").is_ok_and(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0);
    if !is_root || !has("dpkg") {
        return;
    }
    let bed = Bed::new();
    let package = package(&bed, "made");
    for dir in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "etc/apparmor.d/abi"] {
        fs::create_dir_all(bed.path("root").join(dir)).expect("a directory");
    }
    for file in ["var/lib/dpkg/status", "var/lib/dpkg/available", "etc/apparmor.d/abi/4.0"] {
        fs::write(bed.path("root").join(file), "").expect("a file");
    }
    let dpkg = || {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg("--root").arg(bed.path("root")).arg("--force-script-chrootless").arg("--log=/dev/null");
        dpkg
    };
    bed.ok(dpkg().arg("--install").arg(&package));
    let profile = fs::read_to_string(bed.path("root/etc/apparmor.d/podlet")).expect("AppArmor knows `userns` there");
    assert!(profile.contains("\nprofile podlet /usr/bin/podlet "), "{profile}");
    assert_eq!(bed.ok(dpkg().args(["--verify", "podlet"])), "");
    bed.ok(dpkg().args(["--remove", "podlet"]));
    let left = bed.files("root");
    assert!(!left.iter().any(|path| path.contains("podlet")), "{left:#?}");
}
