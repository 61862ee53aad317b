//! A task's turn on the thread that all share.

/// What is there already is taken without waiting, so a peer that is fast enough would keep the others out
/// for ever.
#[derive(Debug)]
pub struct Turn {
    done: u32,
    things: u32,
}

impl Default for Turn {
    fn default() -> Self {
        Self::of(8)
    }
}

impl Turn {
    /// So many things are done in one turn.
    #[must_use]
    pub fn of(things: u32) -> Self {
        Self { done: 0, things }
    }

    /// For who accepts connections and decides on them: that is little work, and who waits for it waits
    /// behind all that came before.
    #[must_use]
    pub fn of_listener() -> Self {
        Self::of(64)
    }

    /// One more thing is done: lets the others have their turn from time to time.
    pub async fn done(&mut self) {
        self.done += 1;
        if self.done >= self.things {
            self.done = 0;
            futures_lite::future::yield_now().await;
        }
    }
}
