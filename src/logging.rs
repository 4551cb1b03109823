//! The log of the gateway: lines to standard error, written by a thread of their own.
//!
//! A thread that logs never waits for the reader of the log: a line goes into a bounded queue, or is dropped and
//! counted. So a full pipe stops no shard, and a closed one ends nothing. The number of dropped lines is logged once
//! there is room again.
//!
//! Panics are logged too: the standard library would write them to standard error and wait there.

use crate::{
    config::Settings,
    limits::{LOG_FLUSH_TIMEOUT, LOG_QUEUE_BYTES_MAX, LOG_QUEUE_LINES_MAX},
    metrics::LOG_LINES_DROPPED,
    rt::clock,
};
use std::{
    backtrace::{Backtrace, BacktraceStatus},
    fs::File,
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Pause between two attempts to write to a descriptor that another process has made non-blocking.
const WOULD_BLOCK_PAUSE: Duration = Duration::from_millis(20);

/// A handle of the log. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    queue: flume::Sender<Entry>,
    /// Bytes of the lines that are queued.
    bytes: Arc<AtomicUsize>,
}

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// Is dropped when everything before it is written.
    Flushed(flume::Sender<()>),
}

/// Logs to standard error: for people on a terminal, JSON lines otherwise. Panics are logged too.
pub(crate) fn start(settings: &Settings) -> io::Result<Log> {
    use tracing_subscriber::fmt;
    let log = Log::to_stderr()?;
    let terminal = io::stderr().is_terminal();
    let filter = filter(&settings.log.filter);
    // What goes wrong with the log would be printed to standard error, where it went wrong.
    let logs = fmt().with_env_filter(filter).with_writer(log.clone()).with_ansi(terminal).log_internal_errors(false);
    // A second subscriber in one process is refused: then the first one stays.
    let _ = if settings.log.json.unwrap_or(!terminal) { logs.json().try_init() } else { logs.compact().try_init() };
    log.take_panics();
    Ok(log)
}

/// Returns the user's filter over ours, which leaves out what the store's libraries say of every file at every start.
fn filter(written: &str) -> EnvFilter {
    // It was checked when it was loaded.
    EnvFilter::try_new(format!("fjall=warn,lsm_tree=warn,{written}")).unwrap_or_default()
}

impl Log {
    /// Starts the thread that writes to standard error.
    fn to_stderr() -> io::Result<Self> {
        // A descriptor of its own: the lock of the standard library's would be held while a write waits.
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        Self::to(stderr, |lines| {
            tracing::warn!(lines, "log: lines were dropped: the reader of the log was too slow, or away");
        })
    }

    /// Starts the thread that writes to `out`. `report` is called with the number of lines that were dropped.
    fn to(out: impl Write + Send + 'static, report: impl Fn(u64) + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = flume::bounded(LOG_QUEUE_LINES_MAX);
        let bytes = Arc::new(AtomicUsize::new(0));
        let queued = Arc::clone(&bytes);
        let reported = LOG_LINES_DROPPED.get();
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(&lines, &queued, (out, report), reported))?;
        Ok(Self { queue, bytes })
    }

    /// Queues a line, or drops it.
    fn line(&self, line: &[u8]) {
        let before = self.bytes.fetch_add(line.len(), Ordering::Relaxed);
        let fits = before.saturating_add(line.len()) <= LOG_QUEUE_BYTES_MAX;
        if !fits || self.queue.try_send(Entry::Line(line.to_vec())).is_err() {
            self.bytes.fetch_sub(line.len(), Ordering::Relaxed);
            LOG_LINES_DROPPED.increment();
        }
    }

    /// Writes a line for the person who started the program, behind what was logged.
    pub(crate) fn say(&self, text: &str) {
        self.line(format!("{text}\n").as_bytes());
    }

    /// Waits until everything is written, at most [`LOG_FLUSH_TIMEOUT`].
    pub(crate) fn flush(&self) {
        let until = clock::now() + LOG_FLUSH_TIMEOUT;
        let (flushed, all_written) = flume::bounded::<()>(0);
        if self.queue.send_deadline(Entry::Flushed(flushed), until).is_ok() {
            // It ends when the sender is dropped, or when the time is over.
            let _written_or_late = all_written.recv_deadline(until);
        }
    }

    /// Logs the panics of all threads.
    fn take_panics(&self) {
        let log = self.clone();
        std::panic::set_hook(Box::new(move |panic| {
            let payload = panic.payload();
            let text = payload.downcast_ref::<&str>().copied();
            let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text");
            let thread = thread::current().name().unwrap_or("unnamed").to_owned();
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let trace = Backtrace::capture();
            let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
            tracing::error!(thread, place, trace, "panicked: {text}");
            // It may be the last line.
            log.flush();
        }));
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter(self)
    }
}

/// Takes one event, which is one write.
#[derive(Debug)]
pub(crate) struct LineWriter<'a>(&'a Log);

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what is queued until the last [`Log`] is dropped. `reported` is the number of dropped lines that were
/// reported.
fn write_lines(
    lines: &flume::Receiver<Entry>,
    queued: &AtomicUsize,
    (mut out, report): (impl Write, impl Fn(u64)),
    mut reported: u64,
) {
    let mut is_read = true;
    while let Ok(entry) = lines.recv() {
        match entry {
            Entry::Line(line) => {
                queued.fetch_sub(line.len(), Ordering::Relaxed);
                is_read = write_whole(&mut out, &line).is_ok();
                if !is_read {
                    // What cannot be written is lost; the metric shows it.
                    LOG_LINES_DROPPED.increment();
                }
            }
            Entry::Flushed(heard) => drop(heard),
        }
        let dropped = LOG_LINES_DROPPED.get();
        if is_read && lines.is_empty() && dropped > reported {
            report(dropped - reported);
            reported = dropped;
        }
    }
}

/// Writes a line. Another process that shares the descriptor may have made it non-blocking.
fn write_whole(out: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match out.write(line) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => line = line.get(written..).unwrap_or_default(),
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
            Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => thread::sleep(WOULD_BLOCK_PAUSE),
            Err(fault) => return Err(fault),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that takes lines when it is allowed to.
    struct Slow {
        allowed: flume::Receiver<()>,
        seen: flume::Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.allowed.recv() {
                Ok(()) => {
                    drop(self.seen.send(bytes.to_vec()));
                    Ok(bytes.len())
                }
                Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_users_filter_wins_over_what_quietens_libraries() {
        for (written, expect) in [
            ("info", "lsm_tree=warn,fjall=warn,info"),
            ("debug,fjall=trace", "lsm_tree=warn,fjall=trace,debug"),
            ("off", "lsm_tree=warn,fjall=warn,off"),
        ] {
            assert_eq!(filter(written).to_string(), expect);
        }
    }

    #[test]
    fn item7_a_reader_that_does_not_read_delays_nobody_who_logs() {
        let (allow, allowed) = flume::bounded(4);
        let (seen, lines) = flume::bounded(64);
        let (said, told) = flume::bounded(1);
        let tell = move |lines| {
            let _told_already = said.try_send(lines);
        };
        let log = Log::to(Slow { allowed, seen }, tell).expect("a thread");
        let before = LOG_LINES_DROPPED.get();
        let line = [b'x'; 1_024];
        for _ in 0..LOG_QUEUE_LINES_MAX + 100 {
            log.line(&line);
        }
        let dropped = LOG_LINES_DROPPED.get() - before;
        assert!(dropped > 0, "what is too much is dropped");
        assert!(log.bytes.load(Ordering::Relaxed) <= LOG_QUEUE_BYTES_MAX);
        let begun = clock::now();
        log.flush();
        assert!(clock::since(begun) >= LOG_FLUSH_TIMEOUT, "it waits a while for the reader, and not for ever");
        let reader = thread::spawn(move || lines.iter().count() as u64);
        let begun = clock::now();
        while told.is_empty() {
            assert!(clock::since(begun) < Duration::from_secs(30), "it tells nothing");
            let _enough_for_now = allow.try_send(());
            thread::yield_now();
        }
        assert_eq!(told.recv().expect("told"), dropped, "what was left out is said once there is room");
        drop((allow, log));
        assert!(reader.join().expect("the reader") + dropped >= LOG_QUEUE_LINES_MAX as u64 + 100);
    }

    #[test]
    fn item7_what_was_logged_before_the_end_is_written() {
        let (allow, allowed) = flume::bounded(16);
        let (seen, lines) = flume::bounded(16);
        let log = Log::to(Slow { allowed, seen }, |_| ()).expect("a thread");
        for number in 0..3 {
            allow.send(()).expect("the writer");
            log.say(&number.to_string());
        }
        log.flush();
        assert_eq!(lines.drain().collect::<Vec<_>>(), [b"0\n", b"1\n", b"2\n"]);
    }

    #[test]
    fn item7_a_descriptor_that_does_not_wait_gets_the_whole_line() {
        struct Reluctant(Vec<u8>, bool);
        impl Write for Reluctant {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1 = !self.1;
                if self.1 {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                let some = bytes.len().min(2);
                self.0.extend_from_slice(&bytes[..some]);
                Ok(some)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut out = Reluctant(Vec::new(), false);
        write_whole(&mut out, b"12345").expect("written");
        assert_eq!(out.0, b"12345");
    }
}
