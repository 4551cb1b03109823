//! The text that is printed when the gateway has started. Its commands work when they are pasted into a shell.
//!
//! Pure: settings and the bound address in, text out. The commands need only a POSIX shell, curl and sed.

use crate::config::{BackendSettings, Settings};
use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

/// Where the shell gets the root password from.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum PasswordSource {
    /// The password was generated, and a person at a terminal reads the text: it stands in the text.
    Shown(String),
    /// The password was generated, and a machine may keep the text: the shell reads it from this file.
    File(String),
    /// The user has configured the password.
    Configured,
}

impl std::fmt::Debug for PasswordSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Shown(_) => "Shown",
            Self::File(_) => "File",
            Self::Configured => "Configured",
        })
    }
}

impl PasswordSource {
    /// Returns the source. `kept_in`: the file of the password if it was generated; `terminal`: whether a person reads
    /// the text.
    #[must_use]
    pub(super) fn of(settings: &Settings, kept_in: Option<&Path>, terminal: bool) -> Self {
        match kept_in {
            None => Self::Configured,
            Some(_) if terminal => Self::Shown(settings.auth.root_password.expose().to_owned()),
            Some(path) => Self::File(path.display().to_string()),
        }
    }
}

/// Returns the text: the address, how to log in, and a curl command for each of authenticate, produce, batch and
/// consume.
#[must_use]
pub(super) fn banner(settings: &Settings, bound: SocketAddr, password: &PasswordSource) -> String {
    let url = format!("http://{}", reachable(bound));
    let mut text = String::new();
    let store = match &settings.backend {
        BackendSettings::Local => format!("the embedded store in {}", settings.data_dir.display()),
        BackendSettings::Nats(nats) => {
            let servers: Vec<String> =
                nats.servers.iter().map(|server| format!("{}:{}", server.host, server.port)).collect();
            format!("NATS JetStream at {}", servers.join(", "))
        }
    };
    let _ = writeln!(text, "\n  Sluicegate listens on {url}");
    let _ = writeln!(text, "  Records go to {store}; health and metrics: http://{}", reachable(settings.admin_listen));
    let _ = writeln!(text, "  {}\n", log_in(settings, password));
    let _ = writeln!(text, "# Paste these lines into a shell.");
    let _ = writeln!(text, "{}", password_line(password));
    let _ = writeln!(text, "TOKEN=$(curl -s {url}/auth/authenticate -H 'Content-Type: application/json' \\");
    let _ = writeln!(
        text,
        "  -d '{{\"username\":\"{}\",\"password\":\"'\"$PASSWORD\"'\"}}' | sed 's/.*\"jwt\":\"\\([^\"]*\\)\".*/\\1/')",
        settings.auth.root_user
    );
    for (path, body) in [
        ("produce/single", r#"{"hello":"world"}"#),
        ("produce/batch", r#"[{"n":1},{"n":2},"any JSON value"]"#),
        ("consume/batch", r#"{"consumer_name":"first-minute","batch_size":10,"batch_max_wait_time_ms":1000}"#),
    ] {
        let _ = writeln!(text, "curl -s -w '\\n' {url}/stations/hello/{path} -H \"Authorization: Bearer $TOKEN\" \\");
        let _ = writeln!(text, "  -H 'Content-Type: application/json' -d '{body}'");
    }
    text.push('\n');
    text
}

fn log_in(settings: &Settings, password: &PasswordSource) -> String {
    let user = &settings.auth.root_user;
    match password {
        PasswordSource::Shown(password) => {
            format!("Log in as {user} with the password {password} (generated; loopback only)")
        }
        PasswordSource::File(path) => format!("Log in as {user}; the generated password is in {path} (loopback only)"),
        PasswordSource::Configured => format!("Log in as {user} with the password that you configured"),
    }
}

fn password_line(password: &PasswordSource) -> String {
    match password {
        PasswordSource::Shown(password) => format!("PASSWORD={}", quoted(password)),
        PasswordSource::File(path) => {
            format!("PASSWORD=$(sed -n 's/.*\"root_password\": *\"\\([^\"]*\\)\".*/\\1/p' {})", quoted(path))
        }
        PasswordSource::Configured => "PASSWORD=${ROOT_PASSWORD:?set it to the password of the root user}".to_owned(),
    }
}

/// Returns an address that a client on this host can connect to.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

/// Returns the text as one word for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Purpose, Sources, load};
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    fn settings() -> Settings {
        load(&Sources::default(), Purpose::Inspect).unwrap().settings
    }

    /// Gives the pasted part to a shell, with these arguments.
    fn shell(text: &str, arguments: &[&str]) -> String {
        let pasted = text.split_once("# Paste").map(|(_, pasted)| format!("# Paste{pasted}")).unwrap();
        let mut child = Command::new("sh")
            .args(arguments)
            .env("ROOT_PASSWORD", "from the environment")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(pasted.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{text}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn what_is_printed_is_shell_and_passes_what_it_should_to_curl() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("it's here.json");
        std::fs::write(
            &path,
            "{\n  \"root_user\": \"root\",\n  \"root_password\": \"in the file\",\n  \"access_key\": \"k\"\n}\n",
        )
        .unwrap();
        for (password, expect) in [
            (PasswordSource::Shown("k7cab2".to_owned()), "k7cab2"),
            (PasswordSource::Shown("it's".to_owned()), "it's"),
            (PasswordSource::File(path.display().to_string()), "in the file"),
            (PasswordSource::Configured, "from the environment"),
        ] {
            let text = banner(&settings(), SocketAddr::from(([0, 0, 0, 0], 4444)), &password);
            shell(&text, &["-n"]);
            // A curl that answers a login, and otherwise shows what it was given.
            let fake = "curl() { case \"$*\" in *auth/authenticate*) printf '{\"expires_in\":1,\"jwt\":\"tok.%s\",\"jwt_refresh_token\":\"no\"}' \
                        \"$(printf '%s' \"$*\" | sed 's/.*\"password\":\"\\([^\"]*\\)\".*/\\1/')\";; *) printf '<%s>' \"$@\"; echo;; esac; }\n";
            let seen = shell(&text.replacen("# Paste", &format!("# Paste\n{fake}#"), 1), &["-s"]);
            let lines: Vec<&str> = seen.lines().collect();
            assert_eq!(lines.len(), 3, "{seen}");
            for (line, path) in lines.iter().zip(["produce/single", "produce/batch", "consume/batch"]) {
                assert!(line.contains(&format!("<http://127.0.0.1:4444/stations/hello/{path}>")), "{line}");
                assert!(line.contains(&format!("<Authorization: Bearer tok.{expect}>")), "{line}");
                let body = line.rsplit_once('<').unwrap().1.trim_end_matches('>');
                assert!(serde_json::from_str::<serde_json::Value>(body).is_ok(), "{body}");
            }
        }
    }

    #[test]
    fn only_a_person_at_a_terminal_is_shown_the_password() {
        let mut settings = settings();
        settings.auth.root_password = crate::config::Secret::new("hunter2");
        let text = |kept_in, terminal| {
            let source = PasswordSource::of(&settings, kept_in, terminal);
            banner(&settings, SocketAddr::from(([127, 0, 0, 1], 1)), &source)
        };
        let file = Some(Path::new("/d/credentials.json"));
        assert!(text(file, true).contains("hunter2"));
        assert!(!text(file, false).contains("hunter2") && text(file, false).contains("/d/credentials.json"));
        assert!(!text(None, true).contains("hunter2"));
    }
}
