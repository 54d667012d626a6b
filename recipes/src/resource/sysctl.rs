//! `sysctl`: kernel parameters.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::contents::Contents;
use super::drop_ins::{DropIn, drop_ins};
use super::fields::PartName;
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::{Content, Op};
use crate::system::{Attributes, Facts, PlanError};

/// Kernel parameters, set at every boot from one file in `/etc/sysctl.d`.
///
/// The file is `99-zz-NAME.conf`: the last file that sets a key wins, and distributions ship files up to
/// `99-protect-links.conf`. A file that comes later still and sets a key to something else is an error,
/// because the setting would be dead. On a live host that has its own kernel the values are also loaded;
/// a bake only writes them down.
///
/// ```yaml
/// - sysctl:
///     name: network
///     settings: { net.ipv4.ip_forward: 0, net.core.somaxconn: 4096 }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sysctl {
    /// The name in the name of the file: letters, digits, `-` and `_`.
    name: PartName,
    /// Keys, with dots, and their values.
    settings: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Resolved {
    name: String,
    settings: BTreeMap<String, String>,
}

/// Where systemd-sysctl looks, first hit of a name wins (sysctl.d(5)).
const DIRECTORIES: [&str; 5] =
    ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"];

impl Fields for Sysctl {
    const KIND: &'static str = "sysctl";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        if self.settings.is_empty() {
            return Err(Problem::new("a `sysctl` needs at least one of `settings`"));
        }
        for (key, value) in &self.settings {
            let valid = key.chars().all(|c| c.is_ascii_alphanumeric() || "._-*/".contains(c));
            if !valid || !key.contains('.') {
                return Err(Problem::new(format!("`{key}` is not a sysctl key"))
                    .help("keys are written with dots, such as `net.ipv4.ip_forward`"));
            }
            if value.contains('\n') {
                return Err(Problem::new(format!("the value of `{key}` has a line end in it")));
            }
        }
        Ok(Box::new(Resolved { name: self.name.0, settings: self.settings }))
    }
}

impl Resolved {
    fn path(&self) -> PathBuf {
        Path::new(DIRECTORIES[0]).join(self.file_name())
    }

    fn file_name(&self) -> String {
        format!("99-zz-{}.conf", self.name)
    }

    fn text(&self) -> String {
        self.settings.iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
    }

    /// A file that is read after ours and sets one of our keys to something else.
    fn overridden(&self, facts: &dyn Facts) -> Result<Option<(PathBuf, String)>, PlanError> {
        let ours = self.file_name();
        // While packages are yet to come nobody can know; it is looked at again when they are there.
        let later = drop_ins(facts, &DIRECTORIES, "conf", |name| name > ours.as_str())?;
        for DropIn { path, text } in later.unwrap_or_default() {
            for line in text.lines() {
                let Some((key, value)) = line.split_once('=') else { continue };
                let key = key.trim().trim_start_matches('-').replace('/', ".");
                let differs = |ours: &String| !same(ours, value);
                if self.settings.get(&key).is_some_and(differs) {
                    return Ok(Some((path, key)));
                }
            }
        }
        Ok(None)
    }
}

/// The kernel separates the numbers of a value by tabs, people by spaces.
fn same(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.name.clone()
    }

    fn claims(&self) -> Vec<Claim> {
        let keys = self.settings.keys().map(|key| Claim::Sysctl(key.clone()));
        keys.chain([Claim::Path(self.path())]).collect()
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        if let Some((path, key)) = self.overridden(facts)? {
            return Err(PlanError::impossible_but(
                format!("`{key}` is overridden by `{}`, which is read later", path.display()),
                "remove it there, or give this resource a `name` that sorts after it",
            ));
        }
        let mut ops = Contents {
            path: self.path(),
            content: Content::new(self.text()),
            attributes: Attributes { owner: "root".into(), group: "root".into(), mode: 0o644 },
            validate: None,
        }
        .plan_with_parents(facts)?;
        if facts.host().owns_kernel() {
            for (key, value) in self.settings.iter().filter(|(key, _)| !key.contains('*')) {
                // A key that this kernel does not have is for another one; systemd-sysctl logs it at boot.
                let Some(now) = facts.kernel_parameter(key)?.known()? else { continue };
                if !same(&now, value) {
                    ops.push(Op::SetKernelParameter {
                        key: key.clone(),
                        value: value.clone(),
                        before: Some(now),
                    });
                }
            }
        }
        Ok(ops)
    }
}

#[cfg(test)]
mod tests {
    use crate::op::Op;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    const RESOURCE: &str = "- sysctl: { name: net, settings: { net.ipv4.ip_forward: 0, net.ipv4.tcp_rmem: 4096 131072 6291456 } }";

    fn kernel(fake: &mut Fake, key: &str, value: &str) {
        fake.apply(&Op::SetKernelParameter { key: key.into(), value: value.into(), before: None });
    }

    #[test]
    fn settles_in_the_file_and_in_a_kernel_of_its_own() {
        let mut fake = Fake::debian();
        kernel(&mut fake, "net.ipv4.ip_forward", "1");
        kernel(&mut fake, "net.ipv4.tcp_rmem", "4096\t131072\t6291456");
        insta::assert_snapshot!(Example::resources(RESOURCE).settles(&mut fake), @"
        example: sysctl net
          + create /etc/sysctl.d/99-zz-net.conf (root:root 0644, 64 bytes)
              --- /dev/null
              +++ /etc/sysctl.d/99-zz-net.conf
              @@ -0,0 +1,2 @@
              +net.ipv4.ip_forward = 0
              +net.ipv4.tcp_rmem = 4096 131072 6291456
          ~ set net.ipv4.ip_forward = 0 in the kernel (is 1)
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn the_directory_is_made_where_nothing_brought_it() {
        let mut fake = Fake::builder();
        fake.apply(&Op::Remove { path: "/etc/sysctl.d".into(), directory: true });
        Example::resources(RESOURCE).settles(&mut fake);
        let made = |op: &Op| matches!(op, Op::CreateDirectory { path, .. } if path.ends_with("sysctl.d"));
        assert!(fake.performed.iter().any(made), "{:?}", fake.performed);
    }

    #[test]
    fn a_bake_leaves_the_kernel_alone() {
        let mut fake = Fake::builder();
        kernel(&mut fake, "net.ipv4.ip_forward", "1");
        Example::resources(RESOURCE).settles(&mut fake);
        assert!(matches!(&fake.performed[..], [Op::WriteFile(_)]));
    }

    #[test]
    fn a_setting_that_a_later_file_overrides_is_dead() {
        let mut fake = Fake::debian();
        fake.file("/usr/lib/sysctl.d/99-protect-links.conf", "net.ipv4.ip_forward = 1\n");
        Example::resources(RESOURCE).settles(&mut fake);
        fake.file("/etc/other.conf", "# x\nnet/ipv4/ip_forward=1\n");
        fake.symlink("/etc/sysctl.d/99-zzz.conf", "../other.conf");
        insta::assert_snapshot!(Example::resources(RESOURCE).fails(&mut fake), @"example: sysctl net: `net.ipv4.ip_forward` is overridden by `/etc/other.conf`, which is read later; remove it there, or give this resource a `name` that sorts after it");
        fake.file("/etc/sysctl.d/99-zzz.conf", "-net.ipv4.ip_forward = 0\n");
        Example::resources(RESOURCE).settles(&mut fake);
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |fields: &str| Example::resources(&format!("- sysctl: {fields}")).problems();
        insta::assert_snapshot!(problems("{ name: a, settings: {} }"), @"example/recipe.yaml:2:13: a `sysctl` needs at least one of `settings`");
        insta::assert_snapshot!(problems("{ name: a/b, settings: { a.b: 1 } }"), @"example/recipe.yaml:2:13: `a/b` is not a name for a file of settings: letters, digits, `-` and `_`, without a dot");
        insta::assert_snapshot!(problems("{ name: a, settings: { ip_forward: 1 } }"), @"example/recipe.yaml:2:13: `ip_forward` is not a sysctl key; keys are written with dots, such as `net.ipv4.ip_forward`");
        insta::assert_snapshot!(problems("{ name: a, settings: { a.b: true } }"), @r#"example/recipe.yaml:2:41: expected a string, found the boolean `true`; write "true" in quotes"#);
    }
}
