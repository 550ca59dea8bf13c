//! The reference plugins: where they are, and what there is of pods that are on them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The directories that PODLET_TEST_CNI names, with colons between, else
/// /usr/lib/cni; none, and that is said, where plugins cannot be executed.
pub(crate) fn plugin_dirs() -> Vec<PathBuf> {
    let said = std::env::var_os("PODLET_TEST_CNI").unwrap_or("/usr/lib/cni".into());
    let dirs: Vec<_> = std::env::split_paths(&said).collect();
    let has_all = dirs.iter().all(|dir| dir.join("bridge").exists());
    if has_all && nix::unistd::geteuid().is_root() && Path::new("/usr/sbin/iptables").exists() {
        return dirs;
    }
    eprintln!("not tried: needs root, iptables, and plugins in {}", said.display());
    Vec::new()
}

pub(crate) fn run(line: &str) -> String {
    let output = Command::new("/bin/sh").args(["-c", line]).output().expect("a shell");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// All that plugins note or make for a pod outside of it; not what they make once and
/// leave to all pods that follow.
pub(crate) fn traces() -> String {
    run(r#"for save in iptables-save ip6tables-save; do
             $save | grep -v -e '^[#*]' -e '^COMMIT' -e '^:[A-Z]* ACCEPT' \
               -e '^:CNI-\(ADMIN\|FORWARD\|HOSTPORT-[A-Z]*\) ' -e '"CNI firewall plugin' -e '"CNI portfwd' \
               -e '--dst-type LOCAL -j CNI-HOSTPORT-DNAT$' -e '--mark 0x2000/0x2000 -j MASQUERADE$' || :
           done
           find /var/lib/cni -type f ! -name lock ! -name 'last_reserved*' 2>/dev/null || :
           ip -o link | grep -o 'veth[^@:]*\|bwp[^@:]*' || :"#)
}
