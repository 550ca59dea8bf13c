//! Pods in a tokio runtime.
//!
//! What the library `pod` has to be waited for is a descriptor: a process's
//! pidfd, pause's, a watch's epoll. Here they are registered with tokio's, so
//! that any number of tasks wait without a thread for each. What takes system
//! calls but no waiting (a start, an exec, a removal: a few milliseconds) goes to
//! tokio's pool of blocking threads by [`unblock`].
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use pod::{ContainerSpec, Io, Pod, PodOptions, Root, Store};
//! use pod_tokio::{Process, unblock};
//!
//! # async fn example() -> pod::Result<()> {
//! let pod = unblock(|| Pod::create(&Store::open_default()?, PodOptions::new("web"))).await?;
//! let pod = Arc::new(pod);
//! let spec = ContainerSpec::new("job", Root::Host).args(["sleep", "1"]);
//! let job = Process::new(unblock({
//!     let pod = Arc::clone(&pod);
//!     move || pod.run(&spec, Io::log())
//! })
//! .await?)?;
//! println!("it ended with {:?}", job.wait().await?.code());
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

mod descriptor;
mod process;
mod terminal;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use pod::{Error, Exit, Pod, Result};

pub use process::Process;
pub use terminal::Terminal;
pub use watch::Watch;

/// Calls the library on a thread that may block: see
/// [`tokio::task::spawn_blocking`]. What has begun goes on to its end though the
/// future is dropped.
///
/// # Errors
/// As the call. A panic of it goes on here.
pub async fn unblock<T: Send + 'static>(call: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(call).await {
        Ok(done) => done,
        Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
        Err(_) => Err(Error::GivenUp { what: "a call of the library, for the runtime ended,".into() }),
    }
}

/// Waits until a pod has ended, and all in it.
///
/// # Errors
/// [`Error::Os`] if its descriptor cannot be registered.
pub async fn ended(pod: &Pod) -> Result<()> {
    match pod.pidfd() {
        Some(pause) => descriptor::readable(&pause, "waiting for pause").await,
        None => Ok(()),
    }
}

/// Stops a container as [`Container::stop`](pod::Container::stop) does: its stop
/// signal, and after `grace` SIGKILL to everything in it. The time in between
/// takes no thread.
///
/// # Errors
/// As there.
pub async fn stop(pod: &Arc<Pod>, name: &str, grace: Duration) -> Result<Option<Exit>> {
    let call = |grace| {
        let (pod, name) = (Arc::clone(pod), name.to_string());
        unblock(move || pod.container(&name)?.stop(grace))
    };
    let begin = {
        let (pod, name) = (Arc::clone(pod), name.to_string());
        move || {
            let container = pod.container(&name)?;
            let process = container.process()?;
            container.kill(container.spec()?.stop_signal)?;
            Ok(process)
        }
    };
    match unblock(begin).await {
        Ok(process) => match Process::new(process) {
            // Once its time is over, what is left of it is killed at once.
            Ok(process) => drop(tokio::time::timeout(grace, process.wait()).await),
            // Waited for by a thread, then.
            Err(_) => return call(grace).await,
        },
        // It does not run: nothing to wait for.
        Err(Error::State { .. }) => {}
        Err(error) => return Err(error),
    }
    call(Duration::ZERO).await
}
