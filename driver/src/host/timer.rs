//! Time to wait for, as a runtime has it.

use std::time::{Duration, Instant};

use futures_lite::future::or;

/// A runtime's timers.
pub trait Timer: 'static {
    /// Completes after this time.
    fn sleep(time: Duration) -> impl Future<Output = ()>;

    /// Completes then or later.
    fn sleep_until(at: Instant) -> impl Future<Output = ()>;

    /// Lets the other tasks and the sockets have their turn.
    fn yield_now() -> impl Future<Output = ()>;
}

/// What comes of `done`, if that is in time.
pub async fn within<T: Timer, O>(time: Duration, done: impl Future<Output = O>) -> Option<O> {
    or(async { Some(done.await) }, async {
        T::sleep(time).await;
        None
    })
    .await
}
