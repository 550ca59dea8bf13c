//! What the main process of a container is, and how it ends.

use anyhow::{Result, bail};
use clap::Args;
use pod::spec::{NamespaceMode, Personality};
use pod::{ContainerSpec, Namespace, PodOptions, Signal};

use super::mount;

/// A container's process.
#[derive(Args, Default)]
pub struct ProcessArgs {
    /// Another group it is in: a name as the image knows it, or a gid
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// The mode of the files it makes lacks these bits, in octal [default: 0022]
    #[arg(long, value_name = "MODE")]
    umask: Option<String>,
    /// Somebody reaps what it leaves, and it is not pid 1: pause does that where it shares the pod's processes
    #[arg(long)]
    init: bool,
    /// The signal that `stop` begins with [default: TERM]
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<Signal>,
    /// Seconds that it has from there to SIGKILL, if `stop`, `restart` and `rm -f` do not say [default: 10]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(..=31_536_000))]
    stop_timeout: Option<u32>,
    /// Its time zone: a name such as Europe/Berlin, or local for this machine's
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    /// Its execution domain: LINUX, or LINUX32 for a machine of 32 bits in uname(2)
    #[arg(long, value_name = "DOMAIN")]
    personality: Option<String>,
}

impl ProcessArgs {
    /// Changes `container`.
    pub fn adjust(&self, container: &mut ContainerSpec) -> Result<()> {
        for group in &self.group_add {
            if group == "keep-groups" {
                bail!(
                    "--group-add keep-groups: podlet's own groups have no place in the pod's user namespace: name those \
                     that the image knows"
                );
            }
            container.process.groups.push(group.clone());
        }
        if let Some(text) = &self.umask {
            let mask = u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777 && !text.starts_with('+'));
            let Some(mask) = mask else { bail!("--umask {text:?}: give an octal number up to 0777, such as 0027") };
            container.process.umask = mask;
        }
        container.stop_signal = self.stop_signal.unwrap_or(container.stop_signal);
        container.stop_timeout = self.stop_timeout.or(container.stop_timeout);
        if let Some(zone) = &self.tz {
            mount::add_zone(container, zone)?;
        }
        container.personality = match self.personality.as_deref() {
            None => container.personality,
            Some(name) if name.eq_ignore_ascii_case("LINUX") => Some(Personality::Linux),
            Some(name) if name.eq_ignore_ascii_case("LINUX32") => Some(Personality::Linux32),
            Some(other) => bail!("--personality {other:?}: give LINUX or LINUX32"),
        };
        Ok(())
    }

    /// Refuses what a container of this pod cannot be.
    pub fn check_in(&self, container: &ContainerSpec, pod: &PodOptions) -> Result<()> {
        if self.init && !(container.pid == NamespaceMode::Pod && pod.shares(Namespace::Pid)) {
            bail!(
                "--init: the program is pid 1 of a pid namespace of its own, and podlet has no init to put there: share \
                 the pod's (`pid` in --share), where pause is that, or run one of the image's, such as tini"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pod::Root;

    use super::*;

    fn adjusted(args: &ProcessArgs) -> Result<ContainerSpec> {
        let mut container = ContainerSpec::new("a", Root::Host);
        args.adjust(&mut container).map(|()| container)
    }

    #[test]
    fn what_is_said_of_a_process_is_in_its_container() {
        let args = ProcessArgs {
            group_add: vec!["video".into(), "44".into()],
            umask: Some("0027".into()),
            stop_signal: Some(Signal::INT),
            stop_timeout: Some(60),
            personality: Some("linux32".into()),
            ..ProcessArgs::default()
        };
        let container = adjusted(&args).expect("a container");
        assert_eq!(
            (&container.process.groups[..], container.process.umask),
            (&["video".into(), "44".into()][..], 0o27)
        );
        assert_eq!((container.stop_signal, container.grace().as_secs()), (Signal::INT, 60));
        assert_eq!(container.personality, Some(Personality::Linux32));
        let usual = adjusted(&ProcessArgs::default()).expect("a container");
        assert_eq!(usual, ContainerSpec::new("a", Root::Host));
        assert_eq!(usual.grace().as_secs(), 10);
    }

    #[test]
    fn odd_values_are_refused_by_name() {
        let umask = |text: &str| ProcessArgs { umask: Some(text.into()), ..ProcessArgs::default() };
        for odd in ["8", "1000", "", "+7", "-1", "rwx"] {
            let error = adjusted(&umask(odd)).expect_err(odd).to_string();
            assert!(error.starts_with(&format!("--umask {odd:?}: ")), "{error}");
        }
        let keep = ProcessArgs { group_add: vec!["keep-groups".into()], ..ProcessArgs::default() };
        assert!(adjusted(&keep).expect_err("keep").to_string().starts_with("--group-add keep-groups: "));
        let domain = ProcessArgs { personality: Some("BSD".into()), ..ProcessArgs::default() };
        assert!(adjusted(&domain).expect_err("BSD").to_string().starts_with("--personality \"BSD\": "));
    }

    #[test]
    fn an_init_is_where_pause_is() {
        let args = ProcessArgs { init: true, ..ProcessArgs::default() };
        let (mut container, pod) = (ContainerSpec::new("a", Root::Host), PodOptions::new("web"));
        args.check_in(&container, &pod).expect("pause reaps");
        assert!(args.check_in(&container, &pod.clone().share([Namespace::Net])).is_err(), "nothing shared");
        container.pid = NamespaceMode::Own;
        let error = args.check_in(&container, &pod).expect_err("its own").to_string();
        assert!(error.starts_with("--init: ") && error.contains("--share"), "{error}");
        ProcessArgs::default().check_in(&container, &pod).expect("nobody asked");
    }
}
