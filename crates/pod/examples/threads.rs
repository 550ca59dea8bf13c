//! Many pods from many threads of one program, which keeps them while it lives.

use std::thread;

use pod::{ContainerSpec, Io, Pod, PodOptions, Result, Root, Store};

/// Each thread has a pod of its own, whose containers come and go; one thread
/// watches over a container of each.
pub fn show(store: &Store) -> Result<()> {
    let pods = (0..3).map(|number| Pod::create(store, PodOptions::new(format!("worker-{number}"))));
    let pods = pods.collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let works: Vec<_> = pods.iter().map(|pod| scope.spawn(|| work(pod))).collect();
        let done = works.into_iter().map(|work| work.join().expect("it does not panic"));
        done.collect::<Result<Vec<_>>>()
    })?;
    for pod in pods {
        let last = pod.container("job")?;
        println!("{}: the last run ended with {:?}", pod.name(), last.wait()?.code());
        // Dropping it would end it, too, but tell no error.
        pod.remove()?;
    }
    Ok(())
}

/// A server that fails twice and is started again; the pod stays as it is.
fn work(pod: &Pod) -> Result<()> {
    let script = "n=$(cat /dev/shm/runs || echo 0); echo $((n + 1)) > /dev/shm/runs; exit $((2 - n))";
    let job = pod.create_container(&ContainerSpec::new("job", Root::Host).args(["sh", "-c", script]))?;
    for run in 1.. {
        let exit = job.start(Io::log())?.wait()?;
        if exit.success() {
            println!("{}: success in run {run}", pod.name());
            break;
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    show(&Store::open_default()?)
}
