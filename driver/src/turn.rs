//! A task's turn on the thread that all share.

/// What is there already is taken without waiting, so a peer that is fast enough would keep the others out
/// for ever.
#[derive(Debug, Default)]
pub struct Turn(u32);

impl Turn {
    /// So many things are done in one turn.
    const THINGS: u32 = 8;

    /// One more thing is done: lets the others have their turn from time to time.
    pub async fn done(&mut self) {
        self.0 = (self.0 + 1) % Self::THINGS;
        if self.0 == 0 {
            futures_lite::future::yield_now().await;
        }
    }
}
