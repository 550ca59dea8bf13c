//! A pod's namespaces as descriptors, and what others keep for it.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;

use super::Pod;
use crate::error::{Context, Error, Result};
use crate::kernel::namespace::Namespace;
use crate::kernel::procfs::ProcessId;
use crate::kernel::syscalls;
use crate::spec;
use crate::store::extension::{ExtendedPod, Extension};
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
            let reason = match self.options().host_network && kind == Namespace::Net {
                true => "it is the machine's",
                false => "the pod's containers do not share it: there is one for each of them",
            };
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

    /// The pid namespace of pause, or of `process`, which is in this pod.
    pub(super) fn pid_namespace(&self, process: Option<&OwnedFd>) -> Result<File> {
        let context = || "opening a pid namespace".to_string();
        let gone = || match process {
            Some(_) => Error::failed(context(), Errno::ESRCH),
            None => self.dead(),
        };
        let process = process.map(AsFd::as_fd).or_else(|| self.pidfd()).ok_or_else(gone)?;
        let pid = || syscalls::pid_of(process).doing(context)?.ok_or_else(gone);
        let opened = File::open(format!("/proc/{}/ns/pid", pid()?));
        // Looked at again: the pid may be another process's now.
        pid()?;
        opened.doing(context)
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
    pub(super) fn tell_made_anew(&self) -> Result<()> {
        self.tell_extensions(|extension, pod| extension.made_anew(pod))
    }

    /// The pod is about to be ended.
    pub(super) fn tell_ending(&self) {
        let tell = |extension: &dyn Extension, pod: &ExtendedPod<'_>| {
            extension.ending(pod);
            Ok(())
        };
        // Where its directory cannot be read, removing the pod will say so.
        self.tell_extensions(tell).ok();
    }

    fn tell_extensions(&self, tell: impl Fn(&dyn Extension, &ExtendedPod<'_>) -> Result<()>) -> Result<()> {
        self.store.for_each_extension(self.name(), |_, extension, dir| {
            let namespace = |kind| self.namespace(kind);
            let (name, id, pause) = (self.name(), Some(self.id()), self.pause_pid());
            let pod = ExtendedPod { name, id, dir, pause, namespace: &namespace };
            // What this program does not know it can tell nothing.
            extension.map_or(Ok(()), |extension| tell(extension, &pod))
        })
    }
}
