//! The one executor of the program's thread, and time on it.

use std::rc::Rc;
use std::time::Duration;

use async_executor::{LocalExecutor, Task};
use async_io::Timer;
use futures_lite::future::or;

pub(crate) use hax_driver::host::turn::Turn;

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

/// What comes of `done`, if that is in time.
pub(crate) async fn within<T>(time: Duration, done: impl Future<Output = T>) -> Option<T> {
    or(async { Some(done.await) }, async {
        Timer::after(time).await;
        None
    })
    .await
}
