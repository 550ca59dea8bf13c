//! What has gone through network interfaces (proc_pid_net(5), `net/dev`).

use std::collections::BTreeMap;

use serde::Serialize;

use super::procfs::{self, ProcessId};
use crate::error::Result;

/// What has gone through a network interface since it was made.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct InterfaceStats {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets that could not be received.
    pub rx_errors: u64,
    /// Packets that were received and thrown away.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets that were thrown away instead of being sent.
    pub tx_dropped: u64,
}

/// The interfaces of a process's network namespace, but for loopback; `None` if
/// the process is gone.
///
/// # Errors
/// [`Error::Os`](crate::Error::Os) if the kernel does not tell.
pub(crate) fn interfaces_of(process: ProcessId) -> Result<Option<BTreeMap<String, InterfaceStats>>> {
    let text = procfs::text_of(process.pid, "net/dev")?;
    // Looked at again: the pid may be another process's now.
    Ok((!text.is_empty() && ProcessId::of(process.pid)? == Some(process)).then(|| parse(&text)))
}

fn parse(text: &str) -> BTreeMap<String, InterfaceStats> {
    // Two lines of headers have no colon behind the name.
    let line = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        let of = |at: usize| numbers.get(at).copied();
        let stats = InterfaceStats {
            rx_bytes: of(0)?,
            rx_packets: of(1)?,
            rx_errors: of(2)?,
            rx_dropped: of(3)?,
            tx_bytes: of(8)?,
            tx_packets: of(9)?,
            tx_errors: of(10)?,
            tx_dropped: of(11)?,
        };
        Some((name.trim().to_string(), stats))
    };
    text.lines().filter_map(line).filter(|(name, _)| name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_as_the_kernel_writes_them() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
                    lo:    9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  \
                    eth0:  1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        let read = parse(text);
        assert_eq!(read.keys().collect::<Vec<_>>(), ["eth0"]);
        let eth0 = &read["eth0"];
        assert_eq!((eth0.rx_bytes, eth0.rx_dropped, eth0.tx_bytes, eth0.tx_dropped), (1, 4, 9, 12));
        assert_eq!(parse(""), BTreeMap::new());
    }
}
