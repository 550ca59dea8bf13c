//! A pod's namespaces as descriptors, and what others keep for it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::Pod;
use crate::error::{Context, Error, Result};
use crate::kernel::namespace::Namespace;
use crate::kernel::procfs::ProcessId;
use crate::spec;
use crate::store::extension::ExtendedPod;
use crate::store::lock::LockMode;

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
        if ProcessId::of(pause.pid)? != Some(pause) || opened.is_err() && !self.is_alive() {
            return Err(self.dead());
        }
        opened.map(OwnedFd::from).doing(|| format!("opening {path}"))
    }

    /// The directory in which `owner` notes what it keeps for this pod on the
    /// machine; made if it is missing. As long as it is there the pod's records
    /// stay, until the owner's [clean-up](crate::Extension::clean_up) has
    /// succeeded.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that no pod could have;
    /// [`Error::NotFound`] if the pod has been removed.
    pub fn extension_dir(&self, owner: &str) -> Result<PathBuf> {
        spec::check_name("extension", owner)?;
        // No command removes the pod meanwhile.
        let gone = || Error::NotFound(format!("pod {:?}", self.name()));
        let _lock = self.lock(LockMode::Shared, true)?.ok_or_else(gone)?;
        self.store.make_extension_dir(self.name(), owner)
    }

    /// The pod has been made anew.
    pub(super) fn tell_extensions(&self) -> Result<()> {
        self.store.for_each_extension(self.name(), |_, extension, dir| {
            let namespace = |kind| self.namespace(kind);
            let pod = ExtendedPod { name: self.name(), id: Some(self.id()), dir, namespace: &namespace };
            // What this program does not know it cannot make anew either.
            extension.map_or(Ok(()), |extension| extension.made_anew(&pod))
        })
    }
}
