//! Fuzzing of the state with which links outlive a hax.

use std::net::SocketAddr;

use bytes::Bytes;
use hax_core::base::fid::Fid;
use hax_core::base::time::{Instant, Now, WallClock};
use hax_core::ha::fact::Fact;
use hax_core::state::{Command, Slots, VALUE_MAX, checksum};
use hax_core::wire::endpoint::Keeping;
use hax_core::wire::{Config, Endpoint, Input, Output};

/// The bytes before those of the fuzzer in a value that fits: magic, version, boot id, fid and address of
/// the hax.
fn head() -> Vec<u8> {
    let mut head = Vec::from(*b"hxlk");
    head.extend(2_u16.to_le_bytes());
    head.extend(1_u128.to_le_bytes());
    let Fid { container, key } = Fid::process(1);
    head.extend([container, key].iter().flat_map(|word| word.to_le_bytes()));
    head.extend([4, 127, 0, 0, 1]);
    head.extend(22_001_u16.to_le_bytes());
    head
}

/// Starts a hax that finds these bytes: as they are, and as the content of a value with a good checksum. What
/// it takes over, the next life takes over too, and it keeps the same.
///
/// # Panics
///
/// If it does not.
pub fn links(data: &[u8]) {
    let (found, _) = start([(0, Bytes::copy_from_slice(data)), (1, sealed(data))].into());
    for (_, value) in &found {
        assert!(value.len() <= VALUE_MAX);
    }
    let (again, kept) = start(found.clone());
    assert_eq!(again, found, "what is kept is kept the same");
    assert_eq!(kept, found.len(), "what is kept is taken over");
}

fn sealed(data: &[u8]) -> Bytes {
    let mut value = head();
    value.extend(data);
    value.extend(checksum(&value).to_le_bytes());
    value.into()
}

/// Returns what a hax keeps that finds these values, and the number of the links that it takes over.
fn start(slots: Slots) -> (Slots, usize) {
    let listen = SocketAddr::from(([127, 0, 0, 1], 22_001));
    let mut config = Config::new(listen, 1 << 60, 7);
    config.keeping = Some(Keeping { boot: 1, process: Fid::process(1), ends_links: false, slots });
    let mut endpoint = Endpoint::new(config);
    let now = Now { mono: Instant::from_micros(1), wall: WallClock(1) };
    let (mut out, mut commands, mut kept) = (Vec::new(), Vec::new(), Slots::new());
    let _ = endpoint.handle(now, Input::Tick, &mut out);
    endpoint.keep(&mut commands);
    for command in commands {
        if let Command::Keep { slot, value } = command {
            kept.push((slot, value));
        }
    }
    let taken = |output: &&Output| matches!(output, Output::Fact(Fact::LinkKept { .. }));
    let taken = out.iter().filter(taken).count();
    assert_eq!(taken, endpoint.view().links.len());
    (kept, taken)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_corpus_has_values_of_this_form() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/links");
        let values = fs::read_dir(folder).unwrap().map(|entry| fs::read(entry.unwrap().path()));
        let taken = values.map(|value| start([(0, sealed(&value.unwrap()))].into()).1);
        assert!(taken.sum::<usize>() >= 5);
    }
}
