//! What must be known to take an attachment away again.
//!
//! CHECK and DEL go by the configuration, arguments, interface and path that ADD
//! had, not by what the files say by then. A record is stored before ADD, so that
//! whatever a plugin made can be taken away by a program that was not there; and
//! on a disk, because host-local's leases survive the machine's restart, too.

use std::path::Path;

use pod::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::attachment::Attachment;
use super::conflist::Conflist;
use super::request::AttachmentName;
use super::result::CniResult;

/// The latest form of a record that this build knows.
const FORMAT: u32 = 1;

/// An attachment, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    network: Conflist,
    attachment: Attachment,
    stage: Stage,
}

/// How far an attachment is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Stage {
    /// ADD is about to happen, or was broken off at its first plugin.
    Begun,
    /// ADD goes on, or was broken off: the result of the plugins that have done it.
    /// The next one may have made something by then, which it may not find for DEL
    /// without a result.
    Adding(Map<String, Value>),
    /// It was added; the last plugin's result.
    Attached(Map<String, Value>),
    /// It was taken away: the record may be removed.
    Gone,
}

impl Record {
    /// The record of an attachment whose own record is lost: DEL goes by what the
    /// network's configuration is now, and without a result.
    pub fn begun(network: &Conflist, attachment: &Attachment) -> Record {
        Record { format: FORMAT, network: network.clone(), attachment: attachment.clone(), stage: Stage::Begun }
    }

    pub(crate) fn at(&self, stage: Stage) -> Record {
        Record { stage, ..self.clone() }
    }

    /// The network, as it was configured at ADD.
    pub fn network(&self) -> &Conflist {
        &self.network
    }

    /// What was asked for.
    pub fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// How far it is.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Whether it was taken away, so that the record may be removed.
    pub fn is_gone(&self) -> bool {
        self.stage == Stage::Gone
    }

    /// Its name among the network's attachments.
    pub fn name(&self) -> AttachmentName {
        AttachmentName { container_id: self.attachment.container_id.clone(), ifname: self.attachment.ifname.clone() }
    }

    /// What it got; `None` if ADD did not come to its end.
    pub fn result(&self) -> Option<CniResult> {
        self.raw_result().and_then(|raw| CniResult::from_raw(raw).ok())
    }

    pub(crate) fn raw_result(&self) -> Option<&Map<String, Value>> {
        match &self.stage {
            Stage::Attached(raw) => Some(raw),
            _ => None,
        }
    }

    /// The same, also of an ADD that did not come to its end.
    pub(crate) fn known_result(&self) -> Option<&Map<String, Value>> {
        match &self.stage {
            Stage::Adding(raw) | Stage::Attached(raw) => Some(raw),
            Stage::Begun | Stage::Gone => None,
        }
    }

    /// As JSON, to be stored durably and atomically: it may hold secrets of the
    /// network's configuration.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let doing = || format!("writing the CNI record of {}", self.attachment.container_id);
        serde_json::to_vec(self).map_err(|error| Error::failed(doing(), error))
    }

    /// From what was stored; `path` is for the error. With one that cannot be read
    /// there is still DEL without a result: [`Record::begun`].
    ///
    /// # Errors
    /// [`Error::Corrupt`]; [`Error::Newer`] of a later build's.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Record> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let unreadable = |error: serde_json::Error| Error::corrupt(path, error.to_string()).because(error);
        let head: Head = serde_json::from_slice(bytes).map_err(unreadable)?;
        if head.format > FORMAT {
            return Err(Error::Newer { path: path.display().to_string(), version: head.format, known: FORMAT });
        }
        let record: Record = serde_json::from_slice(bytes).map_err(unreadable)?;
        record.attachment.validate().map_err(|error| Error::corrupt(path, error.to_string()))?;
        if let Some(raw) = record.known_result() {
            CniResult::from_raw(raw).map_err(|reason| Error::corrupt(path, reason))?;
        }
        Ok(record)
    }
}
