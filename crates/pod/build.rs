//! Compiles the default seccomp profile for the capabilities a container has
//! by default, with the library's own compiler.

use std::path::PathBuf;
use std::{env, fs};

#[allow(dead_code, missing_docs, unused_imports)]
#[path = "src/seccomp/compile/mod.rs"]
mod compile;

/// What the compiler knows of the library: here, its errors end the build.
mod error {
    pub struct Error;
    pub type Result<T> = std::result::Result<T, Error>;

    impl Error {
        pub fn invalid(field: impl Into<String>, value: impl Into<String>, reason: impl Into<String>) -> Error {
            panic!("{} {:?}: {}", field.into(), value.into(), reason.into())
        }
    }
}

#[path = "src/seccomp/usual.rs"]
mod usual;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/seccomp");
    let text = fs::read_to_string("src/seccomp/default.json").expect("the profile");
    let profile = serde_json::from_str(&text).expect("a profile");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for (name, shared_pid) in [("shared-pid.bpf", true), ("own-pid.bpf", false)] {
        let situation = compile::Situation { nesting: false, shared_pid };
        let context = compile::Context { capabilities: usual::capabilities(), kernel: usual::KERNEL, situation };
        let Ok(filter) = compile::compile(&profile, &context) else { unreachable!("errors end the build") };
        assert!(filter.flags == 0 && filter.listener.is_none(), "only the program is kept");
        fs::write(out.join(name), filter.program).expect("OUT_DIR can be written");
    }
}
