//! How a container is checked: podman's `--health-*`, and `--probe` for Kubernetes'
//! three kinds.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use pod::{CheckAction, CheckKind, HealthCheck, HealthChecks, OnUnhealthy};

/// Checks of a container.
#[derive(Args, Default)]
pub struct HealthArgs {
    /// Check it by a command in it, for `sh -c` or words as a JSON array; none for no check
    #[arg(long, value_name = "CMD", allow_hyphen_values = true)]
    health_cmd: Option<String>,
    /// From one check to the next [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    health_interval: Option<Duration>,
    /// So many failures in a row make it unhealthy [default: 3]
    #[arg(long, value_name = "N")]
    health_retries: Option<u32>,
    /// What takes longer has failed, and is killed [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    health_timeout: Option<Duration>,
    /// For so long after its start failures do not count [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    health_start_period: Option<Duration>,
    /// What follows once it is unhealthy: none, kill, restart or stop [default: none]
    #[arg(long, value_name = "ACTION")]
    health_on_failure: Option<String>,
    /// No check
    #[arg(long, conflicts_with_all = ["health_cmd", "probe"])]
    no_healthcheck: bool,
    /// The same until it has succeeded once; the other check waits for that
    #[arg(long, value_name = "CMD", allow_hyphen_values = true)]
    health_startup_cmd: Option<String>,
    /// From one to the next [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    health_startup_interval: Option<Duration>,
    /// So many failures in a row restart it; 0 for never [default: 0]
    #[arg(long, value_name = "N")]
    health_startup_retries: Option<u32>,
    /// So many successes in a row are enough [default: 1]
    #[arg(long, value_name = "N")]
    health_startup_success: Option<u32>,
    /// What takes longer has failed, and is killed [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    health_startup_timeout: Option<Duration>,
    /// Check it as Kubernetes does: KIND is startup, liveness or readiness; WHAT is exec:CMD, http://[HOST]:PORT/PATH or
    /// tcp://[HOST]:PORT, asked from inside the pod; then any of ,period=10s ,timeout=1s ,failures=3 ,successes=1 ,delay=0s
    #[arg(long, value_name = "KIND=WHAT")]
    probe: Vec<String>,
}

impl HealthArgs {
    /// All checks, or why there cannot be these.
    pub fn checks(&self) -> Result<HealthChecks> {
        let mut checks = HealthChecks::default();
        if let Some((option, of)) = self.alone() {
            bail!("{option}: belongs to {of} CMD, which says what to check: give that, too, or leave it away");
        }
        if let Some(action) = command("--health-cmd", self.health_cmd.as_deref())? {
            let mut check = podmans(action, self.health_interval, self.health_timeout);
            check.retries = self.health_retries.unwrap_or(3);
            check.start_period = self.health_start_period.unwrap_or_default();
            check.on_unhealthy = match self.health_on_failure.as_deref() {
                None | Some("none") => OnUnhealthy::Nothing,
                Some("kill") => OnUnhealthy::Kill,
                Some("restart") => OnUnhealthy::Restart,
                Some("stop") => OnUnhealthy::Stop,
                Some(other) => bail!("--health-on-failure {other:?}: give none, kill, restart or stop"),
            };
            checks.liveness = Some(check);
        }
        if let Some(action) = command("--health-startup-cmd", self.health_startup_cmd.as_deref())? {
            if checks.liveness.is_none() {
                bail!("--health-startup-cmd: holds back the check of --health-cmd, and there is none: give both");
            }
            let mut check = podmans(action, self.health_startup_interval, self.health_startup_timeout);
            (check.retries, check.on_unhealthy) = match self.health_startup_retries.unwrap_or(0) {
                0 => (u32::MAX, OnUnhealthy::Nothing),
                retries => (retries, OnUnhealthy::Restart),
            };
            // podman has 0 for the first.
            check.successes = self.health_startup_success.unwrap_or(1).max(1);
            checks.startup = Some(check);
        }
        for text in &self.probe {
            let (kind, check) = probe(text).with_context(|| format!("--probe {text:?}"))?;
            let place = match kind {
                CheckKind::Startup => &mut checks.startup,
                CheckKind::Liveness => &mut checks.liveness,
                CheckKind::Readiness => &mut checks.readiness,
            };
            if place.is_some() {
                bail!(
                    "--probe {text:?}: there is a {kind} check already: give one of each kind (--health-cmd is liveness)"
                );
            }
            *place = Some(check);
        }
        Ok(checks)
    }

    /// An option without the command that it is about.
    fn alone(&self) -> Option<(&'static str, &'static str)> {
        const CMD: &str = "--health-cmd";
        const STARTUP: &str = "--health-startup-cmd";
        let (no_cmd, no_startup) = (self.health_cmd.is_none(), self.health_startup_cmd.is_none());
        [
            (self.health_interval.is_some() && no_cmd, "--health-interval", CMD),
            (self.health_retries.is_some() && no_cmd, "--health-retries", CMD),
            (self.health_timeout.is_some() && no_cmd, "--health-timeout", CMD),
            (self.health_start_period.is_some() && no_cmd, "--health-start-period", CMD),
            (self.health_on_failure.is_some() && no_cmd, "--health-on-failure", CMD),
            (self.health_startup_interval.is_some() && no_startup, "--health-startup-interval", STARTUP),
            (self.health_startup_retries.is_some() && no_startup, "--health-startup-retries", STARTUP),
            (self.health_startup_success.is_some() && no_startup, "--health-startup-success", STARTUP),
            (self.health_startup_timeout.is_some() && no_startup, "--health-startup-timeout", STARTUP),
        ]
        .into_iter()
        .find_map(|(is_alone, option, of)| is_alone.then_some((option, of)))
    }
}

/// A check with podman's times.
fn podmans(action: CheckAction, interval: Option<Duration>, timeout: Option<Duration>) -> HealthCheck {
    const USUAL: Duration = Duration::from_secs(30);
    let mut check = HealthCheck::new(action);
    (check.interval, check.timeout) = (interval.unwrap_or(USUAL), timeout.unwrap_or(USUAL));
    check
}

/// As podman reads it; `None` for no check.
fn command(option: &str, text: Option<&str>) -> Result<Option<CheckAction>> {
    match text {
        None => Ok(None),
        Some(text) if text.eq_ignore_ascii_case("none") => Ok(None),
        Some(text) => Ok(Some(exec(text).with_context(|| format!("{option} {text:?}"))?)),
    }
}

/// A JSON array of words, in which CMD or CMD-SHELL may come first; else what `sh -c`
/// takes.
fn exec(text: &str) -> Result<CheckAction> {
    const NONE: &str = "no command: give one to run in the container";
    let shell = |script: String| match script.trim() {
        "" => Vec::new(),
        _ => vec!["/bin/sh".into(), "-c".into(), script],
    };
    let args = match text.trim_start().starts_with('[') {
        true => {
            let mut words: Vec<String> = serde_json::from_str(text).context("not a JSON array of words")?;
            match words.first().map(String::as_str) {
                Some("CMD") => words.split_off(1),
                Some("CMD-SHELL") => shell(words.split_off(1).join(" ")),
                // As podman has it.
                Some(_) if words.len() == 1 => shell(words.remove(0)),
                _ => words,
            }
        }
        false => shell(text.into()),
    };
    if args.first().is_none_or(String::is_empty) {
        bail!(NONE);
    }
    Ok(CheckAction::Exec { args })
}

/// `KIND=WHAT[,NAME=VALUE]...`
fn probe(text: &str) -> Result<(CheckKind, HealthCheck)> {
    let kind = text
        .split_once('=')
        .and_then(|(name, what)| Some((CheckKind::ALL.into_iter().find(|kind| kind.name() == name)?, what)));
    let Some((kind, mut what)) = kind else {
        bail!("give KIND=WHAT, where KIND is startup, liveness or readiness");
    };
    let mut settings = Vec::new();
    // A command may have commas of its own.
    while let Some((before, last)) = what.rsplit_once(',')
        && let Some((name, value)) = last.split_once('=')
        && ["period", "timeout", "failures", "successes", "delay"].contains(&name)
    {
        settings.push((name, value));
        what = before;
    }
    let mut check = HealthCheck::new(action(what)?);
    if kind != CheckKind::Readiness {
        check.on_unhealthy = OnUnhealthy::Terminate;
    }
    for (name, value) in settings {
        let count = || value.parse().with_context(|| format!("{name}={value}: give a number"));
        let span = || time(value).with_context(|| format!("{name}={value}"));
        match name {
            "period" => check.interval = span()?,
            "timeout" => check.timeout = span()?,
            "failures" => check.retries = count()?,
            "successes" => check.successes = count()?,
            _ => check.start_delay = span()?,
        }
    }
    Ok((kind, check))
}

fn action(what: &str) -> Result<CheckAction> {
    if let Some(command) = what.strip_prefix("exec:") {
        return exec(command);
    }
    if let Some(rest) = what.strip_prefix("http://") {
        let (place, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let (host, port) = host_and_port(place, Some(80))?;
        return Ok(CheckAction::Http { host, port, path: path.into() });
    }
    if let Some(place) = what.strip_prefix("tcp://") {
        let (host, port) = host_and_port(place, None)?;
        return Ok(CheckAction::Tcp { host, port });
    }
    match what.starts_with("https://") {
        true => bail!("https is not there: give exec:CMD, with a client of the image's that knows whom to trust"),
        false => bail!("give exec:CMD, http://[HOST]:PORT/PATH or tcp://[HOST]:PORT"),
    }
}

/// `[HOST][:PORT]`
fn host_and_port(place: &str, usual: Option<u16>) -> Result<(Option<IpAddr>, u16)> {
    let (host, port) = match place.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((host, port)) => {
            let port = port.parse().with_context(|| format!("{port:?}: not a port, 1 to 65535"))?;
            (host, port)
        }
        None => (place, usual.context("which port? Give tcp://[HOST]:PORT")?),
    };
    let host = match host.trim_start_matches('[').trim_end_matches(']') {
        "" => None,
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        host => Some(host.parse().with_context(|| {
            format!("{host:?}: not an address: a check looks up no names; leave it away for 127.0.0.1 in the pod")
        })?),
    };
    Ok((host, port))
}

/// A time such as `30s`, `1m30s` or `100ms`; a number alone has seconds.
fn time(text: &str) -> Result<Duration> {
    if text == "disable" {
        bail!("what is not to be checked has no check: leave it and its command away, and use `podlet exec`");
    }
    let time = text.parse().ok().map(Duration::from_secs).or_else(|| humantime::parse_duration(text).ok());
    time.context("give a time such as 30s, 1m30s or 100ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec_of(words: &[&str]) -> CheckAction {
        CheckAction::Exec { args: words.iter().map(|word| word.to_string()).collect() }
    }

    #[test]
    fn commands_are_read_as_podman_reads_them() {
        for (text, words) in [
            ("curl -f http://localhost", &["/bin/sh", "-c", "curl -f http://localhost"][..]),
            (r#"["curl", "-f", "x"]"#, &["curl", "-f", "x"]),
            (r#"["CMD", "curl"]"#, &["curl"]),
            (r#"["CMD-SHELL", "curl x || exit 1"]"#, &["/bin/sh", "-c", "curl x || exit 1"]),
            (r#"["curl x"]"#, &["/bin/sh", "-c", "curl x"]),
        ] {
            assert_eq!(command("--health-cmd", Some(text)).expect(text), Some(exec_of(words)));
        }
        assert_eq!(command("--health-cmd", Some("none")).expect("no check"), None);
        for text in ["", " ", "[]", "[\"CMD\"]", "[1]", "[\"\"]"] {
            command("--health-cmd", Some(text)).expect_err(text);
        }
    }

    #[test]
    fn probes_are_read() {
        let (kind, check) = probe("startup=exec:test -e /a,b,period=100ms,failures=30,delay=2").expect("a probe");
        assert_eq!((kind, check.on_unhealthy), (CheckKind::Startup, OnUnhealthy::Terminate));
        assert_eq!(check.action, exec_of(&["/bin/sh", "-c", "test -e /a,b"]));
        assert_eq!((check.interval.as_millis(), check.retries, check.start_delay.as_secs()), (100, 30, 2));
        let (kind, check) = probe("readiness=http://:8080/ready?a=b").expect("a probe");
        assert_eq!((kind, check.on_unhealthy), (CheckKind::Readiness, OnUnhealthy::Nothing));
        assert_eq!(check.action, CheckAction::Http { host: None, port: 8080, path: "/ready?a=b".into() });
        assert_eq!((check.interval.as_secs(), check.timeout.as_secs(), check.retries, check.successes), (10, 1, 3, 1));
        let tcp = |host: &str| Some(host.parse().expect("an address"));
        let of = |text: &str| probe(text).expect(text).1.action;
        assert_eq!(of("liveness=tcp://[::1]:5432"), CheckAction::Tcp { host: tcp("::1"), port: 5432 });
        assert_eq!(of("liveness=tcp://localhost:1"), CheckAction::Tcp { host: tcp("127.0.0.1"), port: 1 });
        assert_eq!(
            of("liveness=http://10.0.0.1"),
            CheckAction::Http { host: tcp("10.0.0.1"), port: 80, path: "/".into() }
        );
    }

    #[test]
    fn what_is_no_probe_says_what_would_be_one() {
        for (text, word) in [
            ("alive=tcp://:1", "startup, liveness or readiness"),
            ("liveness", "KIND=WHAT"),
            ("liveness=tcp://", "which port"),
            ("liveness=tcp://:99999", "not a port"),
            ("liveness=tcp://db:1", "looks up no names"),
            ("liveness=https://:1/", "https"),
            ("liveness=grpc://:1", "exec:CMD"),
            ("liveness=exec:", "no command"),
            ("liveness=tcp://:1,period=soon", "such as 30s"),
            ("liveness=tcp://:1,failures=-1", "a number"),
        ] {
            let error = format!("{:#}", probe(text).expect_err(text));
            assert!(error.contains(word), "{error}");
        }
    }
}
