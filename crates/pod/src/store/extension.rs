//! What other programs and libraries keep for a pod beside it: addresses,
//! firewall rules, file system layers.
//!
//! Each has a directory of its own in the pod's, `<pod>/ext/<owner>/`, in which
//! it notes what there is *before* it makes it, and a clean-up that takes it away
//! again. A pod's records are removed only once that has succeeded, by whichever
//! program comes to it: so nothing is forgotten, also where the program that made
//! it was killed. A store in memory, as the default one is, does not outlive the
//! machine's restart: what does, its owner looks through by itself then.

use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Store;
use super::records::EXTENSIONS;
use crate::error::{Error, Result};
use crate::kernel::files;
use crate::kernel::namespace::Namespace;

/// What keeps something for pods: see [`Store::extended`].
pub trait Extension: Debug + Send + Sync {
    /// Its name, of the characters that a pod's may have: what its directories
    /// are called.
    fn owner(&self) -> &str;

    /// A pod in which it has a directory was dead and has been made anew
    /// ([`Pod::start`](crate::Pod::start)): what was in its namespaces is gone
    /// with them. No container has been started yet; if this fails the pod is
    /// ended again.
    ///
    /// # Errors
    /// Its own, which the caller of `start` gets.
    fn made_anew(&self, pod: &ExtendedPod<'_>) -> Result<()>;

    /// A pod in which it has a directory is about to be ended on purpose
    /// ([`Pod::kill`](crate::Pod::kill), [`Pod::remove`](crate::Pod::remove)), and
    /// its namespaces are still there, unless it has ended by itself before: for what
    /// has to be taken away before they go. It may be told more than once, and is not
    /// of a pod that nobody ends; whatever cannot be done is left to [`clean_up`](Extension::clean_up), or to `made_anew`.
    fn ending(&self, _pod: &ExtendedPod<'_>) {}

    /// Takes away what it keeps for a pod that is dead and about to be removed.
    /// What is gone already is as good: it may be asked again after it was
    /// killed half-way. Its directory is removed afterwards.
    ///
    /// # Errors
    /// Its own: the pod's records stay, and it is asked again by the next `rm` or
    /// sweep.
    fn clean_up(&self, pod: &ExtendedPod<'_>) -> Result<()>;
}

/// A pod, as an [`Extension`] gets it.
pub struct ExtendedPod<'a> {
    pub(crate) name: &'a str,
    pub(crate) id: Option<&'a str>,
    pub(crate) dir: PathBuf,
    pub(crate) pause: Option<u32>,
    pub(crate) namespace: &'a dyn Fn(Namespace) -> Result<OwnedFd>,
}

impl ExtendedPod<'_> {
    /// The pod's name.
    pub fn name(&self) -> &str {
        self.name
    }

    /// The pod's id, which no other pod has; `None` if its record cannot be
    /// read.
    pub fn id(&self) -> Option<&str> {
        self.id
    }

    /// The extension's directory in the pod's.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// As [`Pod::pause_pid`](crate::Pod::pause_pid).
    pub fn pause_pid(&self) -> Option<u32> {
        self.pause
    }

    /// As [`Pod::namespace`](crate::Pod::namespace).
    ///
    /// # Errors
    /// As there; [`Error::State`] of a pod that is dead.
    pub fn namespace(&self, kind: Namespace) -> Result<OwnedFd> {
        (self.namespace)(kind)
    }
}

impl Store {
    /// The store with what keeps something for its pods: from then on whatever
    /// is done with pods by this value, sweeping too, asks it.
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// # use pod::{ExtendedPod, Extension, Result, Store};
    /// #[derive(Debug)]
    /// struct Leases;
    ///
    /// impl Extension for Leases {
    ///     fn owner(&self) -> &str {
    ///         "leases"
    ///     }
    ///     fn made_anew(&self, _: &ExtendedPod<'_>) -> Result<()> {
    ///         Ok(())
    ///     }
    ///     fn clean_up(&self, pod: &ExtendedPod<'_>) -> Result<()> {
    ///         println!("the address in {} is free again", pod.dir().display());
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let store = Store::open_default()?.extended(Arc::new(Leases));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn extended(mut self, extension: Arc<dyn Extension>) -> Store {
        self.extensions.push(extension);
        self
    }

    fn extensions_dir(&self, pod: &str) -> PathBuf {
        self.pod_dir(pod).join(EXTENSIONS)
    }

    /// The directory of an owner in a pod's, which is there and locked.
    pub(crate) fn make_extension_dir(&self, pod: &str, owner: &str) -> Result<PathBuf> {
        let dir = self.extensions_dir(pod).join(owner);
        files::make_private(&dir)?;
        Ok(dir)
    }

    /// Has `act` done for each owner that has a directory in the pod's, with its
    /// extension if that is known.
    pub(crate) fn for_each_extension(
        &self,
        pod: &str,
        mut act: impl FnMut(&str, Option<&dyn Extension>, PathBuf) -> Result<()>,
    ) -> Result<()> {
        let dir = self.extensions_dir(pod);
        for owner in files::names_in(&dir)? {
            let known = self.extensions.iter().find(|extension| extension.owner() == owner);
            act(&owner, known.map(|known| &**known), dir.join(&owner))?;
        }
        Ok(())
    }

    /// Before a dead pod's records are removed: has everything taken away that is
    /// kept for it.
    ///
    /// # Errors
    /// The extension's; [`Error::State`] if there is something of an owner that
    /// this program does not know.
    pub(crate) fn clean_up(&self, pod: &str, id: Option<&str>) -> Result<()> {
        let dead = |_| Err(Error::state(format!("pod {pod}"), "is not running"));
        self.for_each_extension(pod, |owner, extension, dir| {
            let Some(extension) = extension else {
                let state = format!(
                    "is dead, but {owner:?} keeps something for it on this machine ({}): remove it by the program that \
                     knows how",
                    dir.display()
                );
                return Err(Error::state(format!("pod {pod}"), state));
            };
            extension.clean_up(&ExtendedPod { name: pod, id, dir: dir.clone(), pause: None, namespace: &dead })?;
            files::remove_all(&dir)
        })
    }
}
