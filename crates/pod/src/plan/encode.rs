//! From [`Plan`] to the bytes of [`pause::wire`].

use pause::wire::{Header, MAGIC, MAX_SLOTS, PLAN_BASE, PLAN_MAX, RawStep, Slot};

use super::step::{Arg, Step};
use super::{Given, Plan};
use crate::error::{Error, Result};

/// The data behind the steps, and where it will stand in memory.
struct Data {
    bytes: Vec<u8>,
    base: usize,
}

impl Data {
    fn add(&mut self, bytes: &[u8]) -> u64 {
        // Words and structures are aligned to 8.
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let at = self.base + self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        at as u64
    }

    fn add_words(&mut self, words: &[u64]) -> u64 {
        let at = self.add(&[]);
        words.iter().for_each(|word| self.bytes.extend_from_slice(&word.to_ne_bytes()));
        at
    }

    fn add_strings(&mut self, strings: &[std::ffi::CString]) -> u64 {
        let mut pointers = Vec::with_capacity(8 * (strings.len() + 1));
        for string in strings {
            pointers.extend_from_slice(&self.add(string.as_bytes_with_nul()).to_ne_bytes());
        }
        pointers.extend_from_slice(&0u64.to_ne_bytes());
        self.add(&pointers)
    }
}

impl Plan {
    /// The plan as the sealed program reads it.
    ///
    /// # Errors
    /// [`Error::Invalid`] if arguments and environment exceed 8 MiB, or more
    /// mounts are asked for than there are slots.
    pub fn encode(&self) -> Result<Vec<u8>> {
        if self.names.len() > MAX_SLOTS {
            let value = format!("{} descriptors in use", self.names.len());
            return Err(Error::invalid("mounts", value, format!("a launch has {MAX_SLOTS}: use fewer mounts")));
        }
        if self.steps.len() > usize::from(u16::MAX) {
            let value = format!("{} steps", self.steps.len());
            return Err(Error::invalid("mounts", value, format!("a launch has {}: use fewer mounts", u16::MAX)));
        }
        let header = Header {
            magic: MAGIC,
            steps: self.steps.len() as u32,
            slots: self.names.len() as u32,
            given: self.given.len() as u32,
            resume: self.resume as u32,
            reserved: 0,
        };
        let steps_size = self.steps.len() * size_of::<RawStep>();
        let base = PLAN_BASE + size_of::<Header>() + steps_size;
        let mut data = Data { bytes: Vec::with_capacity(4096), base };
        let mut bytes = Vec::with_capacity(size_of::<Header>() + steps_size + 4096);
        for word in [header.magic, header.steps, header.slots, header.given, header.resume, header.reserved] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        for step in &self.steps {
            encode_step(&raw_step(step, &mut data), &mut bytes);
        }
        bytes.extend_from_slice(&data.bytes);
        if bytes.len() > PLAN_MAX {
            let value = format!("{} bytes", bytes.len());
            return Err(Error::invalid("args and env", value, format!("at most {PLAN_MAX} bytes together")));
        }
        Ok(bytes)
    }

    /// Whether the plan wants this descriptor.
    pub(crate) fn wants(&self, given: Given) -> bool {
        self.given.contains(&given)
    }
}

fn raw_step(step: &Step, data: &mut Data) -> RawStep {
    let mut raw = RawStep {
        args: [0; 6],
        nr: step.call.number as u32,
        repeat: step.repeat,
        into: step.into.unwrap_or(Slot(Slot::NONE)).0,
        tolerate: [0; 3],
        skip_err: step.skip_err,
        skip_ok: step.skip_ok,
        min: step.min,
        op: step.call.op,
        slot_args: 0,
        reserved: 0,
    };
    for (place, errno) in raw.tolerate.iter_mut().zip(step.tolerate) {
        *place = *errno as u16;
    }
    for (i, arg) in step.args.iter().enumerate() {
        raw.args[i] = match arg {
            Arg::Slot(slot) => {
                raw.slot_args |= 1 << i;
                slot.0.into()
            }
            Arg::SlotNumber(slot) => slot.0.into(),
            Arg::Label(step) => *step as u64,
            Arg::Num(number) | Arg::Address(number) => *number,
            Arg::Flags(value, _) | Arg::Device(value) => *value,
            Arg::Mode(mode) => u64::from(*mode),
            Arg::Word(number, _) => *number as u64,
            Arg::Text(text) => data.add(text.as_bytes_with_nul()),
            Arg::OpenHow(how) => data.add_words(&[how.flags, how.mode, how.resolve]),
            Arg::MountAttr(attr) => data.add_words(&[attr.set, attr.clear, attr.propagation, attr.users]),
            Arg::Blob(bytes, _) => data.add(bytes),
            Arg::Strings(strings) => data.add_strings(strings),
            Arg::Filter(filter) => {
                let program = data.add(filter);
                // struct sock_fprog: count, padding, pointer.
                let mut fprog = ((filter.len() / 8) as u64).to_ne_bytes().to_vec();
                fprog.extend_from_slice(&program.to_ne_bytes());
                data.add(&fprog)
            }
        };
    }
    raw
}

/// Field by field, in the order of the struct, which has no padding.
fn encode_step(raw: &RawStep, out: &mut Vec<u8>) {
    let mut bytes = [0; size_of::<RawStep>()];
    let (args, rest) = bytes.split_at_mut(size_of_val(&raw.args));
    for (place, arg) in args.as_chunks_mut().0.iter_mut().zip(raw.args) {
        *place = arg.to_ne_bytes();
    }
    let (number, rest) = rest.split_at_mut(size_of_val(&raw.nr));
    number.copy_from_slice(&raw.nr.to_ne_bytes());
    let [first, second, third] = raw.tolerate;
    let halves = [raw.repeat, raw.into, first, second, third, raw.skip_err, raw.skip_ok, raw.min];
    let (places, rest) = rest.split_at_mut(size_of_val(&halves));
    for (place, half) in places.as_chunks_mut().0.iter_mut().zip(halves) {
        *place = half.to_ne_bytes();
    }
    rest.copy_from_slice(&[raw.op as u8, raw.slot_args, 0, 0]);
    out.extend_from_slice(&bytes);
}

const _: () = assert!(size_of::<RawStep>() == 72 && size_of::<Header>() == 24);
