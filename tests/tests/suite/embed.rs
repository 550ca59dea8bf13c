//! Programs that embed the library, for tests that must kill or crowd one.

use std::ffi::CString;
use std::process::ExitCode;

use pod::{Container, Io, Pod, PodOptions, Root, Store};

use crate::sys;

#[path = "../../../crates/pod/examples/event_loop.rs"]
#[allow(dead_code)] // Its `main`, which is for people.
mod event_loop;

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
    let store = Store::open(state).expect("a store");
    let container = |name: &str, script: &str| {
        let args = std::iter::once("/probe").chain(script.split_whitespace());
        Container::new(name, Root::Dir(rootfs.into())).args(args)
    };
    match *words {
        // Keeps an attached pod with a container until it is killed; with a forked
        // child that has all its descriptors.
        ["attached", pod, fork] => {
            let pod = Pod::create(&store, PodOptions::new(pod)).expect("a pod");
            pod.start(&container("a", "orphan block , block")).expect("a container");
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
            let process = pod.start_with(&container(name, &script.join(" ")), Io::log()).expect("a container");
            println!("started {}", process.name());
            loop {
                std::thread::park();
            }
        }
        // Waits as the example of docs/embedding.md does.
        ["event-loop"] => {
            let pod = Pod::create(&store, PodOptions::new("loop")).expect("a pod");
            let waits = pod.start(&container("waits", "wait-file /go , exit 3")).expect("a container");
            let goes = pod.start(&container("goes", "write /go on , exit 4")).expect("a container");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
            runtime.block_on(async {
                for process in [&waits, &goes] {
                    let exit = event_loop::end_of(process).await.expect("an end");
                    println!("{} ended with {}", process.name(), exit.code());
                }
            });
            pod.remove().expect("an end");
            ExitCode::SUCCESS
        }
        _ => panic!("unknown: {words:?}"),
    }
}
