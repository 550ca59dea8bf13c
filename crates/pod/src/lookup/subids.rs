//! Which ids a pod's user namespace has, and who may write that down.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Result};
use crate::kernel::facts::Facts;
use crate::kernel::idmap::{IdMap, parse_map};
use crate::kernel::namespace::Namespace;
use crate::kernel::procfs;
use crate::spec::PodOptions;
use crate::spec::users::Users;

/// Which user namespaces a pod of this caller gets.
pub(crate) fn decide_users(facts: &Facts, options: &PodOptions) -> Result<Users> {
    let (uids, gids) = (options.uid_maps.clone(), options.gid_maps.clone());
    if facts.privileged {
        if !options.shares(Namespace::User) {
            return Ok(Users::Caller);
        }
        if uids.is_empty() {
            let reason = "sharing a user namespace needs its maps: --uidmap 0:100000:65536 --gidmap 0:100000:65536, \
                          with a range that nobody else has";
            return Err(Error::invalid("share", "user", reason));
        }
        return Ok(Users::New { uids, gids });
    }
    if !uids.is_empty() {
        let reason = "an ordinary user's ids come from /etc/subuid and /etc/subgid";
        return Err(Error::invalid("uidmap", crate::kernel::idmap::show_maps(&uids).trim(), reason));
    }
    let own = |id| IdMap { inside: 0, outside: id, count: 1 };
    let (mut uids, mut gids) = (vec![own(facts.uid)], vec![own(facts.gid)]);
    let helpers = in_path("newuidmap") && in_path("newgidmap");
    let ours = |path| read_if_there(path).map(|text| parse_map(&text));
    let (our_uids, our_gids) = (ours("/proc/self/uid_map")?, ours("/proc/self/gid_map")?);
    let more = (sub_ids("/etc/subuid", facts.uid, &our_uids)?, sub_ids("/etc/subgid", facts.uid, &our_gids)?);
    let (by_helper, apart) = match more {
        (Some(more_uids), Some(more_gids)) if helpers => {
            // The last of each is pause's.
            let apart = more_uids.count > 1 && more_gids.count > 1;
            let but_the_last = |map: IdMap| IdMap { count: map.count - u32::from(apart), ..map };
            uids.push(but_the_last(more_uids));
            gids.push(but_the_last(more_gids));
            (true, apart)
        }
        _ => (false, false),
    };
    Ok(Users::Nested { uids, gids, by_helper, apart })
}

fn in_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// The user's range in a file as subuid(5) describes it, as ids from 1 on;
/// of several the first that our own user namespace has.
fn sub_ids(path: &str, uid: u32, ours: &[IdMap]) -> Result<Option<IdMap>> {
    let text = read_if_there(path)?;
    let number = uid.to_string();
    let passwd = read_if_there("/etc/passwd")?;
    let mine = |line: &&str| line.split(':').nth(2) == Some(&number);
    let name = passwd.lines().find(mine).and_then(|line| line.split(':').next()).unwrap_or(&number);
    let range = |line: &str| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let (outside, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let is_there = ours.iter().any(|map| map.covers(outside, count));
        ((owner == name || owner == number) && is_there).then_some(IdMap { inside: 1, outside, count })
    };
    Ok(text.lines().find_map(range))
}

/// A file of this machine; empty if it has none. One that cannot be read just
/// now would make a pod of fewer ids than asked for.
fn read_if_there(path: &str) -> Result<String> {
    // People's names in passwd(5) may be of any encoding.
    match procfs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        text => text.doing(|| format!("reading {path}")),
    }
}

/// newuidmap(1) and newgidmap(1), which may map ranges the caller may not.
pub(crate) fn map_by_helper(pid: u32, users: &Users) -> Result<()> {
    for (program, maps) in ["newuidmap", "newgidmap"].into_iter().zip(users.of_outer()) {
        let mut command = Command::new(program);
        command.arg(pid.to_string());
        for map in maps {
            command.args([map.inside, map.outside, map.count].map(|id| id.to_string()));
        }
        match run(command).doing(|| format!("running {program}"))? {
            None => {}
            Some(said) => {
                let said = String::from_utf8_lossy(&said).trim().to_string();
                return Err(Error::invalid(program, said, "it refused the ranges of /etc/subuid and /etc/subgid"));
            }
        }
    }
    Ok(())
}

/// What it says on its stderr if it ends in failure. `Command::output` would
/// panic where the pipe cannot be read.
fn run(mut command: Command) -> std::io::Result<Option<Vec<u8>>> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut said = Vec::new();
    let read = child.stderr.take().map_or(Ok(0), |mut stderr| stderr.read_to_end(&mut said));
    let status = match child.wait() {
        Ok(status) => status,
        // Somebody else in this program waited for our child; the kernel will
        // say if the maps are missing.
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
        Err(error) => return Err(error),
    };
    read?;
    Ok((!status.success()).then_some(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_name_in_any_encoding_takes_no_ids_away() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("passwd");
        std::fs::write(&path, b"ren\xe9:x:1000:1000:Ren\xe9:/:\nann:x:1001:1001:::\n").expect("a file");
        let text = read_if_there(&path.to_string_lossy()).expect("it can be read");
        assert!(text.lines().any(|line| line.starts_with("ann:x:1001:")), "{text}");
        assert_eq!(read_if_there(&dir.path().join("none").to_string_lossy()), Ok(String::new()));
    }
}
