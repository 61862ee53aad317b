//! The facts that the keeper reports about its actions and observations.

use alloc::boxed::Box;
use core::time::Duration;

use super::name::InstanceId;
use super::process::Process;
use super::request::Malformed;
use crate::base::errno::Errno;
use crate::base::fact::{Kind, Metric, Report};
use crate::exec::Status;

crate::facts! {
    "keeper";
    /// An instance has been started and runs.
    Info Started { instance: InstanceId, process: Process, asked_by: u32 }
        "{instance} runs: {process}, asked for by user {asked_by}";
    /// An instance of an earlier keeper process still runs.
    Info Adopted { instance: InstanceId, process: Process } "{instance} is adopted: {process}";
    /// A process that a forking instance started continues the instance.
    Info Followed { instance: InstanceId, process: Process } "{instance} goes on as {process}";
    /// An instance is being stopped.
    Info Stopping { instance: InstanceId, cause: &'static str } "{instance} is ended: {cause}";
    /// A counted instance was not renewed in time.
    Warn DeadlineOver { instance: InstanceId } "{instance} was not renewed in time and is stopped";
    /// The time limit of a stop has passed.
    Warn Killed { instance: InstanceId } "{instance} did not stop in time and is killed";
    /// An instance has been killed and has not ended.
    Warn Unkillable { instance: InstanceId }
        "{instance} has been killed and is there still: a process hangs in a system call";
    /// An instance has ended.
    Info Exited { instance: InstanceId, status: Status, cause: &'static str }
        "{instance} has ended: {status}, {cause}";
    /// An instance could not be started.
    Warn NotStarted { instance: InstanceId, why: Box<str> } "{instance} is not started: {why}";
    /// The keeper's folder cannot be written to.
    Warn NotStored { instance: InstanceId, why: Errno }
        "{instance}: the keeper's folder cannot be written to: {why}";
    /// A record cannot be read.
    Warn Unreadable { path: Box<str>, why: Box<str> }
        "{path} is no record of an instance and stays as it is: {why}";
    /// Output of an instance has been lost.
    Warn OutputDropped { instance: InstanceId, bytes: u64 }
        "{instance}: {bytes} bytes of its output are lost";
    /// A client has sent a request that cannot be parsed.
    Info Misunderstood { why: Box<Malformed> } "a client was not understood: {said}", said = why.why;
}

impl Report for Fact {
    const KINDS: &'static [Kind] = FactKind::KINDS;

    const LATENCIES: &'static [Metric] = &[];

    fn nth(&self) -> usize {
        self.kind() as usize
    }

    fn took(&self) -> Option<(usize, Duration)> {
        None
    }
}
