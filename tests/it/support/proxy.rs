//! A TCP proxy between the gateway and its broker that can swallow what the broker says, keep it back, and cut.

use super::ports;
use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    target: SocketAddr,
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

/// For whom, and what.
type KeptBack = (TcpStream, Vec<u8>);

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

    /// `nats://…` of the proxy.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
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
        for (mut client, bytes) in kept_back.take().into_iter().flatten() {
            drop(client.write_all(&bytes));
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

    /// Passes on what the server said, or does not. Returns whether the connection goes on.
    fn downward(&self, client: &mut TcpStream, bytes: &[u8]) -> bool {
        if self.swallow.load(Ordering::SeqCst) {
            return true;
        }
        // Held while it is written: what is let go is not overtaken.
        let mut kept_back = lock(&self.kept_back);
        if let Some(kept_back) = &mut *kept_back {
            kept_back.push((client.try_clone().unwrap(), bytes.to_vec()));
            return true;
        }
        client.write_all(bytes).is_ok()
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
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(5)),
            Err(_) => return,
        }
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
    thread::spawn(move || pump(client, server, |to, bytes| up.upward(to, bytes)));
    thread::spawn(move || pump(server_too, client_too, |to, bytes| down.downward(to, bytes)));
}

/// Moves bytes until either side ends, or `pass` says so.
fn pump(mut from: TcpStream, mut to: TcpStream, pass: impl Fn(&mut TcpStream, &[u8]) -> bool) {
    let mut buffer = vec![0; 64 * 1_024];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || !pass(&mut to, &buffer[..count]) {
            break;
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
