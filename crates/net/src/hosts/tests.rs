use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use super::*;

fn hosts() -> (TempDir, HostsFile) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = HostsFile::at(dir.path().join("hosts"));
    file.create().expect("made");
    (dir, file)
}

fn entry(id: &str, addresses: &[&str], names: &[&str]) -> HostsEntry {
    HostsEntry {
        id: id.into(),
        addresses: addresses.iter().map(|ip| ip.parse().expect("an address")).collect(),
        names: names.iter().map(ToString::to_string).collect(),
    }
}

fn text(file: &HostsFile) -> String {
    fs::read_to_string(file.path()).expect("read")
}

/// What a reader finds: each line's words before the comment.
fn found(text: &str) -> Vec<Vec<&str>> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>()).filter(|words| !words.is_empty()).collect()
}

#[test]
fn entries_are_added_and_removed_in_place() {
    let (_dir, file) = hosts();
    let inode = fs::metadata(file.path()).expect("there").ino();
    assert_eq!(fs::metadata(file.path()).expect("there").permissions().mode() & 0o777, 0o644);
    let web = entry("1", &["10.89.0.2", "fd00::2"], &["web", "api"]);
    let db = entry("2", &["10.89.0.3"], &["db"]);
    file.add(&web).expect("added");
    file.add(&db).expect("added");
    file.create().expect("it stays as it is");
    assert_eq!(file.entries().expect("read"), [web.clone(), db.clone()]);
    let all = text(&file);
    let localhost = [vec!["127.0.0.1", "localhost"], vec!["::1", "localhost", "ip6-localhost", "ip6-loopback"]];
    let rest = [vec!["10.89.0.2", "web", "api"], vec!["fd00::2", "web", "api"], vec!["10.89.0.3", "db"]];
    assert_eq!(found(&all), [&localhost[..], &rest].concat());
    assert!(all.contains("10.89.0.2\tweb api") && all.contains("\t# 1 0000000000\n"), "{all}");

    assert!(file.remove("1").expect("removed"));
    assert!(!file.remove("1").expect("nothing left"));
    assert_eq!(file.entries().expect("read"), [db]);
    let after = text(&file);
    assert_eq!(found(&after), [&localhost[..], &rest[2..]].concat());
    assert_eq!(after.len(), all.len(), "nothing moves");
    assert!(after.contains("#0.89.0.2\tweb api"), "{after}");
    assert_eq!(fs::metadata(file.path()).expect("there").ino(), inode, "mounts stay right");
}

#[test]
fn an_entry_takes_the_place_of_the_same_pods() {
    let (_dir, file) = hosts();
    file.add(&entry("1", &["10.89.0.2"], &["web"])).expect("added");
    file.add(&entry("1", &["10.89.0.7"], &["web", "api"])).expect("added");
    assert_eq!(file.entries().expect("read"), [entry("1", &["10.89.0.7"], &["web", "api"])]);
}

#[test]
fn the_place_of_a_dead_line_is_used_again_when_it_has_rested() {
    let (_dir, file) = hosts();
    let rest = REST.as_secs();
    for id in ["1", "2"] {
        file.add_at(&[entry(id, &["10.89.0.2"], &["first"])], 1000).expect("added");
    }
    file.remove_at("1", 1000).expect("removed");
    let length = text(&file).len();
    file.add_at(&[entry("3", &["10.89.0.3"], &["third"])], 1000 + rest - 1).expect("added");
    let longer = text(&file).len();
    assert!(longer > length, "too early: somebody may be reading it");
    file.add_at(&[entry("4", &["10.89.0.4", "fd00::4"], &["4th"])], 1000 + rest).expect("added");
    let now = text(&file);
    assert_eq!(now.len(), longer + (longer - length), "one fits, and one is behind the others");
    assert_eq!(file.entries().expect("read")[0], entry("4", &["10.89.0.4", "fd00::4"], &["4th"]));
    // A line that is too long for the place goes behind.
    file.remove_at("2", 2000).expect("removed");
    let names: Vec<_> = (0..20).map(|number| format!("alias{number}")).collect();
    let long = HostsEntry { names, ..entry("5", &["10.89.0.5"], &[]) };
    file.add_at(&[long], 3000).expect("added");
    assert!(text(&file).len() > now.len());
    // A thousand that come and go need no more than a few places.
    let length = text(&file).len();
    for round in 0..1000 {
        let now = 4000 + round * rest;
        file.add_at(&[entry("6", &["10.89.0.6"], &["sixth"])], now).expect("added");
        file.remove_at("6", now).expect("removed");
    }
    assert_eq!(text(&file).len(), length);
}

#[test]
fn what_a_killed_writer_left_is_mended() {
    let (_dir, file) = hosts();
    // Part of a line; a line whose place was being filled, or which had just died.
    let dead = format!("#0.89.0.2\tdead{:40}\t# 1 {:0STAMP$}\n", "", 0);
    fs::write(file.path(), format!("{HEAD}{dead}10.89.0.3\tpa")).expect("written");
    file.add_at(&[entry("2", &["10.89.0.4"], &["new"])], 500).expect("added");
    let now = text(&file);
    assert!(now.contains("\n#0.89.0.3\tpa\n10.89.0.4\tnew"), "{now}");
    assert!(now.contains("#0.89.0.2\tdead ") && now.contains("\t# 1 0000000500\n"), "{now}");
    assert_eq!(file.entries().expect("read"), [entry("2", &["10.89.0.4"], &["new"])]);
}

#[test]
fn lines_of_others_stay() {
    let (_dir, file) = hosts();
    let other = "192.0.2.1\tprinter\n# 10.0.0.1\tcomment\n";
    fs::write(file.path(), other).expect("written");
    file.add(&entry("1", &["10.89.0.2"], &["web"])).expect("added");
    file.remove("1").expect("removed");
    assert!(text(&file).starts_with(other));
}

#[test]
fn what_would_not_be_one_line_is_refused() {
    let (_dir, file) = hosts();
    let before = text(&file);
    let names: Vec<_> = (0..20).map(|number| format!("{}{number}", "a".repeat(60))).collect();
    for (entry, expected) in [
        (entry("1", &["10.0.0.1"], &["a b"]), "network-alias \"a b\""),
        (entry("1", &["10.0.0.1"], &["a\nb"]), "network-alias"),
        (entry("1", &["10.0.0.1"], &["a#"]), "network-alias"),
        (entry("1", &["10.0.0.1"], &[]), "an entry needs a name"),
        (entry("", &["10.0.0.1"], &["a"]), "id: give"),
        (entry("a b", &["10.0.0.1"], &["a"]), "id \"a b\""),
        (HostsEntry { names, ..entry("1", &["10.0.0.1"], &[]) }, "too many names"),
    ] {
        let error = file.add(&entry).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(text(&file), before);
    }
}

#[test]
fn a_file_that_is_gone_is_said() {
    let (dir, file) = hosts();
    file.remove_files().expect("removed");
    assert!(matches!(file.add(&entry("1", &["10.0.0.1"], &["a"])), Err(Error::NotFound(_))));
    assert!(!file.remove("1").expect("nothing there"));
    assert_eq!(file.entries().expect("nothing there"), []);
    file.remove_files().expect("again is as good");
    assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 0);
}

#[test]
fn readers_never_see_half_a_line() {
    let (_dir, file) = hosts();
    let addresses: Vec<_> = (2..34).map(|last| format!("10.89.0.{last}")).collect();
    let names = |address: &str| ["pod".to_owned() + &address.replace('.', "x"), "alias".into()];
    let whole: BTreeSet<Vec<String>> =
        addresses.iter().map(|ip| [vec![ip.clone()], names(ip).to_vec()].concat()).collect();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = addresses
            .chunks(16)
            .map(|mine| {
                let file = &file;
                scope.spawn(move || {
                    for round in 0..200 {
                        let ip = &mine[round % mine.len()];
                        if round >= mine.len() {
                            file.remove(ip).expect("removed");
                        }
                        file.add(&HostsEntry { names: names(ip).to_vec(), ..entry(ip, &[ip], &[]) }).expect("added");
                    }
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !is_done.load(Ordering::Relaxed) {
                let text = text(&file);
                for words in found(&text).into_iter().filter(|words| words[1] != "localhost") {
                    let words: Vec<_> = words.into_iter().map(str::to_owned).collect();
                    assert!(whole.contains(&words), "{words:?}");
                }
                reads += 1;
            }
            reads
        });
        writers.into_iter().for_each(|writer| writer.join().expect("joined"));
        is_done.store(true, Ordering::Relaxed);
        assert!(reader.join().expect("joined") > 0);
    });
    let mut left: Vec<_> = file.entries().expect("read").into_iter().map(|entry| entry.id).collect();
    left.sort();
    let mut expected = addresses.clone();
    expected.sort();
    assert_eq!(left, expected, "nothing was lost");
}

#[test]
fn writers_do_not_get_the_same_place() {
    let (_dir, file) = hosts();
    let ids: Vec<_> = (0..32).map(|id| id.to_string()).collect();
    ids.iter().for_each(|id| file.add_at(&[entry(id, &["10.89.0.2"], &["old"])], 1000).expect("added"));
    ids.iter().for_each(|id| assert!(file.remove_at(id, 1000).expect("removed")));
    let length = text(&file).len();
    let barrier = std::sync::Barrier::new(ids.len());
    std::thread::scope(|scope| {
        for id in &ids {
            let (file, barrier) = (&file, &barrier);
            scope.spawn(move || {
                barrier.wait();
                file.add_at(&[entry(id, &["10.89.0.3"], &["new"])], 2000).expect("added");
            });
        }
    });
    assert_eq!(file.entries().expect("read").len(), ids.len());
    assert_eq!(text(&file).len(), length);
}

#[test]
fn several_are_added_at_once_and_replace_what_was_there_of_each() {
    let (_dir, file) = hosts();
    file.add(&entry("1", &["10.89.0.9"], &["old"])).expect("added");
    file.add(&entry("3", &["10.89.0.4"], &["stays"])).expect("added");
    let both = [entry("1", &["10.89.0.2", "fd00::2"], &["web"]), entry("2", &["10.89.0.3"], &["db"])];
    file.add_all(&both).expect("added");
    let mut entries = file.entries().expect("read");
    entries.sort_by_key(|entry| entry.id.clone());
    assert_eq!(entries, [&both[..], &[entry("3", &["10.89.0.4"], &["stays"])]].concat());
    // One that cannot stand in it keeps all out.
    file.add_all(&[entry("4", &["10.89.0.5"], &["new"]), entry("5", &["10.89.0.6"], &["a b"])]).expect_err("no name");
    assert_eq!(file.entries().expect("read").len(), 3);
}
