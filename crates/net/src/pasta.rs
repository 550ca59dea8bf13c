//! pasta(1), of the package passt: what an ordinary user's pod has for a network
//! card. It copies the machine's addresses and routes into the pod, and does for
//! the pod's connections what the machine's own programs would: it opens sockets.
//! So it takes no privilege, and the pod cannot do what its user could not.
//!
//! ```text
//!   the machine: uplink 192.0.2.1            the pod: eth0 192.0.2.1
//!      sockets of pasta  ◄── pasta, a process of the user ──►  tap
//!      ports -p: its listening sockets
//! ```
//!
//! There is one process for each pod. It is found by the file into which it writes
//! its number, which stands in its command line as well ([`daemon`]): so no other
//! process is ever taken for it, and it is found where nobody was left to note it.

mod daemon;
mod line;

pub(crate) use daemon::{end, pid_file, program, running, start};
pub(crate) use line::{INTERFACE, Line, Userns};

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};

use nix::unistd::Uid;
use pod::{Error, Result};

/// Where pods ask for names: pasta hands that on to the machine's first name
/// server, wherever it listens. Of no subnet that anybody has (RFC 3927).
pub(crate) const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));

const TUN: &str = "/dev/net/tun";

/// Whether an ordinary user's pods can have it here: it is installed, and the
/// caller is not the machine's root.
pub fn is_usable() -> bool {
    program().is_ok() && !is_machines_root()
}

/// Refuses what pasta itself would refuse in words that help nobody.
///
/// # Errors
/// [`Error::Invalid`] for the machine's root; [`Error::State`] if the caller may
/// not make an interface of the kind that pasta has.
pub(crate) fn check_machine() -> Result<()> {
    if is_machines_root() {
        let reason = "is for ordinary users: run by root it gives up what it takes to enter a pod, and root's pods \
                      have networks of podlet's own; name another, or none";
        return Err(Error::invalid("network", "pasta", reason));
    }
    match File::options().read(true).write(true).open(TUN) {
        Ok(_) => Ok(()),
        Err(error) => {
            let cure = format!("as root: modprobe tun; chmod 0666 {TUN}, as udev has it");
            Err(Error::state(TUN, format!("cannot be opened, which pasta has to: {error} (cure: {cure})")))
        }
    }
}

/// Whether the caller is root of no user namespace but the first.
fn is_machines_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    Uid::effective().is_root() && map.split_whitespace().eq(["0", "0", "4294967295"])
}
