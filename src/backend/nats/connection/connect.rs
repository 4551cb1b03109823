//! Connects to one of a list of servers, and waits until the server has accepted the connection.

use super::Subscriptions;
use crate::{
    limits::{NATS_CONNECT_STEP_TIMEOUT, READ_BUFFER_BYTES},
    rt::{self, Flavor, Stream},
    wire::nats::{Connect, Op, ParseLimits, Parsed, ServerError, ServerInfo, connect::signature_text, encode, next},
};
use std::fmt;

/// How a shard reaches the broker.
#[derive(Debug, Clone)]
pub struct ConnectionSettings {
    /// Host and port; at least one.
    pub servers: Vec<(String, u16)>,
    /// How the gateway identifies itself.
    pub credential: Credential,
    /// The name that an operator sees for the connection.
    pub name: String,
    /// The driver of the shard's runtime.
    pub flavor: Flavor,
}

/// How the gateway identifies itself to the broker.
#[derive(Clone)]
pub enum Credential {
    /// It does not.
    None,
    /// User and password.
    UserPassword(String, String),
    /// Token.
    Token(String),
    /// Seed of an nkey; with the user JWT, if it came from a `.creds` file.
    Seed {
        /// Seed, which signs the server's nonce.
        seed: String,
        /// User JWT.
        jwt: Option<String>,
    },
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "none",
            Self::UserPassword(..) => "user and password",
            Self::Token(_) => "token",
            Self::Seed { jwt: None, .. } => "nkey",
            Self::Seed { jwt: Some(_), .. } => "user JWT",
        })
    }
}

/// A connection that the server has accepted.
#[derive(Debug)]
pub(super) struct Established {
    pub(super) stream: Stream,
    pub(super) info: ServerInfo,
    /// The bytes that were read beyond the handshake.
    pub(super) rest: Vec<u8>,
}

/// Connects to one server, identifies itself, subscribes to what always stands below `inbox`, and waits until the server
/// accepts the connection.
pub(super) async fn establish(
    settings: &ConnectionSettings,
    server: &(String, u16),
    inbox: &str,
) -> Result<Established, String> {
    let stream = rt::connect(&server.0, server.1, NATS_CONNECT_STEP_TIMEOUT, settings.flavor)
        .await
        .map_err(|error| error.to_string())?;
    let guard = stream.guard();
    let done = std::rc::Rc::new(std::cell::Cell::new(false));
    let watched = std::rc::Rc::clone(&done);
    // A server that accepts and says nothing: the pending read ends, it is not dropped. The handshake marks
    // itself done before the stream can close, so the guard never outlives it.
    rt::spawn(async move {
        rt::sleep(NATS_CONNECT_STEP_TIMEOUT).await;
        if !watched.get() {
            guard.shut_down();
        }
    });
    let handshake = Handshake { stream, buffer: Vec::with_capacity(READ_BUFFER_BYTES) };
    let (outcome, keep) = handshake.run(settings, inbox).await;
    done.set(true);
    match outcome {
        Ok(info) => Ok(Established { stream: keep.stream, info, rest: keep.buffer }),
        Err(reason) => Err(reason),
    }
}

struct Handshake {
    stream: Stream,
    buffer: Vec<u8>,
}

impl Handshake {
    async fn run(mut self, settings: &ConnectionSettings, inbox: &str) -> (Result<ServerInfo, String>, Self) {
        let outcome = self.steps(settings, inbox).await;
        (outcome, self)
    }

    async fn steps(&mut self, settings: &ConnectionSettings, inbox: &str) -> Result<ServerInfo, String> {
        let mut info = loop {
            if let Some(info) = self.operation(|op, buffer| match op {
                Op::Info(json) => Some(ServerInfo::parse(json.of(buffer)).map_err(|error| error.to_string())),
                Op::Err(text) => Some(Err(refusal(text.of(buffer)))),
                _ => None,
            })? {
                break info?;
            }
            self.read().await?;
        };
        if info.tls_required {
            return Err("the server requires TLS, which this version does not speak to the broker".to_owned());
        }
        if !info.headers {
            return Err("the server has headers switched off, and the gateway needs them".to_owned());
        }
        let mut out = Vec::new();
        introduce(&mut out, settings, &info)?;
        Subscriptions::subscribe_standing(&mut out, inbox);
        encode::ping(&mut out);
        let (written, _) = self.stream.write_all(out).await;
        written.map_err(|error| error.to_string())?;
        loop {
            let step = self.operation(|op, buffer| match op {
                Op::Pong => Some(Ok(None)),
                Op::Info(json) => Some(Ok(ServerInfo::parse(json.of(buffer)).ok())),
                Op::Err(text) => Some(Err(refusal(text.of(buffer)))),
                _ => None,
            })?;
            match step {
                Some(Ok(None)) => return Ok(info),
                Some(Ok(Some(newer))) => info = ServerInfo { nonce: info.nonce, ..newer },
                Some(Err(reason)) => return Err(reason),
                None => self.read().await?,
            }
        }
    }

    /// Takes operations off the buffer until `pick` takes one; `None`: read more.
    fn operation<T>(&mut self, pick: impl Fn(&Op, &[u8]) -> Option<T>) -> Result<Option<T>, String> {
        loop {
            match next(&self.buffer, &ParseLimits::default()).map_err(|error| error.to_string())? {
                Parsed::Incomplete { .. } => return Ok(None),
                Parsed::Op { op, consumed } => {
                    let picked = pick(&op, &self.buffer);
                    self.buffer.drain(..consumed);
                    if picked.is_some() {
                        return Ok(picked);
                    }
                }
            }
        }
    }

    async fn read(&mut self) -> Result<(), String> {
        self.buffer.reserve(READ_BUFFER_BYTES);
        let (result, buffer) = self.stream.read(std::mem::take(&mut self.buffer)).await;
        self.buffer = buffer;
        match result {
            Ok(0) => Err("the server closed the connection, or said nothing for too long".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn refusal(text: &[u8]) -> String {
    format!("the server refuses: {:?}", ServerError::parse(text))
}

/// Returns `CONNECT`, with the credential.
fn introduce(out: &mut Vec<u8>, settings: &ConnectionSettings, info: &ServerInfo) -> Result<(), String> {
    let (public, signature);
    let mut connect = Connect { name: Some(&settings.name), ..Connect::default() };
    match &settings.credential {
        Credential::None => {}
        Credential::UserPassword(user, password) => {
            connect.user = Some(user);
            connect.pass = Some(password);
        }
        Credential::Token(token) => connect.auth_token = Some(token),
        Credential::Seed { seed, jwt } => {
            let keys =
                nkeys::KeyPair::from_seed(seed).map_err(|error| format!("the nkey seed is not valid: {error}"))?;
            let signed = keys.sign(info.nonce.as_bytes()).map_err(|error| format!("signing failed: {error}"))?;
            signature = signature_text(&signed);
            connect.sig = Some(&signature);
            if let Some(jwt) = jwt {
                connect.jwt = Some(jwt);
            } else {
                public = keys.public_key();
                connect.nkey = Some(&public);
            }
        }
    }
    encode::connect(out, &connect).map_err(|error| error.to_string())
}
