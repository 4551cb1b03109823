//! `config print`: what runs, as a file that could have been written, with its origins; secrets masked.

use super::{error::Origin, settings::Settings, table::SETTINGS};
use std::{collections::BTreeMap, fmt::Write};

/// The effective settings as TOML. What is not set stands as a comment.
pub(super) fn render(
    settings: &Settings,
    origins: &BTreeMap<&'static str, Origin>,
    paths: &BTreeMap<&'static str, String>,
) -> String {
    let mut text = String::new();
    let mut section = "";
    for setting in SETTINGS {
        let (head, name) = setting.key.split_once('.').unwrap_or(("", setting.key));
        if head != section {
            section = head;
            let _ = writeln!(text, "\n[{section}]");
        }
        let origin = origins.get(setting.key).unwrap_or(&Origin::Default);
        let path = paths.get(setting.key).map(|path| toml::Value::String(path.clone()));
        let _ = match path.or_else(|| (setting.show)(settings)) {
            Some(value) => writeln!(text, "{name} = {value}  # {}", one_line(origin)),
            None => writeln!(text, "# {name} is not set"),
        };
    }
    text
}

/// The rows of the table of settings in `docs/configuration.md`, as Markdown.
#[cfg(test)]
pub(super) fn documentation() -> String {
    let mut text =
        String::from("| key in the file | environment | flag | default | meaning |\n|---|---|---|---|---|\n");
    for setting in SETTINGS {
        let super::table::Setting { key, flag, default, help, .. } = setting;
        let flag = flag.map(|flag| format!("`{flag}`")).unwrap_or_default();
        let default = default
            .strip_prefix('(')
            .and_then(|text| text.strip_suffix(')'))
            .map_or_else(|| format!("`{default}`"), str::to_owned);
        let _ = writeln!(text, "| `{key}` | `{}` | {flag} | {default} | {help} |", setting.env());
    }
    text.push_str("\n| the original's variable | setting | what becomes of it |\n|---|---|---|\n");
    for alias in super::alias::ALIASES {
        let key = alias.key().map(|key| format!("`{key}`")).unwrap_or_default();
        let _ = writeln!(text, "| `{}` | {key} | {} |", alias.name, alias.help);
    }
    text
}

fn one_line(origin: &Origin) -> String {
    origin.to_string().replace(|letter: char| letter.is_control(), " ")
}
