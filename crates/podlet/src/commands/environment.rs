//! Where the environment of a container comes from.
//!
//! Later ones count before earlier ones, as with podman: podlet's own
//! (`--env-host`), what a container has by itself, files, options.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use pod::ContainerSpec;

use super::settings;

/// How a machine says by what its programs reach the web.
const PROXIES: [&str; 4] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy"];

/// A container's environment.
#[derive(Args, Default)]
pub struct EnvArgs {
    /// Set an environment variable; K alone takes podlet's own, K* all of those that begin so
    #[arg(short, long = "env", value_name = "K=V")]
    env: Vec<String>,
    /// Set those of a file, a line each, before the others
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Set all of podlet's own, but for those that the container has by itself
    #[arg(long)]
    env_host: bool,
    /// Set podlet's own http_proxy, https_proxy, ftp_proxy and no_proxy, in small and capital letters
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    http_proxy: Option<bool>,
    /// Leave out a variable that it would have without being told: PATH, or one of a bundle's
    #[arg(long, value_name = "K")]
    unsetenv: Vec<String>,
    /// Leave out all of these but HOME
    #[arg(long)]
    unsetenv_all: bool,
}

impl EnvArgs {
    /// Changes the environment of `container`.
    pub fn adjust(&self, container: &mut ContainerSpec) -> Result<()> {
        self.adjust_with(
            container,
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// The same where podlet's own is `ours`.
    fn adjust_with(&self, container: &mut ContainerSpec, ours: impl Iterator<Item = (String, String)>) -> Result<()> {
        for name in &self.unsetenv {
            if name.is_empty() || name.contains('=') {
                bail!("--unsetenv {name:?}: give the name of a variable");
            }
            if name == "HOME" {
                bail!("--unsetenv HOME: it is the user's as the image knows it: `-e HOME=` makes it empty");
            }
        }
        let has = |container: &ContainerSpec, name: &str| container.process.env_value(name).is_some();
        let is_proxy = |name: &str| PROXIES.iter().any(|proxy| name == *proxy || name == proxy.to_ascii_uppercase());
        let takes = |name: &str| self.env_host || self.http_proxy == Some(true) && is_proxy(name);
        if self.env_host || self.http_proxy == Some(true) {
            let mut host: Vec<_> = ours.filter(|(name, _)| takes(name) && !has(container, name)).collect();
            host.sort();
            container.process.env.extend(host.into_iter().map(|(name, value)| format!("{name}={value}")));
        }
        let is_left_out = |variable: &String| {
            let name = variable.split_once('=').map_or(variable.as_str(), |(name, _)| name);
            self.unsetenv_all || self.unsetenv.iter().any(|other| other == name)
        };
        container.process.env.retain(|variable| !is_left_out(variable));
        for variable in settings::environment(&self.env_file, &self.env)? {
            if let Some((name, value)) = variable.split_once('=') {
                container.process =
                    std::mem::replace(&mut container.process, pod::ProcessSpec::new([""])).env(name, value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pod::Root;

    use super::*;

    fn adjusted(args: EnvArgs) -> Result<Vec<String>> {
        let mut container = ContainerSpec::new("a", Root::Host).env("BOTH", "container");
        container.process.env.retain(|variable| !variable.starts_with("PATH="));
        let ours = [("OURS", "1"), ("BOTH", "podlet"), ("HTTP_PROXY", "p"), ("no_proxy", "n")]
            .map(|(name, value)| (name.to_string(), value.to_string()));
        args.adjust_with(&mut container, ours.into_iter())?;
        Ok(container.process.env)
    }

    #[test]
    fn what_comes_later_counts() {
        let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        let of = |args| adjusted(args).expect("an environment");
        assert_eq!(of(EnvArgs::default()), ["container=podlet", "BOTH=container"]);
        let host = || EnvArgs { env_host: true, ..EnvArgs::default() };
        assert_eq!(of(host()), ["container=podlet", "BOTH=container", "HTTP_PROXY=p", "OURS=1", "no_proxy=n"]);
        let proxies = |is_set| EnvArgs { http_proxy: Some(is_set), ..EnvArgs::default() };
        assert_eq!(of(proxies(true)), ["container=podlet", "BOTH=container", "HTTP_PROXY=p", "no_proxy=n"]);
        assert_eq!(of(proxies(false)), ["container=podlet", "BOTH=container"]);
        let unset = EnvArgs { unsetenv: words(&["OURS", "HTTP_PROXY", "no_proxy", "container", "NONE"]), ..host() };
        assert_eq!(of(unset), ["BOTH=container"]);
        // What is asked for stays.
        let all = EnvArgs { unsetenv_all: true, env: words(&["BOTH=said"]), ..host() };
        assert_eq!(of(all), ["BOTH=said"]);
        for odd in ["HOME", "", "A=b"] {
            let error = adjusted(EnvArgs { unsetenv: words(&[odd]), ..EnvArgs::default() });
            assert!(error.expect_err(odd).to_string().starts_with("--unsetenv"), "{odd}");
        }
    }
}
