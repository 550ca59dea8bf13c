//! Labels and annotations: what tools find pods and containers by, and note on
//! them.

use std::fs;

use pod::{ContainerSpec, Io, Pod, PodOptions, Root};

use crate::bed::Bed;

crate::tests![
    pods_and_containers_are_found_by_their_labels,
    labels_and_annotations_are_told_and_kept,
    labels_that_cannot_be_are_refused,
];

fn found(bed: &Bed, filters: &str) -> Vec<String> {
    bed.podlet(&format!("ps -aq {filters}")).ok().lines().map(String::from).collect()
}

fn pods_and_containers_are_found_by_their_labels(bed: &Bed) {
    bed.podlet("create web --label app=shop --label tier=front").ok();
    bed.podlet("run -d --pod web --name a -l color=red --rootfs ROOT /probe block").ok();
    bed.podlet("run -d --pod web --name b -l color=blue --rootfs ROOT /probe block").ok();
    bed.podlet("run --name once -l color=red -l done --rootfs ROOT /probe exit 0").ok();
    bed.podlet("create empty -l app=store").ok();
    for (filters, expected) in [
        ("--filter label=color=red", &["once", "web/a"][..]),
        ("--filter label=color", &["once", "web/a", "web/b"]),
        ("--filter label=app", &["empty", "web/a", "web/b"]),
        ("--filter label=app=shop --filter name=^b", &["web/b"]),
        // All labels, unlike what else is asked of one kind.
        ("--filter label=color=blue --filter label=app=shop", &["web/b"]),
        ("--filter label=color=blue --filter label=app=store", &[]),
        ("--filter label=done", &["once"]),
        ("--filter label=done=yes", &[]),
        ("--filter label=colo", &[]),
    ] {
        assert_eq!(found(bed, filters), expected, "{filters}");
        let json = bed.podlet(&format!("ps -a --format json {filters}")).ok();
        let pods: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let containers = |pod: &serde_json::Value| pod["containers"].as_array().map_or(0, |all| all.len().max(1));
        assert_eq!(pods.as_array().expect("a list").iter().map(containers).sum::<usize>(), expected.len(), "{filters}");
    }
}

fn labels_and_annotations_are_told_and_kept(bed: &Bed) {
    let file = bed.dir.join("labels");
    fs::write(&file, "# words\n\n from=file\n color=green\n").expect("a file");
    let notes = format!("--label-file {} -l color=red -l a=b=c -l alone --annotation note=one=two", file.display());
    bed.podlet(&format!("run -d --name web {notes} --rootfs ROOT /probe block")).ok();
    let labels = serde_json::json!({ "from": "file", "color": "red", "a": "b=c", "alone": "" });
    let container = || bed.inspect("web/web");
    for _ in 0..2 {
        assert_eq!(container()["labels"], labels);
        assert_eq!(container()["annotations"], serde_json::json!({ "note": "one=two" }));
        // Its own pod is found as it is; what is noted is on the container.
        assert_eq!(bed.inspect("web")["labels"], labels);
        assert_eq!(bed.inspect("web")["annotations"], serde_json::json!({}));
        // They are no run's but the container's.
        bed.podlet("restart -t 0 web/web").ok();
    }
    bed.podlet("rm -f web").ok();
    // By the library.
    let options = PodOptions::new("web").label("app", "shop").annotation("io.kubernetes.cri/uid", "7");
    let pod = Pod::create(&bed.store(), options).expect("a pod");
    let container = ContainerSpec::new("a", Root::Dir(bed.rootfs())).args(["/probe", "exit", "0"]).label("x", "y");
    pod.run(&container, Io::log()).expect("a container").wait().expect("its end");
    let status = pod.status().expect("its status");
    assert_eq!((status.labels["app"].as_str(), status.annotations["io.kubernetes.cri/uid"].as_str()), ("shop", "7"));
    assert_eq!(status.containers[0].labels["x"], "y");
    assert_eq!(Pod::summaries(&bed.store(), true).expect("a list").len(), 1);
}

fn labels_that_cannot_be_are_refused(bed: &Bed) {
    for (given, words) in [
        ("--label =x", &["label", "NAME=VALUE"][..]),
        ("--annotation alone", &["--annotation", "NAME=VALUE"]),
        ("--annotation =x", &["annotation", "NAME=VALUE"]),
        ("--label-file DIR/none", &["--label-file", "none"]),
    ] {
        bed.podlet(&format!("create web {given}")).fails(125, words);
        bed.podlet(&format!("run {given} --rootfs ROOT /probe exit 0")).fails(125, words);
    }
    bed.podlet_args(&["create", "web", "--label", "two words=x"]).fails(125, &["two words", "spaces"]);
    let long = "x".repeat(100 << 10);
    let pod = PodOptions::new("web").label("a", &long).label("b", &long).label("c", &long);
    let error = pod.check().expect_err("too much").to_string();
    assert!(error.contains("label") && error.contains("at most 262144 bytes"), "{error}");
    bed.is_clean();
}
