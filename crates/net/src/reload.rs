//! Networks as their records have them, after somebody else changed what the kernel
//! has of them, or removed files of theirs.

use netlink::Family;
use pod::{Pod, Result};

use crate::make::{Notes, open};
use crate::networks::{Changing, Networks, StoredNetwork};
use crate::record::Attachment;
use crate::route;
use crate::step::{self, refused};

impl Networks {
    /// Makes everything anew that the kernel should have of this store's networks:
    /// after somebody else has flushed the firewall, removed a bridge, or the
    /// machine got another way out. Files with the pods' names that somebody removed are
    /// written anew, and the names of pods that ended by themselves go.
    ///
    /// # Errors
    /// As [`make`](Networks::make), of the first network that cannot be made.
    pub fn reload(&self, changing: &Changing) -> Result<Notes> {
        let mut notes = Notes::default();
        for network in self.list_recorded()? {
            notes.0.extend(self.make(changing, &network)?.0);
            self.put_back_pods(&network)?;
            self.unname_ended(&network.config().name)?;
        }
        for name in self.store().names()? {
            // One that cannot be read, or is removed just now, is told where it is named.
            let Ok(pod) = Pod::open(self.store(), &name) else { continue };
            notes.0.extend(self.restore_files(&pod)?.0);
        }
        Ok(notes)
    }

    /// The links of a network's pods, into its bridge if they are not there any more.
    fn put_back_pods(&self, network: &StoredNetwork) -> Result<()> {
        let config = network.config();
        let mut socket = open(Family::Route)?;
        let Some(bridge) = route::link_named(&mut socket, &config.bridge).map_err(refused)? else { return Ok(()) };
        let links = route::links(&mut socket).map_err(refused)?;
        for pod in self.store().names()? {
            let attachment = self.attachment(&pod).ok().flatten();
            let attached = attachment.iter().flat_map(Attachment::own).filter(|attached| attached.name == config.name);
            for name in attached.map(|attached| &attached.host_interface) {
                let is_out = |link: &&route::Link| link.name == *name && link.master != Some(bridge.index);
                if links.iter().find(is_out).is_some() {
                    let back = route::into_bridge(name, (bridge.index, &bridge.name));
                    let options = route::port_options(name, config.isolated);
                    step::perform(&mut socket, &[back.into(), options.into()])?;
                }
            }
        }
        Ok(())
    }
}
