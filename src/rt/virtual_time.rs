//! A runtime for unit tests whose time is virtual: no sockets, no kernel, no waiting.
//!
//! Within [`run`], `rt::spawn`, `rt::sleep`, `rt::deadline` and `rt::clock` obey it. Tasks run one after the other, in the order in
//! which they were woken, until all of them wait; only then does time move, at once, to the next moment for which a task sleeps.
//! So a test of minutes takes microseconds, and takes the same course every time. A test moves time by sleeping.
//!
//! Other threads keep their own time, and one that wakes a task here makes a test depend on chance: leave them out.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

/// The wall clock of every test when it begins: 2027-01-15 08:00:00 UTC.
const UNIX_TIME: Duration = Duration::from_secs(1_800_000_000);
/// Tasks that are woken and have not run.
const QUEUE_LENGTH: usize = 1 << 20;
/// Turns of tasks without any time passing; more are a task that wakes itself for ever.
const TURNS_AT_ONCE: u32 = 10_000_000;

/// The task of the future that [`run`] was given.
const MAIN: u64 = 0;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// The runtime of a thread.
#[derive(Debug)]
struct Runtime {
    begun: Instant,
    passed: Cell<Duration>,
    /// Sleeps by when they end, then in the order in which they began.
    sleeps: RefCell<BTreeMap<(Duration, u64), Waker>>,
    /// Tasks that were started and have not run.
    started: RefCell<Vec<(u64, NoDebug)>>,
    woken: (flume::Sender<u64>, flume::Receiver<u64>),
    /// Counts tasks and sleeps.
    numbers: Cell<u64>,
}

struct NoDebug(Task);

impl std::fmt::Debug for NoDebug {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a task")
    }
}

thread_local! {
    static RUNTIME: RefCell<Option<Rc<Runtime>>> = const { RefCell::new(None) };
}

fn current() -> Option<Rc<Runtime>> {
    RUNTIME.with_borrow(Clone::clone)
}

/// Returns the virtual time of this thread, if it has one.
pub(super) fn now() -> Option<Instant> {
    current().map(|runtime| runtime.begun + runtime.passed.get())
}

/// Returns the virtual wall clock of this thread, if it has one.
pub(super) fn unix_time() -> Option<Duration> {
    current().map(|runtime| UNIX_TIME + runtime.passed.get())
}

/// Starts a task, or returns it if this thread's time is real.
pub(super) fn spawn<T: Future<Output = ()> + 'static>(task: T) -> Option<T> {
    let Some(runtime) = current() else { return Some(task) };
    let number = runtime.number();
    runtime.started.borrow_mut().push((number, NoDebug(Box::pin(task))));
    runtime.woken.0.try_send(number).expect("room for a task");
    None
}

/// Returns a sleep, if this thread's time is virtual.
pub(super) fn sleep(duration: Duration) -> Option<Sleep> {
    let runtime = current()?;
    // Timers of the real runtime have a resolution of a millisecond, and never end early.
    let until = runtime.passed.get() + duration.max(Duration::from_nanos(1));
    let number = runtime.number();
    Some(Sleep { runtime, key: (until, number) })
}

/// A sleep. Dropping it leaves nothing behind.
#[derive(Debug)]
pub(super) struct Sleep {
    runtime: Rc<Runtime>,
    key: (Duration, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.runtime.passed.get() >= self.key.0 {
            return Poll::Ready(());
        }
        self.runtime.sleeps.borrow_mut().insert(self.key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.runtime.sleeps.borrow_mut().remove(&self.key);
    }
}

impl Runtime {
    fn number(&self) -> u64 {
        self.numbers.set(self.numbers.get() + 1);
        self.numbers.get()
    }

    /// Moves time to the end of the next sleep, and wakes every task whose sleep is over then. `false`: nobody sleeps.
    fn advance(&self) -> bool {
        let mut sleeps = self.sleeps.borrow_mut();
        let Some((&(until, _), _)) = sleeps.first_key_value() else { return false };
        self.passed.set(self.passed.get().max(until));
        while let Some(first) = sleeps.first_entry() {
            if first.key().0 > until {
                break;
            }
            first.remove().wake();
        }
        true
    }
}

/// Wakes one task: its number joins the queue, unless it is in there.
#[derive(Debug)]
struct Bell {
    number: u64,
    rung: AtomicBool,
    woken: flume::Sender<u64>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            // The runtime may have ended.
            let _ = self.woken.try_send(self.number);
        }
    }
}

/// Ends the virtual time of a thread, also when a test fails.
struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        // Not within the borrow: what is dropped with the runtime may ask for the time.
        let runtime = RUNTIME.take();
        drop(runtime);
    }
}

/// Runs `main` to its end in virtual time. Tasks that are left over then are dropped.
///
/// It panics if everything waits and nobody sleeps: then nothing would ever happen again.
#[expect(clippy::disallowed_methods, reason = "virtual time begins at some real instant")]
pub(crate) fn run<T>(main: impl Future<Output = T>) -> T {
    let runtime = Rc::new(Runtime {
        begun: Instant::now(),
        passed: Cell::default(),
        sleeps: RefCell::default(),
        started: RefCell::default(),
        woken: flume::bounded(QUEUE_LENGTH),
        numbers: Cell::new(MAIN),
    });
    assert!(RUNTIME.replace(Some(Rc::clone(&runtime))).is_none(), "time is virtual already");
    let _leave = Leave;
    let bell = |number| Arc::new(Bell { number, rung: AtomicBool::new(false), woken: runtime.woken.0.clone() });
    let mut main = pin!(main);
    let main_bell = bell(MAIN);
    Arc::clone(&main_bell).wake();
    let mut tasks: HashMap<u64, (Task, Arc<Bell>)> = HashMap::new();
    let mut turns = 0;
    loop {
        let Ok(number) = runtime.woken.1.try_recv() else {
            assert!(runtime.advance(), "everything waits, and nobody sleeps");
            turns = 0;
            continue;
        };
        turns += 1;
        assert!(turns < TURNS_AT_ONCE, "tasks wake each other for ever, and no time passes");
        for (number, NoDebug(task)) in runtime.started.take() {
            tasks.insert(number, (task, bell(number)));
        }
        if number == MAIN {
            main_bell.rung.store(false, Ordering::Release);
            if let Poll::Ready(value) =
                main.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&main_bell))))
            {
                return value;
            }
        } else if let Some((task, bell)) = tasks.get_mut(&number) {
            bell.rung.store(false, Ordering::Release);
            if task.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(bell)))).is_ready() {
                tasks.remove(&number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::rt::{self, Notify, clock};
    use std::{cell::RefCell, rc::Rc, time::Duration};

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn time_moves_only_when_everything_waits_and_then_to_the_next_end_of_a_sleep() {
        super::run(async {
            let (begun, wall) = (clock::now(), clock::unix_time());
            for _ in 0..1_000 {
                rt::yield_now().await;
            }
            assert_eq!(clock::since(begun), Duration::ZERO, "working takes no time");
            let seen = Rc::new(RefCell::new(Vec::new()));
            for (name, hours) in [("later", 2), ("first", 1), ("last", 3), ("with it", 1)] {
                let seen = Rc::clone(&seen);
                rt::spawn(async move {
                    rt::sleep(hours * HOUR).await;
                    seen.borrow_mut().push((name, clock::since(begun)));
                });
            }
            rt::sleep(HOUR * 5 / 2).await;
            assert_eq!(*seen.borrow(), [("first", HOUR), ("with it", HOUR), ("later", 2 * HOUR)]);
            assert_eq!(clock::unix_time(), wall + HOUR * 5 / 2, "both clocks go together");
        });
        assert!(super::now().is_none(), "and afterwards time is real");
    }

    #[test]
    fn a_deadline_is_virtual_too_and_what_it_drops_wakes_nobody() {
        super::run(async {
            let begun = clock::now();
            assert!(rt::deadline(HOUR, Notify::default().wait()).await.is_err());
            assert_eq!(clock::since(begun), HOUR);
            assert_eq!(rt::deadline(HOUR, async { 42 }).await, Ok(42));
            rt::sleep(2 * HOUR).await;
            assert_eq!(clock::since(begun), 3 * HOUR);
        });
    }

    #[test]
    #[should_panic(expected = "everything waits")]
    fn a_test_that_waits_for_ever_fails() {
        super::run(Notify::default().wait());
    }
}
