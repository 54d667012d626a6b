//! `hostname`: the name of the host.

use schemars::JsonSchema;
use serde::Deserialize;

use super::contents::Contents;
use super::edit::default_attributes;
use super::fields::HostName;
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::{Content, Op};
use crate::system::{Facts, Mode, PlanError};

/// The name of the host, in `/etc/hostname`, see hostname(5), and in the running kernel where that is the
/// host's own; a container takes it at its next start.
///
/// It is for boot recipes: an image that has a name would give it to every host that is made of it, so
/// sealing resets the file, and a bake that sets it fails. For the name to lead to an address without DNS
/// add a `hosts_entry` for 127.0.1.1.
///
/// ```yaml
/// - hostname: { name: "web-{{ facts.arch }}" }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Hostname {
    /// The name: letters, digits, `-` and `.`, at most 64. One without a domain is usual.
    name: HostName,
}

#[derive(Debug)]
struct Resolved {
    name: String,
}

const FILE: &str = "/etc/hostname";

/// The sysctl that sethostname(2) and hostnamectl(1) set.
const KERNEL_KEY: &str = "kernel.hostname";

/// The longest name that the kernel keeps: `HOST_NAME_MAX`, see sethostname(2).
const LONGEST: usize = 64;

impl Fields for Hostname {
    const KIND: &'static str = "hostname";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let name = self.name.0;
        if name.len() > LONGEST {
            return Err(Problem::new(format!("`{name}` is {} characters long", name.len()))
                .help(format!("the kernel keeps at most {LONGEST}")));
        }
        // Both are what a host is called that has no name (hostname(5)).
        if name == "localhost" || name.starts_with("localhost.") {
            return Err(Problem::new(format!("`{name}` is the name of every host"))
                .help("hosts that have no name of their own are called so; choose another"));
        }
        Ok(Box::new(Resolved { name }))
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.name.clone()
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::Path(FILE.into()), Claim::Sysctl(KERNEL_KEY.into())]
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        if facts.host().mode == Mode::Bake {
            return Err(PlanError::impossible_but(
                "an image has no host name: every host that is made of it would have the same, \
                 so sealing resets it",
                "put the `hostname` into a boot recipe",
            ));
        }
        let mut ops = Contents {
            path: FILE.into(),
            content: Content::new(format!("{}\n", self.name)),
            attributes: default_attributes(),
            validate: None,
        }
        .plan(facts)?;
        if facts.host().owns_kernel() {
            let now = facts.kernel_parameter(KERNEL_KEY)?.known()?;
            if now.as_ref() != Some(&self.name) {
                let (key, value) = (KERNEL_KEY.into(), self.name.clone());
                ops.push(Op::SetKernelParameter { key, value, before: now });
            }
        }
        Ok(ops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::Host;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    const RESOURCE: &str = "- hostname: { name: web-1 }";

    #[test]
    fn settles_in_the_file_and_in_a_kernel_of_its_own() {
        let mut fake = Fake::debian();
        let (key, value) = (KERNEL_KEY.into(), "localhost".into());
        fake.apply(&Op::SetKernelParameter { key, value, before: None });
        insta::assert_snapshot!(Example::resources(RESOURCE).settles(&mut fake), @"
        example: hostname web-1
          + create /etc/hostname (root:root 0644, 6 bytes)
              --- /dev/null
              +++ /etc/hostname
              @@ -0,0 +1 @@
              +web-1
          ~ set kernel.hostname = web-1 in the kernel (is localhost)
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(Example::resources("- hostname: { name: web-2.example.com }").settles(&mut fake), @"
        example: hostname web-2.example.com
          ~ change /etc/hostname
              --- /etc/hostname
              +++ /etc/hostname
              @@ -1 +1 @@
              -web-1
              +web-2.example.com
          ~ set kernel.hostname = web-2.example.com in the kernel (is web-1)
        Plan: 1 to change, 0 unchanged.
        ");
        let mut container = Fake::with_host(Host { container: true, ..Fake::debian().host().clone() });
        Example::resources(RESOURCE).settles(&mut container);
        assert!(matches!(&container.performed[..], [Op::WriteFile(_)]));
    }

    #[test]
    fn a_bake_that_names_the_host_is_refused() {
        insta::assert_snapshot!(Example::resources(RESOURCE).fails(&mut Fake::builder()), @"example: hostname web-1: an image has no host name: every host that is made of it would have the same, so sealing resets it; put the `hostname` into a boot recipe");
    }

    #[test]
    fn wrong_fields_and_contradictions_are_explained() {
        let problems = |fields: &str| Example::resources(&format!("- hostname: {fields}")).problems();
        insta::assert_snapshot!(problems("{ name: web_1 }"), @"example/recipe.yaml:2:15: `web_1` is not the name of a host: letters, digits and `-`, at most 63 between dots, not starting or ending with `-`");
        insta::assert_snapshot!(problems("{ name: '' }"), @"example/recipe.yaml:2:15: `` is not the name of a host: letters, digits and `-`, at most 63 between dots, not starting or ending with `-`");
        insta::assert_snapshot!(problems("{ name: \"a\\nb\" }"), @r"example/recipe.yaml:2:15: `a\nb` is not the name of a host: letters, digits and `-`, at most 63 between dots, not starting or ending with `-`");
        insta::assert_snapshot!(problems("{ name: localhost }"), @"example/recipe.yaml:2:15: `localhost` is the name of every host; hosts that have no name of their own are called so; choose another");
        insta::assert_snapshot!(problems(&format!("{{ name: {}.{} }}", "a".repeat(50), "b".repeat(14))), @"example/recipe.yaml:2:15: `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbb` is 65 characters long; the kernel keeps at most 64");
        let several = "
- hostname: { name: a }
- hostname: { name: b }
- line: { path: /etc/hostname, line: c }
";
        insta::assert_snapshot!(Example::resources(several).problems(), @"
        example/recipe.yaml:3:5: the path `/etc/hostname` is decided twice, differently (first here: example/recipe.yaml:2:5)
        example/recipe.yaml:3:5: the sysctl `kernel.hostname` is decided twice, differently (first here: example/recipe.yaml:2:5)
        example/recipe.yaml:4:5: the line `c` of `/etc/hostname` is set, but the whole file is decided elsewhere (here: example/recipe.yaml:2:5); put it where the file is decided
        ");
    }
}
