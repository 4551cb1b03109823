//! The names of a station's streams and subjects.

use crate::{config::Layout, station::Name};

/// One partition of a station, existing or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::control) struct StreamName {
    pub(in crate::control) stream: String,
    /// The subject that records are published on.
    pub(super) publish: String,
    /// The subject that the stream listens on.
    pub(in crate::control) captures: String,
}

impl StreamName {
    /// Returns the names of partition `at` (from 1) of `count`.
    pub(in crate::control) fn of(layout: Layout, name: &Name, at: u16, count: u16) -> Self {
        let internal = name.internal();
        match layout {
            Layout::Plain if count == 1 => {
                Self { stream: internal, publish: name.as_str().to_owned(), captures: name.as_str().to_owned() }
            }
            Layout::Plain => {
                let subject = format!("{name}.${at}");
                Self { stream: format!("{internal}${at}"), publish: subject.clone(), captures: subject }
            }
            Layout::Memphis => Self::memphis(&format!("{internal}${at}")),
        }
    }

    /// Returns the names of the stream that keeps the dead letters of `station`: the subjects that it may have, the
    /// first choice first. Where a stream that is used as it is captures all below the station's subject, the second is
    /// left.
    pub(super) fn of_letters(layout: Layout, station: &Name) -> Vec<Self> {
        let stream = station.dead_letters().internal();
        let memphis = Self::memphis(&stream);
        match layout {
            Layout::Plain => {
                let subject = format!("{station}.$dls");
                vec![Self { stream, publish: subject.clone(), captures: subject }, memphis]
            }
            Layout::Memphis => vec![memphis],
        }
    }

    /// Returns the one subject of a station before partitions.
    pub(super) fn whole(layout: Layout, name: &Name) -> String {
        match layout {
            Layout::Plain => name.as_str().to_owned(),
            Layout::Memphis => format!("{}.final", name.internal()),
        }
    }

    fn memphis(stream: &str) -> Self {
        Self { stream: stream.to_owned(), publish: format!("{stream}.final"), captures: format!("{stream}.>") }
    }
}

/// Returns which partition of a station, from 1, a stream of this name is in either layout; 0: it is the only one.
pub(in crate::control) fn partition_of(stream: &str, station: &Name) -> Option<u16> {
    let rest = stream.strip_prefix(&station.internal())?;
    if rest.is_empty() {
        return Some(0);
    }
    let digits = rest.strip_prefix('$')?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_streams_and_subjects_follow_the_layout() {
        let name = Name::parse("My.Station").expect("a name");
        for (layout, at, count, expect) in [
            (Layout::Plain, 1, 1, ["my#station", "my.station", "my.station"]),
            (Layout::Plain, 2, 3, ["my#station$2", "my.station.$2", "my.station.$2"]),
            (Layout::Memphis, 1, 1, ["my#station$1", "my#station$1.final", "my#station$1.>"]),
            (Layout::Memphis, 12, 12, ["my#station$12", "my#station$12.final", "my#station$12.>"]),
        ] {
            let stream_name = StreamName::of(layout, &name, at, count);
            assert_eq!(
                [stream_name.stream, stream_name.publish, stream_name.captures],
                expect,
                "{layout:?} {at}/{count}"
            );
        }
        let plain = ["my#station$dls", "my.station.$dls", "my.station.$dls"];
        let memphis = ["my#station$dls", "my#station$dls.final", "my#station$dls.>"];
        for (layout, expect) in [(Layout::Plain, vec![plain, memphis]), (Layout::Memphis, vec![memphis])] {
            let names = StreamName::of_letters(layout, &name)
                .into_iter()
                .map(|stream_name| [stream_name.stream, stream_name.publish, stream_name.captures]);
            assert_eq!(names.collect::<Vec<_>>(), expect, "{layout:?}");
        }
    }

    #[test]
    fn a_streams_name_says_which_partition_it_is() {
        let name = Name::parse("a.b").expect("a name");
        for (stream, expect) in [
            ("a#b", Some(0)),
            ("a#b$1", Some(1)),
            ("a#b$12", Some(12)),
            ("a#b$01", None),
            ("a#b$0", None),
            ("a#b$+1", None),
            ("a#b$", None),
            ("a#b$dls", None),
            ("a#b_backup", None),
            ("a#bc$1", None),
            ("a", None),
        ] {
            assert_eq!(partition_of(stream, &name), expect, "{stream}");
        }
    }
}
