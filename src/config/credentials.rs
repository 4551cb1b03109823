//! Generated secrets: what was not configured is made once and kept in the data directory.
//!
//! `credentials.json` has mode 0600 in a directory of mode 0700. It is written beside its place and
//! renamed, so that it is whole or absent at any time; and under a lock on the directory, so that of two
//! who start on an empty one the first makes the secrets and the second takes them. A file that others
//! can read is an error, not repaired: whoever could read it may have done so. Configured secrets are
//! never written to it.

use super::settings::Secret;
use crate::limits::CREDENTIALS_FILE_BYTES_MAX;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Name of the file in the data directory.
pub const CREDENTIALS_FILE: &str = "credentials.json";

/// What is kept: only what the gateway made itself.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Name that goes with the password.
    pub root_user: String,
    /// Its password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_password: Option<String>,
    /// Signs access tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key: Option<String>,
    /// Signs refresh tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_key: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Credentials").field("root_user", &self.root_user).finish_non_exhaustive()
    }
}

/// Why the file cannot be used, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialsFault {
    /// What is wrong, naming the file.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// Where the credentials of a data directory are kept.
#[must_use]
pub fn credentials_path(data_dir: &Path) -> PathBuf {
    data_dir.join(CREDENTIALS_FILE)
}

impl Credentials {
    /// Reads the file; `None` if there is none.
    pub fn read(data_dir: &Path) -> Result<Option<Self>, CredentialsFault> {
        let path = credentials_path(data_dir);
        let shown = path.display();
        let unreadable = |fault: io::Error| CredentialsFault {
            what: format!("{shown} cannot be read: {fault}"),
            remedy: "run as the user who owns it, or set the secrets in the configuration".to_owned(),
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(fault) => return Err(unreadable(fault)),
        };
        let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(CredentialsFault {
                what: format!("{shown} has mode {mode:04o}: others than its owner can use the secrets in it"),
                remedy: format!(
                    "chmod 600 {shown}; or remove the file to have new secrets made, if others may have read it"
                ),
            });
        }
        let mut text = String::new();
        file.take(CREDENTIALS_FILE_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
        // What serde says about a value may repeat it: only the position is passed on.
        serde_json::from_str(&text).map(Some).map_err(|fault| CredentialsFault {
            what: format!("{shown} is damaged at line {}, column {}", fault.line(), fault.column()),
            remedy: "restore it, or remove it to have new secrets made".to_owned(),
        })
    }

    /// Completes what the file has, or an empty one, and writes it if that changed anything: whole or not at all.
    /// Answers what is in the file then. Makes the directory if need be; others who do the same wait.
    pub(super) fn complete(
        data_dir: &Path,
        fill: impl FnOnce(&mut Self) -> Result<(), CredentialsFault>,
    ) -> Result<Self, CredentialsFault> {
        // The lock is let go of when the directory is closed.
        let lock = || {
            DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
            let directory = File::open(data_dir)?;
            directory.lock().map(|()| directory)
        };
        let _locked = lock().map_err(|fault| unwritable(data_dir, &fault))?;
        let kept = Self::read(data_dir)?;
        let mut credentials = kept.clone().unwrap_or_default();
        fill(&mut credentials)?;
        if kept.as_ref() != Some(&credentials) {
            credentials.write(data_dir)?;
        }
        Ok(credentials)
    }

    /// Writes the file, whole or not at all; makes the directory if need be.
    pub fn write(&self, data_dir: &Path) -> Result<(), CredentialsFault> {
        self.replace(data_dir, &credentials_path(data_dir)).map_err(|fault| unwritable(data_dir, &fault))
    }

    fn replace(&self, data_dir: &Path, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
        let draft = data_dir.join(format!("{CREDENTIALS_FILE}.{}.new", std::process::id()));
        let _ = fs::remove_file(&draft);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        let mut text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        text.push('\n');
        let written =
            file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&draft, path));
        if written.is_err() {
            let _ = fs::remove_file(&draft);
        }
        written?;
        File::open(data_dir)?.sync_all()
    }
}

fn unwritable(data_dir: &Path, fault: &io::Error) -> CredentialsFault {
    CredentialsFault {
        what: format!("{} cannot be written: {fault}", credentials_path(data_dir).display()),
        remedy: "make the data directory writable, name another one with --data-dir, or configure the secrets"
            .to_owned(),
    }
}

/// A new signing key: 32 random bytes, URL-safe base64.
pub(super) fn new_key() -> Result<Secret, CredentialsFault> {
    use base64::Engine;
    let bytes = random::<32>()?;
    Ok(Secret::new(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)))
}

/// A new password: 24 characters that are not mistaken for each other, 120 bits.
pub(super) fn new_password() -> Result<Secret, CredentialsFault> {
    // 32 letters: each byte's low five bits choose one without bias.
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let letter = |byte: &u8| LETTERS.get(usize::from(byte & 31)).map_or('a', |letter| char::from(*letter));
    Ok(Secret::new(random::<24>()?.iter().map(letter).collect::<String>()))
}

fn random<const N: usize>() -> Result<[u8; N], CredentialsFault> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|fault| CredentialsFault {
        what: format!("the system gave no random bytes: {fault}"),
        remedy: "configure the secrets of [auth]".to_owned(),
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::HashSet, sync::Barrier, thread};

    #[test]
    fn of_many_who_start_at_once_the_first_makes_the_secrets() {
        for kept in [None, Some("kept")] {
            let parent = tempfile::tempdir().unwrap();
            let dir = parent.path().join("new");
            if let Some(key) = kept {
                Credentials { access_key: Some(key.to_owned()), ..Credentials::default() }.write(&dir).unwrap();
            }
            let start = Barrier::new(16);
            let made: HashSet<(Option<String>, Option<String>)> = thread::scope(|scope| {
                let starts: Vec<_> = (0..16)
                    .map(|_| {
                        scope.spawn(|| {
                            start.wait();
                            let fill = |credentials: &mut Credentials| {
                                let slots = [&mut credentials.access_key, &mut credentials.refresh_key];
                                for slot in slots {
                                    slot.get_or_insert(new_key()?.expose().to_owned());
                                }
                                Ok(())
                            };
                            let credentials = Credentials::complete(&dir, fill).unwrap();
                            (credentials.access_key, credentials.refresh_key)
                        })
                    })
                    .collect();
                starts.into_iter().map(|start| start.join().unwrap()).collect()
            });
            assert_eq!(made.len(), 1);
            let read = Credentials::read(&dir).unwrap().unwrap();
            assert!(made.contains(&(read.access_key.clone(), read.refresh_key)));
            assert!(kept.is_none() || read.access_key.as_deref() == kept);
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_is_for_its_owner_alone() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("a/b");
        let credentials =
            Credentials { root_user: "root".to_owned(), root_password: Some("p".to_owned()), ..Credentials::default() };
        assert_eq!(Credentials::read(&dir), Ok(None));
        credentials.write(&dir).unwrap();
        assert_eq!(Credentials::read(&dir), Ok(Some(credentials.clone())));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&credentials_path(&dir))), (0o700, 0o600));
        credentials.write(&dir).unwrap();
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_that_others_can_use_is_refused() {
        for mode in [0o640, 0o604, 0o660, 0o644, 0o601] {
            let dir = tempfile::tempdir().unwrap();
            Credentials::default().write(dir.path()).unwrap();
            fs::set_permissions(credentials_path(dir.path()), fs::Permissions::from_mode(mode)).unwrap();
            assert!(Credentials::read(dir.path()).is_err_and(|fault| fault.remedy.contains("chmod 600")), "{mode:o}");
        }
    }

    #[test]
    fn a_damaged_file_is_refused_without_showing_what_is_in_it() {
        for text in
            ["", "{", "{\"root_user\":\"root\",\"root_password\":12hunter2}", "{\"root_user\":\"r\",\"hunter2\":1}"]
        {
            let dir = tempfile::tempdir().unwrap();
            Credentials::default().write(dir.path()).unwrap();
            fs::write(credentials_path(dir.path()), text).unwrap();
            let fault = Credentials::read(dir.path()).unwrap_err();
            assert!(fault.what.contains("damaged") && !fault.what.contains("hunter2"), "{}", fault.what);
        }
    }

    #[test]
    fn new_secrets_are_long_plain_and_different() {
        let passwords: HashSet<String> = (0..100).map(|_| new_password().unwrap().expose().to_owned()).collect();
        let keys: HashSet<String> = (0..100).map(|_| new_key().unwrap().expose().to_owned()).collect();
        assert_eq!((passwords.len(), keys.len()), (100, 100));
        assert!(passwords.iter().all(|word| word.len() == 24 && word.bytes().all(|byte| byte.is_ascii_alphanumeric())));
        assert!(keys.iter().all(|key| key.len() == 43));
    }
}
