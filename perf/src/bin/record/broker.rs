//! The broker of a case: started for it, on a directory of its own that goes with it.

use crate::{
    case::BrokerKind,
    process::{Process, free_address, named},
};
use serde_json::Value;
use sluicegate_perf::nats;
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

pub(crate) struct Broker {
    pub(crate) process: Process,
    pub(crate) address: String,
    data: PathBuf,
}

impl Broker {
    /// Starts what a case wants, if it wants one.
    pub(crate) fn start(binary: &Path, work: &Path, kind: BrokerKind) -> io::Result<Option<Self>> {
        if kind == BrokerKind::None {
            return Ok(None);
        }
        let address = free_address()?;
        let data = work.join("jetstream");
        let (config_path, log_path) = (work.join("nats-server.conf"), work.join("nats-server.log"));
        remove(&data)?;
        fs::write(&config_path, config(&address, &data, kind))?;
        let log = fs::File::create(&log_path)?;
        let child = Command::new(binary)
            .arg("-c")
            .arg(&config_path)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(named(binary))?;
        let mut broker = Self { process: Process(child), address, data };
        // It answers when JetStream is up: the API is asked, not the port.
        let address = broker.address.clone();
        broker.process.wait_until(&log_path, || nats::request(&address, "$JS.API.INFO", &Value::Null).is_ok())?;
        Ok(Some(broker))
    }

    /// Stops it and removes what it stored.
    pub(crate) fn stop(self) -> io::Result<()> {
        let data = self.data.clone();
        drop(self);
        remove(&data)
    }
}

fn remove(directory: &Path) -> io::Result<()> {
    if directory.exists() { fs::remove_dir_all(directory) } else { Ok(()) }
}

fn config(address: &str, data: &Path, kind: BrokerKind) -> String {
    let always = if kind == BrokerKind::NatsSyncAlways { "\n  sync_interval: always" } else { "" };
    format!("listen: \"{address}\"\njetstream {{\n  store_dir: \"{}\"{always}\n}}\n", data.display())
}

/// What the binary calls its version.
pub(crate) fn version(binary: &Path) -> io::Result<String> {
    let output = Command::new(binary).arg("--version").output().map_err(named(binary))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().rsplit('v').next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_case_that_wants_it_syncs_always() {
        let text = |kind| config("127.0.0.1:1", Path::new("/d"), kind);
        assert_eq!(text(BrokerKind::Nats), "listen: \"127.0.0.1:1\"\njetstream {\n  store_dir: \"/d\"\n}\n");
        assert!(text(BrokerKind::NatsSyncAlways).contains("\n  sync_interval: always\n"));
    }
}
