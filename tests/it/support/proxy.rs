//! A TCP proxy between the gateway and its broker, or between two brokers, that makes a bad network of a good one: slow,
//! late, silent one way or both, cut; it can also lose what the broker says, keep it back, and say it twice.
//!
//! All of it can be switched while it runs, and holds for connections that are open as well as for new ones.

use super::{frames::Frames, ports};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How much is moved at a time.
const CHUNK: usize = 64 * 1_024;
/// How often whoever waits looks whether there is still something to wait for.
const TICK: Duration = Duration::from_millis(5);

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From whoever connected to the server behind the proxy.
    Up,
    /// From the server to whoever connected.
    Down,
}

#[derive(Debug)]
struct State {
    target: SocketAddr,
    /// Bytes a second, each way of each connection; 0 is as fast as it goes.
    rate: AtomicUsize,
    /// Milliseconds by which everything comes later.
    delay: AtomicU64,
    silent_up: AtomicBool,
    silent_down: AtomicBool,
    /// Goes up when all connections are ended: what waits for one of them need not wait any longer.
    epoch: AtomicU64,
    /// How much later acknowledgements are said again, while they are.
    repeat: Mutex<Option<Duration>>,
    /// When, to whom and what is said again.
    repeats: Mutex<Vec<(Instant, Client, Vec<u8>)>>,
    repeated: AtomicUsize,
    swallow: AtomicBool,
    refuse: AtomicBool,
    stopped: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
    /// What is kept back for the clients, while something is.
    kept_back: Mutex<Option<Vec<KeptBack>>>,
    /// What the clients may still say before every connection is cut.
    cut_after: Mutex<Option<usize>>,
    /// Clients whose `CONNECT` says this are cut off, while it is there.
    cut_off: Mutex<Option<Vec<u8>>>,
    /// The connections of clients that have said what they are called.
    named: Mutex<Vec<(Vec<u8>, TcpStream)>>,
}

/// A client's connection. Whoever writes holds it, and writes whole messages.
type Client = Arc<Mutex<TcpStream>>;

/// For whom, and what.
type KeptBack = (Client, Vec<u8>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// Starts one in front of `target`.
    pub fn start(target: SocketAddr) -> Self {
        let address = ports::free();
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let state = Arc::new(State {
            target,
            rate: AtomicUsize::new(0),
            delay: AtomicU64::new(0),
            silent_up: AtomicBool::new(false),
            silent_down: AtomicBool::new(false),
            epoch: AtomicU64::new(0),
            repeat: Mutex::new(None),
            repeats: Mutex::new(Vec::new()),
            repeated: AtomicUsize::new(0),
            swallow: AtomicBool::new(false),
            refuse: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            open: Mutex::new(Vec::new()),
            kept_back: Mutex::new(None),
            cut_after: Mutex::new(None),
            cut_off: Mutex::new(None),
            named: Mutex::new(Vec::new()),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || accept(&listener, &shared));
        Self { address, state }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `nats://…` of the proxy.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// From now on, so many bytes a second pass each way of each connection; `None` is as fast as it goes.
    pub fn throttle(&self, bytes_a_second: Option<usize>) {
        self.state.rate.store(bytes_a_second.unwrap_or(0), Ordering::SeqCst);
    }

    /// From now on, everything comes so much later, and at most 64 KiB in that time.
    pub fn delay(&self, by: Duration) {
        self.state.delay.store(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// From now on, nothing passes these ways. Connections stay open, and nothing is lost: what waits comes when the
    /// proxy speaks again, as after a partition.
    pub fn silence(&self, ways: &[Way]) {
        self.state.silent_up.store(ways.contains(&Way::Up), Ordering::SeqCst);
        self.state.silent_down.store(ways.contains(&Way::Down), Ordering::SeqCst);
    }

    /// From now on, everything passes again, at once and at full speed, and nothing is said twice.
    pub fn heal(&self) {
        self.silence(&[]);
        self.throttle(None);
        self.delay(Duration::ZERO);
        self.repeat_answers(None);
    }

    /// From now on, every acknowledgement of a publish is said again so much later, as servers do between which
    /// leadership changes; `None` ends it.
    pub fn repeat_answers(&self, later: Option<Duration>) {
        *lock(&self.state.repeat) = later;
    }

    /// How many acknowledgements were said again.
    pub fn answers_repeated(&self) -> usize {
        self.state.repeated.load(Ordering::SeqCst)
    }

    /// From now on, what the server says is lost; what the clients say still arrives.
    pub fn swallow_answers(&self) {
        self.state.swallow.store(true, Ordering::SeqCst);
    }

    /// From now on, what the server says waits until it is let go; what the clients say still arrives.
    pub fn keep_answers_back(&self) {
        lock(&self.state.kept_back).get_or_insert_default();
    }

    /// How much waits to be let go.
    pub fn bytes_kept_back(&self) -> usize {
        lock(&self.state.kept_back).iter().flatten().map(|(_, bytes)| bytes.len()).sum()
    }

    /// Lets go what was kept back, in its order, and everything that comes after it.
    pub fn let_answers_go(&self) {
        let mut kept_back = lock(&self.state.kept_back);
        for (client, bytes) in kept_back.take().into_iter().flatten() {
            drop(lock(&client).write_all(&bytes));
        }
    }

    /// When the clients have said so much more, every connection ends. New ones work.
    pub fn cut_after(&self, bytes: usize) {
        *lock(&self.state.cut_after) = Some(bytes);
    }

    /// From now on, clients whose `CONNECT` says this get no connection, and lose the one they have.
    pub fn cut_off(&self, name: &str) {
        *lock(&self.state.cut_off) = Some(name.as_bytes().to_vec());
        for (greeting, stream) in lock(&self.state.named).iter() {
            if contains(greeting, name.as_bytes()) {
                drop(stream.shutdown(Shutdown::Both));
            }
        }
    }

    /// From now on, everybody gets a connection again.
    pub fn let_back(&self) {
        *lock(&self.state.cut_off) = None;
    }

    /// Ends every connection. New ones work, and hear the server, unless `refuse` says otherwise.
    pub fn cut(&self, refuse: bool) {
        self.state.refuse.store(refuse, Ordering::SeqCst);
        self.state.end_all();
        self.state.swallow.store(false, Ordering::SeqCst);
    }
}

impl State {
    fn end_all(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        for stream in lock(&self.open).drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Passes on what a client said. Returns whether the connection goes on.
    fn upward(&self, server: &mut TcpStream, bytes: &[u8]) -> bool {
        if bytes.starts_with(b"CONNECT ") {
            lock(&self.named).push((bytes.to_vec(), server.try_clone().unwrap()));
            if lock(&self.cut_off).as_ref().is_some_and(|name| contains(bytes, name)) {
                return false;
            }
        }
        // Two clients take turns: together they say so much and no more.
        let mut cut_after = lock(&self.cut_after);
        match &mut *cut_after {
            Some(left) if *left <= bytes.len() => {
                drop(server.write_all(&bytes[..*left]));
                *cut_after = None;
                self.end_all();
                return false;
            }
            Some(left) => *left -= bytes.len(),
            None => {}
        }
        server.write_all(bytes).is_ok()
    }

    /// Passes on whole messages that the server said, or does not. Returns whether the connection goes on.
    fn downward(&self, client: &Client, bytes: &[u8]) -> bool {
        if self.swallow.load(Ordering::SeqCst) || bytes.is_empty() {
            return true;
        }
        // Held while it is written: what is let go is not overtaken.
        let mut kept_back = lock(&self.kept_back);
        if let Some(kept_back) = &mut *kept_back {
            kept_back.push((Arc::clone(client), bytes.to_vec()));
            return true;
        }
        lock(client).write_all(bytes).is_ok()
    }

    /// Remembers an acknowledgement that is to be said again.
    fn note(&self, client: &Client, message: &[u8]) {
        if let Some(later) = *lock(&self.repeat) {
            lock(&self.repeats).push((Instant::now() + later, Arc::clone(client), message.to_vec()));
        }
    }

    /// Says again what it is time for.
    fn say_again(&self) {
        let now = Instant::now();
        let due: Vec<_> = lock(&self.repeats).extract_if(.., |(due, ..)| *due <= now).collect();
        for (_, client, message) in due {
            if lock(&client).write_all(&message).is_ok() {
                self.repeated.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// How much may be passed on at a time.
    fn chunk(&self) -> usize {
        match self.rate.load(Ordering::SeqCst) {
            0 => CHUNK,
            rate => (rate / 10).clamp(64, CHUNK),
        }
    }

    /// Waits as long as what was just read has to: until it is late enough, and while its way is silent.
    fn hold_back(&self, way: Way, epoch: u64) {
        let read = Instant::now();
        let waits = || {
            let delay = Duration::from_millis(self.delay.load(Ordering::SeqCst));
            let silent = if way == Way::Up { &self.silent_up } else { &self.silent_down };
            read.elapsed() < delay || silent.load(Ordering::SeqCst)
        };
        while self.epoch.load(Ordering::SeqCst) == epoch && waits() {
            thread::sleep(TICK);
        }
    }

    /// Waits as long as these bytes take at the speed of the line.
    fn take_time(&self, bytes: usize, epoch: u64) {
        let begun = Instant::now();
        let waits = || match self.rate.load(Ordering::SeqCst) {
            0 => false,
            rate => begun.elapsed().as_millis() < (bytes * 1_000 / rate) as u128,
        };
        while self.epoch.load(Ordering::SeqCst) == epoch && waits() {
            thread::sleep(TICK);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        self.cut(true);
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    while !state.stopped.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((client, _)) => serve(client, state),
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(TICK),
            Err(_) => return,
        }
        state.say_again();
    }
}

fn serve(client: TcpStream, state: &Arc<State>) {
    if state.refuse.load(Ordering::SeqCst) {
        return;
    }
    let Ok(server) = TcpStream::connect(state.target) else { return };
    client.set_nonblocking(false).unwrap();
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap();
        lock(&state.open).push(stream.try_clone().unwrap());
    }
    let (client_too, server_too) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (up, down) = (Arc::clone(state), Arc::clone(state));
    thread::spawn(move || {
        let mut to = server.try_clone().unwrap();
        pump(client, &server, &up, Way::Up, |bytes| up.upward(&mut to, bytes));
    });
    thread::spawn(move || {
        let (to, mut frames) = (Arc::new(Mutex::new(client_too.try_clone().unwrap())), Frames::default());
        pump(server_too, &client_too, &down, Way::Down, |bytes| {
            let whole = frames.feed(bytes, |message| down.note(&to, message));
            down.downward(&to, &whole)
        });
    });
}

/// Moves bytes until either side ends, or `pass` says so.
fn pump(mut from: TcpStream, to: &TcpStream, state: &State, way: Way, mut pass: impl FnMut(&[u8]) -> bool) {
    let mut buffer = vec![0; CHUNK];
    let epoch = state.epoch.load(Ordering::SeqCst);
    'connection: while let Ok(count) = from.read(&mut buffer) {
        if count == 0 {
            break;
        }
        state.hold_back(way, epoch);
        let mut left = &buffer[..count];
        while !left.is_empty() {
            let (piece, rest) = left.split_at(state.chunk().min(left.len()));
            state.take_time(piece.len(), epoch);
            if !pass(piece) {
                break 'connection;
            }
            left = rest;
        }
    }
    drop(to.shutdown(Shutdown::Both));
    drop(from.shutdown(Shutdown::Both));
}

#[test]
fn what_the_server_says_is_lost_and_what_it_hears_is_not() {
    use super::{PATIENCE, broker::Broker, eventually, nats::NatsServer};
    let server = NatsServer::start();
    let proxy = Proxy::start(server.address());
    let mut direct = Broker::connect(&server);
    direct.create_stream("S", "s", &serde_json::json!({}));
    let mut stream = TcpStream::connect(proxy.address).unwrap();
    let mut greeting = [0; 5];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"INFO ");
    proxy.swallow_answers();
    stream.write_all(b"CONNECT {}\r\nPUB s 1\r\nx\r\nPING\r\n").unwrap();
    eventually("the server has it", PATIENCE, || (direct.count("S") == 1).then_some(()));
    proxy.cut(false);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(!rest.windows(4).any(|window| window == b"PONG"));
    drop(TcpStream::connect(proxy.address).unwrap());
}

#[test]
fn what_is_kept_back_comes_later_and_a_cut_comes_after_so_many_bytes() {
    use super::{PATIENCE, eventually, nats::NatsServer};
    let server = NatsServer::start();
    let proxy = Proxy::start(server.address());
    let mut stream = TcpStream::connect(proxy.address).unwrap();
    stream.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n").unwrap();
    let mut said = String::new();
    while !said.ends_with("PONG\r\n") {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).unwrap();
        said.push(char::from(byte[0]));
    }
    proxy.keep_answers_back();
    stream.write_all(b"PING\r\n").unwrap();
    eventually("the answer is kept back", PATIENCE, || (proxy.bytes_kept_back() == 6).then_some(()));
    proxy.let_answers_go();
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"PONG\r\n");
    proxy.cut_after(8);
    stream.write_all(b"PING\r\nPI").unwrap();
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest));
    assert!(rest.is_empty() || rest == b"PONG\r\n", "{rest:?}");
    let mut again = TcpStream::connect(proxy.address).unwrap();
    let mut greeting = [0; 5];
    again.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"INFO ");
}

#[test]
fn a_slow_line_is_slow_a_silent_one_says_it_later_and_an_answer_comes_twice() {
    use super::{PATIENCE, broker::Broker, eventually, nats::NatsServer};
    let server = NatsServer::start();
    let proxy = Proxy::start(server.address());
    let mut direct = Broker::connect(&server);
    direct.create_stream("S", "s", &serde_json::json!({}));
    let mut stream = TcpStream::connect(proxy.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"CONNECT {}\r\nSUB inbox 1\r\nPING\r\n").unwrap();
    read_until(&mut stream, "PONG\r\n");
    proxy.throttle(Some(1_000));
    let start = Instant::now();
    stream.write_all(format!("PUB s inbox 2000\r\n{}\r\n", "x".repeat(2_000)).as_bytes()).unwrap();
    read_until(&mut stream, "\"seq\":1}\r\n");
    assert!(start.elapsed() > Duration::from_secs(1), "2,000 bytes at 1,000 a second: {:?}", start.elapsed());
    proxy.throttle(None);
    for (way, stored) in [(Way::Up, 1), (Way::Down, 3)] {
        proxy.silence(&[way]);
        stream.write_all(b"PUB s inbox 1\r\ny\r\n").unwrap();
        if way == Way::Down {
            eventually("the server heard it", PATIENCE, || (direct.count("S") == stored).then_some(()));
        } else {
            thread::sleep(Duration::from_millis(300));
            assert_eq!(direct.count("S"), stored, "it heard nothing");
        }
        proxy.heal();
        read_until(&mut stream, &format!("\"seq\":{}}}\r\n", if way == Way::Up { 2 } else { 3 }));
    }
    proxy.repeat_answers(Some(Duration::from_millis(100)));
    stream.write_all(b"PUB s inbox 1\r\nz\r\n").unwrap();
    for _ in 0..2 {
        read_until(&mut stream, "\"seq\":4}\r\n");
    }
    eventually("it is counted", PATIENCE, || (proxy.answers_repeated() == 1).then_some(()));
}

#[cfg(test)]
fn read_until(stream: &mut TcpStream, end: &str) {
    let mut said = Vec::new();
    while !said.ends_with(end.as_bytes()) {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&said)));
        said.push(byte[0]);
    }
}
