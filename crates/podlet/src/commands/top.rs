//! `podlet top`: the processes in a container.
//!
//! Names of columns are podman's, and so are the columns that are shown where none
//! are named. Their values are those of ps(1).

use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use clap::Args;
use pod::{CapabilitySet, ProcessInfo, Store};

use crate::output;
use crate::target::Target;

/// Show the processes in containers, zombies with the parent that does not wait
#[derive(Args)]
pub struct Top {
    /// POD (all its containers) or POD/CONTAINER
    #[arg(value_name = "TARGET")]
    target: String,
    /// Columns: args capamb capbnd capeff capinh capprm comm container etime group hgroup hpid hppid huser nice nspid
    /// pcpu pgid pid ppid rgroup rss ruser seccomp state stime time tty user vsz, or podman's short forms such as %p
    /// [default: user pid ppid pcpu etime tty time args]
    #[arg(value_name = "COLUMN")]
    columns: Vec<String>,
}

/// A column: its name, podman's short form, its header, and what it shows.
struct Column {
    name: &'static str,
    short: &'static str,
    header: &'static str,
    show: fn(&ProcessInfo) -> String,
}

macro_rules! columns {
    ($(($name:literal, $short:literal, $header:literal, $show:expr),)*) => {
        &[$(Column { name: $name, short: $short, header: $header, show: $show }),*]
    };
}

const COLUMNS: &[Column] = columns![
    ("args", "%a", "COMMAND", args),
    ("capamb", "", "AMBIENT CAPS", |it| capabilities(it.capabilities.ambient)),
    ("capbnd", "", "BOUNDING CAPS", |it| capabilities(it.capabilities.bounding)),
    ("capeff", "", "EFFECTIVE CAPS", |it| capabilities(it.capabilities.effective)),
    ("capinh", "", "INHERITED CAPS", |it| capabilities(it.capabilities.inheritable)),
    ("capprm", "", "PERMITTED CAPS", |it| capabilities(it.capabilities.permitted)),
    ("comm", "%c", "COMMAND", |it| if it.is_zombie() { format!("{} <defunct>", it.name) } else { it.name.clone() }),
    ("container", "", "CONTAINER", |it| it.container.clone()),
    ("etime", "%t", "ELAPSED", |it| elapsed(it.elapsed)),
    ("group", "%G", "GROUP", |it| it.groups[0].inside.clone()),
    ("hgroup", "", "HGROUP", |it| it.groups[0].outside_name.clone()),
    ("hpid", "", "HPID", |it| it.pid.to_string()),
    ("hppid", "", "HPPID", |it| it.parent.to_string()),
    ("huser", "", "HUSER", |it| it.users[0].outside_name.clone()),
    ("nice", "%n", "NI", |it| it.nice.to_string()),
    ("nspid", "", "NSPID", |it| it.pids_inside.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
    ("pcpu", "%C", "%CPU", |it| format!("{:.1}", it.cpu() * 100.0)),
    ("pgid", "%r", "PGID", |it| it.group_inside.to_string()),
    ("pid", "%p", "PID", |it| it.pid_inside.to_string()),
    ("ppid", "%P", "PPID", |it| it.parent_inside.to_string()),
    ("rgroup", "%g", "RGROUP", |it| it.groups[1].inside.clone()),
    ("rss", "", "RSS", |it| (it.resident >> 10).to_string()),
    ("ruser", "%u", "RUSER", |it| it.users[1].inside.clone()),
    ("seccomp", "", "SECCOMP", |it| ["disabled", "strict", "filter"]
        .get(usize::from(it.seccomp))
        .unwrap_or(&"?")
        .to_string()),
    ("state", "", "STATE", |it| it.state.to_string()),
    ("stime", "", "STIME", |it| started(it.elapsed)),
    ("time", "%x", "TIME", |it| time(it.cpu_time)),
    ("tty", "%y", "TTY", |it| terminal(it.terminal)),
    ("user", "%U", "USER", |it| it.users[0].inside.clone()),
    ("vsz", "%z", "VSZ", |it| (it.virtual_size >> 10).to_string()),
];

const DEFAULT: &str = "user,pid,ppid,pcpu,etime,tty,time,args";

impl Top {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let mut columns = find(&self.columns.join(","))?;
        let target = Target::open(store, &self.target)?;
        let processes = match target.named() {
            Some(name) => target.pod.container(name)?.top()?,
            None => target.pod.top()?,
        };
        if processes.is_empty() {
            bail!("no container of {} is running", self.target);
        }
        if columns.is_empty() {
            columns = find(DEFAULT)?;
            let is_mixed = processes.iter().any(|it| it.container != processes[0].container);
            if is_mixed {
                columns.splice(..0, find("container")?);
            }
        }
        let header = columns.iter().map(|column| column.header.to_string()).collect();
        let row = |it: &ProcessInfo| columns.iter().map(|column| output::plain(&(column.show)(it))).collect();
        let rows: Vec<Vec<String>> = std::iter::once(header).chain(processes.iter().map(row)).collect();
        output::table(&rows)?;
        Ok(0)
    }
}

/// The columns of a list of names, separated by commas.
fn find(names: &str) -> Result<Vec<&'static Column>> {
    let mut found = Vec::new();
    for name in names.split([',', ' ']).filter(|name| !name.is_empty()) {
        match COLUMNS.iter().find(|column| column.name == name || (column.short == name && !name.is_empty())) {
            Some(column) => found.push(column),
            None => bail!(
                "{name:?}: there is no such column: there is {}; `podlet exec` runs a ps(1) of the container's own",
                COLUMNS.iter().map(|column| column.name).collect::<Vec<_>>().join(", ")
            ),
        }
    }
    Ok(found)
}

fn args(it: &ProcessInfo) -> String {
    if it.is_zombie() {
        let parent = if it.parent_inside == 0 { "pause".into() } else { it.parent_inside.to_string() };
        return format!("[{}] <defunct>, {parent} ({}) does not wait for it", it.name, it.parent_name);
    }
    // It may have none, or have written over them.
    if it.args.iter().all(String::is_empty) { format!("[{}]", it.name) } else { it.args.join(" ") }
}

/// `[[dd-]hh:]mm:ss`, as POSIX has it for `etime`.
fn elapsed(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes, seconds) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes:02}:{seconds:02}"),
        (0, _) => format!("{hours:02}:{minutes:02}:{seconds:02}"),
        _ => format!("{days}-{hours:02}:{minutes:02}:{seconds:02}"),
    }
}

/// `[dd-]hh:mm:ss`, as POSIX has it for `time`.
fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    let days = if seconds >= 86400 { format!("{}-", seconds / 86400) } else { String::new() };
    format!("{days}{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

fn started(elapsed: Duration) -> String {
    let start = SystemTime::now().checked_sub(elapsed).unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_seconds(start).to_string()
}

/// By the numbers of Linux's devices.txt; `?` if it has none, as in ps(1).
fn terminal(device: Option<(u32, u32)>) -> String {
    match device {
        Some((major @ 136..=143, minor)) => format!("pts/{}", (major - 136) * 256 + minor),
        Some((4, minor @ 0..64)) => format!("tty{minor}"),
        Some((4, minor)) => format!("ttyS{}", minor - 64),
        _ => "?".into(),
    }
}

fn capabilities(set: CapabilitySet) -> String {
    let names: Vec<_> = set.iter().map(|one| one.to_string().trim_start_matches("CAP_").to_string()).collect();
    if names.is_empty() { "none".into() } else { names.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_podmans_names() {
        let names = |text| find(text).map(|found| found.iter().map(|column| column.name).collect::<Vec<_>>());
        assert_eq!(names("pid hpid,%C").expect("columns"), ["pid", "hpid", "pcpu"]);
        assert_eq!(names(DEFAULT).expect("columns").len(), 8);
        assert_eq!(names("").expect("none"), [""; 0]);
        for wrong in ["pidd", "%X", "-ef", "label"] {
            let error = names(wrong).expect_err(wrong).to_string();
            assert!(error.contains(wrong) && error.contains("there is args, "), "{error}");
        }
    }

    #[test]
    fn times_are_as_ps_shows_them() {
        let seconds = Duration::from_secs;
        assert_eq!([0, 61, 3600, 90061].map(|s| elapsed(seconds(s))), ["00:00", "01:01", "01:00:00", "1-01:01:01"]);
        assert_eq!([0, 61, 90061].map(|s| time(seconds(s))), ["00:00:00", "00:01:01", "1-01:01:01"]);
        assert_eq!(
            [Some((136, 3)), Some((137, 1)), Some((4, 65)), None].map(terminal),
            ["pts/3", "pts/257", "ttyS1", "?"]
        );
    }
}
