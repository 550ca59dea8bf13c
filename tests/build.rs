//! Compiles the probe with plain `rustc`, statically linked: it is the only
//! file of the root file systems that the suite's containers get.

use std::{env, path::PathBuf, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=probe");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("probe");
    let status = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"))
        .args(["--edition=2024", "--crate-type=bin", "--crate-name=probe"])
        .args(["--target", &env::var("TARGET").expect("cargo sets TARGET")])
        .args(["-Ctarget-feature=+crt-static", "-Crelocation-model=static"])
        .args(["-Copt-level=1", "-Cpanic=abort", "-Cstrip=symbols"])
        .arg("-o")
        .arg(&out)
        .arg("probe/main.rs")
        .status()
        .expect("rustc runs");
    assert!(status.success(), "the probe does not compile; a static libc (libc.a) is needed");
}
