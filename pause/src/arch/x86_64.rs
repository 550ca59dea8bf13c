//! x86_64: System V ABI, `syscall` instruction.

use core::arch::asm;

/// System call numbers the program itself uses; a plan brings its own.
#[allow(missing_docs)]
pub mod nr {
    pub const READ: usize = 0;
    pub const OPEN: usize = 2;
    pub const CLOSE: usize = 3;
    pub const FSTAT: usize = 5;
    pub const LSEEK: usize = 8;
    pub const MMAP: usize = 9;
    pub const MUNMAP: usize = 11;
    pub const MADVISE: usize = 28;
    pub const RT_SIGACTION: usize = 13;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const IOCTL: usize = 16;
    pub const RECVFROM: usize = 45;
    pub const SENDMSG: usize = 46;
    pub const WRITE: usize = 1;
    pub const GETSOCKOPT: usize = 55;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const FCNTL: usize = 72;
    pub const PRCTL: usize = 157;
    pub const FUTEX: usize = 202;
    pub const GETDENTS64: usize = 217;
    pub const CLOCK_GETTIME: usize = 228;
    pub const EXIT_GROUP: usize = 231;
    pub const OPENAT: usize = 257;
    pub const UNLINKAT: usize = 263;
    pub const RENAMEAT: usize = 264;
    pub const FACCESSAT: usize = 269;
    pub const PPOLL: usize = 271;
    pub const ACCEPT4: usize = 288;
    pub const PIDFD_SEND_SIGNAL: usize = 424;
    pub const CLONE3: usize = 435;
    pub const CLOSE_RANGE: usize = 436;
    pub const OPENAT2: usize = 437;
}

/// One system call. Negative results are `-errno`.
///
/// # Safety
/// Whatever `number` does to memory must be sound with these arguments.
#[inline(never)]
pub unsafe fn syscall(number: usize, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the kernel clobbers rcx and r11 only; the caller vouches for
    // the rest.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// An instruction that is none: the kernel ends the process with SIGILL, which
/// is at its default and cannot be blocked against this.
pub fn trap() -> ! {
    // SAFETY: the process is over.
    unsafe { asm!("ud2", options(noreturn, nomem, nostack)) }
}

#[cfg(sealed)]
core::arch::global_asm!(
    // The kernel enters here with argc at the top of the stack.
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call start",
    // rustc emits calls to these; a loop in Rust would become a call to
    // itself.
    // By words: most of what is copied is short, for which `rep` takes long.
    ".globl memcpy",
    "memcpy:",
    "mov rax, rdi",
    "jmp 3f",
    "2: mov rcx, [rsi]",
    "mov [rdi], rcx",
    "add rsi, 8",
    "add rdi, 8",
    "3: sub rdx, 8",
    "jae 2b",
    "add rdx, 8",
    "jz 5f",
    "4: mov cl, [rsi]",
    "mov [rdi], cl",
    "inc rsi",
    "inc rdi",
    "dec rdx",
    "jnz 4b",
    "5: ret",
    ".globl memset",
    "memset:",
    "mov r8, rdi",
    "mov eax, esi",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r8",
    "ret",
    // Towards lower addresses only, as the callers here do it.
    ".globl memmove",
    "memmove:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
);
