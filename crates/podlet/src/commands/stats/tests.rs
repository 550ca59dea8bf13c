//! Rows that no kernel is needed for.

use std::collections::{BTreeMap, BTreeSet};

use pod::stats::{CpuStats, MemoryStats, PidsStats, Stalls};

use super::*;

fn usage() -> UsageStats {
    let mut cpu = CpuStats::default();
    cpu.usage_usec = 1_500_000;
    let mut memory = MemoryStats::default();
    (memory.current, memory.limit) = (50, Some(100));
    memory.events.insert("oom_kill".into(), 2);
    let mut pids = PidsStats::default();
    pids.current = 3;
    let mut cgroup = pod::stats::Stats::default();
    (cgroup.cpu, cgroup.memory, cgroup.pids) = (Some(cpu), Some(memory), Some(pids));
    cgroup.io.insert("8:0".into(), Default::default());
    let mut stats = UsageStats::default();
    stats.age = Duration::from_secs(3);
    stats.cgroup = Some(cgroup);
    stats.counts_io = true;
    stats.network = Some(BTreeMap::from([("eth0".into(), Default::default()), ("a\"b\\".into(), Default::default())]));
    stats.pressure.cpu = Some(Stalls::default());
    stats
}

fn rows() -> Vec<Row> {
    let row = |pod: &str, container: Option<&str>, stats| Row::new(pod, container.map(String::from), stats);
    vec![
        row("web", None, Some(usage())),
        row("web", Some("db"), Some(usage())),
        row("web", Some("app"), Some(UsageStats::default())),
        row("old", None, None),
    ]
}

/// Fails for what no reader of the format takes. The names of the metrics.
fn validate(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut samples = BTreeSet::new();
    let mut current: Option<(String, String)> = None;
    let mut lines = text.lines();
    assert!(text.is_empty() || text.ends_with('\n'), "the last line has no end");
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect("a text");
            assert!(!words.is_empty() && names.insert(name.to_string()), "{name} twice");
            let kind = lines.next().and_then(|line| line.strip_prefix(&format!("# TYPE {name} "))).expect("its type");
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            current = Some((name.to_string(), kind.to_string()));
            continue;
        }
        let (name, rest) = line.split_once('{').expect("labels");
        let (labels, value) = rest.rsplit_once("} ").expect("a value");
        let (current, _) = current.as_ref().expect("a type before the first sample");
        assert_eq!(name, current, "samples of one metric stand together");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert!(value.parse::<f64>().expect("a number").is_finite());
        assert!(samples.insert((name.to_string(), labels.to_string())), "{line} twice");
        // Name, equals, a quoted text with escapes, a comma.
        let mut rest = labels;
        while !rest.is_empty() {
            let (label, quoted) = rest.split_once("=\"").expect("a quoted value");
            assert!(label.bytes().all(|byte| byte.is_ascii_lowercase()), "{label}");
            let mut escaped = false;
            let end = quoted.find(|c: char| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            rest = &quoted[end.expect("an end") + 1..];
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
    }
    names
}

#[test]
fn prometheus_can_read_it() {
    let text = prometheus::text(&rows());
    let names = validate(&text);
    assert!(names.contains("podlet_pod_cpu_seconds_total") && names.contains("podlet_container_pids"), "{names:?}");
    assert!(text.contains("podlet_container_cpu_seconds_total{pod=\"web\",container=\"db\"} 1.5\n"), "{text}");
    assert!(text.contains(r#"{pod="web",interface="a\"b\\"} 0"#), "{text}");
    // What is not counted is not there, and not 0.
    assert!(!text.contains("container_memory_bytes{pod=\"web\",container=\"app\"}"), "{text}");
    assert!(!text.contains("swap") && !text.contains("\"old\""), "{text}");
    assert_eq!(validate(&prometheus::text(&[])), BTreeSet::new());
}

#[test]
#[should_panic(expected = "stand together")]
fn what_prometheus_cannot_read_is_found() {
    validate("# HELP a_total x\n# TYPE a_total counter\nb_total{pod=\"x\"} 1\n");
}

#[test]
fn what_is_not_counted_is_not_0() {
    let table = show::table(&rows());
    let line = |name: &str| table.lines().find(|line| line.contains(name)).expect(name).to_string();
    assert_eq!(line("app").split_whitespace().collect::<Vec<_>>(), ["web", "app", "-", "-", "-", "-", "-", "-", "-"]);
    assert!(line("db").contains("50B / 100B") && line("db").contains("50.00"), "{table}");
    let json = show::json(&rows());
    assert_eq!((json[1]["memory_bytes"].as_u64(), json[1]["pids"].as_u64()), (Some(50), Some(3)));
    assert!(
        ["memory_bytes", "pids", "io_read_bytes", "cpu_usec", "network"].iter().all(|name| json[2][name].is_null())
    );
    assert!(json[3]["age_seconds"].is_null() && json[3]["pod"] == "old");
    assert_eq!(show::uncounted(&rows()), None, "the second row has all of it");
    let note = show::uncounted(&rows()[2..]).expect("a note");
    assert!(note.contains("no cgroups here"), "{note}");
    let mut some = usage();
    some.counts_io = false;
    some.cgroup.as_mut().expect("one").memory = None;
    let note = show::uncounted(&[Row::new("web", None, Some(some))]).expect("a note");
    assert!(note.contains("not counted here: memory, disks;"), "{note}");
}

#[test]
fn a_processors_part_is_that_since_the_look_before() {
    let (mut before, now) = (Before::new(), Instant::now());
    let mut look = |used: u64, age: u64, at: Instant| {
        let mut stats = usage();
        stats.age = Duration::from_secs(age);
        stats.cgroup.as_mut().and_then(|cgroup| cgroup.cpu.as_mut()).expect("one").usage_usec = used;
        let mut row = Row::new("web", None, Some(stats));
        let mut seen = Before::new();
        row.measure(&before, &mut seen, at);
        before = seen;
        row.cpu
    };
    let at = |seconds| now + Duration::from_secs(seconds);
    assert_eq!(look(5_000_000, 10, now), Some(0.5), "since it began");
    assert_eq!(look(6_000_000, 12, at(2)), Some(0.5), "of one second in two");
    // It was started again in between.
    assert_eq!(look(7_000_000, 1, at(4)), Some(7.0));
    assert_eq!(look(100_000, 1, at(6)), Some(0.1));
}
