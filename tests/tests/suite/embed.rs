//! Programs that embed the library, for tests that must kill or crowd one.

use std::ffi::CString;
use std::process::ExitCode;

use pod::{ContainerSpec, Io, Pod, PodOptions, Root, Store, WindowSize};

use crate::sys;

// The examples, without their `main`, which is for people.
#[path = "../../../crates/pod/examples/embed.rs"]
#[allow(dead_code)]
mod embed_example;
#[path = "../../../crates/pod/examples/supervisor.rs"]
#[allow(dead_code)]
mod supervisor;
#[path = "../../../crates/pod-tokio/examples/tasks.rs"]
#[allow(dead_code)]
mod tasks;
#[path = "../../../crates/pod/examples/threads.rs"]
#[allow(dead_code)]
mod threads;

/// `--embed STATE ROOTFS VERB ...`
pub fn run(words: &[&str]) -> ExitCode {
    let [state, rootfs, ref words @ ..] = *words else { panic!("--embed STATE ROOTFS VERB") };
    match *words {
        // Executes a program as a careless one does.
        ["careless", program, ref args @ ..] => {
            for path in [c"/", c"/etc", c"/tmp", c"/dev/null"] {
                sys::open_careless(path).expect("an open");
            }
            for signal in [libc::SIGCHLD, libc::SIGPIPE, libc::SIGHUP, libc::SIGUSR1] {
                sys::ignore_signal(signal);
            }
            sys::inherit_everything();
            sys::block_signal(nix::sys::signal::Signal::SIGUSR2);
            sys::block_signal(nix::sys::signal::Signal::SIGTERM);
            let words = std::iter::once(&program).chain(args).map(|word| CString::new(*word).expect("no null"));
            let error = nix::unistd::execv(&CString::new(program).expect("no null"), &words.collect::<Vec<_>>());
            panic!("{program}: {error:?}");
        }
        // Runs a program whose reader has gone.
        ["broken-pipe", program, ref args @ ..] => {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            drop(reader);
            let status = std::process::Command::new(program).args(args).stdout(writer).status().expect("a program");
            return ExitCode::from(status.code().unwrap_or(1) as u8);
        }
        _ => {}
    }
    if let ["terminal", pod, name, ref script @ ..] = *words {
        let ended = on_a_terminal((state, rootfs), (pod, name), script);
        return ended.unwrap_or_else(|error| {
            eprintln!("{error}");
            ExitCode::from(125)
        });
    }
    let store = Store::open(state).expect("a store");
    let container = |name: &str, script: &str| {
        let args = std::iter::once("/probe").chain(script.split_whitespace());
        ContainerSpec::new(name, Root::Dir(rootfs.into())).args(args)
    };
    match *words {
        // Keeps an attached pod with a container until it is killed; with a forked
        // child that has all its descriptors.
        ["attached", pod, fork] => {
            let pod = Pod::create(&store, PodOptions::new(pod)).expect("a pod");
            pod.run(&container("a", "orphan block , block"), Io::log()).expect("a container");
            if fork == "fork" {
                println!("child {}", sys::fork_that_blocks());
            }
            println!("ready");
            loop {
                std::thread::park();
            }
        }
        // Starts a container, and ends at once without a word.
        ["leave", pod, name, ref script @ ..] => {
            let pod = Pod::open(&store, pod).expect("a pod");
            let process = pod.run(&container(name, &script.join(" ")), Io::log()).expect("a container");
            println!("started {}", process.name());
            loop {
                std::thread::park();
            }
        }
        ["example", name] => {
            let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let shown = match name {
                "threads" => threads::show(&store),
                "supervisor" => supervisor::show(&store),
                "tasks" => runtime().block_on(tasks::show(store)),
                "embed" => embed_example::show(&store),
                _ => panic!("no such example"),
            };
            shown.expect("it does what it shows");
            ExitCode::SUCCESS
        }
        _ => panic!("unknown: {words:?}"),
    }
}

/// Starts a container on a terminal, and ends as that does.
fn on_a_terminal((state, rootfs): (&str, &str), (pod, name): (&str, &str), script: &[&str]) -> pod::Result<ExitCode> {
    let pod = Pod::open(&Store::open(state)?, pod)?;
    let args = std::iter::once("/probe").chain(script.iter().copied());
    let container = ContainerSpec::new(name, Root::Dir(rootfs.into())).args(args);
    let process = pod.run(&container, Io::terminal(WindowSize { rows: 24, columns: 80 }))?;
    Ok(ExitCode::from(process.wait()?.shell_code()))
}
