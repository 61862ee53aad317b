//! How the processes of an instance speak with hax: the socket, and the secret by which each proves itself.

use alloc::boxed::Box;
use alloc::format;
use core::fmt;

use siphasher::sip128::{Hasher128 as _, SipHasher24};

use super::model::launch::Voice;
use crate::keeper::name::InstanceId;

/// The path of what instances tell. Nothing else is served at their socket.
pub const TELL_PATH: &str = "/v1/tell";

/// The socket for the instances of this node.
#[derive(Clone, Debug)]
pub struct InstanceSocket {
    /// The path of the socket. Any user of the node may connect.
    pub path: Box<str>,
    /// The key of the capabilities that this run gives.
    pub key: CapabilityKey,
}

/// A random key. It is forgotten with the run: the keeper remembers the capabilities of its instances.
#[derive(Clone)]
pub struct CapabilityKey(pub [u8; 16]);

impl fmt::Debug for CapabilityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CapabilityKey(..)")
    }
}

impl InstanceSocket {
    /// Returns what the processes of an instance need to speak with hax. Who knows some capabilities cannot find
    /// another one.
    pub(super) fn voice(&self, id: &InstanceId) -> Voice {
        let mut hasher = SipHasher24::new_with_key(&self.key.0);
        core::hash::Hasher::write(&mut hasher, id.as_str().as_bytes());
        let capability = format!("{:032x}", hasher.finish128().as_u128()).into();
        Voice { socket: self.path.clone(), capability }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_instance_has_its_own_capability_and_no_log_has_the_key() {
        let socket = |key| InstanceSocket { path: "/s".into(), key: CapabilityKey([key; 16]) };
        let id = |id| InstanceId::new(id).unwrap();
        let voice = socket(1).voice(&id("a"));
        assert_eq!(voice, socket(1).voice(&id("a")));
        assert_ne!(voice, socket(1).voice(&id("b")));
        assert_ne!(voice, socket(2).voice(&id("a")));
        assert_eq!(voice.capability.len(), 32);
        assert!(!format!("{:?}", socket(77)).contains("77"));
    }
}
