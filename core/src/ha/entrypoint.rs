//! Entrypoints: what a Motr process must know before it can start (`ha/entrypoint.h`).

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::base::fid::Fid;
use crate::base::id::EntryId;

/// A process asks for its entrypoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntrypointRequest {
    /// Names the request; the reply carries it.
    pub entry: EntryId,
    /// Who asks.
    pub process: Fid,
    /// Where it listens.
    pub endpoint: Box<str>,
    /// Its pid on its host.
    pub pid: u64,
    /// Whether it has not had any reply in its life.
    pub first: bool,
    /// The version of Motr that it was built from.
    pub git_rev: Box<str>,
}

/// The answer: where the configuration is served and who decides about resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entrypoint {
    /// How many confds must agree.
    pub quorum: u32,
    /// All configured confds.
    pub confds: Vec<Confd>,
    /// The active resource manager's service; [`Fid::ZERO`] if there is none.
    pub rm: Fid,
    /// Where it is; empty if there is none.
    pub rm_endpoint: Box<str>,
}

/// One configuration server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confd {
    /// Its fid.
    pub fid: Fid,
    /// Where it listens.
    pub endpoint: Box<str>,
}
