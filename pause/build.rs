//! Compiles `src/program.rs`, the sealed program, and `src/copier.rs` with the same
//! plain `rustc` that builds everything else: no extra target, no nightly. The
//! results are static ELF files without libc, loader or allocator, and the library
//! embeds them as bytes.

use std::{env, fs, path::PathBuf, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=build.rs");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    assert!(
        target.starts_with("x86_64-") && target.contains("linux"),
        "the sealed program speaks x86_64 Linux system calls; `{target}` needs an own file in pause/src/arch"
    );
    println!("cargo::rustc-check-cfg=cfg(sealed)");
    compile("program", "s", &target);
    // On two pages: it is there as often as there are containers.
    compile("copier", "z", &target);
}

fn compile(name: &str, size: &str, target: &str) {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join(name);
    let status = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"))
        .args(["--edition=2024", "--crate-type=bin", "--crate-name", name, "--cfg=sealed"])
        .args(["--target", target])
        .arg(format!("-Copt-level={size}"))
        .args(["-Cpanic=abort", "-Cdebuginfo=0", "-Cstrip=symbols"])
        .args(["-Coverflow-checks=off", "-Cdebug-assertions=off", "-Ccodegen-units=1"])
        .args(["-Crelocation-model=static", "-Ctarget-feature=+crt-static"])
        .args(["-Cforce-unwind-tables=no", "-Clto=fat"])
        .args(["-Clink-arg=-nostartfiles", "-Clink-arg=-nostdlib", "-Clink-arg=-static"])
        // One segment, one page: see the linker script.
        .args(["-Clink-arg=-no-pie", "-Clink-arg=-Wl,--build-id=none,--gc-sections,-z,norelro"])
        .args(["-Clink-arg=-Wl,--no-eh-frame-hdr,-Tsrc/program.ld"])
        // With musl rustc would link its own start files before -nostartfiles is heard.
        .args(target.ends_with("musl").then_some("-Clink-self-contained=no"))
        .arg("-o")
        .arg(&out)
        .arg(format!("src/{name}.rs"))
        .status()
        .expect("rustc runs");
    assert!(status.success(), "{name} does not compile");
    fs::write(&out, without_sections(fs::read(&out).expect("the program"))).expect("the program can be written");
}

/// What the kernel loads: everything but the section headers (elf(5)), for
/// which the file would need a second page of memory.
fn without_sections(mut elf: Vec<u8>) -> Vec<u8> {
    // Of the one segment that is loaded, whose header stands first.
    const OFFSET_AND_SIZE: [usize; 2] = [64 + 8, 64 + 32];
    let word = |at: usize| usize::from_le_bytes(elf[at..at + 8].try_into().expect("eight bytes"));
    let end = OFFSET_AND_SIZE.map(word).iter().sum();
    elf.truncate(end);
    // e_shoff; e_shentsize, e_shnum and e_shstrndx.
    elf[40..48].fill(0);
    elf[58..64].fill(0);
    elf
}
