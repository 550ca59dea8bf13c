//! Compiles `src/program.rs`, the sealed program, with the same plain `rustc`
//! that builds everything else: no extra target, no nightly. The result is a
//! static ELF without libc, loader or allocator, and the library embeds it as
//! bytes.

use std::{env, path::PathBuf, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=build.rs");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    assert!(
        target.starts_with("x86_64-") && target.contains("linux"),
        "the sealed program speaks x86_64 Linux system calls; `{target}` needs an own file in pause/src/arch"
    );
    println!("cargo::rustc-check-cfg=cfg(sealed)");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("program");
    let status = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"))
        .args(["--edition=2024", "--crate-type=bin", "--crate-name=program", "--cfg=sealed"])
        .args(["--target", &target])
        .args(["-Copt-level=s", "-Cpanic=abort", "-Cdebuginfo=0", "-Cstrip=symbols"])
        .args(["-Coverflow-checks=off", "-Cdebug-assertions=off", "-Ccodegen-units=1"])
        .args(["-Crelocation-model=static", "-Ctarget-feature=+crt-static"])
        .args(["-Cforce-unwind-tables=no", "-Clto=fat"])
        .args(["-Clink-arg=-nostartfiles", "-Clink-arg=-nostdlib", "-Clink-arg=-static"])
        // One segment, one page: see the linker script.
        .args(["-Clink-arg=-no-pie", "-Clink-arg=-Wl,--build-id=none,--gc-sections,-z,norelro"])
        .args(["-Clink-arg=-Wl,--no-eh-frame-hdr,-Tsrc/program.ld"])
        .arg("-o")
        .arg(&out)
        .arg("src/program.rs")
        .status()
        .expect("rustc runs");
    assert!(status.success(), "the sealed program does not compile");
}
