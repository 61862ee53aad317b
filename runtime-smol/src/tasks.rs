//! The one executor of the program's thread.

use std::rc::Rc;

use smol::{LocalExecutor, Task};

thread_local! {
    static EXECUTOR: Rc<LocalExecutor<'static>> = Rc::new(LocalExecutor::new());
}

/// Runs a program and its tasks. All waits for sockets happen on this thread.
pub(crate) fn block_on<T>(program: impl Future<Output = T>) -> T {
    let executor = EXECUTOR.with(Rc::clone);
    smol::block_on(executor.run(program))
}

/// Starts a task on this thread; dropping the returned task ends it.
pub(crate) fn spawn<T: 'static>(task: impl Future<Output = T> + 'static) -> Task<T> {
    EXECUTOR.with(|executor| executor.spawn(task))
}
