//! `sluicegate station groups NAME`: lists the consumer groups of a station, or removes some.

use super::{
    exit::Failure,
    print::{Common, date, encoded, table},
};
use crate::{api::groups::ConsumerGroupView, station::Name};
use clap::Args;

/// What to do with the consumer groups. By default they are listed.
#[derive(Debug, Args)]
pub(super) struct Work {
    /// Remove these groups; the next consume call that names one begins at the first record
    #[arg(long, value_name = "GROUP", num_args = 1..)]
    remove: Vec<String>,
}

/// Runs the command; `path` is that of the station's groups.
pub(super) fn run(path: &str, work: &Work, common: &Common) -> Result<(), Failure> {
    if work.remove.is_empty() {
        return common.list(path, "items", |groups| listing(&groups));
    }
    for group in &work.remove {
        let name = Name::parse(group).map_err(|fault| Failure::usage(fault.text("Consumer group")))?;
        let target = format!("{path}/{}", encoded(name.as_str()));
        common.order("DELETE", &target, None, &format!("removed {name}\n"))?;
    }
    Ok(())
}

fn listing(groups: &[ConsumerGroupView]) -> String {
    let when = |ms: Option<u64>| ms.map(date).unwrap_or_default();
    let row = |group: &ConsumerGroupView| {
        [group.name.clone(), group.principal.clone().unwrap_or_default(), when(group.created_ms), when(group.used_ms)]
    };
    table(["NAME", "CREATED BY", "CREATED", "LAST USED"], &groups.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_of_a_group_is_left_out() {
        let old = ConsumerGroupView { name: "old".to_owned(), created_ms: None, used_ms: None, principal: None };
        let new = ConsumerGroupView {
            name: "new".to_owned(),
            created_ms: Some(0),
            used_ms: Some(1_700_000_000_000),
            principal: Some("eve".to_owned()),
        };
        let text = listing(&[old, new]);
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[1], ["old"]);
        assert_eq!(words[2][..2], ["new", "eve"]);
    }
}
