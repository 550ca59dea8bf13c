//! The exit table for one look, which takes no mapping.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use pause::table::{Entry, Head, SLOTS, TABLE_SIZE, VERSION};

use crate::error::{Context, Error, Result};
use crate::table::{Phase, Reservation, phase_of};

/// The bytes of an exit table as they were when they were read.
///
/// pause writes a slot's state last and the kernel copies from the front, so
/// what stands behind a state is at least as new.
pub(crate) struct Snapshot(Vec<u8>);

impl Snapshot {
    /// The table at `path`, if there is one.
    pub(crate) fn read(path: &Path) -> Result<Option<Snapshot>> {
        let context = || format!("reading the exit table {}", path.display());
        let mut options = File::options();
        let mut file = match options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.doing(context)?,
        };
        let mut bytes = vec![0; TABLE_SIZE + 1];
        let size = file.read(&mut bytes).doing(context)?;
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let reason = match () {
            _ if size != TABLE_SIZE => "the exit table is not one page",
            _ if word(0) != VERSION => "an exit table of another version",
            () => return Ok(Some(Snapshot(bytes))),
        };
        Err(Error::Corrupt { path: path.display().to_string(), reason: reason.into() })
    }

    pub(crate) fn phase(&self, reservation: Reservation) -> Phase {
        let at = size_of::<Head>() + reservation.entry.min(SLOTS) * size_of::<Entry>();
        let Some(bytes) = self.0.get(at..at + size_of::<Entry>()) else { return Phase::Lost };
        let word = |i: usize| u32::from_ne_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        let long = |i: usize| u64::from_ne_bytes(bytes[i..i + 8].try_into().unwrap_or_default());
        let slot = Entry {
            pid: word(0).into(),
            state: word(4).into(),
            code: word(8).into(),
            status: word(12).into(),
            time: long(16).into(),
            generation: long(24).into(),
        };
        phase_of(&slot, reservation)
    }
}
