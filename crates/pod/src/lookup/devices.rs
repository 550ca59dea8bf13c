//! Device nodes of this machine.

use std::path::PathBuf;

use crate::spec::{Device, DeviceKind};

/// Where the machine has this device: at the same path, where udev(7) has it
/// by its number, or anywhere in /dev.
pub(crate) fn find_outside(device: &Device) -> Option<PathBuf> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let (dir, is_kind): (_, fn(&std::fs::FileType) -> bool) = match device.kind {
        DeviceKind::Char => ("/dev/char", |kind| kind.is_char_device()),
        DeviceKind::Block => ("/dev/block", |kind| kind.is_block_device()),
        DeviceKind::Fifo => return None,
    };
    let by_number = PathBuf::from(format!("{dir}/{}:{}", device.major, device.minor));
    let number = libc::makedev(device.major, device.minor);
    let named = [device.path.clone(), by_number].into_iter().filter_map(|path| std::fs::canonicalize(path).ok());
    let all = std::fs::read_dir("/dev").into_iter().flatten().flatten().map(|entry| entry.path());
    named.chain(all).find(|path| {
        // Links such as /dev/stdin would lead elsewhere when the plan opens them.
        std::fs::symlink_metadata(path).is_ok_and(|meta| is_kind(&meta.file_type()) && meta.rdev() == number)
    })
}
