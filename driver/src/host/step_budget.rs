//! The budget of a task on the shared thread.

/// A count of steps after which a task yields. Available data is taken without waiting, so a fast peer would
/// starve the other tasks without it.
#[derive(Debug)]
pub struct StepBudget {
    done: u32,
    budget: u32,
}

impl Default for StepBudget {
    fn default() -> Self {
        Self::of(8)
    }
}

impl StepBudget {
    /// Creates a budget of this number of steps.
    #[must_use]
    pub fn of(things: u32) -> Self {
        Self { done: 0, budget: things }
    }

    /// Creates a budget for a listener that accepts connections and decides on them. It has more steps: one
    /// step is little work, and a new connection waits behind the whole backlog.
    #[must_use]
    pub fn of_listener() -> Self {
        Self::of(64)
    }

    /// Counts one step; yields to the other tasks at the end of the budget.
    pub async fn step(&mut self) {
        self.done += 1;
        if self.done >= self.budget {
            self.done = 0;
            futures_lite::future::yield_now().await;
        }
    }
}
