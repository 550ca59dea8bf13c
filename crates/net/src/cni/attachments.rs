//! ADD, DEL and CHECK: the plugins of a list one after the other, for one
//! attachment.
//!
//! ```text
//!   refuse ─► lock ─► store Begun ─► ADD 1 ─► store Adding ─► ADD 2 … n ─► store Attached
//!                                      │ fails                  │ fails
//!                                      └────────────────────────┴─► DEL n..1 ─► store Gone
//! ```

use pod::{Error, Result};

use super::attachment::Attachment;
use super::conflist::{Conflist, plugin_type};
use super::failure::{Command, Failure, UNKNOWN_CONTAINER};
use super::lock::{Lock, Share};
use super::record::{Record, Stage};
use super::request::{About, check_capabilities};
use super::result::CniResult;
use super::runtime::{CheckReport, Input, Runtime};

impl Runtime {
    /// Attaches a container to a network: all plugins in their order.
    ///
    /// `store` gets the record before the first plugin is executed, and again with
    /// the result of each: it has to write it durably. If ADD fails, all plugins are told
    /// DEL, and once they have done that, `store` gets the record as
    /// [gone](Record::is_gone), to be removed; until then it is the caller's to call
    /// [`Runtime::del`] again. `store` must not call this runtime.
    ///
    /// Different containers may be attached at the same time; several networks of
    /// one are attached one after the other, in the caller's order.
    ///
    /// # Errors
    /// Before anything is changed: [`Error::Invalid`] of the attachment, of a
    /// capability that no plugin declares; [`Error::Failed`] if a plugin is missing;
    /// [`Error::Deadline`] if another operation for this container goes on. Then
    /// `store`'s, or [`Error::Failed`] with the plugin's [`Failure`].
    pub fn add(
        &self,
        network: &Conflist,
        attachment: &Attachment,
        store: &mut dyn FnMut(&Record) -> Result<()>,
    ) -> Result<(Record, CniResult)> {
        attachment.validate()?;
        attachment.living_netns()?;
        self.check_add(network, attachment)?;
        let doing = || of(attachment, "attaching", network);
        let _all = Lock::of_all(&self.cache_dir, Share::WithOthers, self.deadline)?;
        let lock = Lock::of_container(&self.cache_dir, &attachment.container_id, self.deadline)?;

        let mut record = Record::begun(network, attachment);
        store(&record)?;
        let broken = match self.add_all(&mut record, &lock, store) {
            Ok(result) => return Ok((record, result)),
            Err(broken) => broken,
        };
        // What cannot be stored as gone is stored as it was.
        let left = self.undo(&record, &lock, store).unwrap_or_default();
        if left.is_empty() {
            lock.remove();
        }
        Err(match broken {
            Broken::Plugin(failure) => Failure { more: left, ..*failure }.while_doing(doing()),
            Broken::Store(error) => error,
        })
    }

    /// Whether the network can give what is asked for, as far as that is known
    /// without executing anything: ADD begins with it.
    ///
    /// # Errors
    /// [`Error::Invalid`] of a capability that no plugin declares;
    /// [`Error::Failed`] if a plugin is missing.
    pub fn check_add(&self, network: &Conflist, attachment: &Attachment) -> Result<()> {
        check_capabilities(network, attachment)?;
        let doing = || of(attachment, "attaching", network);
        self.check_programs(network, Command::Add).map_err(|failure| failure.while_doing(doing()))
    }

    /// Each plugin's result is stored before the next one is executed: DEL needs it,
    /// whoever comes to do that.
    fn add_all(
        &self,
        record: &mut Record,
        lock: &Lock,
        store: &mut dyn FnMut(&Record) -> Result<()>,
    ) -> std::result::Result<CniResult, Broken> {
        let (network, attachment) = (record.network().clone(), record.attachment().clone());
        let wrong = |kind: &str, reason| Broken::Plugin(Failure::new(&network.name, kind, Command::Add, reason));
        let mut last = None;
        for (nth, plugin) in network.plugins.iter().enumerate() {
            let previous = record.known_result();
            let about = About::Attachment { attachment: &attachment, netns: attachment.netns.as_deref(), previous };
            let printed =
                self.run(Command::Add, &network, plugin, about, &Input::Lock(lock)).map_err(Broken::Plugin)?;
            let (raw, result) =
                CniResult::parse(&printed, network.version).map_err(|reason| wrong(plugin_type(plugin), reason))?;
            let is_last = nth + 1 == network.plugins.len();
            *record = record.at(if is_last { Stage::Attached(raw) } else { Stage::Adding(raw) });
            // One that could not be found again must not be there.
            store(record).map_err(Broken::Store)?;
            last = Some(result);
        }
        last.ok_or_else(|| wrong("", "the network has no plugins".to_owned()))
    }

    /// DEL after what failed; what of it failed, too.
    fn undo(&self, record: &Record, lock: &Lock, store: &mut dyn FnMut(&Record) -> Result<()>) -> Result<Vec<Failure>> {
        let failures = self.del_all(record, lock);
        if failures.is_empty() {
            store(&record.at(Stage::Gone))?;
        }
        Ok(failures)
    }

    /// Takes an attachment away: all plugins in reverse order, each with the result
    /// that ADD had in the end, or as far as it came; also if one before it fails or its program is
    /// missing. What is gone already is as good, so it may be called again.
    ///
    /// To be called while the namespace exists: plugins leak rules otherwise. If it
    /// does not, they are told an empty CNI_NETNS. When all have done it, `store`
    /// gets the record as [gone](Record::is_gone).
    ///
    /// # Errors
    /// [`Error::Deadline`] if another operation for this container goes on;
    /// `store`'s; [`Error::Failed`] of all plugins that failed, after each was told.
    /// A caller that has to get rid of the attachment nevertheless says so and
    /// removes the record.
    pub fn del(&self, record: &Record, store: &mut dyn FnMut(&Record) -> Result<()>) -> Result<()> {
        let _all = Lock::of_all(&self.cache_dir, Share::WithOthers, self.del_deadline)?;
        let failures = self.del_in_turn(record, store)?;
        let doing = || of(record.attachment(), "detaching", record.network());
        Failure::joined(failures).map_or(Ok(()), |failure| Err(failure.while_doing(doing())))
    }

    /// The same, when it is known that no collection goes on.
    pub(crate) fn del_in_turn(
        &self,
        record: &Record,
        store: &mut dyn FnMut(&Record) -> Result<()>,
    ) -> Result<Vec<Failure>> {
        record.attachment().validate()?;
        let lock = Lock::of_container(&self.cache_dir, &record.attachment().container_id, self.del_deadline)?;
        let failures = self.undo(record, &lock, store)?;
        if failures.is_empty() {
            lock.remove();
        }
        Ok(failures)
    }

    fn del_all(&self, record: &Record, lock: &Lock) -> Vec<Failure> {
        let (network, attachment) = (record.network(), record.attachment());
        let netns = attachment.netns_for_del();
        let previous = record.known_result().filter(|_| network.version.has_check());
        let about = About::Attachment { attachment, netns, previous };
        let run =
            |plugin| self.run(Command::Del, network, plugin, about, &Input::Lock(lock)).err().map(|failure| *failure);
        let is_failure = |failure: &Failure| failure.code != Some(UNKNOWN_CONTAINER);
        network.plugins.iter().rev().filter_map(run).filter(is_failure).collect()
    }

    /// Asks the plugins whether an attachment is as ADD made it.
    ///
    /// # Errors
    /// [`Error::State`] if it was not added; [`Error::Invalid`] if its namespace is
    /// gone; [`Error::Deadline`] if another operation for this container goes on.
    /// What plugins find wrong is no error, but a report.
    pub fn check(&self, record: &Record) -> Result<CheckReport> {
        let (network, attachment) = (record.network(), record.attachment());
        let Some(previous) = record.raw_result() else {
            return Err(Error::state(of(attachment, "the attachment", network), "was not added"));
        };
        if network.disable_check {
            return Ok(CheckReport::NotAsked("the network's configuration has disableCheck"));
        }
        if !network.version.has_check() {
            return Ok(CheckReport::NotAsked("CHECK is in cniVersion 0.4.0 and later"));
        }
        attachment.validate()?;
        let netns = Some(attachment.living_netns()?);
        let lock = Lock::of_container(&self.cache_dir, &attachment.container_id, self.deadline)?;
        for plugin in &network.plugins {
            let about = About::Attachment { attachment, netns, previous: Some(previous) };
            if let Err(failure) = self.run(Command::Check, network, plugin, about, &Input::Lock(&lock)) {
                return Ok(CheckReport::Failed(failure.while_doing(of(attachment, "checking", network))));
            }
        }
        Ok(CheckReport::AsMade)
    }
}

/// Why an ADD did not come to its end.
enum Broken {
    Plugin(Box<Failure>),
    Store(Error),
}

fn of(attachment: &Attachment, doing: &str, network: &Conflist) -> String {
    format!("{doing} {} of {} on CNI network {:?}", attachment.ifname, attachment.container_id, network.name)
}
