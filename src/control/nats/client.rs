//! The control plane's own connection to the broker, and JetStream's API over it.
//!
//! The connection is made in the background and for ever: the gateway starts without a broker, and is not ready until
//! there is one. Every call has a deadline, and its error tells a shard whether it may ask again.
//!
//! The API bodies are written here and not taken from async-nats: since 2.12 the server refuses a
//! field that it does not know, so what is sent must be exactly what all supported versions know.
//!
//! The broker reports a missing permission for a publish on the connection and not in an answer: the call would only
//! time out. So permission errors are passed to the calls that wait, by subject.

use crate::control::nats::publish_mode::Version;
use crate::{
    config::{NatsCredential, NatsServer, NatsSettings},
    limits::{CONTROL_CONNECT_PAUSE_MAX, CONTROL_CONNECT_TIMEOUT, JETSTREAM_CALL_TIMEOUT},
    metrics::ControlMetrics,
    reject::Reject,
    rt::clock,
};
use async_nats::{
    Client, ConnectOptions, Event, HeaderMap, ReconnectToServer, Request, RequestErrorKind, Server, ServerAddr,
    ServerError, ServerInfo, connection::State,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{broadcast, watch},
    time::{sleep, timeout},
};

/// A connection on which the broker does not answer two pings is given up.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// How often the connection's state is read, in case its event got lost.
const STATE_INTERVAL: Duration = Duration::from_millis(500);
/// Between two lines in the log about attempts to connect that fail.
const REPEAT_INTERVAL: Duration = Duration::from_secs(30);
/// Permission errors that wait to be read by calls in flight.
const DENIALS_KEPT: usize = 64;

/// The connection. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::control) struct NatsClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    up: watch::Receiver<bool>,
    connections: watch::Receiver<u64>,
    denials: broadcast::Sender<Arc<str>>,
    hold: Duration,
    began: Instant,
    /// Milliseconds after `began` at which JetStream was last known to serve.
    served_ms: AtomicU64,
    /// Likewise, at which a server last answered for the registry that the other servers do not follow.
    leaderless_ms: AtomicU64,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::control) enum CallError {
    /// No connection during the whole hold: the call was not sent.
    Away,
    /// The call was sent, and no answer came.
    TimedOut,
    /// The broker's permissions forbid the subject.
    Forbidden(Box<str>),
    /// Nobody serves the JetStream API in this account.
    NoJetStream,
    /// JetStream's own error: code and text.
    Refused(u32, Box<str>),
    /// The answer is not what the API promises.
    Unreadable(Box<str>),
}

impl CallError {
    /// Returns whether the stream or consumer does not exist.
    pub(in crate::control) fn is_absent(&self) -> bool {
        matches!(self, Self::Refused(codes::STREAM_NOT_FOUND | codes::CONSUMER_NOT_FOUND, _))
    }

    /// Returns whether somebody else has something of this name, or has captured this subject, since before or
    /// meanwhile.
    pub(in crate::control) fn is_taken(&self) -> bool {
        matches!(
            self,
            Self::Refused(
                codes::STREAM_NAME_IN_USE
                    | codes::SUBJECT_OVERLAP
                    | codes::CONSUMER_NAME_IN_USE
                    | codes::CONSUMER_EXISTS,
                _
            )
        )
    }
}

impl From<CallError> for Reject {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Away => Self::BrokerAway,
            CallError::Refused(code, _) if codes::passes(code) => Self::BrokerAway,
            CallError::TimedOut => Self::ControlTimeout,
            CallError::Forbidden(subject) => Self::BrokerForbidden(subject),
            CallError::NoJetStream => Self::BrokerFailed("JetStream is not enabled for the gateway's account".into()),
            CallError::Refused(codes::NOT_ENABLED | codes::NOT_ENABLED_FOR_ACCOUNT, text)
            | CallError::Unreadable(text) => Self::BrokerFailed(text),
            CallError::Refused(code, text) => Self::BrokerRefused(code, text),
        }
    }
}

/// Error codes of JetStream that the gateway distinguishes.
pub(in crate::control) mod codes {
    /// JetStream has no leader at the moment.
    pub(in crate::control) const TEMPORARILY_UNAVAILABLE: u32 = 10_008;
    /// The server that answered is not the leader, or no longer.
    const NOT_LEADER: u32 = 10_009;
    /// No server that has the stream, or the consumer, runs.
    const STREAM_OFFLINE: u32 = 10_118;
    /// See [`STREAM_OFFLINE`].
    const CONSUMER_OFFLINE: u32 = 10_119;
    /// A durable of this name with another configuration.
    pub(in crate::control) const CONSUMER_NAME_IN_USE: u32 = 10_013;
    /// The stream, or the account, has as many consumers as it may.
    pub(in crate::control) const TOO_MANY_CONSUMERS: u32 = 10_026;
    /// The account has as many streams as it may.
    pub(in crate::control) const TOO_MANY_STREAMS: u32 = 10_027;
    /// No such consumer.
    pub(in crate::control) const CONSUMER_NOT_FOUND: u32 = 10_014;
    /// A stream of this name with another configuration.
    pub(in crate::control) const STREAM_NAME_IN_USE: u32 = 10_058;
    /// No such message.
    pub(in crate::control) const MESSAGE_NOT_FOUND: u32 = 10_037;
    /// No such stream.
    pub(in crate::control) const STREAM_NOT_FOUND: u32 = 10_059;
    /// There is no record at or behind this place.
    pub(in crate::control) const NO_MESSAGE: u32 = 10_037;
    /// The record that is to be removed is not there.
    pub(in crate::control) const SEQUENCE_NOT_FOUND: u32 = 10_043;
    /// Another stream has the subject.
    pub(in crate::control) const SUBJECT_OVERLAP: u32 = 10_065;
    /// JetStream is not enabled for this account.
    pub(in crate::control) const NOT_ENABLED_FOR_ACCOUNT: u32 = 10_039;
    /// JetStream is not enabled.
    pub(in crate::control) const NOT_ENABLED: u32 = 10_076;
    /// A work queue has a consumer that reads every subject.
    pub(in crate::control) const WORK_QUEUE_UNFILTERED: u32 = 10_099;
    /// A work queue has a consumer that reads this subject.
    pub(in crate::control) const WORK_QUEUE_NOT_UNIQUE: u32 = 10_100;
    /// The consumer exists with another configuration (answer to "create only").
    pub(in crate::control) const CONSUMER_EXISTS: u32 = 10_148;

    /// Returns whether an error says nothing of the object of a call, but only that nobody leads it at the moment.
    pub(in crate::control) fn passes(code: u32) -> bool {
        matches!(code, TEMPORARILY_UNAVAILABLE | NOT_LEADER | STREAM_OFFLINE | CONSUMER_OFFLINE)
    }
}

impl NatsClient {
    /// Begins to connect. An error is one of the settings, never of the network.
    pub(in crate::control) async fn connect(
        settings: &NatsSettings,
        hold: Duration,
        metrics: Arc<ControlMetrics>,
    ) -> io::Result<Self> {
        let servers: Vec<ServerAddr> = settings.servers.iter().map(address).collect::<io::Result<_>>()?;
        let (denials, _) = broadcast::channel(DENIALS_KEPT);
        let (event_seen, mut events) = watch::channel(());
        let (made, connections) = watch::channel(0_u64);
        let log = EventLog { denials: denials.clone(), began: clock::now(), said: AtomicU64::new(0) };
        let options = credential(ConnectOptions::new(), &settings.credential)?
            .name("sluicegate-control")
            .retry_on_initial_connect()
            .retain_servers_order()
            .reconnect_to_server_callback(in_turn())
            .connection_timeout(CONTROL_CONNECT_TIMEOUT)
            .reconnect_delay_callback(backoff)
            .ping_interval(PING_INTERVAL)
            .event_callback(move |event| {
                log.record(&event);
                if matches!(event, Event::Connected) {
                    made.send_modify(|count| *count = count.wrapping_add(1));
                }
                event_seen.send_replace(());
                std::future::ready(())
            });
        let client = options.connect(servers).await.map_err(io::Error::other)?;
        let (up_sender, up) = watch::channel(false);
        let watched = client.clone();
        tokio::spawn(async move {
            loop {
                let now = watched.connection_state() == State::Connected;
                up_sender.send_if_modified(|before| std::mem::replace(before, now) != now);
                metrics.broker_up.set(u64::from(now));
                tokio::select! {
                    changed = events.changed() => if changed.is_err() { sleep(STATE_INTERVAL).await },
                    () = sleep(STATE_INTERVAL) => {}
                }
            }
        });
        let (began, served_ms, leaderless_ms) = (clock::now(), AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self(Arc::new(Inner { client, up, connections, denials, hold, began, served_ms, leaderless_ms })))
    }

    /// Notes that JetStream serves: a call had an answer that only a leader gives whom others follow.
    pub(in crate::control) fn serves(&self) {
        self.note(&self.0.served_ms);
    }

    /// Notes that the registry has no leader whom others follow, as far as the server at the other end knows.
    pub(in crate::control) fn is_leaderless(&self) {
        self.note(&self.0.leaderless_ms);
    }

    fn note(&self, when: &AtomicU64) {
        let now = u64::try_from(clock::since(self.0.began).as_millis()).unwrap_or(u64::MAX);
        when.store(now.max(1), Ordering::Relaxed);
    }

    /// Returns whether JetStream was known to serve lately.
    pub(in crate::control) fn served_within(&self, time: Duration) -> bool {
        self.noted_within(&self.0.served_ms, time)
    }

    /// Returns whether the registry was lately reported to have no leader.
    pub(in crate::control) fn leaderless_within(&self, time: Duration) -> bool {
        self.noted_within(&self.0.leaderless_ms, time)
    }

    fn noted_within(&self, when: &AtomicU64, time: Duration) -> bool {
        let last = Duration::from_millis(when.load(Ordering::Relaxed));
        !last.is_zero() && clock::since(self.0.began).saturating_sub(last) < time
    }

    /// Returns whether there is another server to go to.
    pub(in crate::control) async fn has_other_servers(&self) -> bool {
        let pool = timeout(JETSTREAM_CALL_TIMEOUT, self.0.client.server_pool()).await;
        pool.is_ok_and(|pool| pool.is_ok_and(|pool| pool.len() > 1))
    }

    /// Gives the connection up and makes one to the next server.
    pub(in crate::control) async fn leave_server(&self) {
        // The only error is that the client has ended, as the runtime does.
        let _ended = self.0.client.force_reconnect().await;
    }

    /// Returns the JetStream context of async-nats, for the key-value bucket.
    pub(in crate::control) fn jetstream(&self) -> async_nats::jetstream::Context {
        let mut context = async_nats::jetstream::new(self.0.client.clone());
        context.set_timeout(JETSTREAM_CALL_TIMEOUT);
        context
    }

    /// Follows whether the connection stands.
    pub(in crate::control) fn up(&self) -> watch::Receiver<bool> {
        self.0.up.clone()
    }

    /// Counts the connections made: a new one means that something may have been missed.
    pub(in crate::control) fn connections(&self) -> watch::Receiver<u64> {
        self.0.connections.clone()
    }

    /// Returns the version of the server at the other end; without a connection, that of the last one.
    pub(in crate::control) fn version(&self) -> Option<Version> {
        Version::parse(&self.0.client.server_info().version)
    }

    /// Returns how long a caller may be kept waiting for a connection that is expected to come back.
    pub(in crate::control) fn hold(&self) -> Duration {
        self.0.hold
    }

    /// Waits until the connection stands, at most for the hold.
    pub(in crate::control) async fn connected(&self) -> Result<(), CallError> {
        let mut up = self.0.up.clone();
        match timeout(self.0.hold, up.wait_for(|up| *up)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(CallError::Away),
        }
    }

    /// Makes one call of the JetStream API: `verb` without `$JS.API.`.
    pub(in crate::control) async fn call<T: DeserializeOwned>(
        &self,
        verb: &str,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        let body = serde_json::to_vec(body).map_err(|error| CallError::Unreadable(error.to_string().into()))?;
        self.request(format!("$JS.API.{verb}"), Request::new().payload(body.into())).await
    }

    /// Publishes a record. It is stored when this returns.
    pub(in crate::control) async fn publish(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Vec<u8>,
    ) -> Result<(), CallError> {
        #[derive(Deserialize)]
        struct Stored {
            #[serde(rename = "seq")]
            _sequence: u64,
        }
        let record = Request::new().headers(headers).payload(payload.into());
        match self.request::<Stored>(subject.to_owned(), record).await {
            Ok(_) => Ok(()),
            // The caller has just found the stream, so this means that nobody leads it at the moment.
            Err(CallError::NoJetStream) => Err(CallError::Away),
            Err(error) => Err(error),
        }
    }

    async fn request<T: DeserializeOwned>(&self, subject: String, request: Request) -> Result<T, CallError> {
        self.connected().await?;
        let mut denials = self.0.denials.subscribe();
        let request = request.timeout(Some(JETSTREAM_CALL_TIMEOUT));
        let answer = tokio::select! {
            answer = self.0.client.send_request(subject.clone(), request) => answer,
            () = denied(&mut denials, &subject) => return Err(CallError::Forbidden(subject.into())),
        };
        match answer {
            Ok(message) => read(&message.payload),
            Err(error) => Err(match error.kind() {
                RequestErrorKind::NoResponders => CallError::NoJetStream,
                RequestErrorKind::TimedOut if *self.0.up.borrow() => CallError::TimedOut,
                RequestErrorKind::TimedOut => CallError::Away,
                _ => CallError::Unreadable(error.to_string().into()),
            }),
        }
    }
}

fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, CallError> {
    #[derive(Deserialize)]
    struct Failure {
        error: Option<Detail>,
    }
    #[derive(Deserialize)]
    struct Detail {
        #[serde(default)]
        code: u32,
        #[serde(default)]
        err_code: u32,
        #[serde(default)]
        description: Box<str>,
    }
    let unreadable =
        |error: serde_json::Error| CallError::Unreadable(format!("the broker's answer does not parse: {error}").into());
    let failure: Failure = serde_json::from_slice(payload).map_err(unreadable)?;
    match failure.error {
        Some(detail) => {
            let code = if detail.err_code == 0 { detail.code } else { detail.err_code };
            Err(CallError::Refused(code, detail.description))
        }
        None => serde_json::from_slice(payload).map_err(unreadable),
    }
}

/// Returns once the broker has reported that `subject` is forbidden.
async fn denied(denials: &mut broadcast::Receiver<Arc<str>>, subject: &str) {
    loop {
        match denials.recv().await {
            Ok(text) if text.contains(&format!("\"{subject}\"")) => return,
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Listens to the events of the connection.
struct EventLog {
    denials: broadcast::Sender<Arc<str>>,
    began: Instant,
    /// Seconds after `began` at which it was last logged that there is no connection; 0 for never.
    said: AtomicU64,
}

impl EventLog {
    /// Logs one line for one event; a permission error also goes to the calls.
    fn record(&self, event: &Event) {
        match event {
            Event::Connected => {
                self.said.store(0, Ordering::Relaxed);
                tracing::info!("control plane: connected to the broker");
            }
            Event::Disconnected => tracing::warn!("control plane: lost the broker; connecting again"),
            Event::ServerError(ServerError::Other(text)) if is_denial(text) => {
                tracing::warn!(error = %text, "control plane: the broker forbids the gateway a subject");
                let _nobody_waits = self.denials.send(text.as_str().into());
            }
            Event::ServerError(error) => tracing::warn!(%error, "control plane: error from the broker"),
            Event::ClientError(error) if self.may_repeat() => {
                tracing::warn!(%error, "control plane: cannot connect to the broker; trying on");
            }
            other => tracing::debug!(event = %other, "control plane: broker connection"),
        }
    }

    /// Returns whether it is time to log again that attempts to connect fail.
    fn may_repeat(&self) -> bool {
        let now = clock::since(self.began).as_secs() + 1;
        let said = self.said.load(Ordering::Relaxed);
        let due = said == 0 || now >= said + REPEAT_INTERVAL.as_secs();
        if due {
            self.said.store(now, Ordering::Relaxed);
        }
        due
    }
}

fn is_denial(text: &str) -> bool {
    text.to_ascii_lowercase().contains("permissions violation")
}

/// Returns the pause before the next attempt: exponential from 20 ms, with a little that differs between processes so
/// that they do not come in step.
fn backoff(attempts: usize) -> Duration {
    let exponent = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    let base = Duration::from_millis(20).saturating_mul(1 << exponent).min(CONTROL_CONNECT_PAUSE_MAX);
    if attempts <= 1 { Duration::ZERO } else { base + base.mul_f64(f64::from(std::process::id() % 16) / 64.0) }
}

/// Chooses the server to connect to: the first one first, and from then on never the one that was left while there is
/// another.
fn in_turn() -> impl Fn(Vec<Server>, ServerInfo) -> std::future::Ready<Option<ReconnectToServer>> + Send + Sync + 'static
{
    let last = AtomicUsize::new(usize::MAX);
    move |pool, _| {
        let next = next_of(&pool, last.load(Ordering::Relaxed));
        last.store(next.unwrap_or(usize::MAX), Ordering::Relaxed);
        let server = next.and_then(|next| pool.get(next));
        std::future::ready(server.map(|server| ReconnectToServer { addr: server.addr.clone(), delay: None }))
    }
}

/// Returns the index of the server that is to be tried after that at `last`: servers that failed less often come first,
/// then those that were configured, then the next in turn.
fn next_of(pool: &[Server], last: usize) -> Option<usize> {
    let before = if last < pool.len() { last } else { pool.len().saturating_sub(1) };
    let turn = |place: usize| (place + pool.len() - before - 1) % pool.len();
    let places = pool.iter().enumerate();
    let key =
        |place: usize, server: &Server| (place == last, server.failed_attempts, server.is_discovered, turn(place));
    places.min_by_key(|(place, server)| key(*place, server)).map(|(place, _)| place)
}

fn address(server: &NatsServer) -> io::Result<ServerAddr> {
    let bare_v6 = server.host.contains(':') && !server.host.starts_with('[');
    let host = if bare_v6 { format!("[{}]", server.host) } else { server.host.clone() };
    format!("nats://{host}:{}", server.port).parse()
}

fn credential(options: ConnectOptions, credential: &NatsCredential) -> io::Result<ConnectOptions> {
    Ok(match credential {
        NatsCredential::None => options,
        NatsCredential::UserPassword(user, password) => {
            options.user_and_password(user.clone(), password.expose().to_owned())
        }
        NatsCredential::Token(token) => options.token(token.expose().to_owned()),
        NatsCredential::Nkey(seed) => {
            key_pair(seed.expose())?;
            options.nkey(seed.expose().to_owned())
        }
        NatsCredential::Creds { jwt, seed } => {
            let pair = Arc::new(key_pair(seed.expose())?);
            options.jwt(jwt.expose().to_owned(), move |nonce| {
                let pair = Arc::clone(&pair);
                async move { pair.sign(&nonce).map_err(async_nats::AuthError::new) }
            })
        }
    })
}

fn key_pair(seed: &str) -> io::Result<nkeys::KeyPair> {
    nkeys::KeyPair::from_seed(seed)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("nkey seed of the broker: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_values_or_errors_with_the_brokers_code() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Total {
            total: u32,
        }
        for (payload, expect) in [
            (&br#"{"type":"x","total":3}"#[..], Ok(Total { total: 3 })),
            (
                br#"{"error":{"code":404,"err_code":10059,"description":"stream not found"}}"#,
                Err(CallError::Refused(10_059, "stream not found".into())),
            ),
            (br#"{"error":{"code":503,"description":"old"},"total":0}"#, Err(CallError::Refused(503, "old".into()))),
        ] {
            assert_eq!(read::<Total>(payload), expect);
        }
        for payload in [&b""[..], b"nope", br#"{"total":"x"}"#, b"[]", &[0xff, 0xfe]] {
            assert!(matches!(read::<Total>(payload), Err(CallError::Unreadable(_))), "{payload:?}");
        }
    }

    #[test]
    fn errors_say_whether_to_ask_again() {
        for (error, expect) in [
            (CallError::Away, Reject::BrokerAway),
            (CallError::Refused(10_008, "x".into()), Reject::BrokerAway),
            (CallError::TimedOut, Reject::ControlTimeout),
            (CallError::Forbidden("a.b".into()), Reject::BrokerForbidden("a.b".into())),
            (CallError::Refused(10_005, "no peers".into()), Reject::BrokerRefused(10_005, "no peers".into())),
        ] {
            assert_eq!(Reject::from(error), expect);
        }
    }

    #[test]
    fn attempts_to_connect_go_on_at_a_bounded_pace() {
        assert_eq!(backoff(0), Duration::ZERO);
        assert_eq!(backoff(1), Duration::ZERO);
        assert!(backoff(2) >= Duration::from_millis(40));
        for attempts in [8, 100, usize::MAX] {
            assert!(
                (CONTROL_CONNECT_PAUSE_MAX..=CONTROL_CONNECT_PAUSE_MAX * 2).contains(&backoff(attempts)),
                "{attempts}"
            );
        }
    }

    #[test]
    fn c4_the_server_that_was_left_is_not_the_one_that_comes_next() {
        let server = |failed_attempts, is_discovered| {
            let addr = "nats://h:4222".parse().expect("an address");
            Server { addr, failed_attempts, did_connect: false, is_discovered, last_error: None }
        };
        let none = usize::MAX;
        for (pool, last, expect) in [
            (&[][..], none, None),
            (&[(0, false)], none, Some(0)),
            (&[(0, false)], 0, Some(0)),
            (&[(0, false), (0, false), (0, false)], none, Some(0)),
            (&[(0, false), (0, false), (0, false)], 0, Some(1)),
            (&[(0, false), (0, false), (0, false)], 2, Some(0)),
            // It did nothing wrong, and is left all the same.
            (&[(0, false), (3, false), (2, false)], 0, Some(2)),
            // Addresses that servers tell each other may lead nowhere from here.
            (&[(0, false), (0, true), (0, false)], 0, Some(2)),
            (&[(0, false), (0, true), (1, false)], 0, Some(1)),
            (&[(0, false), (0, false)], 7, Some(0)),
        ] {
            let pool: Vec<Server> = pool.iter().map(|(failed, found)| server(*failed, *found)).collect();
            assert_eq!(next_of(&pool, last), expect, "{pool:?} after {last}");
        }
    }

    #[test]
    fn a_bad_seed_is_said_without_the_seed() {
        let secret = crate::config::Secret::new("SUANOTASEED");
        let error = credential(ConnectOptions::new(), &NatsCredential::Nkey(secret)).map(drop);
        assert!(error.is_err_and(|error| !error.to_string().contains("SUANOTASEED")));
    }

    #[test]
    fn ipv6_hosts_are_bracketed() {
        for (host, expect) in
            [("localhost", "localhost"), ("::1", "[::1]"), ("[::1]", "[::1]"), ("10.0.0.1", "10.0.0.1")]
        {
            let server = NatsServer { host: host.to_owned(), port: 4333 };
            let parsed = address(&server).expect("an address");
            assert_eq!((parsed.host(), parsed.port()), (expect.trim_matches(['[', ']']), 4333));
        }
    }
}
