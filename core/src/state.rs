//! Values that outlive the daemon, as seen by a machine: numbered slots for the state that the machine's next
//! life continues with.
//!
//! The host keeps the values where they survive the death of the daemon (kill -9, a crash, an upgrade), but
//! not that of the node: the peers that the values are about do not survive it either. So nothing is synced.
//!
//! # Order
//!
//! The host carries out a command before any later output of the same call, and before it starts the next
//! call. So the kept state is never behind what a peer was sent. After a death in the middle of a command,
//! the slot has its former value or the new one: both are sound, since nothing that follows was sent.

use alloc::vec::Vec;

use bytes::Bytes;

/// The maximum size of a value, in bytes.
pub const VALUE_MAX: usize = 32 << 10;

/// A command for a slot. There is no answer; a host that cannot keep a value removes all that it has kept,
/// so that no life continues with an old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Keeps a value in place of the slot's former one.
    Keep {
        /// The slot. Slots are counted from 0 and used again, so they stay few.
        slot: u32,
        /// The value, at most [`VALUE_MAX`] bytes.
        value: Bytes,
    },
    /// Empties a slot.
    Empty {
        /// The slot.
        slot: u32,
    },
}

/// The values that the last life left behind, by slot.
pub type Slots = Vec<(u32, Bytes)>;

/// Returns a checksum of bytes. It detects torn and damaged values, not forged ones.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u64 {
    /// An odd constant with bits in all places: the golden ratio in 64 bits.
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |sum: u64, word: u64| (sum.rotate_left(23) ^ word).wrapping_mul(MIX);
    let (words, rest) = bytes.as_chunks::<8>();
    let sum =
        words.iter().fold(bytes.len() as u64, |sum, word| mix(sum, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let sum = mix(sum, u64::from_le_bytes(last));
    sum ^ sum >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_sees_each_bit_each_cut_and_each_swap() {
        let bytes: Vec<u8> = (0..=255).collect();
        let sum = checksum(&bytes);
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(checksum(&other), sum, "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert_ne!(checksum(&bytes[..cut]), sum, "cut at {cut}");
        }
        let mut other = bytes.clone();
        other.swap(0, 8);
        assert_ne!(checksum(&other), sum);
        assert_ne!(checksum(&[0; 8]), checksum(&[0; 16]));
    }
}
