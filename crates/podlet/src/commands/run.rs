//! `podlet run`: a container, in a pod that is there or in one of its own.

use std::path::{Path, PathBuf};

use ::foreground::Signals;
use ::net::Networks;
use anyhow::{Context, Result, bail};
use clap::Args;
use pod::seccomp::{self, Seccomp};
use pod::spec::{check_name, parse_capability};
use pod::{ContainerSpec, Error, Layers, OomLevel, Pod, PodOptions, Resources, Root, Store, config};

use super::create::PodArgs;
use super::net::{self, Choice};
use super::settings::{self, LogArgs, NoteArgs};
use super::update::{LimitArgs, show_size};
use crate::foreground::{self, TerminalArgs};
use crate::{advice, output, target};

/// Run a program in a container
#[derive(Args)]
pub struct Run {
    /// Where it runs [default: a pod of its own, which ends with it]
    #[arg(long, value_name = "POD")]
    pub pod: Option<String>,
    /// The container's name, and its own pod's [default: made up]
    #[arg(long)]
    pub name: Option<String>,
    /// Print its name and leave it running; its output goes to `podlet logs`
    #[arg(short, long)]
    pub detach: bool,
    /// Remove it when it has ended
    #[arg(long)]
    rm: bool,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    pub terminal: TerminalArgs,
    /// Set an environment variable; K alone takes podlet's own
    #[arg(short, long = "env", value_name = "K=V")]
    env: Vec<String>,
    /// Set those of a file, a line each, before the others
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// The program to run, with CMD as its arguments: a word, or words as a JSON array
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Working directory inside [default: /]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// UID, NAME, UID:GID or NAME:GROUP, names as the image knows them
    #[arg(short, long)]
    user: Option<String>,
    /// Bind a directory or file of this machine; options are ro, nosuid, nodev,
    /// noexec, rprivate (default), rslave, rshared
    #[arg(short, long, value_name = "SRC:DST[:OPTIONS]")]
    volume: Vec<String>,
    /// Mount an empty file system in memory; options such as size=64m, ro
    #[arg(long, value_name = "DST[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// The root file system cannot be written
    #[arg(long)]
    read_only: bool,
    /// Give a capability; ALL for all
    #[arg(long, value_name = "C")]
    cap_add: Vec<String>,
    /// Take a capability; ALL for all
    #[arg(long, value_name = "C")]
    cap_drop: Vec<String>,
    /// A device node of this machine, under the same name or another
    #[arg(long, value_name = "SRC[:DST[:rwm]]")]
    device: Vec<String>,
    /// A resource limit, such as nofile=1024:2048 (ulimit(1))
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// How readily the kernel kills it when memory runs out, -1000 to 1000
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    oom_score_adj: Option<i32>,
    /// seccomp=FILE, seccomp=unconfined, no-new-privileges[=true|false], or
    /// nesting: it may make namespaces and mounts, for containers of its own,
    /// and nothing of its /proc and /sys is hidden; only in a user namespace
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Use this directory as the root file system
    #[arg(long, value_name = "DIR", conflicts_with = "bundle")]
    rootfs: Option<PathBuf>,
    /// Use directories, one over another, as the root file system, copy-on-write:
    /// once for each, the topmost first
    #[arg(long, value_name = "DIR", conflicts_with_all = ["rootfs", "bundle"])]
    rootfs_layer: Vec<PathBuf>,
    /// Use an OCI bundle: a directory with a config.json
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    options: PodArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    notes: NoteArgs,
    /// IMAGE (`host`: this machine's own files, copy-on-write) and the command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "IMAGE] [CMD")]
    words: Vec<String>,
}

/// Whether the command waits for the container's end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Foreground {
    Yes,
    No,
}

/// What `run` and `plan` are about.
pub struct Request {
    pub container: ContainerSpec,
    /// The pod to be made and its networks, unless there is one.
    pub pod: Option<(PodOptions, Choice)>,
}

impl Run {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let foreground = if self.detach { Foreground::No } else { Foreground::Yes };
        self.log.check(self.detach)?;
        let request = self.request(foreground)?;
        let signals = Signals::hold()?;
        let (mut pod, container) = self.open_pod(store, request)?;
        let io = self.log.io(self.detach).unwrap_or_else(|| self.terminal.io());
        let container = &container;
        if self.detach && self.joined()?.is_none() {
            super::create::note_limits(&pod);
        }
        note_reach(&pod, container)?;
        let mut process = pod.run(container, io)?;
        pod.detach()?;
        if self.detach {
            let name = target::show(pod.name(), &container.name);
            let unprinted = || format!("container {name} runs; only its name could not be printed");
            output::line(&name).with_context(unprinted)?;
            return Ok(0);
        }
        let name = target::show(pod.name(), &container.name);
        let relay = self.terminal.show(&mut process)?;
        let end = || pod.container(&container.name)?.kill_all();
        let exit = foreground::Foreground::new(signals, &process, relay, &name, &end).wait()?;
        drop(process);
        note_out_of_memory(&pod, container, exit.out_of_memory);
        match (self.joined()?, self.rm) {
            (Some(_), false) => {}
            // Others have come to this pod: it is theirs now.
            (None, false) if pod.has_containers() => {}
            // Whatever its main process left behind goes with it.
            (Some(_), true) => remove(&pod, &container.name)?,
            (None, true) if pod.has_containers() => remove(&pod, &container.name)?,
            (None, true) => pod.remove()?,
            // pause is ending by itself.
            (None, false) => pod.kill()?,
        }
        Ok(exit.shell_code())
    }

    /// The pod it joins, if it is to have none of its own.
    pub fn joined(&self) -> Result<Option<&str>> {
        match (self.pod.as_deref(), self.options.net.pod()?) {
            (Some(pod), Some(other)) if pod != other => bail!("--network pod:{other}: --pod says {pod:?}"),
            (pod, other) => Ok(pod.or(other)),
        }
    }

    /// The pod that is there, or one of its own in its networks, attached yet; and
    /// the container with what it has of these.
    pub fn open_pod(&self, store: &Store, request: Request) -> Result<(Pod, ContainerSpec)> {
        let networks = Networks::open(store);
        let pod = match (self.joined()?, request.pod) {
            (Some(name), _) => {
                let pod = Pod::open(store, name)?;
                net::say(&networks.restore_files(&pod)?);
                pod
            }
            (None, made) => {
                let (options, network) = made.context("a pod of its own has options")?;
                let pod = Pod::create(store, options)?;
                network.attach(&pod, &networks)?;
                pod
            }
        };
        let container = net::with_names(request.container, &pod, &networks)?;
        Ok((pod, container))
    }

    /// Everything that can be refused, before anything is made.
    pub fn request(&self, foreground: Foreground) -> Result<Request> {
        self.terminal.check(self.detach)?;
        let joined = self.joined()?;
        // `--network pod:POD` is how it is said there.
        let given = match self.options.given() {
            Some("--network") if self.pod.is_none() => self.options.net.given_but_network(),
            given => given,
        };
        if let (Some(pod), Some(option)) = (joined, given) {
            bail!("{option}: belongs to the pod, and {pod:?} is there already; give it to `podlet create`");
        }
        // Everything after the first word is the command's, so clap takes an
        // option it does not know for that word.
        if let Some(option) = self.words.first().filter(|word| word.starts_with('-')) {
            bail!(advice::option("run", option));
        }
        let made_up;
        let name = match (&self.name, joined) {
            (Some(name), _) => name,
            (None, pod) => {
                made_up = make_up(if pod.is_some() { "c" } else { "p" })?;
                &made_up
            }
        };
        check_name("container", name)?;
        let mut share = None;
        let mut container = match (&self.bundle, &self.rootfs) {
            (Some(bundle), _) => {
                let mut config = config::read(name, &absolute(bundle)?)?;
                // -t gives it one.
                config.terminal &= !self.terminal.tty;
                let (container, namespaces) = config.for_pod()?;
                share = Some(namespaces);
                self.with_words(container, &self.words)?
            }
            (None, Some(dir)) => self.with_words(ContainerSpec::new(name, Root::Dir(absolute(dir)?)), &self.words)?,
            (None, None) if !self.rootfs_layer.is_empty() => {
                let layers: Vec<_> = self.rootfs_layer.iter().map(|dir| absolute(dir)).collect::<Result<_>>()?;
                self.with_words(ContainerSpec::new(name, Root::Layers(Layers::new(layers))), &self.words)?
            }
            (None, None) => match self.words.split_first() {
                Some((image, words)) if image == "host" => {
                    self.with_words(ContainerSpec::new(name, Root::Host), words)?
                }
                Some((image, _)) => bail!(Error::invalid(
                    "image",
                    image,
                    "no such image; there is `host` (this machine's own files, copy-on-write), --rootfs DIR, \
                     --rootfs-layer DIR and --bundle DIR"
                )),
                None => bail!("say what to run: `host CMD...`, --rootfs DIR CMD..., or --bundle DIR"),
            },
        };
        container = self.adjust(container)?;
        // In the foreground we remove it ourselves, when its end is told. If we are
        // killed before, the next command's sweep does.
        container.remove_when_ended = self.rm && joined.is_some();
        container.log = self.log.options()?;
        self.notes.add(&mut container.labels, &mut container.annotations)?;
        container.check_before_pod()?;
        let made = match joined {
            Some(pod) => {
                if let Some(field) = share.and_then(|hints| hints.beyond_a_pod()) {
                    bail!("{field}: belongs to the pod, and {pod:?} is there already; give it to `podlet create`");
                }
                None
            }
            None => {
                let mut network = self.options.net.choice()?;
                let mut options = self.options.options(name)?;
                if let Some(hints) = share {
                    self.options.take(&mut options, hints);
                }
                network.adjust(&mut options)?;
                options.adopt(&mut container)?;
                network.take_sysctls(&mut options, Some(&container))?;
                // Its own pod is found as it is.
                options.labels = container.labels.clone();
                options.end_with_last = true;
                options.remove_when_dead = self.rm;
                // In the foreground we see its end, and leave no zombie to others.
                options.pause_is_child = foreground == Foreground::Yes;
                options.check()?;
                Some((options, network))
            }
        };
        Ok(Request { container, pod: made })
    }

    /// What is to run: with an entrypoint that and the words, and nothing of
    /// what the container would run by itself.
    fn with_words(&self, container: ContainerSpec, words: &[String]) -> Result<ContainerSpec> {
        let begin = self.entrypoint.as_deref().map(settings::entrypoint).transpose()?.unwrap_or_default();
        let args: Vec<_> = begin.into_iter().chain(words.iter().cloned()).collect();
        Ok(if args.is_empty() && self.entrypoint.is_none() { container } else { container.args(args) })
    }

    /// The options that change a container, wherever it comes from.
    fn adjust(&self, mut container: ContainerSpec) -> Result<ContainerSpec> {
        for variable in settings::environment(&self.env_file, &self.env)? {
            if let Some((name, value)) = variable.split_once('=') {
                container = container.env(name, value);
            }
        }
        self.terminal.name_in(&mut container.process.env);
        if let Some(dir) = &self.workdir {
            container = container.cwd(dir);
        }
        if let Some(user) = &self.user {
            container = container.user(user);
        }
        for volume in &self.volume {
            container = add_volume(container, volume)?;
        }
        for tmpfs in &self.tmpfs {
            let (target, options) = tmpfs.split_once(':').unwrap_or((tmpfs, ""));
            container = container.tmpfs(target);
            let Some(mount) = container.mounts.last_mut() else { continue };
            for option in options.split(',').filter(|option| !option.is_empty()) {
                if !mount.option(option) {
                    // The file system's own; the last of a kind counts.
                    mount.data = format!("{},{option}", mount.data);
                }
            }
        }
        container.resources = container.resources.changed_by(&self.limits.resources(false)?)?;
        container.read_only |= self.read_only;
        // Taken before given, so that `--cap-drop ALL --cap-add X` is X alone.
        for name in &self.cap_drop {
            for capability in capabilities(name)? {
                container = container.drop_capability(capability);
            }
        }
        for name in &self.cap_add {
            for capability in capabilities(name)? {
                container = container.add_capability(capability);
            }
        }
        container.sysctl.extend(self.options.sysctls()?);
        for device in &self.device {
            container.devices.push(settings::device(device)?);
        }
        for limit in &self.ulimit {
            let limit = settings::ulimit(limit)?;
            container.process.rlimits.retain(|other| other.name != limit.name);
            container.process.rlimits.push(limit);
        }
        container.process.oom_score_adj = self.oom_score_adj.or(container.process.oom_score_adj);
        for option in &self.security_opt {
            adjust_security(&mut container, option)?;
        }
        Ok(container)
    }
}

/// Removes a container that has ended. Another command's sweep may be faster.
fn remove(pod: &Pod, name: &str) -> Result<()> {
    match pod.container(name).and_then(|container| container.remove()) {
        Err(Error::NotFound(_)) => Ok(()),
        result => Ok(result?),
    }
}

/// Said where a container is made that can come to more than others.
pub fn note_reach(pod: &Pod, container: &ContainerSpec) -> Result<()> {
    if let Some(note) = container.reaches(pod.options())? {
        output::note(format_args!("note: {note}"));
    }
    Ok(())
}

/// Says whose limit a container came up against.
fn note_out_of_memory(pod: &Pod, container: &ContainerSpec, level: Option<OomLevel>) {
    let limit = |whose: &str, resources: &Resources| match resources.memory.limit {
        Some(limit @ 1..) => format!("{whose} limit {}", show_size(limit)),
        _ => format!("a limit of the {whose}"),
    };
    let why = match level {
        None => return,
        // As it is now: it may have been changed since.
        Some(OomLevel::Container) => {
            let changed = pod.container(&container.name).and_then(|it| it.spec()).map(|spec| spec.resources);
            limit("container", &changed.unwrap_or_else(|_| container.resources.clone()))
        }
        Some(OomLevel::Pod) => limit("pod", &pod.options().resources),
        // The machine's.
        Some(_) => "no limit of its own: the machine had none left".into(),
    };
    let name = target::show(pod.name(), &container.name);
    output::note(format_args!("container {name} was killed: out of memory ({why})"));
}

/// `SRC:DST`, and options as podman has them.
fn add_volume(container: ContainerSpec, volume: &str) -> Result<ContainerSpec> {
    let usage = || format!("--volume {volume:?}: give SRC:DST or SRC:DST:OPTIONS");
    let mut parts = volume.splitn(3, ':');
    let (Some(source), Some(target)) = (parts.next(), parts.next()) else { bail!(usage()) };
    if source.is_empty() || target.is_empty() {
        bail!(usage());
    }
    let options: Vec<_> = parts.next().map(|options| options.split(',').collect()).unwrap_or_default();
    let read_only = options.iter().rfind(|option| ["ro", "rw"].contains(option)) == Some(&"ro");
    let mut container = container.bind(absolute(Path::new(source))?, target, read_only);
    for option in options.into_iter().filter(|option| !["ro", "rw"].contains(option)) {
        let name = match option {
            // As with ro, what is below must not be a way around it.
            "nosuid" | "nodev" | "noexec" => &format!("r{option}"),
            "rprivate" | "rslave" | "rshared" => option,
            _ => bail!(
                "--volume {volume:?}: {option:?} is none of ro, rw, nosuid, nodev, noexec, rprivate, rslave, rshared"
            ),
        };
        container.mounts.last_mut().with_context(usage)?.option(name);
    }
    Ok(container)
}

fn adjust_security(container: &mut ContainerSpec, option: &str) -> Result<()> {
    match option.split_once('=').unwrap_or((option, "")) {
        ("seccomp", "unconfined") => container.seccomp = Seccomp::Unconfined,
        ("seccomp", file) if !file.is_empty() => {
            let json = config::read_given("--security-opt seccomp", Path::new(file))?;
            let profile = seccomp::parse(&json).with_context(|| format!("--security-opt seccomp: {file}"))?;
            container.seccomp = Seccomp::Profile(profile);
        }
        ("no-new-privileges", "" | "true") => container.process.no_new_privileges = true,
        ("no-new-privileges", "false") => container.process.no_new_privileges = false,
        ("nesting", "") => container.nesting = true,
        _ => bail!(
            "--security-opt {option:?}: not an option; there is seccomp=FILE, seccomp=unconfined, \
             no-new-privileges[=true|false] and nesting"
        ),
    }
    Ok(())
}

fn capabilities(name: &str) -> Result<Vec<pod::Capability>> {
    if name.eq_ignore_ascii_case("all") {
        return Ok(pod::facts::Facts::read()?.grantable());
    }
    Ok(vec![parse_capability(name)?])
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{}", path.display()))
}

/// A name for what the user gave none.
fn make_up(prefix: &str) -> Result<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("making up a name")?;
    Ok(format!("{prefix}-{}", &id[..8]))
}
