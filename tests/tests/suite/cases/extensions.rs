//! What other programs keep for a pod goes with the pod, and the pod not without
//! it.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use pod::{ContainerSpec, Error, ExtendedPod, Extension, Io, Namespace, Pod, PodOptions, Result, Root, Store};

use crate::bed::Bed;

crate::tests![
    what_is_kept_for_a_pod_goes_with_it,
    a_pod_stays_until_what_is_kept_for_it_is_gone,
    a_sweep_cleans_up_what_an_ended_program_left,
    a_pod_made_anew_tells_what_keeps_something_for_it,
    a_damaged_pod_is_cleaned_up_after,
];

/// Leases: a file a pod, outside of the store.
#[derive(Debug)]
struct Leases {
    dir: PathBuf,
    fails: AtomicBool,
    /// The network namespace of the pod that was made anew last.
    net: AtomicU64,
}

impl Leases {
    fn new(bed: &Bed) -> Arc<Leases> {
        let dir = bed.dir.join("leases");
        fs::create_dir_all(&dir).expect("a directory");
        Arc::new(Leases { dir, fails: AtomicBool::new(false), net: AtomicU64::new(0) })
    }

    fn lease(&self, pod: &Pod) {
        // Noted first, so that it is found however this ends.
        let dir = pod.extension_dir("leases").expect("a directory");
        fs::write(dir.join("address"), "10.0.0.7").expect("a note");
        fs::write(self.dir.join(pod.name()), "10.0.0.7").expect("a lease");
    }

    fn has(&self, pod: &str) -> bool {
        self.dir.join(pod).exists()
    }
}

impl Extension for Leases {
    fn owner(&self) -> &str {
        "leases"
    }

    fn made_anew(&self, pod: &ExtendedPod<'_>) -> Result<()> {
        if self.fails.load(SeqCst) {
            return Err(Error::state("the bridge", "is gone"));
        }
        let net = pod.namespace(Namespace::Net)?;
        let inode = fs::metadata(format!("/proc/self/fd/{}", net.as_raw_fd())).expect("a namespace").ino();
        self.net.store(inode, SeqCst);
        Ok(())
    }

    fn clean_up(&self, pod: &ExtendedPod<'_>) -> Result<()> {
        if self.fails.load(SeqCst) {
            return Err(Error::state("the bridge", "is gone"));
        }
        assert_eq!(fs::read_to_string(pod.dir().join("address")).expect("the note"), "10.0.0.7");
        assert!(pod.namespace(Namespace::Net).is_err(), "it is dead");
        // Perhaps it was cleaned up half-way before.
        if self.has(pod.name()) {
            fs::remove_file(self.dir.join(pod.name())).expect("a lease");
        }
        Ok(())
    }
}

fn extended(bed: &Bed, leases: &Arc<Leases>) -> Store {
    bed.store().extended(leases.clone())
}

fn what_is_kept_for_a_pod_goes_with_it(bed: &Bed) {
    let leases = Leases::new(bed);
    let store = extended(bed, &leases);
    let pod = Pod::create(&store, PodOptions::new("web")).expect("a pod");
    leases.lease(&pod);
    let error = pod.extension_dir("../x").expect_err("no name").to_string();
    assert!(error.contains("extension name") && error.contains("../x"), "{error}");
    let container = ContainerSpec::new("a", Root::Dir(bed.rootfs())).args(["/probe", "exit", "7"]);
    assert_eq!(pod.run(&container, Io::log()).expect("a container").wait().expect("its end").shell_code(), 7);
    assert!(leases.has("web"));
    pod.remove().expect("a removal");
    assert!(!leases.has("web"));
    // Dropped, too.
    let pod = Pod::create(&store, PodOptions::new("web")).expect("a pod");
    leases.lease(&pod);
    drop(pod);
    assert!(!leases.has("web"));
    bed.is_clean();
}

fn a_pod_stays_until_what_is_kept_for_it_is_gone(bed: &Bed) {
    let leases = Leases::new(bed);
    let store = extended(bed, &leases);
    let mut pod = Pod::create(&store, PodOptions::new("web")).expect("a pod");
    leases.lease(&pod);
    pod.detach().expect("detached");
    leases.fails.store(true, SeqCst);
    let error = pod.remove().expect_err("the bridge is gone").to_string();
    assert!(error.contains("the bridge"), "{error}");
    // A program that does not know how leaves it, and says whose it is.
    assert_eq!(bed.inspect("web")["state"], "exited");
    bed.podlet("rm -f web").fails(125, &["web", "leases", "ext/leases"]);
    bed.podlet("create web").fails(125, &["exists"]);
    assert!(leases.has("web"));
    leases.fails.store(false, SeqCst);
    Pod::open(&store, "web").expect("a pod").remove().expect("a removal");
    assert!(!leases.has("web"));
    bed.is_clean();
}

fn a_sweep_cleans_up_what_an_ended_program_left(bed: &Bed) {
    let leases = Leases::new(bed);
    let store = extended(bed, &leases);
    let mut options = PodOptions::new("web");
    options.remove_when_dead = true;
    let mut pod = Pod::create(&store, options).expect("a pod");
    leases.lease(&pod);
    pod.detach().expect("detached");
    bed.kill(bed.pause_of("web"), nix::sys::signal::Signal::SIGKILL);
    bed.until("the end of the pod", || pod.pidfd().is_none_or(|_| !pod.is_alive()));
    // Others' sweeps pass it by.
    for _ in 0..2 {
        assert_eq!(bed.podlet("ps -aq").ok(), "web\n");
    }
    assert!(leases.has("web"));
    Pod::sweep(&store);
    assert!(!leases.has("web"));
    assert_eq!(bed.podlet("ps -aq").ok(), "");
    bed.is_clean();
}

fn a_pod_made_anew_tells_what_keeps_something_for_it(bed: &Bed) {
    let leases = Leases::new(bed);
    let store = extended(bed, &leases);
    let mut pod = Pod::create(&store, PodOptions::new("web")).expect("a pod");
    leases.lease(&pod);
    pod.detach().expect("detached");
    pod.kill().expect("its end");
    leases.fails.store(true, SeqCst);
    let error = pod.start().expect_err("the bridge is gone").to_string();
    assert!(error.contains("the bridge"), "{error}");
    assert_eq!(bed.inspect("web")["state"], "exited");
    leases.fails.store(false, SeqCst);
    // It is as wanted as before: no handle takes it along.
    drop(pod);
    assert_eq!(bed.inspect("web")["state"], "exited");
    assert!(leases.has("web"));
    let mut pod = Pod::open(&store, "web").expect("a pod");
    pod.start().expect("a pod");
    let pause = pod.pause_pid().expect("pause");
    assert_eq!(leases.net.load(SeqCst), fs::metadata(format!("/proc/{pause}/ns/net")).expect("its network").ino());
    assert!(leases.has("web"));
    pod.remove().expect("a removal");
    assert!(!leases.has("web"));
}

fn a_damaged_pod_is_cleaned_up_after(bed: &Bed) {
    let leases = Leases::new(bed);
    let store = extended(bed, &leases);
    let mut pod = Pod::create(&store, PodOptions::new("web")).expect("a pod");
    leases.lease(&pod);
    pod.detach().expect("detached");
    fs::write(bed.state().join("web/pod.json"), "{").expect("damage");
    bed.podlet("rm -f web").fails(125, &["leases"]);
    assert!(leases.has("web"));
    Pod::remove_damaged(&store, "web").expect("a removal");
    assert!(!leases.has("web"));
    bed.is_clean();
}
