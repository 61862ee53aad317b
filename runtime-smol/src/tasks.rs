//! The one executor of the program's thread, and time on it.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use async_executor::{LocalExecutor, Task};
use async_io::Timer;
use futures_lite::future::or;

thread_local! {
    static EXECUTOR: Rc<LocalExecutor<'static>> = Rc::new(LocalExecutor::new());
}

/// Runs a program and the tasks that it starts. Whoever waits for sockets does so on this thread.
pub(crate) fn block_on<T>(program: impl Future<Output = T>) -> T {
    let executor = EXECUTOR.with(Rc::clone);
    async_io::block_on(executor.run(program))
}

/// Starts a task on this thread; dropping what is returned ends it.
pub(crate) fn spawn<T: 'static>(task: impl Future<Output = T> + 'static) -> Task<T> {
    EXECUTOR.with(|executor| executor.spawn(task))
}

/// A task's turn on the thread that all share. What is there already is taken without waiting, so a peer
/// that is fast enough would keep the others out for ever.
#[derive(Default)]
pub(crate) struct Turn(u32);

impl Turn {
    /// So many things are done in one turn.
    const THINGS: u32 = 8;

    /// One more thing is done: lets the others have their turn from time to time.
    pub(crate) async fn done(&mut self) {
        self.0 = (self.0 + 1) % Self::THINGS;
        if self.0 == 0 {
            futures_lite::future::yield_now().await;
        }
    }
}

/// What comes of `done`, if that is in time.
pub(crate) async fn within<T>(time: Duration, done: impl Future<Output = T>) -> Option<T> {
    or(async { Some(done.await) }, async {
        Timer::after(time).await;
        None
    })
    .await
}

/// The same, with an error that says what was not done.
pub(crate) async fn try_within<T>(
    time: Duration,
    late: &'static str,
    done: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let late = || Err(io::Error::new(io::ErrorKind::TimedOut, late));
    within(time, done).await.unwrap_or_else(late)
}
