//! Two containers of one pod share memory and process ids.

use pod::{ContainerSpec, Io, Pod, PodOptions, Result, Root, Store};

/// A sleeper, and a killer that finds it in the memory they share.
pub fn show(store: &Store) -> Result<()> {
    let pod = Pod::create(store, PodOptions::new("example"))?;

    // `host` is this machine's own root file system, copy-on-write.
    let sleeper = ContainerSpec::new("sleeper", Root::Host).args(["sh", "-c", "echo $$ > /dev/shm/pid; exec sleep 60"]);
    let sleeper = pod.run(&sleeper, Io::log())?;

    // Another root, the same shared memory and process ids.
    let script = "until read pid < /dev/shm/pid; do sleep 0.1; done; kill -9 $pid; exit 3";
    let killer = pod.run(&ContainerSpec::new("killer", Root::Host).args(["sh", "-c", script]), Io::log())?;

    println!("killer ended with {:?}", killer.wait()?.code());
    println!("sleeper was killed by signal {:?}", sleeper.wait()?.signal());
    pod.remove()
}

fn main() -> Result<()> {
    show(&Store::open_default()?)
}
