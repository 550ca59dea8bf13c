//! Pods on plugins that note how they were called, and on the reference plugins,
//! each in a machine of its own ([`in_private_mounts`]).

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use pod::{Pod, PodOptions, Result, Store};
use serde_json::{Value, json};

use crate::cni::CniDirs;
use crate::networks::Networks;
use crate::nft::tests::space::in_private_mounts;
use crate::ports;
use crate::record::Attachment;
use crate::request::{AttachOptions, NetworkRequest};

mod fake;
mod real;

/// A store with CNI networks, whatever they are.
struct Bed {
    dir: PathBuf,
    store: Store,
    networks: Networks,
    told: Arc<Mutex<Vec<String>>>,
}

/// Does it in a machine of its own. Pods take root here; as anybody else nothing is
/// tried.
fn in_a_machine(plugins: &[PathBuf], act: impl FnOnce(&Bed) + Send) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not tried: needs root");
        return;
    }
    in_private_mounts(|| {
        let dir = PathBuf::from("/run/bed");
        fs::create_dir_all(dir.join("bin")).expect("a directory");
        fs::create_dir(dir.join("net.d")).expect("a directory");
        let store = Store::open(dir.join("store")).expect("a store");
        let mut cni = CniDirs::of_machine();
        cni.configs = vec![dir.join("net.d")];
        cni.plugins = [vec![dir.join("bin")], plugins.to_vec()].concat();
        cni.records = dir.join("records");
        let networks = Networks::open(&store).with_cni(cni);
        let told = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&told);
        let tell = move |text: &str| to.lock().expect("no panic").push(text.to_owned());
        let store = crate::docked(store, networks.clone(), tell);
        act(&Bed { dir, store, networks, told });
    });
}

impl Bed {
    fn network(&self, name: &str, version: &str, plugins: Value) {
        let list = json!({"cniVersion": version, "name": name, "plugins": plugins});
        fs::write(self.dir.join(format!("net.d/{name}.conflist")), list.to_string()).expect("a configuration");
    }

    /// A pod that lives until it is removed.
    fn pod(&self, name: &str) -> Pod {
        let mut pod = Pod::create(&self.store, PodOptions::new(name)).expect("a pod");
        pod.detach().expect("detached");
        pod
    }

    fn attach(&self, pod: &Pod, networks: &[&str], ports: &[&str]) -> Result<Attachment> {
        self.attach_by(pod, &options(networks, ports))
    }

    fn attach_by(&self, pod: &Pod, options: &AttachOptions) -> Result<Attachment> {
        Ok(self.networks.attach(pod, options)?.0)
    }

    fn attachment(&self, pod: &str) -> Attachment {
        self.networks.attachment(pod).expect("read").expect("there")
    }

    /// What is read in a pod's file that belongs over `target`.
    fn file(&self, pod: &str, target: &str) -> String {
        let files = self.networks.files(pod).expect("files");
        let (path, _) = files.into_iter().find(|(_, place)| *place == target).expect("one of them");
        fs::read_to_string(path).expect("read")
    }

    fn records(&self) -> usize {
        self.networks.records().keys().expect("listed").len()
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().expect("no panic"))
    }

    /// Nothing of CNI is left.
    fn is_clean(&self) {
        assert_eq!(self.records(), 0, "records");
        assert_eq!(binds(), 0, "binds of namespaces");
        let taken = self.networks.registry().and_then(|registry| registry.taking()?.taken());
        assert_eq!(taken.expect("listed"), [], "ports");
    }
}

impl Drop for Bed {
    /// Also where a test fails, no pod is left.
    fn drop(&mut self) {
        let nobody = Store::open(self.store.root()).expect("a store");
        for name in nobody.names().unwrap_or_default() {
            Pod::open(&nobody, &name).and_then(|pod| pod.kill()).unwrap_or_default();
        }
    }
}

fn options(networks: &[&str], published: &[&str]) -> AttachOptions {
    let mut options = AttachOptions::new(networks.iter().map(|name| NetworkRequest::new(*name)).collect::<Vec<_>>());
    options.ports = published.iter().flat_map(|text| ports::parse(text).expect("ports")).collect();
    options
}

/// How many namespaces are bound in this machine.
fn binds() -> usize {
    fs::read_to_string("/proc/thread-self/mountinfo").expect("read").matches("/ext/net/netns ").count()
}

/// Ends a pod without anybody being asked, as if pause had been killed.
fn die(bed: &Bed, pod: &str) {
    let nobody = Store::open(bed.store.root()).expect("a store");
    Pod::open(&nobody, pod).expect("a pod").kill().expect("ended");
}
