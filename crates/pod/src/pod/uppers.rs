//! Upper directories that a caller gives: one container at a time writes to one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Pod;
use super::container::Container;
use crate::cgroup;
use crate::error::{Context, Error, Result};
use crate::spec::{ContainerSpec, Root, UpperDir};
use crate::store::exits::Phase;

impl Pod {
    /// Whether another container of this store, in which something runs or is about to, has
    /// one of the container's directories; its own record is written already, so of
    /// two that come at once neither overlooks the other.
    ///
    /// The kernel lets several overlays write to one directory, and only says in
    /// its log that this goes wrong.
    pub(super) fn check_upper(&self, container: &ContainerSpec) -> Result<()> {
        let Some(own) = given(container) else { return Ok(()) };
        let own = [("upper", id(&own.upper)?), ("work", id(&own.work)?)];
        for pod in Pod::list(&self.store)? {
            // What cannot be read does not run, or nobody can tell.
            let Ok(pod) = pod else { continue };
            for other in pod.containers()?.iter().filter(|other| pod.id() != self.id() || other.name != container.name)
            {
                let object = other.object();
                let Some(other) = other.running_upper()? else { continue };
                let other = [id(&other.upper).ok(), id(&other.work).ok()];
                if let Some((field, _)) = own.iter().find(|(_, id)| other.contains(&Some(*id))) {
                    let reason = format!("{object}, which runs, writes to it: wait for its end");
                    let value = given(container).map(|own| if *field == "upper" { &own.upper } else { &own.work });
                    let value = value.map(|path| path.to_string_lossy().into_owned());
                    return Err(Error::invalid(format!("root.layers.{field}"), value.unwrap_or_default(), reason));
                }
            }
        }
        Ok(())
    }
}

impl Container<'_> {
    /// The directories that it was given, while it runs or is started.
    fn running_upper(&self) -> Result<Option<UpperDir>> {
        let record = match self.record() {
            // What cannot be read does not run, or nobody can tell.
            Err(_) => return Ok(None),
            Ok(record) => record,
        };
        let phase = record.reservation.zip(self.pod.table.as_ref()).map(|(entry, table)| table.phase(entry));
        let runs = self.pod.is_alive() && matches!(phase, Some(Phase::Reserved | Phase::Running(_)));
        // What its main process left behind has it mounted still.
        let left = |cgroup: PathBuf| !cgroup::wait_empty(&cgroup, Duration::ZERO).unwrap_or(true);
        let runs = runs || self.cgroup().is_some_and(left);
        Ok(given(&record.container).filter(|_| runs).cloned())
    }
}

fn given(container: &ContainerSpec) -> Option<&UpperDir> {
    match &container.root {
        Root::Layers(layers) => layers.upper.as_ref(),
        Root::Dir(_) | Root::Host => None,
    }
}

/// Which directory it is, whatever path leads to it.
fn id(dir: &Path) -> Result<(u64, u64)> {
    let meta = fs::metadata(dir).doing(|| format!("looking at {}", dir.display()))?;
    Ok((meta.dev(), meta.ino()))
}
