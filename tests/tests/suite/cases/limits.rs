//! Limits that are honoured, where root can set them all.

use std::fs;

use pod::spec::Rlimit;
use pod::{Pod, PodOptions};

use crate::bed::Bed;

crate::tests![a_resource_limit_can_be_above_the_callers];

fn a_resource_limit_can_be_above_the_callers(bed: &Bed) {
    let limits = fs::read_to_string("/proc/self/limits").expect("limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit of open files");
    let hard: u64 = line.split_whitespace().nth(4).expect("a hard limit").parse().expect("a number");
    let (soft, above) = (hard + 1, hard + 2);
    let pod = Pod::create(&bed.store(), PodOptions::new("web")).expect("a pod");
    let mut container = bed.container("a", "read /proc/self/limits");
    container.rlimits = vec![Rlimit { name: "RLIMIT_NOFILE".into(), soft, hard: above }];
    assert_eq!(pod.start(&container).expect("a container").wait().expect("its end").code(), 0);
    let log = bed.podlet("logs web/a").ok();
    let line = log.lines().find(|line| line.starts_with("Max open files")).expect("a limit of open files");
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[3..5], [soft.to_string(), above.to_string()], "{line}");
    pod.remove().expect("removal");
}
