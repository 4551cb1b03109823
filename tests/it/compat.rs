//! Which NATS server the suite ran against. The Makefile runs it against each of `VERSIONS`.

use crate::support::{
    nats::{VERSION, version_line},
    report,
};

/// The servers that the product is held to, newest first; the Makefile has the same list.
const VERSIONS: [&str; 4] = ["2.15.1", "2.14.6", "2.12.8", "2.10.26"];

#[test]
fn nats_version_under_test_is_one_of_those_we_promise() {
    let line = version_line();
    report(&format!("nats-server under test: {line}"));
    let version = line.rsplit('v').next().unwrap_or_default();
    assert!(VERSIONS.contains(&version), "{line} is not one of {VERSIONS:?}");
    // Chosen by name, it is the one that was named.
    if let Ok(path) = std::env::var("SLUICEGATE_NATS_SERVER") {
        let named = VERSIONS.iter().find(|known| path.contains(*known));
        assert!(named.is_none_or(|known| *known == version), "{path} is {version}");
    } else {
        assert_eq!(version, VERSION);
    }
}

#[test]
fn the_makefile_runs_every_version() {
    let makefile = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/Makefile"));
    for version in VERSIONS {
        assert!(makefile.contains(version), "{version} is not in the Makefile");
    }
}
