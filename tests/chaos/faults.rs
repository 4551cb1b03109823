//! What is done to servers, gateways and the lines between them. Which faults, to whom and for how long follows from the
//! seed alone; when exactly, from how fast the cluster recovers.

use crate::support::{
    cluster::{Cluster, SERVERS},
    gateway::Gateway,
    proxy::{Proxy, Way},
};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Slow enough that answers come seconds late.
const SLOW: usize = 10_000;
/// Between two faults: what the last one left is settled, and counted with it.
const SETTLE: Duration = Duration::from_secs(4);

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The routes of a stream's leader are slow, and it hands over meanwhile.
    SlowRoutes,
    /// The line between the gateways and a server is slow.
    SlowLink,
    /// Leaders hand over.
    StepDown,
    /// A leader is killed.
    Kill,
    /// The leader of the registry is killed: of what gateways know about users, keys and schemas.
    RegistryKilled,
    /// A leader is stopped in order.
    Stop,
    /// A leader sleeps.
    Freeze,
    /// A leader is told to go.
    LameDuck,
    /// All servers are told to go and started again, one after the other.
    RollingRestart,
    /// Nothing passes between the gateways and a server, and nobody says so.
    SilentLink,
    /// A server hears its clients, and they do not hear it.
    SilentAnswers,
    /// A server reaches its clients and no other server.
    Partition,
    /// Acknowledgements come twice.
    RepeatedAnswers,
    /// Connections are cut.
    Cut,
    /// A gateway is killed and started again.
    GatewayKilled,
}

/// All of them, by name.
pub const FAULTS: [(&str, Fault); 15] = [
    ("slow-routes", Fault::SlowRoutes),
    ("slow-link", Fault::SlowLink),
    ("step-down", Fault::StepDown),
    ("kill", Fault::Kill),
    ("registry-killed", Fault::RegistryKilled),
    ("stop", Fault::Stop),
    ("freeze", Fault::Freeze),
    ("lame-duck", Fault::LameDuck),
    ("rolling-restart", Fault::RollingRestart),
    ("silent-link", Fault::SilentLink),
    ("silent-answers", Fault::SilentAnswers),
    ("partition", Fault::Partition),
    ("repeated-answers", Fault::RepeatedAnswers),
    ("cut", Fault::Cut),
    ("gateway-killed", Fault::GatewayKilled),
];

/// Numbers that follow from a seed.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next one below `end` (splitmix64).
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }

    /// A time between these two numbers of seconds.
    fn seconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from * 1_000)
            + Duration::from_millis(self.below(usize::try_from((to - from) * 1_000).unwrap()) as u64)
    }
}

/// When a fault held, since the start, the time to settle included.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Which.
    pub name: &'static str,
    /// From when.
    pub from: Duration,
    /// Until when.
    pub until: Duration,
}

/// Everything that faults are done to.
#[derive(Debug)]
pub struct Field<'a> {
    /// The servers.
    pub cluster: &'a mut Cluster,
    /// The gateways.
    pub gateways: &'a mut [Gateway],
    /// The streams whose leaders are meant.
    pub streams: &'a [String],
    /// What decides.
    pub random: Random,
}

impl Field<'_> {
    /// Does one fault after the other until the time is up; each kind once before any comes again.
    pub fn play(&mut self, start: Instant, length: Duration, chosen: &[(&'static str, Fault)]) -> Vec<Window> {
        let (mut windows, mut left) = (Vec::new(), Vec::new());
        while start.elapsed() < length {
            if left.is_empty() {
                left = chosen.to_vec();
            }
            let (name, fault) = left.swap_remove(self.random.below(left.len()));
            let from = start.elapsed();
            eprintln!("{:>6.1} s  {name}", from.as_secs_f64());
            self.fault(fault);
            for link in self.cluster.links() {
                link.heal();
            }
            self.cluster.wait_for_all();
            thread::sleep(SETTLE);
            windows.push(Window { name, from, until: start.elapsed() });
        }
        windows
    }

    fn fault(&mut self, fault: Fault) {
        let stream = self.streams[self.random.below(self.streams.len())].clone();
        let leader = self.cluster.wait_for_leader(&stream);
        let time = self.random.seconds(4, 10);
        match fault {
            Fault::SlowRoutes => self.slow_routes(&stream, leader, time),
            Fault::SlowLink => {
                self.cluster.client_link(leader).throttle(Some(SLOW));
                thread::sleep(time);
            }
            Fault::StepDown => self.step_down(),
            Fault::Kill => self.away(leader, time, Cluster::kill9),
            Fault::RegistryKilled => {
                let leader = self.cluster.wait_for_leader("KV_sluicegate");
                self.away(leader, time, Cluster::kill9);
            }
            Fault::Stop => self.away(leader, time, Cluster::stop),
            Fault::Freeze => {
                self.cluster.freeze(leader);
                thread::sleep(time);
                self.cluster.thaw(leader);
            }
            Fault::LameDuck => self.lame_duck(leader),
            Fault::RollingRestart => {
                for server in 0..SERVERS {
                    self.lame_duck(server);
                    self.cluster.wait_for_all();
                }
            }
            Fault::SilentLink => self.silence(leader, &[Way::Up, Way::Down], time),
            Fault::SilentAnswers => self.silence(leader, &[Way::Down], time),
            Fault::Partition => {
                self.each_route(leader, |link| link.silence(&[Way::Up, Way::Down]));
                thread::sleep(2 * time);
            }
            Fault::RepeatedAnswers => self.repeated_answers(time),
            Fault::Cut => {
                for link in self.cluster.links() {
                    link.cut(false);
                }
            }
            Fault::GatewayKilled => {
                let gateway = self.random.below(self.gateways.len());
                self.gateways[gateway].kill9();
                self.gateways[gateway].restart();
            }
        }
    }

    fn each_route(&self, server: usize, change: impl Fn(&Proxy)) {
        self.cluster.route_links_of(server).for_each(change);
    }

    /// Old and new leader both answer what the old one had not answered yet.
    fn slow_routes(&mut self, stream: &str, leader: usize, time: Duration) {
        self.each_route(leader, |link| link.throttle(Some(SLOW)));
        thread::sleep(time / 2);
        self.cluster.step_down(stream);
        thread::sleep(time / 2);
    }

    fn step_down(&mut self) {
        for _ in 0..4 {
            let stream = self.random.below(self.streams.len());
            self.cluster.step_down(&self.streams[stream]);
            thread::sleep(Duration::from_secs(1));
        }
        self.cluster.meta_step_down();
    }

    fn away(&mut self, server: usize, time: Duration, end: fn(&mut Cluster, usize)) {
        end(self.cluster, server);
        thread::sleep(time);
        self.cluster.restart(server);
    }

    fn lame_duck(&mut self, server: usize) {
        self.cluster.lame_duck(server);
        self.cluster.wait_for_its_end(server);
        self.cluster.restart(server);
    }

    fn silence(&mut self, server: usize, ways: &[Way], time: Duration) {
        self.cluster.client_link(server).silence(ways);
        thread::sleep(2 * time);
    }

    fn repeated_answers(&mut self, time: Duration) {
        let later = self.random.seconds(0, 2);
        for server in 0..SERVERS {
            self.cluster.client_link(server).repeat_answers(Some(later));
        }
        thread::sleep(time);
        self.step_down();
        // What was lost is not to be taken for what is said again.
        for server in 0..SERVERS {
            self.cluster.client_link(server).silence(&[Way::Up]);
            thread::sleep(later);
            self.cluster.client_link(server).silence(&[]);
        }
    }
}
