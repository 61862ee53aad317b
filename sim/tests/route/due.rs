//! The future events of a pair of routers.

use hax_core::base::id::{CallId, ExecId};
use hax_core::exec;
use hax_core::machine::Input;

/// A future event.
pub(crate) enum Due {
    Input(Input),
    Write(ExecId),
    End(ExecId),
}

impl Due {
    pub(crate) fn is_of(&self, helper: ExecId) -> bool {
        match self {
            Self::Write(id) | Self::End(id) => *id == helper,
            Self::Input(Input::Exec(exec::Event::Exited { id, .. })) => *id == helper,
            Self::Input(_) => false,
        }
    }

    pub(crate) fn is_about(&self, call: CallId) -> bool {
        matches!(self, Self::Input(Input::Consul(reply)) if reply.id == call)
    }
}
