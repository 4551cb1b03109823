//! Broker addresses: `nats://user:password@host:port,host2`, or `host:port` without a scheme.
//!
//! A URL may hold a password, so no message here repeats a URL that holds an `@`. TLS to the broker
//! does not exist yet: `tls://` is refused rather than spoken in clear.

use super::{
    error::Bad,
    settings::{NatsServer, Secret},
};
use percent_encoding::percent_decode_str;

/// Servers, and what their URLs say about who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Urls {
    /// At least one.
    pub(super) servers: Vec<NatsServer>,
    /// The part before the `@`; one for all servers.
    pub(super) userinfo: Option<UserInfo>,
}

/// What stands before the `@`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UserInfo {
    /// `token@`.
    Token(Secret),
    /// `user:password@`.
    UserPassword(String, Secret),
}

const PORT_DEFAULT: u16 = 4222;
const REMEDY: &str = "write nats://HOST:PORT or HOST:PORT, several separated by commas; \
                      percent-encode , : @ / % in a user name or password";

/// Parses a list of URLs.
pub(super) fn parse(list: &[String]) -> Result<Urls, Bad> {
    let mut servers = Vec::new();
    let mut userinfo: Option<UserInfo> = None;
    let secretive = list.iter().any(|url| url.contains('@'));
    for (index, url) in list.iter().enumerate() {
        let shown = if secretive { format!("(entry {} of the list)", index + 1) } else { format!("{url:?}") };
        let (info, address) = split(url, &shown)?;
        servers.push(server(address).ok_or_else(|| Bad::new(format!("{shown} is no server address"), REMEDY))?);
        if let Some(info) = info {
            if userinfo.as_ref().is_some_and(|known| *known != info) {
                return Err(Bad::new(
                    "names different users for different servers",
                    "the gateway has one identity: use the same user and password in each URL, or nats.user and nats.password",
                ));
            }
            userinfo = Some(info);
        }
    }
    if servers.is_empty() {
        return Err(Bad::new("names no server", REMEDY));
    }
    Ok(Urls { servers, userinfo })
}

/// Takes the scheme off and the user information apart.
fn split<'a>(url: &'a str, shown: &str) -> Result<(Option<UserInfo>, &'a str), Bad> {
    let rest = match url.split_once("://") {
        None => url,
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("nats") => rest,
        Some((scheme, _)) if ["tls", "wss", "https"].iter().any(|word| scheme.eq_ignore_ascii_case(word)) => {
            return Err(Bad::new(
                format!("{shown} asks for TLS, which this version does not speak to the broker"),
                "use nats:// over a trusted network, or end TLS in a proxy or leaf node beside the gateway",
            ));
        }
        Some(_) => return Err(Bad::new(format!("{shown} has an unknown scheme"), REMEDY)),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let Some((info, address)) = rest.rsplit_once('@') else { return Ok((None, rest)) };
    let decode = |text: &str| {
        percent_decode_str(text)
            .decode_utf8()
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| Bad::new(format!("{shown} has a user name or password that is not UTF-8"), REMEDY))
    };
    let info = match info.split_once(':') {
        None if info.is_empty() => return Err(Bad::new(format!("{shown} has an empty user"), REMEDY)),
        None => UserInfo::Token(Secret::new(decode(info)?)),
        Some((user, password)) if user.is_empty() || password.is_empty() => {
            return Err(Bad::new(format!("{shown} has an empty user or password"), REMEDY));
        }
        Some((user, password)) => UserInfo::UserPassword(decode(user)?, Secret::new(decode(password)?)),
    };
    Ok((Some(info), address))
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`.
fn server(address: &str) -> Option<NatsServer> {
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
    } else {
        match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        }
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    if host.is_empty() || !host.bytes().all(plain) {
        return None;
    }
    let port = match port {
        None => PORT_DEFAULT,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok().filter(|port| *port != 0)?,
        Some(_) => return None,
    };
    Some(NatsServer { host: host.to_owned(), port })
}

/// The address of a broker's monitoring, as `http://host:port/base`, without a slash at its end.
pub(super) fn monitor(url: &str) -> Result<String, Bad> {
    const REMEDY: &str = "write http://HOST:PORT as the broker's `http` setting has it, such as http://127.0.0.1:8222";
    // It may hold a password, though it should not: it is not repeated.
    if url.contains('@') {
        return Err(Bad::new("names a user, and the broker's monitoring knows none", REMEDY));
    }
    let wrong = |what: &str| Bad::new(format!("is {url:?}, {what}"), REMEDY);
    let Some((scheme, rest)) = url.split_once("://") else { return Err(wrong("which has no scheme")) };
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(wrong("which is not plain HTTP: this version does not speak TLS to the broker"));
    }
    let rest = rest.trim_end_matches('/');
    let (address, base) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_' | b'~');
    match server(address) {
        Some(_) if base.bytes().all(plain) => Ok(format!("http://{rest}")),
        _ => Err(wrong("which is no address")),
    }
}

/// A server as it can be written again.
pub(super) fn show(server: &NatsServer) -> String {
    let NatsServer { host, port } = server;
    if host.contains(':') { format!("nats://[{host}]:{port}") } else { format!("nats://{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(url: &str) -> Result<Urls, Bad> {
        parse(&url.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn servers_are_read_with_and_without_a_scheme() {
        for (url, expect) in [
            ("nats://a", "a:4222"),
            ("nats://a:1,b", "a:1 b:4222"),
            ("a:1", "a:1"),
            ("NATS://a.b-c:65535/", "a.b-c:65535"),
            ("[::1]:7", "::1:7"),
            ("nats://[::1]", "::1:4222"),
            ("127.0.0.1:4222,nats://h:2", "127.0.0.1:4222 h:2"),
        ] {
            let servers = one(url).map(|urls| {
                let shown: Vec<_> =
                    urls.servers.iter().map(|server| format!("{}:{}", server.host, server.port)).collect();
                shown.join(" ")
            });
            assert_eq!(servers, Ok(expect.to_owned()), "{url}");
        }
    }

    #[test]
    fn user_and_password_are_percent_decoded() {
        let user = |name: &str, word: &str| Some(UserInfo::UserPassword(name.to_owned(), Secret::new(word)));
        for (url, expect) in [
            ("nats://u:p@h", user("u", "p")),
            ("u:p@h:1", user("u", "p")),
            ("nats://u:a%40b%3A%2C%25@h", user("u", "a@b:,%")),
            ("nats://u:p:q@h", user("u", "p:q")),
            ("nats://u:p@q@h", user("u", "p@q")),
            ("nats://tok%21@h", Some(UserInfo::Token(Secret::new("tok!")))),
            ("nats://u:p@h,nats://i", user("u", "p")),
            ("nats://u:p@h,u:p@i", user("u", "p")),
        ] {
            assert_eq!(one(url).map(|urls| urls.userinfo), Ok(expect), "{url}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for (url, word) in [
            ("", "no server"),
            ("nats://", "no server"),
            ("nats://:4222", "no server"),
            ("h:0", "no server"),
            ("h:65536", "no server"),
            ("h:+1", "no server"),
            ("h:1:2", "no server"),
            ("a b", "no server"),
            ("h/path", "no server"),
            ("[::1", "no server"),
            ("[::1]x", "no server"),
            ("http://h", "unknown scheme"),
            ("tls://h", "TLS"),
            ("wss://h", "TLS"),
            ("nats://@h", "empty user"),
            ("nats://u:@h", "empty user"),
            ("nats://u:%ff@h", "not UTF-8"),
            ("a:b@h,c:d@h", "different users"),
        ] {
            assert!(one(url).is_err_and(|bad| bad.wrong.contains(word)), "{url}: {:?}", one(url));
        }
    }

    #[test]
    fn a_monitoring_address_is_plain_http_and_ends_without_a_slash() {
        for (url, expect) in [
            ("http://127.0.0.1:8222", Ok("http://127.0.0.1:8222")),
            ("HTTP://nats.local:8222/", Ok("http://nats.local:8222")),
            ("http://h:8222/nats/a-b//", Ok("http://h:8222/nats/a-b")),
            ("http://[::1]:8222", Ok("http://[::1]:8222")),
            ("http://h", Ok("http://h")),
            ("127.0.0.1:8222", Err("no scheme")),
            ("https://h:8222", Err("plain HTTP")),
            ("nats://h:8222", Err("plain HTTP")),
            ("http://", Err("no address")),
            ("http://h:0", Err("no address")),
            ("http://h:8222/a b", Err("no address")),
            ("http://h:8222/varz?x=1", Err("no address")),
            ("http://u:SECRET@h:8222", Err("names a user")),
        ] {
            match (monitor(url), expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect, "{url}"),
                (Err(bad), Err(word)) => assert!(bad.wrong.contains(word) && !bad.wrong.contains("SECRET"), "{url}"),
                (found, _) => panic!("{url}: {found:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn no_password_shows_in_an_error(password in "[a-zA-Z0-9,:/%#@ ]{0,8}SECRET[a-zA-Z0-9,:/%#@ ]{0,8}", host in "[a-z :/]{0,6}") {
            if let Err(bad) = one(&format!("nats://u:{password}@{host}")) {
                prop_assert!(!bad.wrong.contains("SECRET"), "{}", bad.wrong);
            }
        }
    }
}
