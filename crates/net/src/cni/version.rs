//! Versions of the specification that this runtime speaks.

use std::fmt::{self, Display, Formatter};

use pod::{Error, Result};
use serde::{Deserialize, Serialize};

/// A version of the specification, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Version {
    /// The first with results of interfaces and addresses; as 0.3.1.
    #[serde(rename = "0.3.0")]
    V0_3_0,
    /// Without CHECK; DEL gets no result.
    #[serde(rename = "0.3.1")]
    V0_3_1,
    /// With CHECK, and a result for DEL.
    #[serde(rename = "0.4.0")]
    V0_4_0,
    /// Addresses say no family of theirs any longer.
    #[serde(rename = "1.0.0")]
    V1_0_0,
    /// With GC and STATUS.
    #[serde(rename = "1.1.0")]
    V1_1_0,
}

const KNOWN: [(&str, Version); 5] = [
    ("0.3.0", Version::V0_3_0),
    ("0.3.1", Version::V0_3_1),
    ("0.4.0", Version::V0_4_0),
    ("1.0.0", Version::V1_0_0),
    ("1.1.0", Version::V1_1_0),
];

impl Version {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        KNOWN[self as usize].0
    }

    /// The one of that name, if it is known.
    pub fn known(name: &str) -> Option<Version> {
        KNOWN.iter().find(|known| known.0 == name).map(|known| known.1)
    }

    /// Of what a configuration offers, `cniVersion` and `cniVersions`, the highest
    /// that is known (specification, section 1).
    ///
    /// # Errors
    /// [`Error::Invalid`] if none is known, or none given.
    pub(crate) fn choose(offered: &[&str]) -> Result<Version> {
        let known = offered.iter().filter_map(|name| Version::known(name)).max();
        known.ok_or_else(|| Error::invalid("cniVersion", offered.join(", "), refusal(offered)))
    }

    /// Whether plugins can be asked to CHECK, and DEL gets the result of ADD.
    pub(crate) fn has_check(self) -> bool {
        self >= Version::V0_4_0
    }

    /// Whether plugins can be asked for GC and STATUS.
    pub(crate) fn has_gc_and_status(self) -> bool {
        self >= Version::V1_1_0
    }

    /// Whether each address of a result says its family.
    pub(crate) fn has_families(self) -> bool {
        self < Version::V1_0_0
    }
}

fn refusal(offered: &[&str]) -> &'static str {
    match offered {
        [] => "is missing, which means 0.1.0, and that is no longer spoken: set cniVersion to 1.0.0",
        offered if offered.iter().all(|name| name.starts_with("0.1.") || name.starts_with("0.2.")) => {
            "is no longer spoken, because it has no interfaces in its results: set cniVersion to 1.0.0"
        }
        _ => "is none of 0.3.0, 0.3.1, 0.4.0, 1.0.0 and 1.1.0: set cniVersion to 1.0.0",
    }
}

impl Display for Version {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
