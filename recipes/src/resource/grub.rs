//! What GRUB's settings on Debian ask for, and what its generated file boots.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::drop_ins::{DropIn, drop_ins};
use crate::system::{Facts, PlanError};

/// Where grub-mkconfig(8) reads its settings, the second in the order of their names.
pub(super) const SETTINGS: &str = "/etc/default/grub";
pub(super) const FOLDER: &str = "/etc/default/grub.d";

/// A file that is read later and forgets what is in the variable.
pub(super) fn dropped_by(facts: &dyn Facts, ours: &str) -> Result<Option<PathBuf>, PlanError> {
    let later = drop_ins(facts, &[FOLDER], "cfg", |name| name > ours)?;
    let drops = |drop_in: &DropIn| {
        let mut values =
            drop_in.text.lines().filter_map(|line| line.trim_start().strip_prefix("GRUB_CMDLINE_LINUX="));
        values.any(|value| !keeps_variable(value))
    };
    Ok(later.unwrap_or_default().into_iter().find(drops).map(|drop_in| drop_in.path))
}

/// Whether the value of a shell variable has what was in it before, not what is in `.._DEFAULT`.
fn keeps_variable(value: &str) -> bool {
    let mut bare = value.split("$GRUB_CMDLINE_LINUX").skip(1);
    value.contains("${GRUB_CMDLINE_LINUX}")
        || bare.any(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
}

/// The words in all other settings: what they ask for stays.
pub(super) fn wanted_by_others(facts: &dyn Facts, ours: &str) -> Result<BTreeSet<String>, PlanError> {
    let main = facts.content(Path::new(SETTINGS))?.known()?.unwrap_or_default();
    let mut texts = vec![String::from_utf8_lossy(&main).into_owned()];
    // What they ask for decides something here, so that it matters whether they are known.
    facts.names(Path::new(FOLDER))?.known()?;
    let others = drop_ins(facts, &[FOLDER], "cfg", |name| name != ours)?.unwrap_or_default();
    texts.extend(others.into_iter().map(|other| other.text));
    let lines = texts.iter().flat_map(|text| text.lines()).filter(|line| !line.trim_start().starts_with('#'));
    let words = lines.flat_map(|line| {
        // Of `GRUB_CMDLINE_LINUX="audit=1 nosmt"` what is in the quotes.
        let value = line.split_once('=').map_or("", |(_, value)| value);
        value.split(|c: char| c.is_whitespace() || "\"'".contains(c))
    });
    Ok(words.filter(|word| !word.is_empty()).map(str::to_owned).collect())
}

/// The words of each command that boots one of the host's own kernels. What other systems and entries
/// written by hand are booted with comes from elsewhere.
pub(super) fn kernels(text: &str) -> Vec<BTreeSet<&str>> {
    const SECTION: &str = "/etc/grub.d/10_linux ###";
    let lines = text.lines().skip_while(|line| *line != format!("### BEGIN {SECTION}"));
    let lines = lines.take_while(|line| *line != format!("### END {SECTION}"));
    let commands = lines.map(|line| line.split_whitespace().collect::<Vec<&str>>());
    commands
        .filter(|words| matches!(words.first(), Some(&("linux" | "linuxefi" | "linux16"))))
        .map(|words| words.into_iter().collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_keeps_what_was_there_only_by_its_own_name() {
        for kept in ["\"$GRUB_CMDLINE_LINUX a\"", "\"a ${GRUB_CMDLINE_LINUX}\"", "$GRUB_CMDLINE_LINUX"] {
            assert!(keeps_variable(kept), "{kept}");
        }
        for lost in ["\"\"", "\"$GRUB_CMDLINE_LINUX_DEFAULT a\"", "GRUB_CMDLINE_LINUX"] {
            assert!(!keeps_variable(lost), "{lost}");
        }
    }

    #[test]
    fn only_the_hosts_own_kernels_count() {
        let text = "linux /no\n### BEGIN /etc/grub.d/10_linux ###\n\tlinux\t/a ro\r\n  linuxefi /b x\n  initrd /c\n\
                    ### END /etc/grub.d/10_linux ###\nlinux /no\n";
        let kernels = kernels(text);
        assert_eq!(kernels.len(), 2);
        assert!(kernels[0].contains("ro") && kernels[1].contains("x"));
        assert!(super::kernels("").is_empty());
    }
}
