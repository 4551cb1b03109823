//! Configuration: what is written becomes what runs, once.
//!
//! Two stages. *As written*: `file`, the environment and the flags give texts and numbers, which
//! `layers` puts on top of each other by the one table of settings (`table`, and `alias` for the
//! original's names). *What runs*: `resolve` checks the whole and makes [`Settings`]: complete, in
//! runtime types. Nothing past `main` sees anything else.
//!
//! All problems are reported together, each with the place where the value was written. Loading
//! binds no port; the only thing it writes is the file of generated secrets (`credentials`), and
//! that only to serve and only if nothing else is wrong. Absent on purpose: reloading, includes,
//! variables inside the file.

mod alias;
mod credentials;
mod draft;
mod error;
mod file;
mod layers;
mod nats_url;
mod print;
mod resolve;
pub mod settings;
mod table;
#[cfg(test)]
mod tests;
mod value;

pub use credentials::{CREDENTIALS_FILE, Credentials, CredentialsFault, credentials_path};
pub use error::{ConfigError, Notice, NoticeLevel, Origin, Problem};
pub use layers::Sources;
#[cfg(test)]
use print::documentation;
pub use resolve::Purpose;
pub use settings::*;
pub use value::{parse_size, parse_time};

use std::collections::BTreeMap;

/// A configuration that works.
#[derive(Debug)]
pub struct Loaded {
    /// What runs.
    pub settings: Settings,
    /// What is worth saying about it.
    pub notices: Vec<Notice>,
    origins: BTreeMap<&'static str, Origin>,
    paths: BTreeMap<&'static str, String>,
}

impl Loaded {
    /// Where the setting of this key was written.
    #[must_use]
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }

    /// The effective settings as TOML, secrets masked, each with its origin as a comment.
    #[must_use]
    pub fn render(&self) -> String {
        print::render(&self.settings, &self.origins, &self.paths)
    }
}

/// Loads the settings, or says everything that is wrong with them.
pub fn load(sources: &Sources, purpose: Purpose) -> Result<Loaded, ConfigError> {
    let mut layers = layers::Layers::read(sources);
    let settings = resolve::resolve(&mut layers, purpose);
    let layers::Layers { origins, paths, problems, notices, .. } = layers;
    if problems.is_empty() { Ok(Loaded { settings, notices, origins, paths }) } else { Err(ConfigError { problems }) }
}

/// Settings that have a flag: key and flag.
#[cfg(test)]
pub(crate) fn flags() -> Vec<(&'static str, &'static str)> {
    table::SETTINGS.iter().filter_map(|setting| Some((setting.key, setting.flag?))).collect()
}

#[cfg(test)]
impl Settings {
    /// [`load`] to serve, without the origins.
    pub fn load(sources: &Sources) -> Result<(Self, Vec<Notice>), ConfigError> {
        load(sources, Purpose::Serve).map(|loaded| (loaded.settings, loaded.notices))
    }
}
