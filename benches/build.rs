//! Compiles the two C programs of the benchmark, statically: a dynamic loader is
//! no part of the kernel's floor.

use std::{env, path::PathBuf, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for name in ["floor", "payload"] {
        let source = format!("{name}.c");
        println!("cargo::rerun-if-changed={source}");
        let mut cc = Command::new(env::var_os("CC").unwrap_or("cc".into()));
        cc.args(["-O2", "-Wall", "-static", "-no-pie", "-o"]).arg(out.join(name)).arg(&source);
        let status = cc.status().expect("the benchmark needs a C compiler, cc");
        assert!(status.success(), "{source} does not compile; it needs a static C library");
    }
}
