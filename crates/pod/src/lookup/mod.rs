//! What a plan needs to know of this machine: looked up before a process is
//! born. Nothing is changed but by `Prepared::make_dirs` and `mount_fds`, which
//! make what a plan cannot.

mod asked_mounts;
pub(crate) mod devices;
pub(crate) mod host_mounts;
pub(crate) mod mount_fds;
mod overlay;
pub(crate) mod passwd;
pub(crate) mod prepared;
pub(crate) mod revealed;
pub(crate) mod root_files;
pub(crate) mod subids;
