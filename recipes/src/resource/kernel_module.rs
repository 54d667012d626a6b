//! `kernel_module`: a module that the kernel has, or must not have.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::contents::{Contents, plan_absent};
use super::drop_ins::drop_ins;
use super::edit::{default_attributes, existing};
use super::modules::{LOAD, MODPROBE, is_in_kernel, kernel_name};
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::{Command, Content, Op};
use crate::system::{Facts, PlanError};

/// A kernel module that is loaded at every boot, or blocked.
///
/// `loaded` is a file in `/etc/modules-load.d`, and with `options` one in `/etc/modprobe.d`; on a live
/// host with a kernel of its own the module is loaded now, too. `blocked` is a file in `/etc/modprobe.d`
/// that keeps the module from being loaded for hardware (`blacklist`) and by name or by other modules
/// (`install ... /bin/false`). What other files say against it is an error, because the resource would be
/// dead.
///
/// A module that is loaded already is not unloaded and gets no new options: that needs a reboot. For a
/// module in the initramfs `notify` a handler that runs `update-initramfs -u`.
///
/// ```yaml
/// - kernel_module: { name: nf_conntrack, options: { hashsize: 65536 } }
/// - kernel_module: { name: usb-storage, state: blocked }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KernelModule {
    /// The name of the module, no alias; `-` and `_` are the same.
    name: String,
    /// Its parameters when it is loaded; none if not said.
    #[serde(default)]
    options: BTreeMap<String, String>,
    /// `loaded`, `blocked`, or `absent`: there is no file about it; `loaded` if not said.
    #[serde(default)]
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum State {
    #[default]
    Loaded,
    Blocked,
    Absent,
}

#[derive(Debug)]
struct Resolved {
    name: String,
    options: BTreeMap<String, String>,
    state: State,
}

impl Fields for KernelModule {
    const KIND: &'static str = "kernel_module";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let is_name = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
        };
        if !is_name(&self.name) {
            return Err(Problem::new(format!("`{}` is not the name of a module", self.name.escape_debug()))
                .help("names are letters, digits, `-` and `_`, without `.ko`"));
        }
        if self.state != State::Loaded && !self.options.is_empty() {
            return Err(Problem::new("a module that is not loaded has no `options`"));
        }
        for (key, value) in &self.options {
            if !is_name(key) {
                return Err(Problem::new(format!("`{}` is not a parameter of a module", key.escape_debug())));
            }
            if value.contains(|c: char| c.is_whitespace() || c.is_control() || "\"'\\".contains(c)) {
                return Err(Problem::new(format!("the value of `{key}` has a blank, quote or `\\` in it")));
            }
        }
        Ok(Box::new(Resolved { name: self.name, options: self.options, state: self.state }))
    }
}

impl Resolved {
    fn load_path(&self) -> PathBuf {
        Path::new(LOAD[0]).join(format!("{}.conf", self.name))
    }

    fn modprobe_path(&self) -> PathBuf {
        Path::new(MODPROBE[0]).join(format!("{}.conf", self.name))
    }

    /// What modprobe shall know about it; empty if nothing.
    fn modprobe_text(&self) -> String {
        let Self { name, options, state } = self;
        match state {
            // Without `install` it would still be loaded by its name, and for modules that need it.
            State::Blocked => format!("install {name} /bin/false\nblacklist {name}\n"),
            State::Loaded if !options.is_empty() => {
                let mut text = format!("options {name}");
                for (key, value) in options {
                    let _ = write!(text, " {key}={value}");
                }
                text + "\n"
            }
            State::Loaded | State::Absent => String::new(),
        }
    }

    /// What is needed to have this file, or none. One that has more in it than this module is not ours.
    fn plan_file(&self, facts: &dyn Facts, path: PathBuf, text: String) -> Result<Vec<Op>, PlanError> {
        let is_ours = |line: &str| {
            let mut words = line.split_whitespace();
            match words.next() {
                None => true,
                Some("install" | "blacklist" | "options") => words.next().is_some_and(|name| self.is(name)),
                Some(name) => self.is(name),
            }
        };
        if let Some(before) = existing(facts, &path)?
            && !before.text.lines().all(is_ours)
        {
            let message = format!("`{}` has more in it than the module `{}`", path.display(), self.name);
            return Err(PlanError::impossible_but(
                message,
                "remove it before, or decide all of it with a `file`",
            ));
        }
        if text.is_empty() {
            return plan_absent(facts, &path);
        }
        let content = Content::new(text);
        Contents { path, content, attributes: default_attributes(), validate: None }.plan(facts)
    }

    /// A file of somebody else that makes this one pointless.
    fn contradicted(&self, facts: &dyn Facts) -> Result<Option<PathBuf>, PlanError> {
        let ours = format!("{}.conf", self.name);
        let (directories, is_against): (_, fn(&Self, &[&str]) -> bool) = match self.state {
            State::Loaded => (&MODPROBE, |own, words| {
                matches!(words, ["install", name, program, ..]
                    if own.is(name) && (program.ends_with("/false") || program.ends_with("/true")))
            }),
            State::Blocked => (&LOAD, |own, words| matches!(words, [name] if own.is(name))),
            State::Absent => return Ok(None),
        };
        let others = drop_ins(facts, directories, "conf", |name| name != ours)?.unwrap_or_default();
        let says_so = |text: &str| {
            text.lines().any(|line| is_against(self, &line.split_whitespace().collect::<Vec<_>>()))
        };
        Ok(others.into_iter().find(|other| says_so(&other.text)).map(|other| other.path))
    }

    fn is(&self, name: &str) -> bool {
        kernel_name(name) == kernel_name(&self.name)
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.name.clone()
    }

    fn claims(&self) -> Vec<Claim> {
        let paths = [self.load_path(), self.modprobe_path()].map(Claim::Path);
        [Claim::KernelModule(kernel_name(&self.name))].into_iter().chain(paths).collect()
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        if let Some(path) = self.contradicted(facts)? {
            let does = if self.state == State::Loaded { "kept from loading" } else { "loaded at boot" };
            return Err(PlanError::impossible_but(
                format!("the module `{}` is {does} by `{}`", self.name, path.display()),
                "remove it there",
            ));
        }
        let loads = if self.state == State::Loaded { format!("{}\n", self.name) } else { String::new() };
        let mut ops = self.plan_file(facts, self.modprobe_path(), self.modprobe_text())?;
        ops.extend(self.plan_file(facts, self.load_path(), loads)?);
        if self.state == State::Loaded && facts.host().owns_kernel() && !is_in_kernel(facts, &self.name)? {
            ops.push(Op::Run(Command::new(["modprobe", "--", &self.name])));
        }
        Ok(ops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    fn with_modules(mut fake: Fake) -> Fake {
        fake.directory(LOAD[0]);
        fake.directory(MODPROBE[0]);
        let made =
            Op::CreateDirectory { path: "/sys/module/usb_storage".into(), attributes: default_attributes() };
        fake.command_makes(&["modprobe", "--", "usb-storage"], vec![made]);
        fake
    }

    fn module(fields: &str) -> Example {
        Example::resources(&format!("- kernel_module: {{ name: usb-storage, {fields} }}"))
    }

    #[test]
    fn settles_loaded_with_options_blocked_and_to_absence() {
        let mut fake = with_modules(Fake::debian());
        insta::assert_snapshot!(module("options: { quirks: '0781:5580:u', delay_use: 5 }").settles(&mut fake), @"
        example: kernel_module usb-storage
          + create /etc/modprobe.d/usb-storage.conf (root:root 0644, 51 bytes)
              --- /dev/null
              +++ /etc/modprobe.d/usb-storage.conf
              @@ -0,0 +1 @@
              +options usb-storage delay_use=5 quirks=0781:5580:u
          + create /etc/modules-load.d/usb-storage.conf (root:root 0644, 12 bytes)
              --- /dev/null
              +++ /etc/modules-load.d/usb-storage.conf
              @@ -0,0 +1 @@
              +usb-storage
          > run modprobe -- usb-storage
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(module("state: blocked").settles(&mut fake), @"
        example: kernel_module usb-storage
          ~ change /etc/modprobe.d/usb-storage.conf
              --- /etc/modprobe.d/usb-storage.conf
              +++ /etc/modprobe.d/usb-storage.conf
              @@ -1 +1,2 @@
              -options usb-storage delay_use=5 quirks=0781:5580:u
              +install usb-storage /bin/false
              +blacklist usb-storage
          - remove /etc/modules-load.d/usb-storage.conf
        Plan: 1 to change, 0 unchanged.
        ");
        module("").settles(&mut fake);
        insta::assert_snapshot!(module("state: absent").settles(&mut fake), @"
        example: kernel_module usb-storage
          - remove /etc/modules-load.d/usb-storage.conf
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn a_bake_loads_nothing_and_what_is_built_in_is_there() {
        let mut builder = with_modules(Fake::builder());
        module("").settles(&mut builder);
        assert!(matches!(&builder.performed[..], [Op::WriteFile(_)]));
        let mut fake = with_modules(Fake::debian());
        let (key, value) = ("kernel.osrelease".into(), "6.1.0".into());
        fake.apply(&Op::SetKernelParameter { key, value, before: None });
        fake.file("/lib/modules/6.1.0/modules.builtin", "kernel/drivers/usb/storage/usb-storage.ko\n");
        module("").settles(&mut fake);
        assert!(matches!(&fake.performed[..], [Op::WriteFile(_)]));
    }

    #[test]
    fn files_of_others_are_left_and_those_that_contradict_are_named() {
        let mut fake = with_modules(Fake::builder());
        fake.file("/etc/modprobe.d/usb-storage.conf", "# by hand\noptions usb_storage a=b\n");
        insta::assert_snapshot!(module("state: blocked").fails(&mut fake), @"example: kernel_module usb-storage: `/etc/modprobe.d/usb-storage.conf` has more in it than the module `usb-storage`; remove it before, or decide all of it with a `file`");
        let mut fake = with_modules(Fake::builder());
        fake.file("/usr/lib/modprobe.d/hard.conf", "install usb_storage /usr/bin/false\n");
        fake.file("/usr/lib/modules-load.d/usb.conf", "# x\nusb_storage\n");
        insta::assert_snapshot!(module("").fails(&mut fake), @"example: kernel_module usb-storage: the module `usb-storage` is kept from loading by `/usr/lib/modprobe.d/hard.conf`; remove it there");
        insta::assert_snapshot!(module("state: blocked").fails(&mut fake), @"example: kernel_module usb-storage: the module `usb-storage` is loaded at boot by `/usr/lib/modules-load.d/usb.conf`; remove it there");
    }

    #[test]
    fn whether_a_package_loads_it_is_unknown() {
        let example = Example::resources("- package: { name: x }\n- kernel_module: { name: wireguard }");
        insta::assert_snapshot!(example.plan(&with_modules(Fake::debian())).expect("a plan"), @"
        example: package x
          + install x
        example: kernel_module wireguard (assumed)
          ? create /etc/modules-load.d/wireguard.conf (root:root 0644, 10 bytes), unless installing x brings it
              --- /dev/null
              +++ /etc/modules-load.d/wireguard.conf
              @@ -0,0 +1 @@
              +wireguard
          ? run modprobe -- wireguard, unless installing x brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn wrong_fields_and_contradictions_are_explained() {
        let problems = |fields: &str| Example::resources(&format!("- kernel_module: {fields}")).problems();
        insta::assert_snapshot!(problems("{ name: ext4.ko }"), @"example/recipe.yaml:2:20: `ext4.ko` is not the name of a module; names are letters, digits, `-` and `_`, without `.ko`");
        insta::assert_snapshot!(problems("{ name: '' }"), @"example/recipe.yaml:2:20: `` is not the name of a module; names are letters, digits, `-` and `_`, without `.ko`");
        insta::assert_snapshot!(problems("{ name: a, options: { x: \"1\\ninstall b\" } }"), @r"example/recipe.yaml:2:20: the value of `x` has a blank, quote or `\` in it");
        insta::assert_snapshot!(problems("{ name: a, options: { 'x y': 1 } }"), @"example/recipe.yaml:2:20: `x y` is not a parameter of a module");
        insta::assert_snapshot!(problems("{ name: a, options: { x: 1 }, state: blocked }"), @"example/recipe.yaml:2:20: a module that is not loaded has no `options`");
        let twice =
            "- kernel_module: { name: usb-storage }\n- kernel_module: { name: usb_storage, state: blocked }";
        insta::assert_snapshot!(Example::resources(twice).problems(), @"example/recipe.yaml:3:5: the kernel module `usb_storage` is decided twice, differently (first here: example/recipe.yaml:2:5)");
    }
}
