//! `--mount`: a mount said by keys, as podman and docker have it.
//!
//! ```text
//!   type=bind,src=/data,dst=/srv,ro
//!   type=tmpfs,dst=/tmp,tmpfs-size=64m,tmpfs-mode=0700
//!   type=devpts,dst=/dev/pts,mode=0620
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use pod::ContainerSpec;
use pod::spec::{Mount, MountFlags, MountKind};

use super::storage::check_labels;

/// The types that there are, each with its keys.
const TYPES: [(&str, &str); 3] = [
    (
        "bind",
        "src (source), dst (destination, target), ro (readonly), bind-propagation, bind-nonrecursive, relabel, nosuid, \
         nodev, noexec",
    ),
    (
        "tmpfs",
        "dst (destination, target), ro (readonly), tmpfs-size (size), tmpfs-mode (mode), tmpcopyup, notmpcopyup, \
         nosuid, nodev, noexec",
    ),
    ("devpts", "dst (destination, target), uid, gid, mode, max"),
];

/// What is said of one mount.
#[derive(Default)]
struct Said<'a> {
    kind: &'a str,
    source: Option<&'a str>,
    target: Option<&'a str>,
    /// The others, in order.
    rest: Vec<(&'a str, Option<&'a str>)>,
}

/// Adds what one `--mount` says.
pub fn add(container: &mut ContainerSpec, text: &str) -> Result<()> {
    let mount = parse(text).with_context(|| format!("--mount {text:?}"))?;
    container.mounts.push(mount);
    Ok(())
}

fn parse(text: &str) -> Result<Mount> {
    let said = Said::of(text)?;
    let Some((_, keys)) = TYPES.iter().find(|(kind, _)| *kind == said.kind) else { bail!(no_type(said.kind)) };
    let target = said.target.filter(|target| !target.is_empty()).context("say where: dst=/PATH")?;
    let mut mount = match said.kind {
        "bind" => {
            let source = said.source.filter(|source| !source.is_empty()).context("say what: src=PATH")?;
            let source = std::path::absolute(source).with_context(|| format!("src={source}"))?;
            Mount::new(target, MountKind::Bind { source, recursive: true })
        }
        kind => {
            if let Some(source) = said.source {
                bail!("src={source}: a {kind} comes from nowhere: leave it away");
            }
            if kind == "tmpfs" { in_memory(target) } else { terminals(target) }
        }
    };
    for (key, value) in &said.rest {
        let known = match said.kind {
            "bind" => of_bind(&mut mount, key, *value)?,
            "tmpfs" => of_tmpfs(&mut mount, key, *value)?,
            _ => of_devpts(&mut mount, key, *value)?,
        };
        if !known {
            bail!("{key:?} is no key of a {}: there are type, {keys}", said.kind);
        }
    }
    Ok(mount)
}

impl<'a> Said<'a> {
    fn of(text: &'a str) -> Result<Said<'a>> {
        let mut said = Said::default();
        for part in text.split(',') {
            let (key, value) = part.split_once('=').map_or((part, None), |(key, value)| (key, Some(value)));
            let needed = || value.with_context(|| format!("{key}: give {key}=VALUE"));
            match key {
                "type" => said.kind = needed()?,
                "src" | "source" => said.source = Some(needed()?),
                "dst" | "destination" | "target" => said.target = Some(needed()?),
                _ => said.rest.push((key, value)),
            }
        }
        Ok(said)
    }
}

/// Why a type is not there.
fn no_type(kind: &str) -> String {
    let cure = match kind {
        "" | "volume" => "there are no volumes but directories of this machine: give type=bind,src=DIR,dst=DIR",
        "image" | "artifact" => "there are no images but `host` yet: give type=bind,src=DIR,dst=DIR",
        "glob" => "give type=bind once for each: a shell expands patterns",
        "ramfs" => "give type=tmpfs, which is limited in size",
        _ => "there are bind, tmpfs and devpts",
    };
    match kind {
        "" => format!("says no type: {cure}"),
        _ => format!("type={kind}: {cure}"),
    }
}

/// An empty file system in memory, with the defaults of podman and docker.
pub fn in_memory(target: &str) -> Mount {
    let mut mount = Mount::new(target, MountKind::Tmpfs);
    (mount.flags, mount.data) = (MountFlags::NOSUID | MountFlags::NODEV, "mode=1777".into());
    mount
}

/// Terminals, with the defaults that every container's have.
fn terminals(target: &str) -> Mount {
    let mut mount = Mount::new(target, MountKind::Devpts);
    mount.flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount.data = "newinstance,ptmxmode=0666,mode=0620,gid=5".into();
    mount
}

fn of_bind(mount: &mut Mount, key: &str, value: Option<&str>) -> Result<bool> {
    match key {
        "bind-propagation" => {
            let name = value.unwrap_or_default();
            // As with -v.
            if !["rprivate", "rslave", "rshared"].contains(&name) {
                bail!("bind-propagation={name}: give rprivate, rslave or rshared");
            }
            mount.option(name);
        }
        "bind-nonrecursive" => {
            if let MountKind::Bind { recursive, .. } = &mut mount.kind {
                *recursive = !is_true(key, value)?;
            }
        }
        "relabel" => {
            let how = value.unwrap_or_default();
            if !["shared", "private"].contains(&how) {
                bail!("relabel={how}: give shared or private");
            }
            check_labels().with_context(|| format!("relabel={how}"))?;
        }
        // What is below must not be a way around it.
        "ro" | "readonly" => set(mount, "rro", "rrw", is_true(key, value)?),
        "rw" => set(mount, "rrw", "rro", is_true(key, value)?),
        "nosuid" | "nodev" | "noexec" => {
            if !is_true(key, value)? {
                bail!("{key}=false: it is as where it comes from: leave it away");
            }
            mount.option(&format!("r{key}"));
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn of_tmpfs(mount: &mut Mount, key: &str, value: Option<&str>) -> Result<bool> {
    match key {
        "tmpfs-size" | "size" => {
            let text = value.unwrap_or_default();
            let bytes = pod::resources::parse_size(text).filter(|bytes| *bytes > 0);
            let bytes = bytes.with_context(|| format!("{key}={text}: give a size such as 64m"))?;
            mount.data = format!("{},size={bytes}", mount.data);
        }
        "tmpfs-mode" | "mode" => {
            let mode = octal(key, value, 0o7777)?;
            mount.data = format!("{},mode={mode:o}", mount.data);
        }
        "ro" | "readonly" => set(mount, "ro", "rw", is_true(key, value)?),
        "rw" => set(mount, "rw", "ro", is_true(key, value)?),
        "tmpcopyup" => mount.copy_up = is_true(key, value)?,
        "notmpcopyup" => mount.copy_up = !is_true(key, value)?,
        "nosuid" => set(mount, "nosuid", "suid", is_true(key, value)?),
        "noexec" => set(mount, "noexec", "exec", is_true(key, value)?),
        "nodev" => {
            if !is_true(key, value)? {
                bail!("nodev=false: there are no rules for devices in pods, so none can be opened there");
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn of_devpts(mount: &mut Mount, key: &str, value: Option<&str>) -> Result<bool> {
    let number = |name: &str| -> Result<u32> {
        let text = value.unwrap_or_default();
        text.parse().with_context(|| format!("{name}={text}: give a number"))
    };
    let option = match key {
        "uid" | "gid" | "max" => format!("{key}={}", number(key)?),
        "mode" => format!("mode={:o}", octal(key, value, 0o777)?),
        _ => return Ok(false),
    };
    // The last of a kind counts; of the group it has one already.
    mount.data = format!("{},{option}", mount.data);
    Ok(true)
}

/// Sets an option, or what undoes it.
fn set(mount: &mut Mount, option: &str, undone: &str, is_set: bool) {
    mount.option(if is_set { option } else { undone });
}

/// A key alone means yes.
fn is_true(key: &str, value: Option<&str>) -> Result<bool> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => bail!("{key}={other}: give true or false"),
    }
}

fn octal(key: &str, value: Option<&str>, most: u32) -> Result<u32> {
    let text = value.unwrap_or_default();
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= most && !text.starts_with('+'));
    mode.with_context(|| format!("{key}={text}: give an octal number up to {most:o}, such as 1777"))
}

/// The time zone: the machine's file of it, where the C library looks for it.
pub fn add_zone(container: &mut ContainerSpec, zone: &str) -> Result<()> {
    const ZONES: &str = "/usr/share/zoneinfo";
    const LOCAL: &str = "/etc/localtime";
    let file = match zone {
        "local" => PathBuf::from(LOCAL),
        _ => {
            let is_name =
                !zone.is_empty() && !zone.starts_with('/') && !zone.split('/').any(|part| part.starts_with('.'));
            if !is_name {
                bail!("--tz {zone:?}: give the name of a zone, such as Europe/Berlin, or local");
            }
            Path::new(ZONES).join(zone)
        }
    };
    let found = std::fs::canonicalize(&file).with_context(|| format!("--tz {zone:?}: {}", file.display()))?;
    if !found.is_file() {
        bail!(
            "--tz {zone:?}: {} is no file: give a zone of this machine, such as Europe/Berlin, or local",
            found.display()
        );
    }
    let mut mount = Mount::new(LOCAL, MountKind::Bind { source: found, recursive: true });
    mount.option("rro");
    container.mounts.push(mount);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Mount {
        parse(text).unwrap_or_else(|error| panic!("{text}: {error:#}"))
    }

    #[test]
    fn a_bind_is_as_volume_has_it() {
        use pod::Root;
        let volume = |read_only| ContainerSpec::new("a", Root::Host).bind("/data", "/srv", read_only).mounts.pop();
        for text in
            ["type=bind,src=/data,dst=/srv", "type=bind,source=/data,target=/srv", "dst=/srv,src=/data,type=bind"]
        {
            assert_eq!(Some(parsed(text)), volume(false), "{text}");
        }
        for last in ["ro", "readonly", "ro=true", "readonly=1", "rw,ro"] {
            assert_eq!(Some(parsed(&format!("type=bind,src=/data,destination=/srv,{last}"))), volume(true), "{last}");
        }
        let alone = parsed("type=bind,src=/data,dst=/srv,bind-nonrecursive,bind-propagation=rslave,nosuid");
        assert_eq!(alone.kind, MountKind::Bind { source: "/data".into(), recursive: false });
        assert_eq!(alone.recursive_flags, MountFlags::NOSUID);
        assert_ne!(alone.propagation, parsed("type=bind,src=/data,dst=/srv").propagation);
    }

    #[test]
    fn what_is_in_memory_has_its_options() {
        let mount = parsed("type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=0700,ro,noexec");
        assert_eq!(mount.data, "mode=1777,size=67108864,mode=700");
        assert_eq!(mount.flags, MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RDONLY | MountFlags::NOEXEC);
        assert!(parsed("type=tmpfs,dst=/t,tmpcopyup").copy_up && !parsed("type=tmpfs,dst=/t").copy_up);
        let terminals = parsed("type=devpts,dst=/dev/pts,gid=7,mode=600,max=4");
        assert!(terminals.data.ends_with(",gid=7,mode=600,max=4"), "{}", terminals.data);
    }

    #[test]
    fn what_is_not_there_is_named() {
        for (text, words) in [
            ("src=/a,dst=/b", "says no type: there are no volumes"),
            ("type=volume,src=v,dst=/b", "type=volume: there are no volumes but directories"),
            ("type=image,src=i,dst=/b", "no images but `host` yet"),
            ("type=frob,dst=/b", "type=frob: there are bind, tmpfs and devpts"),
            ("type=bind,dst=/b", "say what: src="),
            ("type=bind,src=/a", "say where: dst="),
            ("type=bind,src=/a,dst=", "say where: dst="),
            ("type=bind,src=/a,dst", "dst: give dst=VALUE"),
            ("type=bind,src=/a,dst=/b,consistency=cached", "\"consistency\" is no key of a bind: there are type, src"),
            ("type=bind,src=/a,dst=/b,tmpfs-size=1m", "\"tmpfs-size\" is no key of a bind"),
            ("type=bind,src=/a,dst=/b,bind-propagation=private", "give rprivate, rslave or rshared"),
            ("type=bind,src=/a,dst=/b,relabel", "relabel=: give shared or private"),
            ("type=bind,src=/a,dst=/b,ro=yes", "ro=yes: give true or false"),
            ("type=bind,src=/a,dst=/b,", "\"\" is no key"),
            ("type=tmpfs,src=/a,dst=/b", "src=/a: a tmpfs comes from nowhere"),
            ("type=tmpfs,dst=/b,tmpfs-size=x", "tmpfs-size=x: give a size"),
            ("type=tmpfs,dst=/b,tmpfs-mode=9", "tmpfs-mode=9: give an octal number"),
            ("type=tmpfs,dst=/b,mode=17777", "up to 7777"),
            ("type=devpts,dst=/b,ro", "\"ro\" is no key of a devpts"),
            ("type=devpts,dst=/b,uid=root", "uid=root: give a number"),
        ] {
            let error = format!("{:#}", parse(text).expect_err(text));
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn no_zone_leads_elsewhere() {
        let mut container = ContainerSpec::new("a", pod::Root::Host);
        for zone in ["", "/etc/passwd", "../../../etc/passwd", "Europe/../../etc", "No/Where"] {
            let error = format!("{:#}", add_zone(&mut container, zone).expect_err(zone));
            assert!(error.starts_with("--tz "), "{error}");
        }
    }
}
