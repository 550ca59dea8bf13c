//! What a step of a mount serves.

use crate::error::Purpose;
use crate::spec::{Mount, MountKind};

/// What the steps serve that make a mount, or change one.
pub(super) fn purpose_of(mount: &Mount) -> Purpose {
    match mount.kind {
        MountKind::Remount { .. } => Purpose::MountOptions(mount.target.clone()),
        _ => Purpose::Mount(mount.target.clone()),
    }
}
