//! The encoding of a reply of Motr's library in a journal.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::JournalError;
use super::field::{Cursor, Field};
use crate::base::errno::Errno;
use crate::base::id::SpielId;
use crate::ha::spiel::{Answer, Counter, Filesystem, Pver, Reply, Status};

impl Field for Reply {
    fn put(&self, out: &mut Vec<u8>) {
        self.id.0.put(out);
        match &self.result {
            Err(Errno(n)) => {
                0_u8.put(out);
                n.unsigned_abs().put(out);
            }
            Ok(Answer::Done) => 1_u8.put(out),
            Ok(Answer::Statuses(statuses)) => {
                2_u8.put(out);
                statuses.put(out);
            }
            Ok(Answer::Filesystem(space)) => {
                3_u8.put(out);
                space.put(out);
            }
            Ok(Answer::Counters(counters)) => {
                4_u8.put(out);
                counters.put(out);
            }
            Ok(Answer::Pver(pver)) => {
                5_u8.put(out);
                pver.put(out);
            }
        }
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
        let id = SpielId(Field::take(from)?);
        let result = Ok(match u8::take(from)? {
            0 => {
                let errno =
                    i32::try_from(u32::take(from)?).map_err(|_| JournalError::Field("an errno"))?;
                return Ok(Self { id, result: Err(Errno(errno)) });
            }
            1 => Answer::Done,
            2 => Answer::Statuses(Field::take(from)?),
            3 => Answer::Filesystem(Box::new(Field::take(from)?)),
            4 => Answer::Counters(Field::take(from)?),
            5 => Answer::Pver(Field::take(from)?),
            _ => return Err(JournalError::Field("an answer of Motr's library")),
        });
        Ok(Self { id, result })
    }
}

/// Encoded as the length and the elements.
impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        u32::try_from(self.len()).unwrap_or(u32::MAX).put(out);
        self.iter().for_each(|element| element.put(out));
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
        let len = u32::take(from)?;
        (0..len).map(|_| T::take(from)).collect()
    }
}

super::config::in_order!(Status { fid, state, progress });
super::config::in_order!(Counter { pver, user, bytes, objects });
super::config::in_order!(Pver { state, data_units, parity_units });
super::config::in_order!(Filesystem {
    free_seg,
    total_seg,
    free_disk,
    avail_disk,
    total_disk,
    svc_total,
    svc_replied,
});
