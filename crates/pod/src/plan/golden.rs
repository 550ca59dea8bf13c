//! Golden plans: a pod and a container as JSON in, the printed plans out.
//!
//! `fixtures/plans/NAME.json` says what differs from the defaults; beside it
//! stands the text that must come out. `UPDATE_GOLDEN=1 cargo test` writes the
//! texts anew: read the difference before you commit it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::exec::{self, Exec};
use super::input::{Below, ContainerInput, DeviceNodes, IN_PAUSE, Isolation, LegacyMounts, Overlay, RootSource};
use super::input::{MachineMount, Policy, Source, TerminalOptions};
use super::oci_create::{self, Bundle, MntnsMode};
use super::pod::{self as plan_of_pod, PodShape};
use super::{Plan, container};
use crate::kernel::capabilities::CapabilitySet;
use crate::kernel::facts::Facts;
use crate::kernel::idmap::IdMap;
use crate::kernel::namespace::Namespace;
use crate::kernel::terminal::WindowSize;
use crate::spec::users::{Ids, Users};
use crate::spec::{ContainerSpec, Device, DeviceKind, MountKind, PodOptions, Root};

/// Machines and callers that plans are made for.
fn facts(who: &str) -> Facts {
    let root = Facts::of_root();
    match who {
        "root" => root,
        "root of a user namespace" => Facts { initial_users: false, setgroups: false, tty_group: false, ..root },
        "user" => Facts { uid: 1000, gid: 1000, privileged: false, capabilities: CapabilitySet::EMPTY, ..root },
        other => panic!("nobody is called {other:?}"),
    }
}

fn map(inside: u32, outside: u32, count: u32) -> IdMap {
    IdMap { inside, outside, count }
}

fn users(which: &str) -> Users {
    let single = vec![map(0, 1000, 1)];
    let many = vec![map(0, 1000, 1), map(1, 100_000, 65536)];
    let own = vec![map(0, 200_000, 65536)];
    match which {
        "caller" => Users::Caller,
        "new" => Users::New { uids: own.clone(), gids: own },
        "single id" => Users::Nested { uids: single.clone(), gids: single, by_helper: false, apart: false },
        "sub-ids" => Users::Nested { uids: many.clone(), gids: many, by_helper: true, apart: true },
        other => panic!("no users {other:?}"),
    }
}

/// `change` over `value`, object by object; an empty one is a map.
fn merge(value: &mut Value, change: &Value) {
    match (value, change) {
        (Value::Object(value), Value::Object(change)) if !value.is_empty() => {
            for (name, change) in change {
                merge(value.get_mut(name).unwrap_or_else(|| panic!("there is no {name:?}")), change);
            }
        }
        (value, change) => *value = change.clone(),
    }
}

fn changed<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T, change: &Value) -> T {
    let mut json = serde_json::to_value(value).expect("JSON");
    if !change.is_null() {
        merge(&mut json, change);
    }
    serde_json::from_value(json).expect("the fixture's types")
}

/// Who the container's process is: uid, gid, groups; root if it is not said.
fn ids(list: &Value) -> Ids {
    let Some(list) = list.as_array() else { return Ids::default() };
    let ids: Vec<_> = list.iter().map(|id| id.as_u64().expect("an id") as u32).collect();
    match ids[..] {
        [uid, gid, ref groups @ ..] => Ids { uid, gid, groups: groups.to_vec() },
        _ => panic!("ids: uid, gid, groups"),
    }
}

/// The text for one fixture.
fn text(spec: &Value) -> String {
    shown(spec, Plan::to_string)
}

/// The plans of one fixture, each as `show` shows it.
fn shown(spec: &Value, show: impl Fn(&Plan) -> String) -> String {
    let mut facts = facts(spec["facts"].as_str().expect("facts"));
    for call in spec["denied"].as_array().into_iter().flatten() {
        match call.as_str() {
            Some("openat2") => facts.calls.openat2 = false,
            Some("pidns") => facts.pidns = false,
            Some("lowerdir+") => facts.calls.layers = false,
            _ => facts.calls.mounts = false,
        }
    }
    let users = users(spec["users"].as_str().expect("users"));
    let mut options: PodOptions = changed(&PodOptions::new("web"), &spec["pod"]);
    if users != Users::Caller {
        options.share.insert(Namespace::User);
    }
    let shape = PodShape { options: &options, users: &users, cgroup: spec["cgroup"].as_bool().unwrap_or(false) };
    let container = ContainerSpec::new("server", Root::Dir("/images/server".into())).args(["serve", "--port", "80"]);
    let mut container: ContainerSpec = changed(&container, &spec["container"]);
    for volume in spec["volumes"].as_array().into_iter().flatten().filter_map(Value::as_array) {
        let word = |i: usize| volume[i].as_str().expect("a path");
        container = container.bind(word(0), word(1), volume.get(2).is_some());
    }
    let filter = container.filter(&options).expect("a profile");
    let ids = ids(&spec["ids"]);
    if let Some(args) = spec["exec"].as_array() {
        let args: Vec<_> = args.iter().map(|arg| arg.as_str().expect("a string").to_string()).collect();
        let (env, cwd) = (&container.process.env, Path::new("/srv"));
        let (isolation, container) = (shape.isolation(), &container);
        let (filter, terminal) = (filter.as_ref(), terminal(spec));
        let exec =
            Exec { facts: &facts, isolation, container, filter, args: &args, env, cwd, ids: &ids, terminal, entry: 3 };
        return format!("# exec in web/server\n{}", show(&exec::plan(&exec)));
    }
    let source = |kind: &MountKind| match kind {
        MountKind::Bind { source, .. } if source.extension().is_some() => Some(Source::File),
        MountKind::Bind { .. } => Some(Source::Directory),
        _ => None,
    };
    let sources: Vec<_> = container.mounts.iter().map(|mount| source(&mount.kind)).collect();
    let Root::Dir(dir) = &container.root else { panic!("only directories") };
    let host = vec![PathBuf::from("/")];
    let lower = spec["layers"]
        .as_array()
        .map_or(host, |paths| paths.iter().map(|path| path.as_str().expect("a path").into()).collect());
    let lower = lower.iter().flat_map(|path| match path.to_str().and_then(|path| path.split_once('*')) {
        // "path*40" is forty layers.
        Some((path, count)) => {
            (0..count.parse().expect("a number")).map(|n: u32| format!("{path}{n}").into()).collect()
        }
        None => vec![path.clone()],
    });
    let lower: Vec<PathBuf> = lower.collect();
    let upper = PathBuf::from(spec["upper"].as_str().unwrap_or("/state/upper"));
    let work = upper.with_file_name("work");
    let idmapped = spec["idmapped"].as_bool().unwrap_or(false);
    let overlay = Overlay { lower: &lower, upper: &upper, work: &work, idmapped };
    let image = match spec["image"].as_str() {
        None => RootSource::Dir { path: dir, idmapped },
        Some("overlay") => RootSource::Overlay(overlay),
        Some(_) => RootSource::ReadOnlyHost,
    };
    let node = |device: &Device| (device.kind != DeviceKind::Fifo).then(|| device.path.clone());
    let nodes_outside: Vec<_> = container.devices.iter().map(node).collect();
    let below = |path: &str, flags| Below { path: path.into(), flags };
    let outside = |source: &Option<Source>| source.iter().map(|_| below("", libc::MS_NOSUID)).collect();
    let root = vec![below("", libc::MS_RELATIME), below("sub", libc::MS_NODEV)];
    let legacy_mounts = LegacyMounts { root, sources: sources.iter().map(outside).collect() };
    let policy = if spec["nodes"] == "made" { Policy::Oci } else { Policy::Pod };
    let isolation = match spec["bundle"].is_object() {
        true => Isolation::of_bundle(&users, !spec["bundle"]["joined"].is_array()),
        false => shape.isolation(),
    };
    let launch = ContainerInput {
        facts: &facts,
        isolation,
        policy,
        container: &container,
        image,
        ids: &ids,
        sources: &sources,
        filter: filter.as_ref(),
        has_host_mqueue: true,
        nodes: DeviceNodes::decide(policy, &isolation, &facts),
        nodes_outside: &nodes_outside,
        attach: Path::new(spec["attach"].as_str().unwrap_or(IN_PAUSE)),
        terminal: terminal(spec),
        legacy_mounts: (!facts.calls.new_mount_api()).then_some(&legacy_mounts),
        entry: 2,
    };
    if spec["bundle"].is_object() {
        let launch = ContainerInput { terminal: terminal(&spec["bundle"]), ..launch };
        return format!("# bundle\n{}", show(&oci_create::plan(&without_pod(launch, &spec["bundle"]))));
    }
    let (pod, container) = (plan_of_pod::plan(&shape, &facts), container::plan(&launch));
    format!("# pod web\n{}\n# container web/server\n{}", show(&pod), show(&container))
}

/// One that keeps newlines or not, if it is said.
fn terminal(spec: &Value) -> Option<TerminalOptions> {
    let size = WindowSize { rows: 24, columns: 80 };
    spec["terminal"].as_bool().map(|keeps_newlines| TerminalOptions { size, keeps_newlines })
}

/// The launch as one of a bundle: what is made, joined and asked for besides.
fn without_pod<'a>(launch: ContainerInput<'a>, spec: &Value) -> Bundle<'a> {
    let kinds = |field: &str| -> Vec<Namespace> {
        let names = spec[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        names.map(|name| name.parse().expect("a namespace")).collect()
    };
    let made = kinds("made").iter().fold(libc::CLONE_NEWNS as u64, |flags, kind| flags | kind.flag());
    Bundle {
        launch,
        made,
        joined: kinds("joined").leak(),
        mounts: match spec["mounts"].as_str() {
            None => MntnsMode::Own,
            Some("joined") => MntnsMode::Joined,
            Some(_) => MntnsMode::Callers { mark: "podlet-oci:web:1" },
        },
        time_offsets: Default::default(),
        stops: spec["stops"].as_bool().unwrap_or(false),
        below: spec["below"].is_array().then(|| below(&spec["below"])),
        keyring: true,
        preserved: spec["preserved"].as_u64().unwrap_or(0) as u16,
        looks_for_program: spec["gate"].is_number(),
        start_user: spec["gate"].as_u64().map(|uid| uid as u32),
    }
}

/// The machine's mounts below a root that is moved.
fn below(list: &Value) -> &'static [MachineMount] {
    let points = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    let all = points.map(|point| MachineMount { point: point.into(), reveals: point == "/proc" });
    all.collect::<Vec<_>>().leak()
}

/// The root of a namespace that is joined could trace the launcher, which still
/// has the machine's root and files open.
#[test]
fn a_joined_user_namespace_cannot_trace_the_launcher() {
    let spec = serde_json::json!({
        "facts": "root", "users": "new",
        "bundle": { "made": ["pid", "time"], "joined": ["net", "user", "ipc"], "gate": 0 },
    });
    let text = text(&spec);
    let at = |call: &str| text.find(call).unwrap_or_else(|| panic!("{call} in\n{text}"));
    assert!(at("PR_SET_DUMPABLE, 0") < at("setns("), "{text}");
    assert!(at("timens_offsets") < at("PR_SET_DUMPABLE, 0"), "an undumpable process cannot open it:\n{text}");
}

#[test]
fn plans_are_as_they_were() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/plans");
    let mut specs: Vec<_> = fs::read_dir(&dir).expect("the fixtures").flatten().map(|entry| entry.path()).collect();
    specs.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    specs.sort();
    assert!(!specs.is_empty());
    let mut wrong = Vec::new();
    for path in specs {
        let spec = serde_json::from_str(&fs::read_to_string(&path).expect("a fixture")).expect("JSON");
        let (now, golden) = (text(&spec), path.with_extension("txt"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &now).expect("the golden file");
        }
        let before = fs::read_to_string(&golden).unwrap_or_default();
        if let Some((number, line)) = now.lines().enumerate().find(|&(i, line)| before.lines().nth(i) != Some(line)) {
            let expected = before.lines().nth(number).unwrap_or("(the end)");
            wrong.push(format!("{}:{}\n  was {expected}\n  is  {line}", golden.display(), number + 1));
        } else if before.lines().count() != now.lines().count() {
            wrong.push(format!("{}: has more lines than the plan", golden.display()));
        }
    }
    assert!(wrong.is_empty(), "{}\n(UPDATE_GOLDEN=1 writes them anew)", wrong.join("\n"));
}

/// What an error of a step is explained by.
#[test]
fn steps_know_what_they_serve() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/plans");
    let steps = |name: &str, change: &Value| {
        let spec = fs::read(dir.join(name).with_extension("json")).expect("the fixture");
        let mut spec: Value = serde_json::from_slice(&spec).expect("JSON");
        let change = change.as_object().into_iter().flatten();
        change.for_each(|(field, value)| spec[field] = value.clone());
        let line = |plan: &Plan, n: usize| format!("{:?} {:?}\n", plan.purpose(n), plan.steps()[n].kind());
        let show = |plan: &Plan| (0..plan.steps().len()).map(|n| line(plan, n)).collect();
        shown(&spec, show)
    };
    let by_parts = serde_json::json!({ "denied": ["openat2"] });
    let elsewhere = serde_json::json!({ "container": { "cwd": "/srv" } });
    let expected: [(&str, &Value, &[&str]); 8] = [
        (
            "settings",
            &Value::Null,
            &[
                "Some(Sysctl { path: \"\" }) Openat2 { directory: false }",
                "Some(Sysctl { path: \"\" }) Write",
                "Some(OomScoreAdj) Write",
                "Some(AppArmorProfile) Write",
                "None Mount(ProcOrSysfs)",
                "Some(Mask(\"/proc/kcore\")) Mount(FileSystem)",
                "Some(ReadOnly(\"/proc/sys\")) MoveMount",
            ],
        ),
        (
            "made-devices",
            &Value::Null,
            &[
                "Some(MountOptions(\"/data\")) MountSetattr { idmap: false }",
                "Some(Mount(\"/mapped\")) MountSetattr { idmap: true }",
                "Some(Device(\"/dev/fuse\")) Mknodat",
            ],
        ),
        ("rootless-single-id", &Value::Null, &["Some(IdMap { root_to_root: true }) Write"]),
        ("denied-root", &Value::Null, &["Some(Mount(\"/proc\")) Mount(ProcOrSysfs)", "None Mount(Remount)"]),
        ("bundle-mounts-joined", &Value::Null, &["Some(JoinedRoot) Openat"]),
        ("bundle", &elsewhere, &["Some(WorkingDirectory) Mkdirat"]),
        (
            "settings",
            &by_parts,
            &["Some(Sysctl { path: \"sys/kernel/msgmax\" }) Openat", "Some(Sysctl { path: \"\" }) Write"],
        ),
        ("bundle-moved", &Value::Null, &["Some(MachineMount(\"/proc\")) Umount2"]),
    ];
    for (name, change, expected) in expected {
        let steps = steps(name, change);
        for step in expected {
            assert!(steps.lines().any(|line| line == *step), "{name} has no {step}:\n{steps}");
        }
    }
}

/// A plan depends on nothing but its arguments.
#[test]
fn the_same_spec_gives_the_same_plan() {
    let spec = serde_json::json!({ "facts": "root", "users": "caller" });
    assert_eq!(text(&spec), text(&spec));
}
