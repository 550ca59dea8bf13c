//! One OCI bundle to its end: podlet-oci, crun and runc, each with the same
//! config, without and with a seccomp profile, and with the rules for
//! devices that runc writes by default.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::fixture::{Fixture, run};
use crate::measure::{Subject, interleaved};
use crate::report::{aim, line, ms, section, times};

/// The profile of podman and docker, as data.
const PROFILE: &str = include_str!("../../crates/seccomp/default.json");

/// The runtimes that run bundles, podlet-oci by the path of the one measured.
const RUNTIMES: [&str; 3] = ["podlet-oci", "crun", "runc"];

/// Measures, with each config.
pub fn measure(fixture: &Fixture, rounds: usize) -> Result<()> {
    let ours = fixture.podlet.with_file_name("podlet-oci");
    let plain = write(fixture, &ours, "bundle-plain", |config| config["linux"]["resources"] = Value::Null)?;
    let devices = write(fixture, &ours, "bundle-devices", |_| ())?;
    let profile = profile()?;
    let filtered = write(fixture, &ours, "bundle-filtered", |config| {
        config["linux"]["resources"] = Value::Null;
        config["linux"]["seccomp"] = profile;
    })?;
    section("One OCI bundle to its end", ["median", "/ floor", "/ crun"]);
    for (bundle, text, limit) in [
        (&plain, "no seccomp profile", Some(1.5)),
        (&filtered, "podman's seccomp profile", None),
        (&devices, "rules for devices", None),
    ] {
        compare(fixture, &ours, bundle, text, limit, rounds)?;
    }
    Ok(())
}

fn compare(fixture: &Fixture, ours: &Path, bundle: &Path, text: &str, limit: Option<f64>, rounds: usize) -> Result<()> {
    let mut subjects =
        vec![Subject::new("kernel's floor, with a cgroup", || run(&mut fixture.floor("run", None, true)))];
    let mut missing = Vec::new();
    for name in RUNTIMES {
        let program = if name == "podlet-oci" { ours } else { Path::new(name) };
        let mut number = 0;
        let mut once = move || -> Result<Duration> {
            number += 1;
            run(&mut command(fixture, program, bundle, number))
        };
        match once() {
            Ok(_) => subjects.push(Subject::new(format!("{name} run"), once)),
            Err(error) if name != "podlet-oci" => missing.push(format!("skipped: {name}: {error:#}")),
            Err(error) => return Err(error),
        }
    }
    let series = interleaved(rounds, subjects)?;
    let crun = series.iter().find(|series| series.name == "crun run");
    println!("  {text}:");
    for one in &series {
        let mut aims = Vec::new();
        if one.name.starts_with("podlet-oci") {
            aims.extend(limit.map(|limit| aim(&format!("at most {limit} x floor"), one.ratio(&series[0]) <= limit)));
            aims.extend(crun.map(|crun| aim("a quarter of crun", one.ratio(crun) <= 0.25)));
        }
        let beside = crun.map_or(String::new(), |crun| times(one.ratio(crun)));
        line(&one.name, [&ms(one.median()), &times(one.ratio(&series[0])), &beside], &aims.join(", "));
    }
    missing.iter().for_each(|why| println!("  {why}"));
    Ok(())
}

fn command(fixture: &Fixture, program: &Path, bundle: &Path, number: u32) -> Command {
    let mut command = Command::new(program);
    let state = program.file_name().unwrap_or_default().to_string_lossy();
    command.arg("--root").arg(fixture.dir.path().join(format!("state-{state}")));
    command.args(["run", "--bundle"]).arg(bundle);
    command.arg(format!("podlet-bench-{}-{number}", std::process::id()));
    command
}

/// What `podlet-oci spec` writes, with the fixture's program and root.
fn write(fixture: &Fixture, ours: &Path, name: &str, change: impl FnOnce(&mut Value)) -> Result<PathBuf> {
    let dir = fixture.dir.path().join(name);
    fs::create_dir(&dir)?;
    run(Command::new(ours).arg("spec").current_dir(&dir))?;
    let path = dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
    // What all three know.
    config["ociVersion"] = json!("1.0.2");
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/true"]);
    config["root"] = json!({ "path": fixture.rootfs, "readonly": false });
    change(&mut config);
    fs::write(&path, config.to_string()).with_context(|| path.display().to_string())?;
    Ok(dir)
}

/// The profile as an OCI config has it: without rules for other
/// architectures, kernels and capabilities.
fn profile() -> Result<Value> {
    let file: Value = serde_json::from_str(PROFILE)?;
    let is_ours = |rule: &Value| rule["comment"].as_str().is_some_and(|comment| comment.starts_with("podlet:"));
    let fits = |rule: &&Value| {
        let is_empty = |value: &Value| value.as_object().is_none_or(serde_json::Map::is_empty);
        let ours = json!("amd64");
        let arches = rule["includes"]["arches"].as_array().is_some_and(|arches| arches.contains(&ours));
        let alone = rule["includes"].as_object().is_some_and(|includes| includes.len() == 1);
        // libseccomp takes no two answers for one call: where podlet looks at
        // arguments and podman does not, no runtime does here.
        (!is_ours(rule) || rule["action"] == "SCMP_ACT_ALLOW")
            && is_empty(&rule["excludes"])
            && (is_empty(&rule["includes"]) || arches && alone)
    };
    let rules = file["syscalls"].as_array().into_iter().flatten();
    let rules = rules.filter(fits);
    let rule = |rule: &Value| {
        let mut kept = json!({ "names": rule["names"], "action": rule["action"] });
        for name in ["args", "errnoRet"] {
            if !rule[name].is_null() && !is_ours(rule) {
                kept[name] = rule[name].clone();
            }
        }
        kept
    };
    Ok(json!({
        "defaultAction": file["defaultAction"],
        "defaultErrnoRet": file["defaultErrnoRet"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules.map(rule).collect::<Vec<_>>(),
    }))
}
