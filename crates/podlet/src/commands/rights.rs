//! What a container may do: capabilities, system calls.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use pod::seccomp::{self, Seccomp};
use pod::spec::parse_capability;
use pod::{ContainerSpec, config};

use super::privileged;

/// A container's rights.
#[derive(Args, Default)]
pub struct RightsArgs {
    /// All capabilities and system calls, nothing of /proc and /sys hidden or
    /// read-only, and this machine's devices: for root without a user namespace the
    /// machine itself (docs/security.md)
    #[arg(long)]
    pub privileged: bool,
    /// Give a capability; ALL for all
    #[arg(long, value_name = "C")]
    cap_add: Vec<String>,
    /// Take a capability; ALL for all
    #[arg(long, value_name = "C")]
    cap_drop: Vec<String>,
    /// seccomp=FILE, seccomp=unconfined, no-new-privileges[=true|false],
    /// apparmor=PROFILE, mask=PATH[:PATH], unmask=PATH[:PATH], unmask=ALL, or nesting: it may make namespaces and mounts, for containers of its own,
    /// and nothing of its /proc and /sys is hidden; only in a user namespace
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
}

impl RightsArgs {
    /// Gives it all there is, if that was said; whatever else is said comes after that.
    pub fn give(&self, container: &mut ContainerSpec) -> Result<()> {
        if self.privileged { privileged::make(container) } else { Ok(()) }
    }

    /// Takes and gives what was said one by one.
    pub fn restrict(&self, container: &mut ContainerSpec) -> Result<()> {
        let process = &mut container.process;
        // Taken before given, so that `--cap-drop ALL --cap-add X` is X alone.
        for name in &self.cap_drop {
            for capability in capabilities(name)? {
                *process = process.clone().drop_capability(capability);
            }
        }
        for name in &self.cap_add {
            for capability in capabilities(name)? {
                *process = process.clone().add_capability(capability);
            }
        }
        for option in &self.security_opt {
            adjust_security(container, option)?;
        }
        Ok(())
    }
}

fn adjust_security(container: &mut ContainerSpec, option: &str) -> Result<()> {
    match option.split_once('=').unwrap_or((option, "")) {
        ("seccomp", "unconfined") => container.seccomp = Seccomp::Unconfined,
        ("seccomp", file) if !file.is_empty() => {
            let json = config::read_given("--security-opt seccomp", Path::new(file))?;
            let profile = seccomp::parse(&json).with_context(|| format!("--security-opt seccomp: {file}"))?;
            container.seccomp = Seccomp::Profile(profile);
        }
        ("no-new-privileges", "" | "true") => container.process.no_new_privileges = true,
        ("no-new-privileges", "false") => container.process.no_new_privileges = false,
        ("nesting", "") => container.nesting = true,
        // There is no profile unless one is named, and there are no labels.
        ("apparmor", "unconfined") => container.process.apparmor_profile = None,
        ("label", "disable") => {}
        ("apparmor", profile) if !profile.is_empty() => container.process.apparmor_profile = Some(profile.into()),
        ("mask", paths) => container.masked_paths.extend(paths_of(option, paths)?),
        ("unmask", "ALL") => {
            container.masked_paths.clear();
            container.readonly_paths.clear();
        }
        ("unmask", paths) => {
            let paths = paths_of(option, paths)?;
            for all in [&mut container.masked_paths, &mut container.readonly_paths] {
                all.retain(|path| !paths.contains(path));
            }
        }
        _ => bail!(
            "--security-opt {option:?}: not an option; there is seccomp=FILE, seccomp=unconfined, \
             no-new-privileges[=true|false], apparmor=PROFILE, mask=PATHS, unmask=PATHS, unmask=ALL, label=disable and \
             nesting"
        ),
    }
    Ok(())
}

/// Absolute paths, `:` between them.
fn paths_of(option: &str, paths: &str) -> Result<Vec<PathBuf>> {
    let each = |path: &str| {
        if !path.starts_with('/') || path.contains(['*', '?', '[']) {
            bail!("--security-opt {option:?}: {path:?}: give absolute paths, each by its name, with : between them");
        }
        Ok(PathBuf::from(path))
    };
    paths.split(':').map(each).collect()
}

fn capabilities(name: &str) -> Result<Vec<pod::Capability>> {
    if name.eq_ignore_ascii_case("all") {
        return Ok(pod::facts::Facts::read()?.grantable());
    }
    Ok(vec![parse_capability(name)?])
}

#[cfg(test)]
mod tests {
    use pod::Root;

    use super::*;

    fn adjusted(options: &[&str]) -> Result<ContainerSpec> {
        let mut container = ContainerSpec::new("a", Root::Host);
        options.iter().try_for_each(|option| adjust_security(&mut container, option))?;
        Ok(container)
    }

    #[test]
    fn paths_are_masked_and_shown_by_their_names() {
        let has = |options: &[&str], path: &str| {
            let container = adjusted(options).expect("options");
            let is = |paths: &[PathBuf]| paths.iter().any(|other| other == Path::new(path));
            (is(&container.masked_paths), is(&container.readonly_paths))
        };
        assert_eq!(has(&[], "/proc/kcore"), (true, false));
        assert_eq!(has(&["unmask=/proc/kcore:/proc/keys"], "/proc/kcore"), (false, false));
        assert_eq!(has(&["unmask=/proc/keys"], "/proc/kcore"), (true, false));
        assert_eq!(has(&["unmask=/proc/sys"], "/proc/sys"), (false, false));
        assert_eq!(has(&["unmask=ALL"], "/proc/sys"), (false, false));
        assert_eq!(has(&["unmask=ALL", "mask=/etc/x:/proc/kcore"], "/proc/kcore"), (true, false));
        let profile = |options: &[&str]| adjusted(options).expect("options").process.apparmor_profile;
        assert_eq!(profile(&["apparmor=web"]).as_deref(), Some("web"));
        assert_eq!(profile(&["apparmor=web", "apparmor=unconfined", "label=disable"]), None);
        for odd in
            ["mask=", "unmask=/proc/*", "unmask=proc", "label=type:x", "apparmor=", "frob", "proc-opts=hidepid=2"]
        {
            let error = adjusted(&[odd]).expect_err(odd).to_string();
            assert!(error.starts_with(&format!("--security-opt {odd:?}: ")), "{error}");
        }
    }
}
