//! Entrypoints: the data that a Motr process needs before it can start (`ha/entrypoint.h`).

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::base::fid::Fid;
use crate::base::id::EntryId;

/// A process's request for its entrypoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntrypointRequest {
    /// The id of the request, repeated in the reply.
    pub entry: EntryId,
    /// The requesting process.
    pub process: Fid,
    /// The endpoint of the process.
    pub endpoint: Box<str>,
    /// The process's pid on its host.
    pub pid: u64,
    /// Whether the process has received no reply in its life.
    pub first: bool,
    /// The process's version of Motr.
    pub git_rev: Box<str>,
}

/// The reply: the configuration servers and the resource manager.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entrypoint {
    /// The quorum of confds.
    pub quorum: u32,
    /// All configured confds.
    pub confds: Vec<Confd>,
    /// The active resource manager's service; [`Fid::ZERO`] if there is none.
    pub rm: Fid,
    /// The endpoint of the resource manager; empty if there is none.
    pub rm_endpoint: Box<str>,
}

/// One configuration server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confd {
    /// The fid of the confd.
    pub fid: Fid,
    /// The endpoint of the confd.
    pub endpoint: Box<str>,
}
