//! The syntax of the script's lines: tokens with one space between them.

use std::iter::once;
use std::str::FromStr;

use motr_sys::abi;

/// Container and key.
pub type Fid = (u64, u64);

pub(crate) fn fid(fid: Fid) -> String {
    format!("{:x}:{:x}", fid.0, fid.1)
}

pub(crate) fn c_fid((f_container, f_key): Fid) -> abi::m0_fid {
    abi::m0_fid { f_container, f_key }
}

/// The remaining tokens of a line.
pub(crate) struct Tokens<'a>(std::str::Split<'a, char>);

impl<'a> Tokens<'a> {
    pub(crate) fn of(line: &'a str) -> Self {
        Self(line.split(' '))
    }

    pub(crate) fn token(&mut self) -> Option<&'a str> {
        self.0.next()
    }

    pub(crate) fn next<T: FromStr>(&mut self) -> Option<T> {
        self.token()?.parse().ok()
    }

    pub(crate) fn fid(&mut self) -> Option<Fid> {
        to_fid(self.token()?)
    }

    pub(crate) fn fids(&mut self) -> Option<Vec<Fid>> {
        self.0.by_ref().map(to_fid).collect()
    }
}

fn to_fid(word: &str) -> Option<Fid> {
    let (container, key) = word.split_once(':')?;
    Some((u64::from_str_radix(container, 16).ok()?, u64::from_str_radix(key, 16).ok()?))
}

/// A message of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// An event of the process; its kind is `M0_CONF_HA_PROCESS_M0D`.
    Process {
        /// The event, `M0_CONF_HA_PROCESS_*`.
        event: u64,
    },
    /// A question for the states of objects.
    Get {
        /// The id, which the answer repeats.
        id: u64,
        /// The objects.
        objects: Vec<Fid>,
    },
    /// A message of this type, with zeros as content.
    Type(u64),
}

impl Said {
    pub(crate) fn to_words(&self) -> String {
        match self {
            Self::Process { event } => format!("process {event}"),
            Self::Get { id, objects } => {
                let objects = objects.iter().map(|object| fid(*object));
                once(format!("get {id}")).chain(objects).collect::<Vec<_>>().join(" ")
            }
            Self::Type(kind) => format!("type {kind}"),
        }
    }

    pub(crate) fn of(tokens: &mut Tokens<'_>) -> Option<Self> {
        Some(match tokens.token()? {
            "process" => Self::Process { event: tokens.next()? },
            "get" => Self::Get { id: tokens.next()?, objects: tokens.fids()? },
            "type" => Self::Type(tokens.next()?),
            _ => return None,
        })
    }

    /// Fills a message of zeros as a message of the process `process`.
    pub(crate) fn fill(&self, process: Fid, pid: u64, out: &mut abi::m0_ha_msg) {
        out.hm_fid = c_fid(process);
        out.hm_source_process = c_fid(process);
        let data = &mut out.hm_data;
        match self {
            Self::Process { event } => {
                data.hed_type = abi::M0_HA_MSG_EVENT_PROCESS.into();
                data.u.hed_event_process =
                    abi::m0_conf_ha_process { chp_event: *event, chp_type: 3, chp_pid: pid };
            }
            Self::Get { id, objects } => {
                data.hed_type = abi::M0_HA_MSG_NVEC.into();
                // SAFETY: the whole message is zeros, which is a valid value of this member.
                let nvec = unsafe { &mut data.u.hed_nvec };
                (nvec.hmnv_type, nvec.hmnv_id_of_get) = (1, *id);
                nvec.hmnv_nr = objects.len() as u64;
                for (note, object) in nvec.hmnv_arr.hmna_arr.iter_mut().zip(objects) {
                    note.no_id = c_fid(*object);
                }
            }
            Self::Type(kind) => data.hed_type = *kind,
        }
    }
}

/// A message that was sent to a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// States of objects.
    States {
        /// The id of the answered question; 0 if there is none.
        id: u64,
        /// Each object with its state `M0_NC_*`.
        notes: Vec<(Fid, u32)>,
    },
    /// A message of another type.
    Type(u64),
}

impl Sent {
    pub(crate) fn read(message: &abi::m0_ha_msg) -> Self {
        if message.hm_data.hed_type != u64::from(abi::M0_HA_MSG_NVEC) {
            return Self::Type(message.hm_data.hed_type);
        }
        // SAFETY: the type has been checked.
        let nvec = unsafe { &message.hm_data.u.hed_nvec };
        let n = usize::try_from(nvec.hmnv_nr).unwrap_or(usize::MAX);
        let notes = nvec.hmnv_arr.hmna_arr.iter().take(n);
        let notes = notes.map(|note| ((note.no_id.f_container, note.no_id.f_key), note.no_state));
        Self::States { id: nvec.hmnv_id_of_get, notes: notes.collect() }
    }

    pub(crate) fn to_words(&self) -> String {
        match self {
            Self::States { id, notes } => {
                let notes = notes.iter().map(|(object, state)| format!("{}={state}", fid(*object)));
                once(format!("states {id}")).chain(notes).collect::<Vec<_>>().join(" ")
            }
            Self::Type(kind) => format!("type {kind}"),
        }
    }

    pub(crate) fn of(tokens: &mut Tokens<'_>) -> Option<Self> {
        Some(match tokens.token()? {
            "states" => {
                let id = tokens.next()?;
                let note = |word: &str| {
                    let (object, state) = word.split_once('=')?;
                    Some((to_fid(object)?, state.parse().ok()?))
                };
                let notes = tokens.0.by_ref().map(note).collect::<Option<_>>()?;
                Self::States { id, notes }
            }
            "type" => Self::Type(tokens.next()?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let objects = vec![(0x7200_0000_0000_0001, 0x1f), (0, 0)];
        for said in [Said::Process { event: 3 }, Said::Get { id: 7, objects }, Said::Type(9)] {
            assert_eq!(Said::of(&mut Tokens::of(&said.to_words())), Some(said));
        }
        let notes = vec![((0x7200_0000_0000_0001, 2), 1), ((0x73, 3), 2)];
        for sent in [Sent::States { id: 7, notes }, Sent::Type(4)] {
            assert_eq!(Sent::of(&mut Tokens::of(&sent.to_words())), Some(sent));
        }
        assert_eq!(Said::of(&mut Tokens::of("get 1 2")), None);
    }
}
