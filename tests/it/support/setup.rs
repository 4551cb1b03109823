//! The setups that the contract holds on: two backends, two drivers; and a cluster, with one of the drivers.

use super::gateway::Gateway;
use std::sync::OnceLock;

/// Where records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The embedded store.
    Local,
    /// A nats-server of the test's own.
    Nats,
}

/// Which I/O driver the gateway is told to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// `--driver io_uring`: fails to start where the kernel forbids it.
    IoUring,
    /// `--driver epoll`.
    Epoll,
}

/// One of the five.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// Where records are kept.
    pub backend: Backend,
    /// Which I/O driver.
    pub driver: Driver,
    /// Whether the broker is a cluster of three, and everything has three copies.
    pub replicated: bool,
}

impl Driver {
    /// The word for `--driver`. A machine without `io_uring` may say so; it then runs these tests on
    /// epoll and prints that it did. Without the word from its owner they fail.
    pub fn word(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::IoUring if no_io_uring() => {
                super::report("SLUICEGATE_TEST_NO_IO_URING is set: this io_uring test ran on epoll");
                "epoll"
            }
            Self::IoUring => "io_uring",
        }
    }
}

/// Whether the owner of this machine says that it has no `io_uring`.
pub fn no_io_uring() -> bool {
    std::env::var_os("SLUICEGATE_TEST_NO_IO_URING").is_some_and(|value| value == "1")
}

impl Setup {
    /// Embedded store, `io_uring`.
    pub const LOCAL_IO_URING: Self = Self::alone(Backend::Local, Driver::IoUring);
    /// Embedded store, epoll.
    pub const LOCAL_EPOLL: Self = Self::alone(Backend::Local, Driver::Epoll);
    /// NATS, `io_uring`.
    pub const NATS_IO_URING: Self = Self::alone(Backend::Nats, Driver::IoUring);
    /// NATS, epoll.
    pub const NATS_EPOLL: Self = Self::alone(Backend::Nats, Driver::Epoll);

    /// A cluster of three nats-servers, epoll: what a cluster does differently has nothing to do with the driver.
    pub const CLUSTER: Self = Self { replicated: true, ..Self::NATS_EPOLL };

    const fn alone(backend: Backend, driver: Driver) -> Self {
        Self { backend, driver, replicated: false }
    }

    /// The one gateway of this setup that tests share which change nothing but their own stations.
    pub fn shared(self) -> &'static Gateway {
        static SHARED: [OnceLock<Gateway>; 5] = [const { OnceLock::new() }; 5];
        let alone = usize::from(self.backend == Backend::Nats) * 2 + usize::from(self.driver == Driver::Epoll);
        SHARED[if self.replicated { 4 } else { alone }].get_or_init(|| Gateway::start(self))
    }
}

/// Makes of each `fn name(gateway: &Gateway)` a test on the shared gateway of every setup.
macro_rules! on_every_setup {
    ($($name:ident),+ $(,)?) => {
        on_every_setup!(@each local_io_uring LOCAL_IO_URING $($name)+);
        on_every_setup!(@each local_epoll LOCAL_EPOLL $($name)+);
        on_every_setup!(@each nats_io_uring NATS_IO_URING $($name)+);
        on_every_setup!(@each nats_epoll NATS_EPOLL $($name)+);
    };
    (@each $module:ident $setup:ident $($name:ident)+) => {
        mod $module {
            $(
                #[test]
                fn $name() {
                    super::$name($crate::support::setup::Setup::$setup.shared());
                }
            )+
        }
    };
}

/// The same with each driver on the embedded store alone: for what has nothing to do with where records are kept.
macro_rules! on_both_drivers {
    ($($name:ident),+ $(,)?) => {
        on_every_setup!(@each local_io_uring LOCAL_IO_URING $($name)+);
        on_every_setup!(@each local_epoll LOCAL_EPOLL $($name)+);
    };
}

/// The same as `on_every_setup`, and on the shared gateway of the cluster.
macro_rules! on_every_setup_and_the_cluster {
    ($($name:ident),+ $(,)?) => {
        on_every_setup!($($name),+);
        on_every_setup!(@each cluster CLUSTER $($name)+);
    };
}

/// Makes of each `fn name(setup: Setup)` a test on the setups named: it starts its own gateway.
macro_rules! on_setups {
    ($($module:ident $setup:ident),+ => $names:tt) => {
        $( on_setups!(@each $module $setup $names); )+
    };
    (@each $module:ident $setup:ident [$($name:ident),+ $(,)?]) => {
        mod $module {
            $(
                #[test]
                fn $name() {
                    super::$name($crate::support::setup::Setup::$setup);
                }
            )+
        }
    };
}
