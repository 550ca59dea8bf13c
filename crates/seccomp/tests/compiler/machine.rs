//! The kernel's side of a filter: runs classic BPF over a call's data, as
//! `seccomp_run_filters` does, and checks a program as the loader does.

/// `struct seccomp_data`, less the instruction pointer.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub arch: u32,
    pub number: u32,
    pub args: [u64; 6],
}

pub const X86_64: u32 = 0xc000_003e;
pub const I386: u32 = 0x4000_0003;
pub const AARCH64: u32 = 0xc000_00b7;
pub const X32_BIT: u32 = 0x4000_0000;

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            16..64 if offset.is_multiple_of(4) => {
                let arg = self.args[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
            }
            _ => panic!("the kernel does not load from {offset}"),
        }
    }
}

/// What the program returns, and in how many steps.
pub fn run(program: &[u8], call: &Call) -> (u32, usize) {
    assert!(program.len().is_multiple_of(8) && (8..=8 * 4096).contains(&program.len()));
    let (mut at, mut a, mut steps) = (0usize, 0u32, 0);
    loop {
        steps += 1;
        let [c0, c1, yes, no, k @ ..] = program[8 * at..][..8].try_into().map(|b: [u8; 8]| b).expect("8 bytes");
        let (code, k) = (u16::from_ne_bytes([c0, c1]), u32::from_ne_bytes(k));
        at += 1;
        let jump = |holds: bool| usize::from(if holds { yes } else { no });
        match code {
            0x20 => a = call.word(k),
            0x54 => a &= k,
            0x05 => at += k as usize,
            0x15 => at += jump(a == k),
            0x25 => at += jump(a > k),
            0x35 => at += jump(a >= k),
            0x45 => at += jump(a & k != 0),
            0x06 => return (k, steps),
            other => panic!("instruction {other:#x}"),
        }
    }
}
