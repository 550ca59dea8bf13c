//! What a store does with networks when its pods end, begin anew and are removed.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use pod::{ExtendedPod, Extension, Result, Store};

use crate::networks::Networks;
use crate::record::OWNER;

/// A store whose pods may be in networks.
#[must_use]
pub fn extended(store: Store) -> Store {
    let networks = Networks::open(&store);
    docked(store, networks, |_| {})
}

/// The same with these networks of the store. `tell` gets a sentence for what could
/// not be taken away of a pod that is removed nevertheless: a CNI plugin that is
/// missing or fails keeps no pod.
#[must_use]
pub fn docked(store: Store, networks: Networks, tell: impl Fn(&str) + Send + Sync + 'static) -> Store {
    store.extended(Arc::new(Docked { networks, tell: Tell(Box::new(tell)) }))
}

/// Whom something is told.
struct Tell(Box<dyn Fn(&str) + Send + Sync>);

impl fmt::Debug for Tell {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Tell")
    }
}

/// The networks of a store, docked on its pods.
#[derive(Debug)]
struct Docked {
    networks: Networks,
    tell: Tell,
}

impl Extension for Docked {
    fn owner(&self) -> &str {
        OWNER
    }

    fn made_anew(&self, pod: &ExtendedPod<'_>) -> Result<()> {
        self.networks.attach_again(pod)
    }

    fn ending(&self, pod: &ExtendedPod<'_>) {
        // What cannot be done now is done, or told, when it is removed.
        self.networks.let_go(pod).ok();
    }

    fn clean_up(&self, pod: &ExtendedPod<'_>) -> Result<()> {
        for error in self.networks.detach(pod)? {
            let cure = "it is noted, and `podlet network prune` tries again";
            (self.tell.0)(&format!(
                "pod {} is removed, but not all that plugins made for it: {error}; {cure}",
                pod.name()
            ));
        }
        Ok(())
    }
}
