//! Waits for containers in tokio, without a thread for each.

use std::os::fd::AsFd;

use pod::{Container, Exit, Pod, PodOptions, Process, Root, Store};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits until a process has ended; meanwhile others have the thread.
#[allow(unsafe_code)] // tokio has descriptors vouched for; before 1.54 by `with_interest`, without a word.
pub async fn end_of(process: &Process) -> std::io::Result<Exit> {
    // A duplicate of its pidfd, readable once it has ended.
    let pidfd = process.as_fd().try_clone_to_owned()?;
    // SAFETY: the descriptor is open, and owned by `ended` from here on.
    let ended = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE)? };
    ended.readable().await?.retain_ready();
    // In the exit table at once, or within milliseconds.
    process.wait().map_err(std::io::Error::other)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::open_default()?;
    let pod = Pod::create(&store, PodOptions::new("event-loop"))?;
    let run = |name: &str, script: &str| pod.start(&Container::new(name, Root::Host).args(["sh", "-c", script]));
    let (first, second) = (run("first", "sleep 1; exit 3")?, run("second", "exit 4")?);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        println!("second ended with {}", end_of(&second).await?.code());
        println!("first ended with {}", end_of(&first).await?.code());
        Ok::<_, std::io::Error>(())
    })?;
    Ok(pod.remove()?)
}
