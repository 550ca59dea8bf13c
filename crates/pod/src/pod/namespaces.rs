//! A pod's namespaces, as descriptors.

use std::fs::File;
use std::os::fd::OwnedFd;

use super::Pod;
use crate::error::{Context, Error, Result};
use crate::kernel::namespace::Namespace;
use crate::kernel::procfs::ProcessId;

impl Pod {
    /// One of the namespaces that pause holds, to enter (setns(2)) or to put
    /// something into it, such as a network interface. It lives on as long as
    /// the descriptor is open, also when the pod has ended.
    ///
    /// # Errors
    /// [`Error::State`] if the pod is not running; [`Error::Invalid`] if its
    /// containers do not share a namespace of this kind, and each has its own.
    pub fn namespace(&self, kind: Namespace) -> Result<OwnedFd> {
        // pause has a pid namespace of its own in any case, but then no
        // container is in it.
        if !self.options().shares(kind) {
            let reason = "the pod's containers do not share it: there is one for each of them";
            return Err(Error::invalid("namespace", kind.name(), reason));
        }
        let pause = self.pause.filter(|_| self.is_alive()).ok_or_else(|| self.dead())?;
        let path = format!("/proc/{}/ns/{}", pause.pid, kind.name());
        // Opened, then looked at again: the pid may be another process's now.
        let opened = File::open(&path);
        if ProcessId::of(pause.pid)? != Some(pause) {
            return Err(self.dead());
        }
        opened.map(OwnedFd::from).doing(|| format!("opening {path}"))
    }
}
