//! What a pid that was written down means here and now.
//!
//! A pid is a number of one pid namespace, and of one boot; pause's record says
//! of which. Whether that pause lives is asked of the kernel.

use std::os::fd::OwnedFd;
use std::path::Path;

use crate::cgroup;
use crate::error::{Error, Result};
use crate::kernel::procfs::{self, ProcessId};
use crate::kernel::record_file;
use crate::store::records::{PAUSE, PauseRecord};

/// Where this program is, and since when: what a pid means depends on it.
pub(crate) struct Here {
    /// Its pid namespace, by inode.
    pub pids: u64,
    /// See [`procfs::boot_id`].
    pub boot: String,
}

impl Here {
    pub(crate) fn read() -> Result<Here> {
        Ok(Here { pids: procfs::own()?.pids, boot: procfs::boot_id()? })
    }
}

/// The pause of the pod in `dir` and its pidfd, if it lives or is a zombie.
///
/// # Errors
/// [`Error::Os`] if the kernel does not tell, which is not "none".
pub(crate) fn pause_of(dir: &Path, cgroup: Option<&Path>, here: &Here) -> Result<Option<(ProcessId, OwnedFd)>> {
    let Some(process) = recorded_pause(dir, cgroup, here)? else { return Ok(None) };
    Ok(process.open()?.map(|pidfd| (process, pidfd)))
}

/// The pause that was written down for the pod in `dir`, if it can be alive.
/// Elsewhere, only that a pod has ended can be told, by its `cgroup`.
pub(crate) fn recorded_pause(dir: &Path, cgroup: Option<&Path>, here: &Here) -> Result<Option<ProcessId>> {
    let record: Option<PauseRecord> = record_file::read_record(&dir.join(PAUSE))?;
    let record = record.filter(|record| record.boot == here.boot);
    let Some(PauseRecord { process, pids, cgroup: number, .. }) = record else { return Ok(None) };
    if pids != here.pids {
        // It was born into its cgroup, which stays empty once it has ended.
        if let Some((cgroup, number)) = cgroup.zip(number)
            && cgroup::is_empty(cgroup, number)?
        {
            return Ok(None);
        }
        let pod = dir.file_name().unwrap_or_default().to_string_lossy();
        return Err(Error::state(format!("pod {pod}"), "belongs to another pid namespace: use it from there"));
    }
    Ok(Some(process))
}
