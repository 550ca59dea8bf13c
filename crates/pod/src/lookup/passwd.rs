//! Who a container's program runs as: `-u` against the image's own passwd.
//!
//! The image is not trusted: its files are found without leaving it, are only
//! read if they are plain files, and never more than a megabyte of them.

use std::collections::BTreeMap;
use std::path::Path;

use nix::errno::Errno;

use super::root_files::RootFiles;
use crate::error::{Context, Error, Result};
use crate::kernel::facts::Facts;
use crate::kernel::files;
use crate::spec::users::{Ids, Users};
use crate::spec::{ProcessSpec, User};

/// More than the passwd or group file of any image has, in bytes.
const MOST: u64 = 16 << 20;

const NO_GROUPS: &str = "supplementary groups cannot be set in a user namespace of a single id; see subuid(5) for how \
                         to get more";

/// The result of a lookup.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub ids: Ids,
    /// The user's home directory, if passwd has one.
    pub home: Option<String>,
}

impl Found {
    /// Gives a process this user's `HOME`, unless its environment has one.
    pub fn give_home(&self, process: &mut ProcessSpec) {
        if process.env_value("HOME").is_none() {
            self.replace_home(process);
        }
    }

    /// Gives a process this user's `HOME`: the directory in passwd, or `/`.
    pub fn replace_home(&self, process: &mut ProcessSpec) {
        process.set_env("HOME", self.home.as_deref().filter(|home| !home.is_empty()).unwrap_or("/"));
    }
}

/// Looks the user of `process` up in the image at `root`, and the groups that it is
/// given besides, and checks that its ids exist in the pod. Where groups cannot be
/// set (setgroups(2)) it has none.
///
/// # Errors
/// [`Error::Invalid`] for a name that is not there or an id that cannot be.
pub(crate) fn look_up(root: &Path, process: &ProcessSpec, users: &Users, facts: &Facts) -> Result<Found> {
    look_up_in(&RootFiles::of_dir(root)?, process, users, facts)
}

/// The same where the image is already open.
///
/// # Errors
/// As [`look_up`].
pub(crate) fn look_up_in(root: &RootFiles, process: &ProcessSpec, users: &Users, facts: &Facts) -> Result<Found> {
    let setgroups = users.setgroups(facts);
    let mut found = match &process.user {
        User::Ids { uid, gid, groups } => {
            if !groups.is_empty() && !setgroups {
                return Err(Error::invalid("additionalGids", format!("{groups:?}"), NO_GROUPS));
            }
            let passwd = read(root, "etc/passwd")?;
            let home = entries(&passwd).find(|line| line.get(2) == Some(&uid.to_string().as_str()));
            let home = home.and_then(|line| line.get(5).map(|home| home.to_string()));
            Found { ids: Ids { uid: *uid, gid: *gid, groups: groups.clone() }, home }
        }
        User::Lookup(text) => {
            let mut found = parse(text, &read(root, "etc/passwd")?, &read(root, "etc/group")?)?;
            if !setgroups {
                // Nobody asked for those in particular.
                found.ids.groups.clear();
            }
            found
        }
    };
    if let Some(first) = process.groups.first() {
        if !setgroups {
            return Err(Error::invalid("groups", first, NO_GROUPS));
        }
        add_groups(&mut found.ids, &process.groups, &read(root, "etc/group")?)?;
    }
    let ids = &found.ids;
    let all_groups = std::iter::once(&ids.gid).chain(&ids.groups);
    check_mapped("uid", ids.uid, users.uids())?;
    for gid in all_groups {
        check_mapped("gid", *gid, users.gids())?;
    }
    Ok(found)
}

/// What an image calls users and groups, by id.
#[derive(Debug, Default)]
pub(crate) struct Names {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
}

impl Names {
    /// Those of an image; of several for one id the first counts, as in getpwuid(3).
    ///
    /// # Errors
    /// What is there and no plain file, or too large.
    pub(crate) fn read(root: &RootFiles) -> Result<Names> {
        Ok(Names { users: names(&read(root, "etc/passwd")?), groups: names(&read(root, "etc/group")?) })
    }

    /// A user's name; the id, if it has none.
    pub(crate) fn user(&self, id: u32) -> String {
        self.users.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// A group's name; the id, if it has none.
    pub(crate) fn group(&self, id: u32) -> String {
        self.groups.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }
}

fn names(file: &str) -> BTreeMap<u32, String> {
    let mut names = BTreeMap::new();
    for line in entries(file) {
        if let Some(id) = number(line[2]) {
            names.entry(id).or_insert_with(|| line[0].to_string());
        }
    }
    names
}

fn check_mapped(what: &str, id: u32, maps: &[crate::kernel::idmap::IdMap]) -> Result<()> {
    if maps.is_empty() || maps.iter().any(|map| map.contains(id)) {
        return Ok(());
    }
    let reason = format!("this {what} has no mapping in the pod's user namespace; subuid(5) says how to get more ids");
    Err(Error::invalid("user", id.to_string(), reason))
}

/// `USER[:GROUP]`, each a name or a number. Digits are an id and never a name,
/// whatever the image's files have: a user whose name is `1000` may be root. As
/// podman and docker, without a group it is that of the user, with all groups
/// the user is a member of.
fn parse(text: &str, passwd: &str, group: &str) -> Result<Found> {
    let wrong = |reason: &str| Error::invalid("user", text, reason);
    let (user, group_part) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    if user.is_empty() || group_part.is_some_and(str::is_empty) {
        return Err(wrong("give NAME, UID, NAME:GROUP or UID:GID"));
    }
    let (uid, line) = match number(user) {
        Some(uid) => (Some(uid), entries(passwd).find(|line| line.get(2).and_then(|id| number(id)) == Some(uid))),
        None => {
            let none = || wrong("no such user in the image's /etc/passwd, and not a uid from 0 to 4294967294");
            match entries(passwd).find(|line| line[0] == user && !is_digits(user)) {
                Some(line) => (line.get(2).and_then(|uid| number(uid)), Some(line)),
                // An image without files need not say who that is.
                None if user == "root" => (Some(0), None),
                None => return Err(none()),
            }
        }
    };
    let uid = uid.ok_or_else(|| wrong("the image's /etc/passwd has no valid uid for it"))?;
    let name = line.as_ref().map(|line| line[0]);
    let home = line.as_ref().and_then(|line| line.get(5)).map(|home| home.to_string());
    let ids = match group_part {
        Some(part) => {
            let none = || wrong("no such group in the image's /etc/group, and not a gid");
            let gid = gid(part, group).ok_or_else(none)?;
            Ids { uid, gid, groups: Vec::new() }
        }
        None => {
            let gid = line.as_ref().and_then(|line| number(line.get(3)?)).unwrap_or(0);
            let member = |line: &Vec<&str>| {
                let members = line.get(3).copied().unwrap_or_default();
                name.is_some_and(|name| members.split(',').any(|member| member == name))
            };
            let groups = entries(group).filter(member).filter_map(|line| number(line.get(2)?)).collect();
            Ids { uid, gid, groups }
        }
    };
    Ok(Found { ids, home })
}

/// Adds groups, each a name or a number as [`parse`] takes them.
fn add_groups(ids: &mut Ids, groups: &[String], file: &str) -> Result<()> {
    for group in groups {
        let reason = "no such group in the image's /etc/group, and not a gid from 0 to 4294967294";
        let gid = gid(group, file).ok_or_else(|| Error::invalid("groups", group, reason))?;
        if !ids.groups.contains(&gid) {
            ids.groups.push(gid);
        }
    }
    Ok(())
}

/// The id of a group, which is a name or a number: digits are always an id.
fn gid(text: &str, file: &str) -> Option<u32> {
    let by_name = || entries(file).find(|line| line[0] == text && !is_digits(text));
    // An image without files need not say which that is.
    number(text).or_else(|| number(by_name()?.get(2)?)).or_else(|| (text == "root").then_some(0))
}

/// An id: digits only, and not the kernel's "none".
fn number(text: &str) -> Option<u32> {
    is_digits(text).then(|| text.parse().ok())?.filter(|&id| id != u32::MAX)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn entries(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .filter(|fields| fields.len() >= 3 && !fields[0].is_empty())
}

/// A text file of the image; one that is not there is empty.
fn read(root: &RootFiles, path: &str) -> Result<String> {
    let context = || format!("reading /{path} of the image");
    let found = match root.open(Path::new(path)) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(String::new()),
        found => found.doing(context)?,
    };
    let field = || format!("/{path} of the image");
    let (file, meta) = files::open_found(found).map_err(|refused| refused.explain(&field(), Path::new(""), context))?;
    // Of a part of it nobody could tell who is not there.
    let bytes = files::read_most(file, meta.len(), "user", &Path::new("/").join(path), MOST)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv:/bin/sh\nbad:x:-1:0::/:\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nadm:x:4:web,root\n";

    fn ids(uid: u32, gid: u32, groups: &[u32]) -> Ids {
        Ids { uid, gid, groups: groups.into() }
    }

    #[test]
    fn names_and_numbers() {
        let parse = |text| parse(text, PASSWD, GROUP).map(|found| found.ids);
        assert_eq!(parse("web"), Ok(ids(33, 34, &[4])));
        assert_eq!(parse("33"), Ok(ids(33, 34, &[4])));
        assert_eq!(parse("web:adm"), Ok(ids(33, 4, &[])));
        assert_eq!(parse("7:8"), Ok(ids(7, 8, &[])));
        assert_eq!(parse("7"), Ok(ids(7, 0, &[])));
        // root is a user of the image like others, and of one without files.
        assert_eq!(parse("root"), Ok(ids(0, 0, &[4])));
        assert_eq!(parse("0"), Ok(ids(0, 0, &[4])));
        assert_eq!(parse("0:0"), Ok(ids(0, 0, &[])));
        assert_eq!(super::parse("root:root", "", "").map(|found| found.ids), Ok(ids(0, 0, &[])));
    }

    #[test]
    fn groups_are_added_once_and_digits_are_ids() {
        let add = |groups: &[&str]| {
            let mut ids = ids(33, 34, &[4]);
            let groups: Vec<_> = groups.iter().map(|group| group.to_string()).collect();
            add_groups(&mut ids, &groups, "34:x:0:\nadm:x:4:\nvideo:x:44:\n").map(|()| ids.groups)
        };
        assert_eq!(add(&["video", "adm", "44", "34", "root"]), Ok(vec![4, 44, 34, 0]));
        for odd in ["nobody", "", "-1", "4294967295", "video "] {
            let error = add(&[odd]).expect_err(odd).to_string();
            assert!(error.starts_with("groups") && error.contains("/etc/group"), "{error}");
        }
    }

    #[test]
    fn ids_have_names() {
        let names = super::names("root:x:0:0::/:\ntoor:x:0:0::/:\nodd:x:-1:0\nweb:x:33:34\n");
        assert_eq!((names[&0].as_str(), names[&33].as_str(), names.len()), ("root", "web", 2));
        assert_eq!(Names::default().user(7), "7");
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read_in_part() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = RootFiles::of_dir(dir.path()).expect("a root");
        assert_eq!(read(&root, "passwd"), Ok(String::new()));
        let file = std::fs::File::create(dir.path().join("passwd")).expect("a file");
        file.set_len(MOST + 1).expect("a large one");
        let error = read(&root, "passwd").expect_err("too large").to_string();
        assert!(error.contains("/passwd") && error.contains("larger than"), "{error}");
    }

    #[test]
    fn digits_are_an_id_and_never_a_name() {
        const PASSWD: &str = "1000:x:0:0::/evil:\n4294967296:x:0:0::/evil:\nweb:x:1000:7::/srv:\n";
        const GROUP: &str = "34:x:0:\nwheel:x:0:1000\nstaff:x:50:web\n";
        let parse = |text| parse(text, PASSWD, GROUP);
        assert_eq!(parse("1000"), Ok(Found { ids: ids(1000, 7, &[50]), home: Some("/srv".into()) }));
        assert_eq!(parse("web:34").map(|found| found.ids), Ok(ids(1000, 34, &[])));
        assert!(parse("4294967296").is_err());
    }

    #[test]
    fn cve_2024_40635_no_odd_value_becomes_root() {
        let odd =
            ["", ":", "0x0", "1000x", "-1", "+1", " 1", "4294967295", "4294967296", "1:", ":1", "web:nobody", "bad"];
        for text in odd {
            assert!(matches!(parse(text, PASSWD, GROUP), Err(Error::Invalid { .. })), "{text:?}");
        }
    }

    #[test]
    fn an_image_cannot_send_the_lookup_outside() {
        let image = tempfile::tempdir().unwrap();
        std::fs::create_dir(image.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/proc/self/environ", image.path().join("etc/passwd")).unwrap();
        let root = RootFiles::of_dir(image.path()).unwrap();
        assert_eq!(read(&root, "etc/passwd").unwrap(), "");
        std::fs::remove_file(image.path().join("etc/passwd")).unwrap();
        nix::unistd::mkfifo(&image.path().join("etc/passwd"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert!(read(&root, "etc/passwd").is_err());
    }
}
