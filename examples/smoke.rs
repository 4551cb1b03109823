use sluicegate::{auth::*, config::*, directory::messages::*, metrics::ShardMetrics, rt::*, shard::*, ingest::HeaderPolicy, limits::Limits, backend::{local, nats}, station::*};
use std::{sync::Arc, time::Duration};
#[global_allocator]
static A: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() {
    tracing_subscriber::fmt().with_env_filter("debug").with_writer(std::io::stderr).init();
    let args: Vec<String> = std::env::args().collect();
    let nats = args.iter().position(|a| a == "--nats").map(|i| args[i+1].clone());
    let choice = if args.iter().any(|a| a == "--epoll") { DriverChoice::Epoll } else { DriverChoice::Auto };
    let driver = Driver::choose(choice).unwrap();
    eprintln!("{driver:?} files {}", raise_file_limit());
    let shards = args.iter().position(|a| a == "--shards").map_or(1, |i| args[i+1].parse().unwrap());
    let res = Reservation::new("127.0.0.1:4444".parse().unwrap()).unwrap();
    let (asks_tx, asks_rx) = flume::bounded(1024);
    let settings = StationSettings{auto_create:true,layout:Layout::Plain,partitions:1,retention_age:Some(Duration::from_secs(3600)),retention_records:None,retention_bytes:None,memory:false,replicas:1,duplicate_window:Duration::from_secs(120)};
    let store = if nats.is_none() { Some(local::Store::open(std::path::Path::new("/tmp/smoke-data"), local::StationDefaults::from(&settings), local::Clock::system()).unwrap()) } else { None };
    let users = Arc::new(Users::new("root", []));
    let mut txs = vec![]; let mut running = vec![];
    for index in 0..shards {
        let (tx, rx) = flume::bounded(1024); txs.push(tx);
        let backend = match (&store, &nats) { (Some(s), _) => BackendParts::Local(s.handle()), (None, Some(p)) => BackendParts::Nats(nats::LinkSettings{servers: vec![("127.0.0.1".into(), p.parse().unwrap())], credential: nats::Credential::None, name: format!("sg-{index}"), flavor: driver.flavor}, format!("t{index}{}", std::process::id())), _ => unreachable!() };
        running.push(start(Parts{index, shards, driver: driver.clone(), listener: res.listener().unwrap(), backend, keys: TokenKeys::new("access-key-access-key","refresh-key-refresh"), users: users.clone(), lifetimes:(Duration::from_secs(900),Duration::from_secs(18000)), policy: HeaderPolicy::new(vec!["content-type".into()], vec!["x-".into(),"ce-".into()]), limits: Limits::default(), metrics: Arc::new(ShardMetrics::default()), asks: asks_tx.clone(), inbox: rx}).unwrap());
    }
    let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for ask in asks_rx.iter() {
        let answer = match ask.question {
            Question::Login{..} => Answer::Login(Ok(())),
            Question::Station{name, create} => Answer::Station(match &store { Some(s) => rt.block_on(s.station(&name, create)), None => Ok(Arc::new(Station{ partitions: Box::new([Partition{stream: name.internal().into(), subject: name.as_str().into()}]), name, record_bytes_max: None, replicas: 1})) }),
            Question::Consumer{station, group} => Answer::Consumer(match &store { Some(s) => rt.block_on(s.consumer(&station, group.as_ref())), None => Ok(Arc::new(Consumer{durable:"rest-gateway".into(), station: station.name.clone(), ack_wait: Duration::from_secs(30)})) }),
        };
        txs[ask.shard as usize].send(Push::Answer{ticket: ask.ticket, answer}).unwrap();
    }
}
