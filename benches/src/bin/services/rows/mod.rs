//! The rows of the table, a file for each subject.

mod crowd;
mod restart;

use crate::table::Measure;

/// All measurements, by the names of their rows.
pub(crate) const ALL: [(&str, Measure); 4] = [
    ("restart", restart::rows),
    ("undisturbed", restart::undisturbed),
    ("cold_start", crowd::cold_start),
    ("thousand", crowd::thousand),
];
