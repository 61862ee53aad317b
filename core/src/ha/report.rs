//! Motr's reports of errors (`ha/msg.h`, `stob/ioq_error.h`, `be/ha.h`, `cm/…`).

use crate::base::fid::Fid;

/// `m0_stob_ioq_error`: an I/O request on a device failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are Motr's")]
pub struct StobIoq {
    pub sdev: Fid,
    pub stob_domain: Fid,
    pub stob: Fid,
    pub fd: i64,
    pub opcode: i64,
    pub rc: i64,
    pub offset: u64,
    pub size: u64,
    pub bshift: u32,
}

/// `m0_be_io_err`: the metadata back end failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are Motr's")]
pub struct BeIoErr {
    pub errcode: u32,
    pub location: u8,
    pub io_opcode: u8,
}

/// `m0_ha_sns_err`: a repair or rebalance failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are Motr's")]
pub struct SnsErr {
    pub errcode: u32,
    pub opcode: u8,
}
