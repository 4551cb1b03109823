//! A TCP proxy between the gateway and its broker that can swallow what the broker says, and cut.

use super::ports;
use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
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

    /// Ends every connection. New ones work, and hear the server, unless `refuse` says otherwise.
    pub fn cut(&self, refuse: bool) {
        self.state.refuse.store(refuse, Ordering::SeqCst);
        let mut open = self.state.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
        drop(open);
        self.state.swallow.store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        self.cut(true);
    }
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
        state.open.lock().unwrap_or_else(PoisonError::into_inner).push(stream.try_clone().unwrap());
    }
    let (client_too, server_too) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || pump(client, server, None));
    let state = Arc::clone(state);
    thread::spawn(move || pump(server_too, client_too, Some(&state)));
}

/// Moves bytes until either side ends; `lossy` is asked each time whether to throw them away.
fn pump(mut from: TcpStream, mut to: TcpStream, lossy: Option<&State>) {
    let mut buffer = vec![0; 64 * 1_024];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 {
            break;
        }
        let swallow = lossy.is_some_and(|state| state.swallow.load(Ordering::SeqCst));
        if !swallow && to.write_all(&buffer[..count]).is_err() {
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
