//! The exit table for one look, which takes no mapping.

use std::io::Read;
use std::path::Path;

use nix::fcntl::OFlag;
use pause::table::{ENTRIES, Entry, Head, TABLE_SIZE};

use super::exits::{NOT_ONE_PAGE, Phase, Reservation, check_version, corrupt, map_table, phase_of};
use crate::error::{Context, Result};
use crate::kernel::files;
use crate::kernel::syscalls::MappedTable;

/// The bytes of an exit table as they were when they were read.
///
/// pause writes an entry's state last and the kernel copies from the front, so
/// what stands behind a state is at least as new.
pub(crate) struct Snapshot(Vec<u8>);

impl Snapshot {
    /// The table at `path`, if there is one.
    pub(crate) fn read(path: &Path) -> Result<Option<Snapshot>> {
        let Some((mut file, _)) = files::open_own(path, OFlag::O_RDONLY)? else { return Ok(None) };
        let mut bytes = vec![0; TABLE_SIZE + 1];
        let size = file.read(&mut bytes).doing(|| format!("reading the exit table {}", path.display()))?;
        if size != TABLE_SIZE {
            return Err(corrupt(path, NOT_ONE_PAGE));
        }
        check_version(path, u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))?;
        Ok(Some(Snapshot(bytes)))
    }

    pub(crate) fn phase(&self, reservation: Reservation) -> Phase {
        let at = size_of::<Head>() + reservation.entry.min(ENTRIES) * size_of::<Entry>();
        let Some(bytes) = self.0.get(at..at + size_of::<Entry>()) else { return Phase::Lost };
        let word = |i: usize| u32::from_ne_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        let long = |i: usize| u64::from_ne_bytes(bytes[i..i + 8].try_into().unwrap_or_default());
        let entry = Entry {
            pid: word(0).into(),
            state: word(4).into(),
            code: word(8).into(),
            status: word(12).into(),
            time: long(16).into(),
            generation: long(24).into(),
        };
        phase_of(&entry, reservation)
    }
}

/// An exit table to look into again and again, also when its pod has been removed.
/// It takes a mapping and no descriptor.
pub(crate) struct KeptTable(MappedTable);

impl KeptTable {
    /// The table at `path`, if there is one.
    pub(crate) fn open(path: &Path) -> Result<Option<KeptTable>> {
        Ok(map_table(path)?.map(|(map, _)| KeptTable(map)))
    }

    pub(crate) fn phase(&self, reservation: Reservation) -> Phase {
        self.0.entries.get(reservation.entry).map_or(Phase::Lost, |entry| phase_of(entry, reservation))
    }
}
