//! Watches a whole store, and starts again what fails: a supervisor of pods that
//! anybody makes, by this library or the command.

use pod::{ContainerSpec, Error, Event, EventKind, Io, Pod, PodOptions, Result, Root, Store, Watch};

/// The label of containers that are to be started again when they fail.
const LABEL: &str = "restart";

/// Watches until `enough` says so of what has just been done.
pub fn supervise(store: &Store, mut watch: Watch, enough: impl Fn(&Event) -> bool) -> Result<()> {
    loop {
        // By poll(2) or any event loop, too: a watch is a descriptor.
        for event in watch.next(None)? {
            if let Some(name) = &event.container
                && let EventKind::Died { exit: Some(exit) } = &event.kind
                && event.labels.contains_key(LABEL)
                && !exit.success()
            {
                println!("{}/{name} failed with {}: started again", event.pod, exit.shell_code());
                match restart(store, &event.pod, name) {
                    // Somebody has removed it, or was faster.
                    Err(Error::NotFound(_) | Error::State { .. }) => {}
                    started => started?,
                }
            }
            if enough(&event) {
                return Ok(());
            }
        }
    }
}

fn restart(store: &Store, pod: &str, name: &str) -> Result<()> {
    Pod::open(store, pod)?.container(name)?.start(Io::log()).map(drop)
}

/// A pod of this program's, whose container succeeds the third time.
pub fn show(store: &Store) -> Result<()> {
    let watch = store.watch()?;
    let pod = Pod::create(store, PodOptions::new("supervised"))?;
    let script = "n=$(cat /dev/shm/runs || echo 0); echo $((n + 1)) > /dev/shm/runs; exit $((2 - n))";
    let spec = ContainerSpec::new("job", Root::Host).args(["sh", "-c", script]).label(LABEL, "on-failure");
    pod.run(&spec, Io::log())?;
    let succeeded = |event: &Event| matches!(&event.kind, EventKind::Died { exit: Some(exit) } if exit.success());
    supervise(store, watch, succeeded)?;
    println!("it has succeeded");
    pod.remove()
}

fn main() -> Result<()> {
    show(&Store::open_default()?)
}
