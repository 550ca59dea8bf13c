//! libseccomp, if this machine has it: makes the program that runc would make.

// Calls a C library.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsRawFd;

use libloading::{Library, Symbol};
use seccomp::{Argument, Profile};

/// `SCMP_ARCH_X86_64`, and those it can run besides.
pub const NATIVE: u32 = 0xc000_003e;
pub const X86: u32 = 0x4000_0003;
pub const X32: u32 = 0x4000_003e;

#[repr(C)]
struct Comparison {
    arg: c_uint,
    op: c_uint,
    a: u64,
    b: u64,
}

type OnArch = unsafe extern "C" fn(*mut c_void, u32) -> c_int;
type SetAttribute = unsafe extern "C" fn(*mut c_void, c_int, u32) -> c_int;
type AddRule = unsafe extern "C" fn(*mut c_void, u32, c_int, c_uint, *const Comparison) -> c_int;

pub struct Libseccomp(Library);

impl Libseccomp {
    pub fn load() -> Libseccomp {
        // SAFETY: its constructors do nothing but prepare tables.
        let library = unsafe { Library::new("libseccomp.so.2") };
        Libseccomp(library.expect("libseccomp.so.2 (Debian: libseccomp2)"))
    }

    /// The number by which it knows a call, of this machine or of others.
    pub fn resolve(&self, name: &str) -> Option<c_int> {
        let name = CString::new(name).expect("a name");
        // SAFETY: the function has this type (seccomp.h of 2.5); the name outlives
        // the call.
        let number = unsafe {
            let resolve: Symbol<unsafe extern "C" fn(*const c_char) -> c_int> =
                self.0.get(b"seccomp_syscall_resolve_name").expect("a symbol");
            resolve(name.as_ptr())
        };
        (number != -1).then_some(number)
    }

    /// The number of a call of some architecture; negative if it has none
    /// there.
    pub fn number(&self, token: u32, name: &str) -> c_int {
        let name = CString::new(name).expect("a name");
        // SAFETY: the function has this type (seccomp.h of 2.5); the name outlives
        // the call.
        unsafe {
            let resolve: Symbol<unsafe extern "C" fn(u32, *const c_char) -> c_int> =
                self.0.get(b"seccomp_syscall_resolve_name_arch").expect("a symbol");
            resolve(token, name.as_ptr())
        }
    }

    /// As runc's libcontainer/seccomp does it, but for one architecture alone.
    /// The errno of what it refuses.
    pub fn compile(&self, profile: &Profile, token: u32) -> Result<Vec<u8>, c_int> {
        // SAFETY: the functions have these types (seccomp.h of 2.5); the
        // context is released once, on every path below.
        unsafe {
            let init: Symbol<unsafe extern "C" fn(u32) -> *mut c_void> = self.0.get(b"seccomp_init").expect("a symbol");
            let release: Symbol<unsafe extern "C" fn(*mut c_void)> = self.0.get(b"seccomp_release").expect("a symbol");
            let default = action(&profile.default_action, profile.default_errno_ret);
            let context = init(default);
            assert!(!context.is_null());
            let result = self.fill(context, profile, default, token).map(|()| self.export(context));
            release(context);
            result
        }
    }

    /// # Safety
    /// `context` must be one of libseccomp's.
    unsafe fn fill(&self, context: *mut c_void, profile: &Profile, default: u32, token: u32) -> Result<(), c_int> {
        // SAFETY: the functions have these types.
        let (arch_add, arch_remove, set, rule_add) = unsafe {
            (
                self.0.get::<OnArch>(b"seccomp_arch_add").expect("a symbol"),
                self.0.get::<OnArch>(b"seccomp_arch_remove").expect("a symbol"),
                self.0.get::<SetAttribute>(b"seccomp_attr_set").expect("a symbol"),
                self.0.get::<AddRule>(b"seccomp_rule_add_array").expect("a symbol"),
            )
        };
        if token != NATIVE {
            // SAFETY: a valid context.
            let results = unsafe { (arch_add(context, token), arch_remove(context, NATIVE)) };
            assert_eq!(results, (0, 0));
        }
        let calls = profile.syscalls.as_deref().unwrap_or_default();
        if calls.iter().map(|call| call.names.len()).sum::<usize>() > 32 {
            const OPTIMIZE: c_int = 8;
            // SAFETY: a valid context.
            unsafe { set(context, OPTIMIZE, 2) };
        }
        for call in calls {
            let action = action(&call.action, call.errno_ret);
            if action == default {
                continue;
            }
            let all: Vec<_> = call.args.iter().flatten().map(comparison).collect();
            let twice = (0..all.len()).any(|i| all[..i].iter().any(|other| other.arg == all[i].arg));
            let rules: Vec<&[Comparison]> = if twice { all.chunks(1).collect() } else { vec![&all] };
            for number in call.names.iter().filter_map(|name| self.resolve(name)) {
                for rule in &rules {
                    // SAFETY: a valid context, and an array of that length.
                    let result = unsafe { rule_add(context, action, number, rule.len() as c_uint, rule.as_ptr()) };
                    if result != 0 {
                        return Err(-result);
                    }
                }
            }
        }
        Ok(())
    }

    /// # Safety
    /// `context` must be one of libseccomp's.
    unsafe fn export(&self, context: *mut c_void) -> Vec<u8> {
        let mut file: File = tempfile::tempfile().expect("a file");
        // SAFETY: a valid context and descriptor.
        let result = unsafe {
            let export: Symbol<unsafe extern "C" fn(*mut c_void, c_int) -> c_int> =
                self.0.get(b"seccomp_export_bpf").expect("a symbol");
            export(context, file.as_raw_fd())
        };
        assert_eq!(result, 0);
        let mut program = Vec::new();
        file.rewind().expect("a file");
        file.read_to_end(&mut program).expect("a program");
        program
    }
}

fn comparison(argument: &Argument) -> Comparison {
    let ops = ["", "NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    let op = ops.iter().position(|op| argument.op.strip_prefix("SCMP_CMP_") == Some(op)).expect("an op");
    let b = argument.value_two.unwrap_or(0);
    Comparison { arg: argument.index as c_uint, op: op as c_uint, a: argument.value, b }
}

/// For one of the profiles with rules for `semop` and the like, libseccomp 2.5.4
/// forgets to load the call's number on i386: it then compares numbers with the
/// architecture. What follows the architecture's test must load it or return.
pub fn forgets_to_load(program: &[u8]) -> bool {
    program.get(16..24).is_some_and(|next| next[0] != 0x06 && (next[0] != 0x20 || next[4..] != [0; 4]))
}

/// `SCMP_ACT_*` has the values of `SECCOMP_RET_*`.
pub fn action(name: &str, errno: Option<u32>) -> u32 {
    let errno = errno.unwrap_or(1);
    match name.strip_prefix("SCMP_ACT_").expect("an action") {
        "KILL" | "KILL_THREAD" => 0,
        "KILL_PROCESS" => 0x8000_0000,
        "TRAP" => 0x0003_0000,
        "ERRNO" => 0x0005_0000 | errno,
        "TRACE" => 0x7ff0_0000 | errno,
        "LOG" => 0x7ffc_0000,
        "ALLOW" => 0x7fff_0000,
        other => panic!("no action {other}"),
    }
}
