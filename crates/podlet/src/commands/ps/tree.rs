//! `podlet ps --tree`: pods with their containers below them.
//!
//! ```text
//!   NAME     PID    STATE    EXIT              AGE    ADDRESSES  PORTS         COMMAND
//!   web      29160  running  -                 2m5s   10.89.0.3  8080->80/tcp
//!   ├─ app   29179  running  -                 2m3s                            nginx
//!   └─ db    -      exited   SIGSEGV, 3s ago   2m4s                            postgres
//! ```

use std::time::{Duration, SystemTime};

use pod::{ContainerState, Exit, ExitStatus, OomLevel, PodState, PodSummary, Signal};

use super::shorten;

const NONE: &str = "-";

/// A row a pod, and one a container. Without networks no columns of addresses.
pub fn rows(pods: &[PodSummary], networks: &[Option<[String; 2]>], most: usize) -> Vec<Vec<String>> {
    let is_wide = networks.iter().any(Option::is_some);
    let row = |first: [String; 5], network: &[String; 2], command: String| -> Vec<String> {
        first.into_iter().chain(network.iter().filter(|_| is_wide).cloned()).chain([command]).collect()
    };
    let headers = ["ADDRESSES", "PORTS"].map(String::from);
    let mut rows = vec![row(["NAME", "PID", "STATE", "EXIT", "AGE"].map(String::from), &headers, "COMMAND".into())];
    for (pod, network) in pods.iter().zip(networks) {
        let first = [pod.name.clone(), pid(pod.pause), pod_state(pod.state), NONE.into(), age(pod.created)];
        rows.push(row(first, network.as_ref().unwrap_or(&[NONE, NONE].map(String::from)), String::new()));
        for (at, container) in pod.containers.iter().enumerate() {
            let branch = if at + 1 == pod.containers.len() { "└─" } else { "├─" };
            let first = [
                format!("{branch} {}", container.name),
                pid(container.pid),
                container_state(container.state),
                container.exit.map_or(NONE.into(), why),
                age(container.started.unwrap_or(container.created)),
            ];
            // They are the pod's.
            let network = [String::new(), String::new()];
            rows.push(row(first, &network, shorten(&container.command.join(" "), most)));
        }
    }
    rows
}

fn pid(pid: Option<u32>) -> String {
    pid.map_or(NONE.into(), |pid| pid.to_string())
}

fn pod_state(state: PodState) -> String {
    match state {
        PodState::Running => "running",
        PodState::Paused => "paused",
        _ => "exited",
    }
    .into()
}

fn container_state(state: ContainerState) -> String {
    match state {
        ContainerState::Running => "running",
        ContainerState::Paused => "paused",
        ContainerState::Created => "created",
        _ => "exited",
    }
    .into()
}

/// Why a container has ended, and when.
fn why(exit: Exit) -> String {
    let reason = match (exit.out_of_memory, exit.status) {
        (Some(OomLevel::Container), _) => "out of memory".into(),
        (Some(OomLevel::Pod), _) => "pod out of memory".into(),
        (Some(_), _) => "machine out of memory".into(),
        (None, ExitStatus::Code(code)) => format!("code {code}"),
        (None, ExitStatus::Signal { signal, core_dumped }) => {
            let name = Signal::new(signal.into()).map_or_else(|_| format!("signal {signal}"), |name| name.to_string());
            if core_dumped { format!("{name} (core dumped)") } else { name }
        }
    };
    exit.finished.map_or(reason.clone(), |when| format!("{reason}, {} ago", age(when)))
}

fn age(since: SystemTime) -> String {
    short(since.elapsed().unwrap_or_default())
}

/// The two largest units, as kubectl shows ages.
fn short(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [("d", seconds / 86400), ("h", seconds / 3600 % 24), ("m", seconds / 60 % 60), ("s", seconds % 60)];
    let from = units.iter().position(|(_, count)| *count > 0).unwrap_or(3);
    let shown = units[from..].iter().take(2).filter(|(unit, count)| *count > 0 || *unit == units[from].0);
    shown.map(|(unit, count)| format!("{count}{unit}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_two_units() {
        let shown = [0, 59, 60, 125, 3600, 90061, 864_000].map(|seconds| short(Duration::from_secs(seconds)));
        assert_eq!(shown, ["0s", "59s", "1m", "2m5s", "1h", "1d1h", "10d"]);
    }

    #[test]
    fn a_reason_is_a_code_a_signal_or_memory() {
        let exit = |json: &str| -> Exit { serde_json::from_str(json).expect("an exit") };
        for (json, expected) in [
            (r#"{"status":{"code":7},"finished":null}"#, "code 7"),
            (r#"{"status":{"signal":{"signal":11,"core_dumped":false}},"finished":null}"#, "SIGSEGV"),
            (r#"{"status":{"signal":{"signal":6,"core_dumped":true}},"finished":null}"#, "SIGABRT (core dumped)"),
            (
                r#"{"status":{"signal":{"signal":9,"core_dumped":false}},"finished":null,"out_of_memory":"pod"}"#,
                "pod out of memory",
            ),
        ] {
            assert_eq!(why(exit(json)), expected);
        }
        let mut ended = exit(r#"{"status":{"code":0},"finished":null}"#);
        ended.finished = Some(SystemTime::now() - Duration::from_secs(3725));
        assert_eq!(why(ended), "code 0, 1h2m ago");
    }
}
