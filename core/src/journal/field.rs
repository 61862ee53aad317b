//! The encoding of single fields in a journal.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use bytes::Bytes;

use super::JournalError;
use crate::base::fid::Fid;

/// The unread rest of the bytes.
#[derive(Debug)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn bytes(&mut self, n: usize) -> Result<&'a [u8], JournalError> {
        let (bytes, rest) = self.0.split_at_checked(n).ok_or(JournalError::CutOff)?;
        self.0 = rest;
        Ok(bytes)
    }
}

/// A storable value.
pub(super) trait Field: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError>;
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Field for $number {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
                let bytes = from.bytes(size_of::<Self>())?;
                Ok(Self::from_le_bytes(bytes.try_into().map_err(|_| JournalError::CutOff)?))
            }
        }
    )*};
}

numbers!(u8 u16 u32 u64 u128);

/// Encoded with 64 bits, whatever the machine's own width.
impl Field for usize {
    fn put(&self, out: &mut Vec<u8>) {
        u64::try_from(*self).unwrap_or(u64::MAX).put(out);
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
        Self::try_from(u64::take(from)?).map_err(|_| JournalError::Field("a number"))
    }
}

impl Field for bool {
    fn put(&self, out: &mut Vec<u8>) {
        u8::from(*self).put(out);
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
        match u8::take(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(JournalError::Field("a truth value")),
        }
    }
}

/// Encoded in nanoseconds.
impl Field for Duration {
    fn put(&self, out: &mut Vec<u8>) {
        u64::try_from(self.as_nanos()).unwrap_or(u64::MAX).put(out);
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
        u64::take(from).map(Self::from_nanos)
    }
}

impl Field for Bytes {
    fn put(&self, out: &mut Vec<u8>) {
        u32::try_from(self.len()).unwrap_or(u32::MAX).put(out);
        out.extend_from_slice(self);
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
        let len = u32::take(from)? as usize;
        from.bytes(len).map(Self::copy_from_slice)
    }
}

impl Field for Box<str> {
    fn put(&self, out: &mut Vec<u8>) {
        u32::try_from(self.len()).unwrap_or(u32::MAX).put(out);
        out.extend_from_slice(self.as_bytes());
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
        let len = u32::take(from)? as usize;
        core::str::from_utf8(from.bytes(len)?)
            .map(Into::into)
            .map_err(|_| JournalError::Field("a text"))
    }
}

impl Field for Fid {
    fn put(&self, out: &mut Vec<u8>) {
        self.container.put(out);
        self.key.put(out);
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
        Ok(Self { container: Field::take(from)?, key: Field::take(from)? })
    }
}

impl Field for SocketAddr {
    fn put(&self, out: &mut Vec<u8>) {
        match self.ip() {
            IpAddr::V4(ip) => {
                4_u8.put(out);
                ip.to_bits().put(out);
            }
            IpAddr::V6(ip) => {
                6_u8.put(out);
                ip.segments().iter().for_each(|segment| segment.put(out));
            }
        }
        self.port().put(out);
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
        let ip = match u8::take(from)? {
            4 => IpAddr::from(Ipv4Addr::from_bits(u32::take(from)?)),
            6 => {
                let mut segments = [0; 8];
                for segment in &mut segments {
                    *segment = u16::take(from)?;
                }
                IpAddr::from(Ipv6Addr::from(segments))
            }
            _ => return Err(JournalError::Field("an address")),
        };
        Ok(Self::new(ip, Field::take(from)?))
    }
}
