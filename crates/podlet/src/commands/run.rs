//! `podlet run`: a container, in a pod that is there or in one of its own.

use std::cell::OnceCell;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ::foreground::Signals;
use ::net::Networks;
use anyhow::{Context, Result, bail};
use clap::Args;
use pod::config::PodHints;
use pod::spec::{MountKind, NamespaceMode, check_name};
use pod::{
    ContainerSpec, Error, Layers, Namespace, OnUnhealthy, OomLevel, Pod, PodOptions, Resources, RestartPolicy, Root,
};
use pod::{StartOptions, StartProgress, Store, config};

use super::create::PodArgs;
use super::environment::EnvArgs;
use super::health::HealthArgs;
use super::id_files::{self, IdFileArgs, IdFiles};
use super::namespaces::NamespaceArgs;
use super::net::{self, Choice};
use super::order::{OrderArgs, progress};
use super::process::ProcessArgs;
use super::rights::RightsArgs;
use super::settings::{self, LogArgs, NoteArgs};
use super::storage::{OwnFileArgs, StorageArgs};
use super::supervise::{self, RestartArgs};
use super::update::{LimitArgs, show_size};
use super::{privileged, rm};
use crate::foreground::{self, DetachArgs, TerminalArgs};
use crate::{advice, output, target};

/// Run a program in a container
#[derive(Args)]
pub struct Run {
    /// Where it runs [default: a pod of its own, which ends with it]
    #[arg(long, value_name = "POD")]
    pub pod: Option<String>,
    /// The same, named in a file (`podlet create --pod-id-file`)
    #[arg(long, value_name = "FILE", conflicts_with = "pod")]
    pod_id_file: Option<PathBuf>,
    /// What stands there: a pipe is read once.
    #[arg(skip)]
    named_pod: OnceCell<String>,
    /// The container's name, and its own pod's [default: made up]
    #[arg(long)]
    pub name: Option<String>,
    /// Print its name and leave it running; its output goes to `podlet logs`
    #[arg(short, long)]
    pub detach: bool,
    /// Remove it when it has ended
    #[arg(long)]
    rm: bool,
    /// Remove what has its name: a container of --pod, or one in a pod of its own
    #[arg(long, requires = "name")]
    replace: bool,
    /// Kill it, and all in it, after so long: podlet does so, and of what is detached what restarts a pod's containers
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(..=31_536_000))]
    pub timeout: Option<u32>,
    #[command(flatten)]
    pub files: IdFileArgs,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    restart: RestartArgs,
    #[command(flatten)]
    pub order: OrderArgs,
    #[command(flatten)]
    health: HealthArgs,
    #[command(flatten)]
    pub terminal: TerminalArgs,
    #[command(flatten)]
    pub keys: DetachArgs,
    #[command(flatten)]
    env: EnvArgs,
    #[command(flatten)]
    process: ProcessArgs,
    #[command(flatten)]
    namespaces: NamespaceArgs,
    #[command(flatten)]
    own_files: OwnFileArgs,
    /// The program to run, with CMD as its arguments: a word, or words as a JSON array
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Working directory inside [default: /]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// UID, NAME, UID:GID or NAME:GROUP, names as the image knows them
    #[arg(short, long)]
    user: Option<String>,
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    rights: RightsArgs,
    /// A resource limit, such as nofile=1024:2048 (ulimit(1)); others, and host, are podlet's own
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// How readily the kernel kills it when memory runs out, -1000 to 1000
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    oom_score_adj: Option<i32>,
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
        self.log.check(self.detach, self.terminal)?;
        self.keys.check(self.terminal.tty && self.terminal.interactive && !self.detach)?;
        let request = self.request("run", foreground)?;
        let files = self.make_way(store, &request)?;
        let signals = Signals::hold()?;
        let (mut pod, container) = self.open_pod(store, request)?;
        let io = self.log.io(self.detach && !self.terminal.tty).unwrap_or_else(|| self.terminal.container_io());
        let container = &container;
        if self.detach && self.joined()?.is_none() {
            super::create::note_limits(&pod);
        }
        note_reach(&pod, container)?;
        let tell = |told: StartProgress<'_>| progress(&pod, store, told);
        let given_up = signals.ends()?;
        let options = StartOptions::default().cancel(given_up.as_fd()).progress(&tell);
        let mut process = pod.run_with(container, io, &options)?;
        pod.detach()?;
        if container.needs_supervisor() {
            supervise::begin(&pod, store)?;
        }
        let unwritten = || format!("container {}/{} runs", pod.name(), container.name);
        let named = files.keep(process.pid()).with_context(unwritten)?;
        if self.detach {
            let name = target::show(pod.name(), &container.name);
            let unprinted = || format!("container {name} runs; only its name could not be printed");
            output::line(&name).with_context(unprinted)?;
            return Ok(0);
        }
        let name = target::show(pod.name(), &container.name);
        let relay = self.terminal.show(&mut process)?.map(|relay| self.keys.give(relay));
        let end = || pod.container(&container.name)?.kill_all();
        let again = || foreground::attach_again(&pod.container(&container.name)?);
        let mut foreground = foreground::Foreground::new(signals, &process, relay, &name, &end);
        if self.terminal.tty {
            foreground = foreground.kept(&again);
        }
        if let Some(seconds) = self.timeout.filter(|seconds| *seconds > 0)
            && !foreground.has_ended_by(Instant::now().checked_add(Duration::from_secs(seconds.into())))?
        {
            end()?;
            output::note(format_args!("container {name}: killed after its time of {seconds} s"));
        }
        let Some(exit) = foreground.wait()? else {
            foreground::note_left(&name);
            return Ok(0);
        };
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
        if let Some(path) = named.filter(|_| self.rm) {
            // It names nothing any more. If it is gone, that is as good.
            std::fs::remove_file(path).ok();
        }
        Ok(exit.shell_code())
    }

    /// The pod it joins, if it is to have none of its own.
    pub fn joined(&self) -> Result<Option<String>> {
        let said = match (&self.pod_id_file, self.named_pod.get()) {
            (Some(file), None) => {
                let name = id_files::pod_of(file)?;
                Some(self.named_pod.get_or_init(|| name).clone())
            }
            (Some(_), known) => known.cloned(),
            (None, _) => self.pod.clone(),
        };
        match (said, self.options.net.pod()?) {
            (Some(pod), Some(other)) if pod != other => bail!("--network pod:{other}: --pod says {pod:?}"),
            (Some(pod), _) if pod.starts_with("new:") => {
                let name = pod.trim_start_matches("new:");
                bail!("--pod {pod}: make it first, by `podlet create {name}`, and give --pod {name}")
            }
            (pod, other) => Ok(pod.or_else(|| other.map(String::from))),
        }
    }

    /// What is done for a request before anything of it is made: the files that are to
    /// tell of it are opened, and what it replaces is removed.
    pub fn make_way(&self, store: &Store, request: &Request) -> Result<IdFiles> {
        let container = &request.container.name;
        let name = match self.joined()? {
            Some(pod) => target::show(&pod, container),
            None => container.clone(),
        };
        let files = self.files.open(&name)?;
        if self.replace {
            match (&request.pod, self.joined()?) {
                (Some((options, _)), _) => check_own(store, &options.name)?,
                // It may be one that cannot be in there.
                (None, Some(pod)) => {
                    self.for_pod(request.container.clone(), Pod::open(store, &pod)?.options())?;
                }
                (None, None) => {}
            }
            rm::by_force(store, &name)?;
        }
        Ok(files)
    }

    /// A container as it is in a pod that is there.
    pub fn for_pod(&self, mut container: ContainerSpec, pod: &PodOptions) -> Result<ContainerSpec> {
        self.namespaces.check_in(pod, false)?;
        self.process.check_in(&container, pod)?;
        if self.rights.privileged {
            privileged::open_sys(&mut container, pod)?;
        }
        Ok(container)
    }

    /// The pod that is there, or one of its own in its networks, attached yet; and
    /// the container with what it has of these.
    pub fn open_pod(&self, store: &Store, request: Request) -> Result<(Pod, ContainerSpec)> {
        let networks = Networks::open(store);
        let mut container = request.container;
        let pod = match (self.joined()?, request.pod) {
            (Some(name), _) => {
                let pod = Pod::open(store, &name)?;
                container = self.for_pod(container, pod.options())?;
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
        let container = net::with_names(container, &pod, &networks, &self.own_files)?;
        Ok((pod, container))
    }

    /// Everything that can be refused, before anything is made; `command` has these
    /// options.
    pub fn request(&self, command: &str, foreground: Foreground) -> Result<Request> {
        self.terminal.check(self.detach)?;
        let joined = self.joined()?;
        let joined = joined.as_deref();
        // `--network pod:POD` is how it is said there.
        let given = match self.options.given() {
            Some("--network") if self.pod.is_none() && self.pod_id_file.is_none() => {
                self.options.net.given_but_network()
            }
            given => given,
        };
        if let (Some(pod), Some(option)) = (joined, given) {
            bail!("{option}: belongs to the pod, and {pod:?} is there already; give it to `podlet create`");
        }
        // Everything after the first word is the command's, so clap takes an
        // option it does not know for that word.
        if let Some(option) = self.words.first().filter(|word| word.starts_with('-')) {
            bail!(advice::option(command, option));
        }
        let made_up;
        let name = match (&self.name, joined) {
            (Some(name), _) => name,
            (None, pod) => {
                made_up = settings::make_up(if pod.is_some() { "c" } else { "p" })?;
                &made_up
            }
        };
        check_name("container", name)?;
        let (container, share) = self.source(name)?;
        let mut container = self.adjust(container)?;
        // In the foreground we remove it ourselves, when its end is told. If we are
        // killed before, the next command's sweep does.
        container.remove_when_ended = self.rm && joined.is_some();
        container.tty = self.terminal.tty;
        container.log = self.log.options()?;
        container.restart = self.restart.policy();
        self.check_restart(container.restart, command)?;
        self.order.adjust(&mut container, joined, command)?;
        // In the foreground podlet itself looks at the clock.
        let is_watched = command == "run" && !self.detach;
        container.time_limit = self.timeout.filter(|seconds| *seconds > 0 && !is_watched);
        container.health = self.health.checks()?;
        self.check_ends(&container, command)?;
        self.notes.add(&mut container.labels, &mut container.annotations)?;
        container.check_before_pod()?;
        let made = match joined {
            Some(pod) => {
                if let Some(field) = share.and_then(|hints| hints.beyond_a_pod()) {
                    bail!("{field}: belongs to the pod, and {pod:?} is there already; give it to `podlet create`");
                }
                None
            }
            None => Some(self.own_pod(&mut container, share, foreground)?),
        };
        Ok(Request { container, pod: made })
    }

    /// Whether such a container can be restarted.
    fn check_restart(&self, policy: RestartPolicy, command: &str) -> Result<()> {
        if policy.restarts() && self.rm {
            bail!("--restart {policy}: --rm removes it when it has ended: leave one of them away");
        }
        if policy.restarts() && command == "run" && !self.detach {
            bail!("--restart {policy}: belongs to --detach: in the foreground podlet ends with the container");
        }
        Ok(())
    }

    /// Whether a check can restart it.
    fn check_ends(&self, container: &ContainerSpec, command: &str) -> Result<()> {
        let restarts = container.health.all().any(|(_, check)| check.on_unhealthy == OnUnhealthy::Restart);
        if restarts && self.rm {
            bail!(
                "--rm: a check restarts it when it has ended (--health-on-failure, --health-startup-retries): leave one away"
            );
        }
        if restarts && command == "run" && !self.detach {
            bail!(
                "--health-on-failure restart, --health-startup-retries: belong to --detach: in the foreground podlet ends \
                 with the container"
            );
        }
        Ok(())
    }

    /// The container as its bundle, directory or image has it, and what a bundle says of
    /// its pod.
    fn source(&self, name: &str) -> Result<(ContainerSpec, Option<PodHints>)> {
        let mut share = None;
        let container = match (&self.bundle, &self.rootfs) {
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
        Ok((container, share))
    }

    /// A pod for this container alone, and its networks; the container is as it is in
    /// that.
    fn own_pod(
        &self,
        container: &mut ContainerSpec,
        share: Option<PodHints>,
        foreground: Foreground,
    ) -> Result<(PodOptions, Choice)> {
        let mut network = self.options.net.choice()?;
        let mut options = self.options.options(&container.name)?;
        if let Some(hints) = share {
            self.options.take(&mut options, hints);
        }
        network.adjust(&mut options)?;
        self.take_shm_size(&mut options, container)?;
        options.adopt(container)?;
        network.take_sysctls(&mut options, Some(container))?;
        // Its own pod is found as it is.
        options.labels = container.labels.clone();
        options.end_with_last = true;
        options.remove_when_dead = self.rm;
        // In the foreground we see its end, and leave no zombie to others.
        options.pause_is_child = foreground == Foreground::Yes;
        self.namespaces.check_in(&options, true)?;
        self.process.check_in(container, &options)?;
        if self.rights.privileged {
            privileged::open_sys(container, &options)?;
        }
        options.check()?;
        Ok((options, network))
    }

    /// What is to run: with an entrypoint that and the words, and nothing of
    /// what the container would run by itself.
    fn with_words(&self, container: ContainerSpec, words: &[String]) -> Result<ContainerSpec> {
        let begin = self.entrypoint.as_deref().map(settings::entrypoint).transpose()?.unwrap_or_default();
        let args: Vec<_> = begin.into_iter().chain(words.iter().cloned()).collect();
        Ok(if args.is_empty() && self.entrypoint.is_none() { container } else { container.args(args) })
    }

    /// A container with a /dev/shm of its own has what is said of the pod's.
    fn take_shm_size(&self, options: &mut PodOptions, container: &mut ContainerSpec) -> Result<()> {
        let is_pods = container.ipc == NamespaceMode::Pod && options.shares(Namespace::Ipc);
        let Some(bytes) = options.shm_size.filter(|_| !is_pods) else { return Ok(()) };
        if container.ipc == NamespaceMode::Host {
            bail!("--shm-size: /dev/shm is this machine's (--ipc host): leave one of them away");
        }
        options.shm_size = None;
        for mount in container.mounts.iter_mut().filter(|mount| mount.kind == MountKind::Shm) {
            mount.data = format!("mode=1777,size={bytes}");
        }
        Ok(())
    }

    /// The options that change a container, wherever it comes from.
    fn adjust(&self, mut container: ContainerSpec) -> Result<ContainerSpec> {
        self.rights.give(&mut container)?;
        self.env.adjust(&mut container)?;
        self.namespaces.adjust(&mut container)?;
        self.terminal.name_in(&mut container.process.env);
        if let Some(dir) = &self.workdir {
            container = container.cwd(dir);
        }
        if let Some(user) = &self.user {
            container = container.user(user);
        }
        self.storage.adjust(&mut container)?;
        self.process.adjust(&mut container)?;
        container.resources = container.resources.changed_by(&self.limits.resources(false)?)?;
        container.sysctl.extend(self.options.sysctls()?);
        // Those of podlet itself are the container's anyway.
        for limit in self.ulimit.iter().filter(|limit| *limit != "host") {
            let limit = settings::ulimit(limit)?;
            container.process.rlimits.retain(|other| other.name != limit.name);
            container.process.rlimits.push(limit);
        }
        container.process.oom_score_adj = self.oom_score_adj.or(container.process.oom_score_adj);
        self.rights.restrict(&mut container)?;
        Ok(container)
    }
}

/// Refuses to replace a pod that was not made for the one container of its name.
fn check_own(store: &Store, name: &str) -> Result<()> {
    let pod = match Pod::open(store, name) {
        // What cannot be read is nobody's.
        Err(Error::NotFound(_) | Error::Corrupt { .. }) => return Ok(()),
        pod => pod?,
    };
    let others = pod.containers()?.iter().any(|container| container.name() != name);
    if !pod.options().end_with_last || others {
        bail!(
            "--replace: pod {name} was not made for one container of that name: `podlet rm -f {name}` removes all of it"
        );
    }
    Ok(())
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

pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{}", path.display()))
}
