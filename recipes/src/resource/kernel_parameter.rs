//! `kernel_parameter`: what the kernel is booted with.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::contents::{Contents, missing_parents, plan_absent};
use super::edit::default_attributes;
use super::fields::State;
use super::grub::{FOLDER, dropped_by, kernels, wanted_by_others};
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::{Before, Command, Content, Op};
use crate::system::{Attributes, Facts, PlanError};

/// Parameters that GRUB boots the kernel with, on Debian and its descendants: a file in
/// `/etc/default/grub.d` that adds them to `GRUB_CMDLINE_LINUX`, and `update-grub` until every kernel in
/// `/boot/grub/grub.cfg` has them. They hold from the next boot on.
///
/// A host without GRUB is an error; one that has GRUB but no `grub.cfg` yet, such as the builder of an
/// image, only gets the file. A later file there that does not keep what is in the variable is an error,
/// too, because it would drop the parameters. Of a parameter that is given twice most take the last, and
/// `GRUB_CMDLINE_LINUX_DEFAULT` comes after these.
///
/// ```yaml
/// - kernel_parameter: { name: audit, parameters: [audit=1, audit_backlog_limit=8192] }
/// - kernel_parameter: { name: console, parameters: [console=ttyS0], state: absent }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KernelParameter {
    /// The name in the name of the file, `50-NAME.cfg`.
    name: String,
    /// The parameters, such as `audit=1` and `nosmt`. Absent ones are named, too, so that it can be seen
    /// whether they are gone.
    parameters: Vec<String>,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
}

#[derive(Debug)]
struct Resolved {
    name: String,
    parameters: Vec<String>,
    state: State,
}

const PROGRAM: &str = "/usr/sbin/update-grub";
const GENERATED: &str = "/boot/grub/grub.cfg";

impl Fields for KernelParameter {
    const KIND: &'static str = "kernel_parameter";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        if self.name.is_empty() || !self.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
            let message = format!("`{}` is not a name for a file of settings", self.name.escape_debug());
            return Err(Problem::new(message).help("names are letters, digits, `-` and `_`"));
        }
        if self.parameters.is_empty() {
            return Err(Problem::new("a `kernel_parameter` needs at least one of `parameters`"));
        }
        for parameter in &self.parameters {
            // The file is a shell script, and what it makes is one for GRUB: what neither takes apart.
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.,:=/@+%".contains(c);
            if !parameter.starts_with(|c: char| c.is_ascii_alphanumeric()) || !parameter.chars().all(is_plain)
            {
                let message = format!("`{}` is not a kernel parameter", parameter.escape_debug());
                return Err(Problem::new(message).help(
                    "write each as an element of the list, such as `audit=1`, without blanks or quotes",
                ));
            }
        }
        Ok(Box::new(Resolved { name: self.name, parameters: self.parameters, state: self.state }))
    }
}

impl Resolved {
    fn file_name(&self) -> String {
        format!("50-{}.cfg", self.name)
    }

    fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(self.file_name())
    }

    fn plan_file(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        if self.state == State::Absent {
            return plan_absent(facts, &self.path());
        }
        let parameters = self.parameters.join(" ");
        let file = Contents {
            path: self.path(),
            content: Content::new(format!("GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {parameters}\"\n")),
            attributes: default_attributes(),
            validate: None,
        };
        let missing = missing_parents(facts, &self.path())?;
        if missing.is_empty() {
            return file.plan(facts);
        }
        let attributes = Attributes { mode: 0o755, ..default_attributes() };
        let directory = |path| Op::CreateDirectory { path, attributes: attributes.clone() };
        let write = file.write(&file.path, Before::Absent);
        Ok(missing.into_iter().map(directory).chain([write]).collect())
    }

    /// Whether a `grub.cfg` says something else than it shall.
    fn is_stale(&self, facts: &dyn Facts, generated: &[u8]) -> Result<bool, PlanError> {
        let text = String::from_utf8_lossy(generated);
        let kernels = kernels(&text);
        let has = |parameter: &str| kernels.iter().any(|words| words.contains(parameter));
        let all_have = |parameter: &str| kernels.iter().all(|words| words.contains(parameter));
        if self.state == State::Present {
            return Ok(!self.parameters.iter().all(|parameter| all_have(parameter)));
        }
        let others = wanted_by_others(facts, &self.file_name())?;
        Ok(self.parameters.iter().any(|parameter| has(parameter) && !others.contains(parameter)))
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.name.clone()
    }

    fn claims(&self) -> Vec<Claim> {
        let key = |parameter: &String| parameter.split('=').next().unwrap_or(parameter).to_owned();
        let keys = self.parameters.iter().map(|parameter| Claim::BootParameter(key(parameter)));
        keys.chain([Claim::Path(self.path())]).collect()
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        if self.state == State::Present && facts.entry(Path::new(PROGRAM))?.known()?.is_none() {
            return Err(PlanError::impossible_but(
                format!("the host has no GRUB: there is no `{PROGRAM}`"),
                "install the package that brings it before, or leave this out with \
                 `when: not facts.container` where containers have no kernel of their own",
            ));
        }
        if self.state == State::Present
            && let Some(path) = dropped_by(facts, &self.file_name())?
        {
            return Err(PlanError::impossible_but(
                format!("`{}` is read later and drops the parameters", path.display()),
                "begin its value with `$GRUB_CMDLINE_LINUX`",
            ));
        }
        let mut ops = self.plan_file(facts)?;
        // A parameter that is no longer in the file is not missed in `grub.cfg`, so each change counts.
        if let Some(generated) = facts.content(Path::new(GENERATED))?.known()?
            && (!ops.is_empty() || self.is_stale(facts, &generated)?)
        {
            ops.push(Op::Run(Command::new(["update-grub"])));
        }
        Ok(ops)
    }
}

#[cfg(test)]
mod tests {
    use super::super::grub::SETTINGS;
    use super::*;
    use crate::op::WriteFile;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    fn generated(parameters: &str) -> String {
        format!(
            "### BEGIN /etc/grub.d/10_linux ###\nmenuentry 'Debian' {{\n\tlinux\t/vmlinuz root=UUID=1 ro  {parameters} quiet\n}}\n\
             ### END /etc/grub.d/10_linux ###\n### BEGIN /etc/grub.d/40_custom ###\nlinux /other\n"
        )
    }

    fn with_grub(parameters: &str) -> Fake {
        let mut fake = Fake::debian();
        fake.file(PROGRAM, "");
        fake.file(GENERATED, &generated(""));
        let write = WriteFile {
            path: GENERATED.into(),
            content: Content::new(generated(parameters)),
            attributes: default_attributes(),
            validate: None,
            before: Before::Absent,
        };
        fake.command_makes(&["update-grub"], vec![Op::WriteFile(write)]);
        fake
    }

    fn audit(state: &str) -> Example {
        Example::resources(&format!(
            "- kernel_parameter: {{ name: audit, parameters: [audit=1, nosmt], state: {state} }}"
        ))
    }

    #[test]
    fn settles_when_every_kernel_has_them_and_when_none_has() {
        let mut fake = with_grub("audit=1 nosmt");
        insta::assert_snapshot!(audit("present").settles(&mut fake), @r#"
        example: kernel_parameter audit
          + create the directory /etc/default (root:root 0755)
          + create the directory /etc/default/grub.d (root:root 0755)
          + create /etc/default/grub.d/50-audit.cfg (root:root 0644, 55 bytes)
              --- /dev/null
              +++ /etc/default/grub.d/50-audit.cfg
              @@ -0,0 +1 @@
              +GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX audit=1 nosmt"
          > run update-grub
        Plan: 1 to change, 0 unchanged.
        "#);
        let mut fake = with_grub("");
        fake.file(GENERATED, &generated("audit=1 nosmt"));
        fake.file("/etc/default/grub.d/50-audit.cfg", "x");
        insta::assert_snapshot!(audit("absent").settles(&mut fake), @"
        example: kernel_parameter audit
          - remove /etc/default/grub.d/50-audit.cfg
          > run update-grub
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn a_parameter_that_is_left_out_goes() {
        let mut fake = with_grub("audit=1");
        fake.file(GENERATED, &generated("audit=1 nosmt"));
        fake.file(
            "/etc/default/grub.d/50-audit.cfg",
            "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX audit=1 nosmt\"\n",
        );
        Example::resources("- kernel_parameter: { name: audit, parameters: [audit=1] }").settles(&mut fake);
        assert_eq!(fake.text(GENERATED), Some(generated("audit=1")));
    }

    #[test]
    fn what_was_cut_off_before_grub_was_told_is_finished() {
        let mut fake = with_grub("audit=1 nosmt");
        audit("present").settles(&mut fake);
        fake.file(GENERATED, &generated("nosmt"));
        insta::assert_snapshot!(audit("present").settles(&mut fake), @"
        example: kernel_parameter audit
          > run update-grub
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn what_others_ask_for_stays() {
        let mut fake = with_grub("nosmt");
        fake.file(GENERATED, &generated("audit=1 nosmt"));
        fake.file(SETTINGS, "# audit=1\nGRUB_CMDLINE_LINUX=\"nosmt\"\n");
        insta::assert_snapshot!(audit("absent").settles(&mut fake), @"
        example: kernel_parameter audit
          > run update-grub
        Plan: 1 to change, 0 unchanged.
        ");
        audit("absent").settles(&mut Fake::debian());
    }

    #[test]
    fn a_host_without_a_generated_file_gets_the_settings_only() {
        let mut fake = Fake::builder();
        fake.file(PROGRAM, "");
        audit("present").settles(&mut fake);
        assert!(!fake.performed.iter().any(|op| matches!(op, Op::Run(_))));
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        insta::assert_snapshot!(audit("present").fails(&mut Fake::debian()), @"example: kernel_parameter audit: the host has no GRUB: there is no `/usr/sbin/update-grub`; install the package that brings it before, or leave this out with `when: not facts.container` where containers have no kernel of their own");
        let mut fake = with_grub("audit=1 nosmt");
        fake.file("/etc/default/grub.d/60-cloud.cfg", "GRUB_CMDLINE_LINUX=\"console=ttyS0\"\n");
        insta::assert_snapshot!(audit("present").fails(&mut fake), @"example: kernel_parameter audit: `/etc/default/grub.d/60-cloud.cfg` is read later and drops the parameters; begin its value with `$GRUB_CMDLINE_LINUX`");
        fake.file("/etc/default/grub.d/60-cloud.cfg", "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX a\"\n");
        audit("present").settles(&mut fake);
    }

    #[test]
    fn grub_that_a_package_will_bring_is_unknown() {
        let both = "- package: { name: grub-pc }\n- kernel_parameter: { name: a, parameters: [a] }";
        insta::assert_snapshot!(Example::resources(both).plan(&Fake::debian()).expect("a plan"), @"
        example: package grub-pc
          + install grub-pc
        example: kernel_parameter a (assumed)
          ? known after apply: whether installing grub-pc brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn wrong_fields_and_contradictions_are_explained() {
        let problems = |fields: &str| Example::resources(&format!("- kernel_parameter: {fields}")).problems();
        insta::assert_snapshot!(problems("{ name: a/b, parameters: [a] }"), @"example/recipe.yaml:2:23: `a/b` is not a name for a file of settings; names are letters, digits, `-` and `_`");
        insta::assert_snapshot!(problems("{ name: a, parameters: [] }"), @"example/recipe.yaml:2:23: a `kernel_parameter` needs at least one of `parameters`");
        insta::assert_snapshot!(problems("{ name: a, parameters: [audit=1 nosmt] }"), @"example/recipe.yaml:2:23: `audit=1 nosmt` is not a kernel parameter; write each as an element of the list, such as `audit=1`, without blanks or quotes");
        insta::assert_snapshot!(problems("{ name: a, parameters: [\"a=$(reboot)\"] }"), @"example/recipe.yaml:2:23: `a=$(reboot)` is not a kernel parameter; write each as an element of the list, such as `audit=1`, without blanks or quotes");
        let twice = "- kernel_parameter: { name: a, parameters: [audit=1] }\n- kernel_parameter: { name: b, parameters: [audit=0] }";
        insta::assert_snapshot!(Example::resources(twice).problems(), @"example/recipe.yaml:3:5: the boot parameter `audit` is decided twice, differently (first here: example/recipe.yaml:2:5)");
    }
}
