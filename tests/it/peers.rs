//! What one peer may take: memory that it only announces, connections.

use crate::support::{
    PATIENCE, eventually,
    gateway::{Gateway, Plan},
    http::{Http, once, request},
    setup::Setup,
};
use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

on_setups!(local_io_uring LOCAL_IO_URING, local_epoll LOCAL_EPOLL => [
    f4_lengths_that_are_only_announced_take_nothing_from_others,
    f4_bodies_of_logins_take_a_share_and_no_more,
    one_network_cannot_take_all_connections,
]);

const OK: &str = "{\"error\":null,\"success\":true}";

const NARROW: &str =
    "[limits]\nbody_bytes_max = \"64KiB\"\ninflated_bytes_max = \"64KiB\"\nshard_body_bytes_max = \"256KiB\"";

/// Begins so many logins of 64 KiB, of which so many bytes come.
fn logins(gateway: &Gateway, count: usize, bytes: usize) -> Vec<TcpStream> {
    let begin = |_| {
        let mut stream = TcpStream::connect(gateway.address()).unwrap();
        let head = "POST /auth/authenticate HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: 65536\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        // Who has too much is refused, and may not read this.
        drop(stream.write_all(&vec![b' '; bytes]));
        stream
    };
    (0..count).map(begin).collect()
}

fn f4_lengths_that_are_only_announced_take_nothing_from_others(setup: Setup) {
    let gateway = Plan::new(setup).shards(1).config(NARROW).start();
    gateway.token();
    let held = logins(&gateway, 200, 1);
    // All have been read by the time that this one is answered.
    Http::connect(gateway.address()).is_alive();
    for _ in 0..20 {
        gateway.single("peers", "text/plain", &vec![b'x'; 60_000]).is_json(200, OK);
        gateway.login("root", crate::support::gateway::ROOT_PASSWORD);
    }
    drop(held);
}

fn f4_bodies_of_logins_take_a_share_and_no_more(setup: Setup) {
    let gateway = Plan::new(setup).shards(1).config(NARROW).start();
    gateway.token();
    let held = logins(&gateway, 50, 60_000);
    for _ in 0..20 {
        gateway.single("peers", "text/plain", &vec![b'x'; 60_000]).is_json(200, OK);
    }
    let refused = held.iter().filter(|stream| {
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut answer = [0; 12];
        let mut reader: &TcpStream = stream;
        reader.read_exact(&mut answer).is_ok() && answer == *b"HTTP/1.1 503"
    });
    assert!(refused.count() > 40, "the share holds one or two of them");
    drop(held);
    eventually("there is room for logins again", PATIENCE, || {
        let login = request("POST", "/auth/authenticate", &[("Content-Type", "application/json")], &vec![b' '; 60_000]);
        (Http::connect(gateway.address()).exchange(&login).status == 400).then_some(())
    });
}

fn connect_from(last: u8, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 2, last), 0)).into())?;
    socket.connect(&to.into())?;
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The beginning of what is answered to a request; a connection that is refused may be reset under it.
fn status_of(stream: &mut TcpStream) -> Option<String> {
    stream.write_all(b"GET /monitoring/status HTTP/1.1\r\nHost: t\r\n\r\n").ok()?;
    let mut answer = [0; 4_096];
    let count = stream.read(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer[..count]).into_owned())
}

fn one_network_cannot_take_all_connections(setup: Setup) {
    let gateway = Plan::new(setup).shards(1).config("[limits]\nconnections_per_network_max = 8").start();
    let served = |stream: &mut TcpStream| status_of(stream).is_some_and(|answer| answer.starts_with("HTTP/1.1 200"));
    let mut all: Vec<TcpStream> = (0..8).map(|_| connect_from(1, gateway.address()).unwrap()).collect();
    assert!(all.iter_mut().all(served));
    let refused = (0..50).find_map(|_| status_of(&mut connect_from(1, gateway.address()).ok()?));
    let refused = refused.expect("one of them can read why");
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("connections from one network") && refused.contains("Retry-After: "), "{refused}");
    let page = ["Access-Control-Allow-Origin: *\r\n", "Access-Control-Expose-Headers: "];
    assert!(page.iter().all(|field| refused.contains(field)), "a page may read it too: {refused}");
    assert!(served(&mut connect_from(2, gateway.address()).unwrap()), "another network has its own");
    assert!(all.iter_mut().all(served), "who was there stays");
    drop(all);
    eventually("there is room again", PATIENCE, || served(&mut connect_from(1, gateway.address()).ok()?).then_some(()));
    // Without a bound nobody is counted.
    let gateway = Plan::new(setup).shards(1).config("[limits]\nconnections_per_network_max = 0").start();
    let mut all: Vec<TcpStream> = (0..50).map(|_| connect_from(1, gateway.address()).unwrap()).collect();
    assert!(all.iter_mut().all(served));
    assert_eq!(once(gateway.address(), "GET", "/monitoring/status", &[], b"").status, 200);
}
