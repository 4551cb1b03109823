//! The runtime of a shard: the only module that names monoio.
//!
//! Everything a shard does with a socket, a timer or another task goes through here, so that the
//! runtime can be replaced (docs/adr/0001) and its known defects are avoided in one place:
//! an accept or a connect is never cancelled, a read on a living connection is never dropped, no
//! task wakes itself in a loop.

pub mod clock;
mod diag;
mod driver;
mod net;
mod notify;
mod pool;
mod time;
#[cfg(test)]
pub(crate) mod virtual_time;

pub use diag::{ConnectionId, SocketDiag, Unacknowledged};
pub use driver::{Driver, DriverChoice, Flavor, pin_to_core, raise_file_limit, run};
pub use net::{Guard, Listener, ReadHalf, Reservation, Stream, WriteHalf, connect};
pub use notify::{Changed, Notify, Once, Waiters, unless, yield_now};
pub use pool::BufferPool;
pub use time::{Elapsed, chance, deadline, jittered, sleep};

/// Starts a task on this shard. It runs until it ends; nothing joins it.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    #[cfg(test)]
    let Some(task) = virtual_time::spawn(task) else { return };
    drop(monoio::spawn(task));
}
