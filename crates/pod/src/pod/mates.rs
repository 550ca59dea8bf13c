//! Which containers can be beside each other in a pod.

use super::Pod;
use crate::error::{Error, Result};
use crate::spec::ContainerSpec;
use crate::spec::users::Users;

impl Pod {
    /// Whether it may be beside the other containers of this pod, whether these
    /// run or not: of one that has ended there may be processes left.
    pub(crate) fn check_mates(&self, container: &ContainerSpec) -> Result<()> {
        let pod = self.options();
        if *self.shape().users != Users::Caller || !(container.nests_pids(pod) || container.may_trace(pod)) {
            return Ok(());
        }
        for mate in self.containers()?.iter().filter(|mate| mate.name != container.name) {
            match mate.record() {
                // Another command removes it, or has not come to its record yet.
                Err(Error::NotFound(_)) => {}
                mate => container.check_beside(&mate?.container, pod)?,
            }
        }
        Ok(())
    }
}
