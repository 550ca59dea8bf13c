//! Two containers of one pod share memory and process ids.

use pod::{Container, Pod, PodOptions, Root, Store};

fn main() -> pod::Result<()> {
    let store = Store::open_default()?;
    let pod = Pod::create(&store, PodOptions::new("example"))?;

    // `host` is this machine's own root file system, copy-on-write.
    let sleeper = Container::new("sleeper", Root::Host).args(["sh", "-c", "echo $$ > /dev/shm/pid; exec sleep 60"]);
    let sleeper = pod.start(&sleeper)?;

    // Another root, the same shared memory and process ids.
    let script = "until read pid < /dev/shm/pid; do sleep 0.1; done; kill -9 $pid; exit 3";
    let killer = pod.start(&Container::new("killer", Root::Host).args(["sh", "-c", script]))?;

    println!("killer ended with {}", killer.wait()?.code());
    println!("sleeper was killed by signal {:?}", sleeper.wait()?.signal());
    pod.remove()
}
