//! Three real nats-servers with JetStream that are one cluster, on loopback, each with its ports and directory.
//!
//! Clients and the servers' routes can each go through proxies. A pair of servers has one route link: the later server
//! connects to the earlier one, and the address that servers tell each other leads nowhere, so that nothing passes by
//! the proxy. Accounts keep tests apart that share a cluster: what one stores, the others do not see.

use super::{broker::Broker, eventually, nats::NatsServer, ports, proxy::Proxy};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Servers of a cluster: one can be lost.
pub const SERVERS: usize = 3;

/// Elections after a kill take up to nine seconds each on a quiet machine.
const ELECTION: Duration = Duration::from_secs(90);
/// How long one server is waited for before another is asked.
const ANSWER: Duration = Duration::from_secs(2);
/// Accounts that are there to be given out.
const ACCOUNTS: usize = 80;
/// The user of the system account.
const SYSTEM: &str = "\"user\":\"sys\",\"pass\":\"sys\",";

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    servers: Vec<NatsServer>,
    frozen: [bool; SERVERS],
    /// In front of each server, for clients.
    client_links: Vec<Proxy>,
    /// Between each pair of servers.
    route_links: Vec<RouteLink>,
    accounts_given: AtomicUsize,
}

/// What two servers say to each other passes here.
#[derive(Debug)]
struct RouteLink {
    /// The earlier first.
    ends: (usize, usize),
    proxy: Proxy,
}

impl Cluster {
    /// Starts one whose clients and routes are connected directly.
    pub fn start() -> Self {
        Self::with(false, "")
    }

    /// Starts one whose clients and routes go through proxies.
    pub fn start_behind_proxies() -> Self {
        Self::with(true, "")
    }

    /// The one that tests share which stop nothing: each has an account of its own ([`Cluster::account`]).
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts one, behind proxies or not, with further lines of configuration for each server.
    pub fn with(proxies: bool, lines: &str) -> Self {
        let routes: Vec<SocketAddr> = (0..SERVERS).map(|_| ports::free()).collect();
        let mut route_links = Vec::new();
        if proxies {
            for later in 1..SERVERS {
                for (earlier, route) in routes[..later].iter().enumerate() {
                    route_links.push(RouteLink { ends: (earlier, later), proxy: Proxy::start(*route) });
                }
            }
        }
        let to = |earlier: usize, later: usize| {
            let link = route_links.iter().find(|link| link.ends == (earlier, later));
            link.map_or(routes[earlier], |link| link.proxy.address())
        };
        let mut servers: Vec<NatsServer> = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            // Itself, which it skips, because a server without any route is no member of a cluster.
            let others = (0..index).map(|other| to(other, index)).chain([*route]);
            let others: Vec<String> = others.map(|address| format!("\"nats://{address}\"")).collect();
            let mut text = format!(
                "jetstream {{ store_dir: \"@DIR@/js\" }}\n\
                 cluster {{\n name: \"c{}\"\n listen: \"{route}\"\n advertise: \"127.0.0.1:1\"\n no_advertise: true\n \
                 routes: [{}]\n}}\n\
                 lame_duck_grace_period: \"1s\"\nlame_duck_duration: \"30s\"\n{lines}\n",
                routes[0].port(),
                others.join(", ")
            );
            text.push_str(&accounts());
            servers.push(NatsServer::stopped(&text));
        }
        for server in &mut servers {
            server.restart();
        }
        let client_links =
            if proxies { servers.iter().map(|server| Proxy::start(server.address())).collect() } else { Vec::new() };
        let cluster =
            Self { servers, frozen: [false; SERVERS], client_links, route_links, accounts_given: AtomicUsize::new(0) };
        cluster.wait_for_all();
        cluster
    }

    /// The addresses for clients, by the proxies if there are any.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        if self.client_links.is_empty() {
            self.servers.iter().map(NatsServer::address).collect()
        } else {
            self.client_links.iter().map(Proxy::address).collect()
        }
    }

    /// `nats://…,…,…` for the gateway: all servers, and the account of those who do not log in.
    pub fn url(&self) -> String {
        self.addresses().iter().map(|address| format!("nats://{address}")).collect::<Vec<_>>().join(",")
    }

    /// An account that nobody else has, as if it were a server.
    pub fn account(&self) -> NatsServer {
        let number = self.accounts_given.fetch_add(1, Ordering::Relaxed);
        assert!(number < ACCOUNTS, "all accounts are given out: ACCOUNTS must be larger");
        NatsServer::account(&format!("a{number}"), &self.addresses())
    }

    /// One of its servers.
    pub fn server(&self, index: usize) -> &NatsServer {
        &self.servers[index]
    }

    /// What clients say to a server passes here.
    pub fn client_link(&self, index: usize) -> &Proxy {
        &self.client_links[index]
    }

    /// What these two say to each other passes here.
    pub fn route_link(&self, one: usize, other: usize) -> &Proxy {
        let ends = (one.min(other), one.max(other));
        &self.route_links.iter().find(|link| link.ends == ends).unwrap().proxy
    }

    /// The links of a server to the others.
    pub fn route_links_of(&self, index: usize) -> impl Iterator<Item = &Proxy> {
        let of_it = move |link: &&RouteLink| link.ends.0 == index || link.ends.1 == index;
        self.route_links.iter().filter(of_it).map(|link| &link.proxy)
    }

    /// All links between clients and servers, and between servers.
    pub fn links(&self) -> impl Iterator<Item = &Proxy> {
        self.client_links.iter().chain(self.route_links.iter().map(|link| &link.proxy))
    }

    /// A connection to a server that runs, past the proxies.
    pub fn broker(&self) -> Broker {
        let index = self.awake().next().unwrap();
        Broker::connect(&self.servers[index])
    }

    /// Makes a stream with three copies, and waits until it has a leader.
    pub fn create_stream(&self, name: &str, subject: &str, config: &Value) {
        let mut whole = json!({
            "name": name, "subjects": [subject], "retention": "limits", "storage": "file", "num_replicas": SERVERS
        });
        for (key, value) in config.as_object().into_iter().flatten() {
            whole[key] = value.clone();
        }
        let answer =
            eventually("a stream is made", ELECTION, || self.ask("", &format!("$JS.API.STREAM.CREATE.{name}"), &whole));
        assert!(answer.get("error").is_none(), "{answer}");
        self.wait_for_leader(name);
    }

    /// Who leads a stream, if somebody does and says so.
    pub fn leader(&self, stream: &str) -> Option<usize> {
        let info = self.ask("", &format!("$JS.API.STREAM.INFO.{stream}"), &Value::Null)?;
        self.index_of(info["cluster"]["leader"].as_str()?)
    }

    /// Who leads a stream, as soon as somebody does.
    pub fn wait_for_leader(&self, stream: &str) -> usize {
        eventually("a stream has a leader", ELECTION, || self.leader(stream))
    }

    /// Waits until every copy of a stream has what its leader has.
    pub fn wait_for_copies(&self, stream: &str) {
        eventually("all copies of a stream are current", ELECTION, || {
            let info = self.ask("", &format!("$JS.API.STREAM.INFO.{stream}"), &Value::Null)?;
            let copies = info["cluster"]["replicas"].as_array()?;
            let current = copies.iter().filter(|copy| copy["current"] == true && copy["offline"] != true).count();
            (current == SERVERS - 1).then_some(())
        });
    }

    /// Has a stream's leader hand over. Returns whether it did: without a leader nobody answers.
    pub fn step_down(&self, stream: &str) -> bool {
        let answer = self.ask("", &format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}"), &Value::Null);
        answer.is_some_and(|answer| answer["success"] == true)
    }

    /// Has a stream's leader hand over until this server leads.
    pub fn make_leader(&self, stream: &str, index: usize) {
        eventually("a stream is led by a certain server", ELECTION, || {
            if self.leader(stream) == Some(index) {
                return Some(());
            }
            self.step_down(stream);
            self.wait_for_leader(stream);
            None
        });
    }

    /// Who leads JetStream itself, if somebody does and says so.
    pub fn meta_leader(&self) -> Option<usize> {
        let info = self.ask(SYSTEM, "$SYS.REQ.SERVER.PING.JSZ", &json!({"leader_only": true}))?;
        self.index_of(info["server"]["name"].as_str()?)
    }

    /// Has JetStream's leader hand over. Returns whether it did.
    pub fn meta_step_down(&self) -> bool {
        let answer = self.ask(SYSTEM, "$JS.API.META.LEADER.STEPDOWN", &Value::Null);
        answer.is_some_and(|answer| answer["success"] == true)
    }

    /// Waits until JetStream has a leader that sees all servers.
    pub fn wait_for_all(&self) {
        eventually("JetStream has a leader and all servers", ELECTION, || {
            let info = self.ask(SYSTEM, "$SYS.REQ.SERVER.PING.JSZ", &json!({"leader_only": true}))?;
            let others = info["data"]["meta_cluster"]["replicas"].as_array()?;
            let current = others.iter().filter(|other| other["current"] == true && other["offline"] != true).count();
            (current == SERVERS - 1).then_some(())
        });
    }

    /// `kill -9` of a server.
    pub fn kill9(&mut self, index: usize) {
        self.thaw(index);
        self.servers[index].kill9();
    }

    /// An orderly stop (SIGTERM) of a server.
    pub fn stop(&mut self, index: usize) {
        self.thaw(index);
        self.servers[index].stop();
    }

    /// Tells a server to let its clients and leaderships go; it ends by itself after some time.
    pub fn lame_duck(&self, index: usize) {
        self.servers[index].signal("USR2");
    }

    /// Waits until a server that was told to go has ended.
    pub fn wait_for_its_end(&mut self, index: usize) {
        self.servers[index].wait_for_its_end(ELECTION);
    }

    /// SIGSTOP: a server that is there and does nothing.
    pub fn freeze(&mut self, index: usize) {
        self.servers[index].signal("STOP");
        self.frozen[index] = true;
    }

    /// SIGCONT: it goes on.
    pub fn thaw(&mut self, index: usize) {
        if std::mem::take(&mut self.frozen[index]) {
            self.servers[index].signal("CONT");
        }
    }

    /// Starts a server (again), and waits until it speaks, not until it has caught up ([`Cluster::wait_for_all`]).
    pub fn restart(&mut self, index: usize) {
        self.thaw(index);
        self.servers[index].restart();
    }

    /// Asks each server that is awake, one after the other, until one answers.
    pub fn ask(&self, login: &str, subject: &str, body: &Value) -> Option<Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.awake().find_map(|index| {
            let mut broker = Broker::try_connect(self.servers[index].address(), login, ANSWER).ok()?;
            serde_json::from_slice(&broker.try_request(subject, body.as_bytes()).ok()?).ok()
        })
    }

    fn awake(&self) -> impl Iterator<Item = usize> {
        (0..SERVERS).filter(|index| self.servers[*index].runs() && !self.frozen[*index])
    }

    /// Which server has this name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.servers.iter().position(|server| server.name() == name)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // One after the other, orderly stops would wait for those that are gone already.
        for server in &mut self.servers {
            server.kill9();
        }
    }
}

/// The system's account, one for those who do not log in, and those that are given out.
fn accounts() -> String {
    let mut text = String::from(
        "accounts {\n $SYS { users: [ { user: sys, password: sys } ] }\n \
         open { jetstream: enabled, users: [ { user: open, password: open } ] }\n",
    );
    for number in 0..ACCOUNTS {
        writeln!(text, " a{number} {{ jetstream: enabled, users: [ {{ user: a{number}, password: a{number} }} ] }}")
            .unwrap();
    }
    text.push_str("}\nno_auth_user: open\n");
    text
}

#[test]
fn an_account_of_a_cluster_sees_what_is_its_own() {
    let cluster = Cluster::shared();
    let accounts = [cluster.account(), cluster.account()];
    let mut brokers = accounts.each_ref().map(Broker::connect);
    brokers[0].create_stream("S", "s", &json!({"num_replicas": 3}));
    eventually("its leader is there", ELECTION, || {
        brokers[0].publish("s", "", b"x");
        (brokers[0].count("S") > 0).then_some(())
    });
    assert_eq!(brokers[1].count("S"), 0);
}
