//! Which I/O driver runs, and why.
//!
//! `auto` means: io_uring if one of the set-ups that make it as fast as epoll is available
//! (`SINGLE_ISSUER|DEFER_TASKRUN`, kernel 6.1, else `COOP_TASKRUN`, 5.19), else epoll. io_uring
//! without them was measured at two thirds of epoll (docs/adr/0001), so it runs only when forced.
//! Containers commonly forbid io_uring; that is found out by trying, once, before any shard starts.

use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};
use std::{io, str::FromStr};

/// Entries of a shard's submission queue; more operations than this at once only cost a further system call.
const RING_ENTRIES: u32 = 4096;
/// Entries of a ring that is only tried.
const PROBE_ENTRIES: u32 = 8;

/// Which I/O driver the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverChoice {
    /// io_uring where it pays, else epoll.
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// epoll.
    Epoll,
}

impl FromStr for DriverChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "io_uring" | "io-uring" | "uring" => Ok(Self::IoUring),
            "epoll" => Ok(Self::Epoll),
            _ => Err(format!("driver {text:?}: one of auto, io_uring, epoll")),
        }
    }
}

impl std::fmt::Display for DriverChoice {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        })
    }
}

/// How a shard's runtime is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// io_uring with `SINGLE_ISSUER|DEFER_TASKRUN`.
    UringDefer,
    /// io_uring with `COOP_TASKRUN`.
    UringCoop,
    /// io_uring without flags.
    UringPlain,
    /// epoll.
    Epoll,
}

/// The driver that was chosen, and the reason in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// Set-up.
    pub flavor: Flavor,
    /// Why this one.
    pub reason: String,
}

impl Driver {
    /// Decides by trying. The error says why a forced driver cannot run.
    pub fn choose(choice: DriverChoice) -> Result<Self, String> {
        if choice == DriverChoice::Epoll {
            return Ok(Self { flavor: Flavor::Epoll, reason: "chosen by the configuration".to_owned() });
        }
        let mut refusals = Vec::new();
        for flavor in [Flavor::UringDefer, Flavor::UringCoop] {
            match probe(flavor) {
                Ok(()) => return Ok(Self { flavor, reason: format!("{} is available", flavor.set_up()) }),
                Err(refusal) => refusals.push(format!("{}: {refusal}", flavor.set_up())),
            }
        }
        if choice == DriverChoice::Auto {
            return Ok(Self { flavor: Flavor::Epoll, reason: refusals.join("; ") });
        }
        match probe(Flavor::UringPlain) {
            Ok(()) => Ok(Self { flavor: Flavor::UringPlain, reason: format!("forced; {}", refusals.join("; ")) }),
            Err(refusal) => Err(format!(
                "driver io_uring: the kernel refuses it ({refusal}). Containers forbid it by default: allow the io_uring \
                 system calls in the seccomp profile, or use --driver auto"
            )),
        }
    }

    /// The word for logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.flavor {
            Flavor::Epoll => "epoll",
            Flavor::UringDefer | Flavor::UringCoop | Flavor::UringPlain => "io_uring",
        }
    }
}

impl Flavor {
    /// The set-up in the kernel's words.
    fn set_up(self) -> &'static str {
        match self {
            Self::UringDefer => "io_uring with SINGLE_ISSUER and DEFER_TASKRUN",
            Self::UringCoop => "io_uring with COOP_TASKRUN",
            Self::UringPlain => "io_uring without flags",
            Self::Epoll => "epoll",
        }
    }

    fn builder(self) -> io_uring::Builder {
        let mut builder = io_uring::IoUring::builder();
        match self {
            Self::UringDefer => {
                builder.setup_single_issuer().setup_defer_taskrun();
            }
            Self::UringCoop => {
                builder.setup_coop_taskrun();
            }
            Self::UringPlain | Self::Epoll => {}
        }
        builder
    }
}

/// Whether a ring of this set-up can be made and has the operations that the runtime uses.
fn probe(flavor: Flavor) -> Result<(), String> {
    if !monoio::utils::detect_uring() {
        return Err("not permitted, or operations are missing".to_owned());
    }
    flavor.builder().build(PROBE_ENTRIES).map(drop).map_err(|error| error.to_string())
}

/// Runs a future on this thread's own runtime until it ends.
pub fn run<F: Future>(flavor: Flavor, main: impl FnOnce() -> F) -> io::Result<F::Output> {
    if flavor == Flavor::Epoll {
        let mut runtime = RuntimeBuilder::<LegacyDriver>::new().with_entries(RING_ENTRIES).enable_timer().build()?;
        return Ok(runtime.block_on(async { main().await }));
    }
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new()
        .uring_builder(flavor.builder())
        .with_entries(RING_ENTRIES)
        .enable_timer()
        .build()?;
    Ok(runtime.block_on(async { main().await }))
}

/// Pins the calling thread to the `index`-th core that the process may use, where every shard gets
/// a core of its own. Under a CPU quota the cores are not ours to choose: then nothing is pinned.
#[must_use]
pub fn pin_to_core(index: usize, shards: usize) -> bool {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let quota = std::thread::available_parallelism().map_or(1, usize::from);
    if shards > cores.len() || quota < cores.len() {
        return false;
    }
    cores.get(index).is_some_and(|core| core_affinity::set_for_current(*core))
}

/// Lifts the soft limit of open files to the hard one: a connection is a file. Returns the limit that holds then.
#[must_use]
pub fn raise_file_limit() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_named_and_says_why_it_was_chosen() {
        let epoll = Driver::choose(DriverChoice::Epoll).unwrap();
        assert_eq!((epoll.name(), epoll.flavor), ("epoll", Flavor::Epoll));
        let auto = Driver::choose(DriverChoice::Auto).unwrap();
        assert_ne!(auto.flavor, Flavor::UringPlain, "io_uring without flags is slower than epoll");
        assert!(!auto.reason.is_empty());
    }

    #[test]
    fn both_drivers_run_a_future_to_its_end() {
        for flavor in [Driver::choose(DriverChoice::Auto).unwrap().flavor, Flavor::Epoll] {
            let answer = std::thread::spawn(move || {
                run(flavor, || async {
                    super::super::sleep(std::time::Duration::from_millis(1)).await;
                    42
                })
            });
            assert_eq!(answer.join().unwrap().unwrap(), 42);
        }
    }
}
