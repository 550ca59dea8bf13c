//! A process of a pod, waited for and talked with by tasks.

use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use pod::{Exit, Result};
use tokio::net::unix::pipe::{Receiver, Sender};

use crate::descriptor::failed;
use crate::{Terminal, descriptor, unblock};

/// A [`pod::Process`], with all that that has, for tasks.
#[derive(Debug)]
pub struct Process {
    process: Arc<pod::Process>,
    /// What is written here it reads, if its stdin is piped: `take` it, and drop
    /// it for an end of file.
    pub stdin: Option<Sender>,
    /// What it writes to its stdout, if that is piped.
    pub stdout: Option<Receiver>,
    /// What it writes to its stderr, if that is piped.
    pub stderr: Option<Receiver>,
    /// Its terminal, if it was started with one.
    pub terminal: Option<Terminal>,
}

impl Process {
    /// Registers what it was started with in the runtime of this task.
    ///
    /// # Errors
    /// [`Os`](pod::Error::Os) if it cannot be, such as EMFILE. The process goes on,
    /// and its streams are closed.
    pub fn new(mut process: pod::Process) -> Result<Process> {
        let receiver = |reader: io::PipeReader| Receiver::from_owned_fd(OwnedFd::from(reader));
        let register = |process: &mut pod::Process| {
            let stdin = process.stdin.take().map(|writer| Sender::from_owned_fd(writer.into())).transpose()?;
            let stdout = process.stdout.take().map(receiver).transpose()?;
            let stderr = process.stderr.take().map(receiver).transpose()?;
            let terminal = process.terminal.take().map(Terminal::new).transpose()?;
            Ok((stdin, stdout, stderr, terminal))
        };
        let streams = register(&mut process).map_err(|error| failed("registering a process's streams", error));
        let (stdin, stdout, stderr, terminal) = streams?;
        Ok(Process { process: Arc::new(process), stdin, stdout, stderr, terminal })
    }

    /// Waits until it has ended, as [`pod::Process::wait`], without a thread
    /// until it has. A future that is dropped has changed nothing, and any number
    /// of tasks may wait. Its streams are left alone.
    ///
    /// # Errors
    /// As [`pod::Process::wait`]; [`Os`](pod::Error::Os) if its descriptor cannot
    /// be registered.
    pub async fn wait(&self) -> Result<Exit> {
        descriptor::readable(&*self.process, "waiting for a process").await?;
        // pause writes it down now, and perhaps ends: milliseconds.
        let process = Arc::clone(&self.process);
        unblock(move || process.wait()).await
    }
}

impl Deref for Process {
    type Target = pod::Process;

    fn deref(&self) -> &pod::Process {
        &self.process
    }
}
