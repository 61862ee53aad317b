//! The timers of a runtime.

use std::time::{Duration, Instant};

use futures_lite::future::or;

/// The timers of a runtime.
pub trait Timer: 'static {
    /// Completes after this time.
    fn sleep(time: Duration) -> impl Future<Output = ()>;

    /// Completes at this time or later.
    fn sleep_until(at: Instant) -> impl Future<Output = ()>;

    /// Lets the other tasks and the sockets have their turn.
    fn yield_now() -> impl Future<Output = ()>;
}

/// Returns the result of `done`, or `None` after the timeout.
pub async fn within<T: Timer, O>(time: Duration, done: impl Future<Output = O>) -> Option<O> {
    or(async { Some(done.await) }, async {
        T::sleep(time).await;
        None
    })
    .await
}
