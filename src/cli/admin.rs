//! The connection of the commands to the admin listener: its address, the login, and its answers.

use super::{
    client::{Http, JSON, LoginArgs, Reply, basic},
    exit::Failure,
};
use clap::Args;

/// The arguments that say which gateway to use, and as whom.
#[derive(Debug, Args)]
pub(super) struct AdminArgs {
    /// Address of the gateway's admin listener
    #[arg(long, default_value = "http://127.0.0.1:4445")]
    pub(super) url: String,
    #[command(flatten)]
    pub(super) login: LoginArgs,
}

impl AdminArgs {
    /// Sends a request and returns the answer, whatever its status. An error means that no answer came.
    pub(super) fn send(&self, method: &str, path: &str, body: Option<&str>) -> Result<Reply, Failure> {
        let login = self.login.find()?;
        let authorization = basic(&login);
        let mut headers = vec![("Authorization", authorization.as_str()), ("Accept", "application/json")];
        if body.is_some() {
            headers.push(JSON);
        }
        Http::new(&self.url)?.send(method, path, &headers, body.map(str::as_bytes))
    }

    /// Sends a request and returns the body of the answer, if its status is 2xx.
    pub(super) fn call(&self, method: &str, path: &str, body: Option<&str>) -> Result<Vec<u8>, Failure> {
        let reply = self.send(method, path, body)?;
        if (200..300).contains(&reply.status) { Ok(reply.body) } else { Err(reply.failure()) }
    }
}
