//! Compiles the probe with plain `rustc`, statically linked: it is the only
//! file of the root file systems that the suite's containers get. And lists
//! the bundles of `fixtures`, for a suite that is run where no source is.

use std::fmt::Write;
use std::{env, fs, path::PathBuf, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=probe");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let status = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"))
        .args(["--edition=2024", "--crate-type=bin", "--crate-name=probe"])
        .args(["--target", &env::var("TARGET").expect("cargo sets TARGET")])
        .args(["-Ctarget-feature=+crt-static", "-Crelocation-model=static"])
        .args(["-Copt-level=1", "-Cpanic=abort", "-Cstrip=symbols"])
        .arg("-o")
        .arg(out.join("probe"))
        .arg("probe/main.rs")
        .status()
        .expect("rustc runs");
    assert!(status.success(), "the probe does not compile; a static libc (libc.a) is needed");
    list_bundles(&out);
}

fn list_bundles(out: &std::path::Path) {
    let dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../fixtures/bundles");
    println!("cargo::rerun-if-changed={}", dir.display());
    let entries = fs::read_dir(&dir).expect("fixtures/bundles").flatten().map(|entry| entry.path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    let mut list = String::from("&[\n");
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        writeln!(list, "    ({name:?}, include_str!({:?})),", file.display().to_string()).expect("a string");
    }
    fs::write(out.join("bundles.rs"), list + "]\n").expect("the list");
}
