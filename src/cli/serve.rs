//! `sluicegate serve`: loads the settings, starts the log, runs the gateway, and prints the banner once its ports are
//! bound.

use super::{
    banner::{PasswordSource, banner},
    exit::Exit,
    print::complain,
};
use crate::{
    config::{Loaded, NoticeLevel, Origin, Purpose, Sources, credentials_path, load},
    gateway, logging,
};
use clap::Args;
use std::{
    io::{IsTerminal, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

/// Flags of the gateway. Each is also a key of the configuration file and a `SLUICEGATE_…` variable.
#[derive(Debug, Clone, Default, Args)]
#[expect(clippy::doc_markdown, reason = "the help text, printed as it is")]
pub(super) struct ServeArgs {
    /// Address of the data port, such as 0.0.0.0:4444 [env: SLUICEGATE_LISTEN]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Address of health, metrics and the admin API [env: SLUICEGATE_ADMIN_LISTEN]
    #[arg(long, value_name = "ADDR")]
    admin_listen: Option<String>,
    /// NATS servers; without them records are kept in the embedded store [env: SLUICEGATE_NATS_URL]
    #[arg(long, value_name = "URL[,URL…]")]
    nats: Option<String>,
    /// How records are published to NATS: auto, single or atomic [env: SLUICEGATE_NATS_PUBLISH_MODE]
    #[arg(long, value_name = "MODE")]
    publish_mode: Option<String>,
    /// Directory of the embedded store and of the generated secrets [env: SLUICEGATE_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Number of shards; by default the cores that the process may use [env: SLUICEGATE_SHARDS]
    #[arg(long, value_name = "N")]
    shards: Option<String>,
    /// I/O driver: auto, io_uring or epoll [env: SLUICEGATE_DRIVER]
    #[arg(long, value_name = "DRIVER")]
    driver: Option<String>,
    /// Configuration file (TOML) [env: SLUICEGATE_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ServeArgs {
    /// Returns the flags and the environment of this process.
    pub(super) fn sources(&self) -> Sources {
        let flags = [
            ("listen", &self.listen),
            ("admin_listen", &self.admin_listen),
            ("nats.url", &self.nats),
            ("nats.publish_mode", &self.publish_mode),
            ("data_dir", &self.data_dir),
            ("shards", &self.shards),
            ("driver", &self.driver),
        ];
        Sources {
            flags: flags.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect(),
            config: self.config.clone(),
            environment: std::env::vars_os().collect(),
        }
    }
}

/// Runs the gateway until a signal stops it.
pub(super) fn run(args: &ServeArgs) -> ExitCode {
    let loaded = match load(&args.sources(), Purpose::Serve) {
        Ok(loaded) => loaded,
        Err(fault) => {
            complain(&format!("sluicegate: {fault}"));
            return Exit::Usage.into();
        }
    };
    let banner = banner_of(&loaded);
    let Loaded { settings, notices, .. } = loaded;
    let log = match logging::start(&settings) {
        Ok(log) => log,
        Err(fault) => {
            complain(&format!("sluicegate: the log cannot be written: {fault}"));
            return Exit::Failed.into();
        }
    };
    for notice in notices {
        match notice.level {
            NoticeLevel::Info => tracing::info!("{}", notice.text),
            NoticeLevel::Warning => tracing::warn!("{}", notice.text),
        }
    }
    let served = gateway::run(settings, |bound| {
        if let Some(banner) = banner {
            print_aside(banner(bound));
        }
    });
    if let Err(failed) = &served {
        log.say(&format!("sluicegate: {}", failed.text));
    }
    log.flush();
    if served.is_ok() { Exit::Ok.into() } else { Exit::Failed.into() }
}

/// Prints on a thread of its own, so that a stopped terminal or a full pipe holds up nothing else. Errors are ignored:
/// the gateway runs whether or not somebody reads.
fn print_aside(text: String) {
    let print = move || {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    };
    let _no_thread = std::thread::Builder::new().name("banner".to_owned()).spawn(print);
}

/// Returns the function that makes the banner, if it is to be printed: on a terminal, or when credentials were
/// generated.
fn banner_of(loaded: &Loaded) -> Option<impl FnOnce(SocketAddr) -> String + use<>> {
    let terminal = std::io::stdout().is_terminal();
    if !terminal && !loaded.settings.auth.generated {
        return None;
    }
    let kept_in = matches!(loaded.origin("auth.root_password"), Origin::Generated(_)).then(|| {
        let path = credentials_path(&loaded.settings.data_dir);
        std::path::absolute(&path).unwrap_or(path)
    });
    let password = PasswordSource::of(&loaded.settings, kept_in.as_deref(), terminal);
    let settings = loaded.settings.clone();
    Some(move |bound| banner(&settings, bound, &password))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, Command};

    #[test]
    fn every_flag_of_the_table_of_settings_exists_and_reaches_its_setting() {
        let text = Some("x".to_owned());
        let all = ServeArgs {
            listen: text.clone(),
            admin_listen: text.clone(),
            nats: text.clone(),
            publish_mode: text.clone(),
            data_dir: text.clone(),
            shards: text.clone(),
            driver: text,
            config: None,
        };
        let keys: Vec<&str> = all.sources().flags.iter().map(|(key, _)| *key).collect();
        let command = ServeArgs::augment_args(Command::new("serve"));
        let flags: Vec<String> =
            command.get_arguments().filter_map(|argument| Some(format!("--{}", argument.get_long()?))).collect();
        let table = crate::config::flags();
        assert_eq!(flags.len(), table.len() + 1, "--config is the only flag that is no setting");
        for (key, flag) in table {
            assert!(keys.contains(&key) && flags.iter().any(|known| known == flag), "{key} {flag}");
        }
    }
}
