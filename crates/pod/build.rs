//! Compiles the default seccomp profile for the capabilities a container has
//! by default, so that a start with it only loads it.

use std::path::PathBuf;
use std::{env, fs};

use seccomp::{Context, OLDEST_KERNEL, Situation, compile, default_capabilities, default_profile};

fn main() {
    // The compiler and the profile are part of this program: cargo builds and
    // runs it again when they change.
    println!("cargo::rerun-if-changed=build.rs");
    let profile = default_profile().unwrap_or_else(|error| panic!("the default profile: {error}"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for (name, shared_pid) in [("shared-pid.bpf", true), ("own-pid.bpf", false)] {
        let situation = Situation { nesting: false, shared_pid };
        let context = Context { capabilities: default_capabilities(), kernel: OLDEST_KERNEL, situation };
        let filter = compile(&profile, &context).unwrap_or_else(|error| panic!("the default profile: {error}"));
        assert!(filter.flags == 0 && filter.listener.is_none(), "only the program is kept");
        fs::write(out.join(name), filter.program).expect("OUT_DIR can be written");
    }
}
