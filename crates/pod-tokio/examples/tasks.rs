//! Tasks that wait for containers and read what they write, in one thread.

use std::sync::Arc;
use std::time::Duration;

use pod::{ContainerSpec, Io, Pod, PodOptions, Result, Root, Store};
use pod_tokio::{Process, ended, stop, unblock};
use tokio::io::AsyncReadExt;

/// Starts three containers in a pod; one ends by itself, one fails, one is told to
/// end.
pub async fn show(store: Store) -> Result<()> {
    let pod = Arc::new(unblock(move || Pod::create(&store, PodOptions::new("tasks"))).await?);
    let run = async |name: &'static str, script: &'static str| {
        let pod = Arc::clone(&pod);
        let spec = ContainerSpec::new(name, Root::Host).args(["sh", "-c", script]);
        Process::new(unblock(move || pod.run(&spec, Io::piped())).await?)
    };
    let brief = run("brief", "exit 0").await?;
    let wrong = run("wrong", "exit 4").await?;
    let mut server = run("server", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done").await?;

    // No thread waits, whatever number of them.
    println!("brief: success is {}", brief.wait().await?.success());
    println!("wrong: ended with {:?}", wrong.wait().await?.code());
    let mut word = [0; 5];
    let output = server.stdout.as_mut().expect("it is piped");
    output.read_exact(&mut word).await.expect("a word");
    println!("server: {}", String::from_utf8_lossy(&word));
    let waiting = tokio::spawn(async move { server.wait().await });
    stop(&pod, "server", Duration::from_secs(10)).await?;
    let exit = waiting.await.expect("it does not panic")?;
    println!("server: told to end, it said {:?}", exit.code());

    let pod = Arc::into_inner(pod).expect("nobody else has it");
    let pod = unblock(move || pod.kill().map(|()| pod)).await?;
    ended(&pod).await?;
    println!("the pod has ended");
    unblock(|| pod.remove()).await
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(show(Store::open_default()?))?)
}
