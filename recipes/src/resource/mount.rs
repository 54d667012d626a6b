//! `mount`: an entry of `/etc/fstab`.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::edit::{Found, Lines, plan_edit};
use super::fields::AbsolutePath;
use super::fstab::{Entry, check_device, check_option, one_line};
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::{Op, UnitAction};
use crate::system::units::unit_of_path;
use crate::system::{Facts, PlanError};

/// A file system that is mounted at boot: the entry of `/etc/fstab` for a path, see fstab(5).
///
/// An entry that says the same in other spacing stays as it is; further entries for the path go; comments
/// and other entries stay. Name devices by `UUID=` or `LABEL=`: names such as `/dev/sdb` and
/// `/dev/nvme1n1` change from boot to boot. Without the option `nofail` a host whose device is missing
/// does not come up.
///
/// `mounted` and `absent` also mount and unmount now, through the unit that systemd makes of the entry,
/// on a live host with a kernel of its own; a bake and a container only have the entry. New options of
/// what is mounted already take effect at the next boot, or by a handler
/// `service: { name: srv-data.mount, state: reloaded }`. Swap has a kind of its own.
///
/// ```yaml
/// - mount: { path: /srv/data, device: LABEL=data, fstype: ext4, options: [noatime, nofail], pass: 2 }
/// - mount: { path: /tmp, device: tmpfs, fstype: tmpfs, options: [nosuid, nodev, size=1G], state: mounted }
/// - mount: { path: /mnt, state: absent }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Mount {
    /// Where it is mounted. systemd makes the directory if it is missing.
    path: AbsolutePath,
    /// What is mounted: `UUID=`, `LABEL=`, `PARTUUID=`, `PARTLABEL=` or `ID=` with a value, a device, a
    /// folder (for `bind`), `host:/folder`, or a name such as `tmpfs`.
    device: Option<String>,
    /// The type of the file system, such as `ext4`, `xfs`, `tmpfs`, `nfs4`, or `none` for `bind`.
    fstype: Option<String>,
    /// Mount options; `[defaults]` if not said.
    options: Option<Vec<String>>,
    /// Whether dump(8) saves it: 0 or 1; 0 if not said.
    dump: Option<u8>,
    /// When fsck(8) checks it at boot: 0 never, 1 first, for `/`, 2 after that; 0 if not said.
    pass: Option<u8>,
    /// `present`: the entry is there; `mounted`: it is mounted now, too; `absent`: neither.
    #[serde(default)]
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum State {
    #[default]
    Present,
    Mounted,
    Absent,
}

#[derive(Debug)]
struct Resolved {
    path: AbsolutePath,
    /// None if there shall be no entry.
    entry: Option<Entry>,
    state: State,
}

const FSTAB: &str = "/etc/fstab";

impl Fields for Mount {
    const KIND: &'static str = "mount";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let path = self.path.to_string();
        one_line("path", &path)?;
        if self.state == State::Absent {
            return match (self.device, self.fstype, self.options, self.dump, self.pass) {
                (None, None, None, None, None) if path != "/" => {
                    Ok(Box::new(Resolved { path: self.path, entry: None, state: self.state }))
                }
                (None, None, None, None, None) => Err(Problem::new("`/` cannot be absent")),
                _ => Err(Problem::new("a `mount` that shall be absent has a `path` only")),
            };
        }
        let (Some(device), Some(fstype)) = (self.device, self.fstype) else {
            return Err(Problem::new("a `mount` needs `device` and `fstype`"));
        };
        check_device(&device)?;
        if fstype.is_empty() || !fstype.chars().all(|c| c.is_ascii_alphanumeric() || "._-,".contains(c)) {
            return Err(Problem::new(format!("`{fstype}` is not a type of a file system"))
                .help("it is a word such as `ext4`; /proc/filesystems has those that the kernel knows"));
        }
        if fstype == "swap" {
            return Err(Problem::new("swap is not mounted at a path").help("write a `swap`"));
        }
        let options = self.options.unwrap_or_else(|| vec!["defaults".into()]);
        options.iter().try_for_each(|option| check_option(option))?;
        if options.is_empty() {
            return Err(Problem::new("`options` is empty").help("write `[defaults]`, or leave it out"));
        }
        let (dump, pass) = (self.dump.unwrap_or(0), self.pass.unwrap_or(0));
        if dump > 1 {
            return Err(Problem::new(format!("`dump` {dump} is not valid; valid are 0 and 1")));
        }
        if pass > 2 {
            return Err(Problem::new(format!("`pass` {pass} is not valid; valid are 0, 1 and 2")));
        }
        let entry = Entry { device, path, fstype, options: options.join(","), dump, pass };
        Ok(Box::new(Resolved { path: self.path, entry: Some(entry), state: self.state }))
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.path.to_string()
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::Line { path: FSTAB.into(), line: self.path.to_string() }]
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let path = self.path.to_string();
        let mut ops = plan_edit(facts, Path::new(FSTAB), |before| {
            let mut lines = Lines::of(before);
            let wanted = self.entry.as_ref().map(Entry::line);
            let there = lines.keep_one(wanted.as_deref(), |line| match Entry::parse(line) {
                Some(entry) if Some(&entry) == self.entry.as_ref() => Found::AsWanted,
                Some(entry) if entry.path == path => Found::Differs,
                _ => Found::Other,
            });
            if let Some(wanted) = wanted.filter(|_| !there) {
                lines.insert(None, &wanted);
            }
            lines.text()
        })?;
        if self.state == State::Present || !facts.host().systemd || !facts.host().owns_kernel() {
            return Ok(ops);
        }
        let name = unit_of_path(self.path.as_path(), "mount");
        match (self.state, facts.active(&name)?.known()?) {
            (State::Mounted, false) => ops.push(Op::Unit { name, action: UnitAction::Start }),
            // Unmounted first: without the entry nobody would know any more how it got there.
            (State::Absent, true) => ops.insert(0, Op::Unit { name, action: UnitAction::Stop }),
            _ => {}
        }
        Ok(ops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Change;
    use crate::run::Files;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    const FILE: &str =
        "# <file system> <mount>\r\nUUID=1  /\text4 errors=remount-ro 0 1\r\n/dev/sr0 /srv/data udf ro";

    fn mount(fields: &str) -> Example {
        Example::resources(&format!("- mount: {fields}"))
    }

    #[test]
    fn settles_as_an_entry_and_to_absence_and_leaves_the_rest() {
        let mut fake = Fake::debian();
        fake.file(FSTAB, FILE);
        insta::assert_snapshot!(mount("{ path: /srv/data/, device: LABEL=my data, fstype: ext4, options: [noatime, nofail], pass: 2 }").settles(&mut fake), @r"
        example: mount /srv/data
          ~ change /etc/fstab
              --- /etc/fstab
              +++ /etc/fstab
              @@ -1,3 +1,3 @@
               # <file system> <mount>
               UUID=1  /	ext4 errors=remount-ro 0 1
              -/dev/sr0 /srv/data udf ro
              \ No newline at end of file
              +LABEL=my\040data /srv/data ext4 noatime,nofail 0 2
              \ No newline at end of file
        Plan: 1 to change, 0 unchanged.
        ");
        mount("{ path: /tmp, device: tmpfs, fstype: tmpfs }").settles(&mut fake);
        mount("{ path: /srv/data, state: absent }").settles(&mut fake);
        let rest = "# <file system> <mount>\r\nUUID=1  /\text4 errors=remount-ro 0 1\r\n";
        assert_eq!(fake.text(FSTAB), Some(format!("{rest}tmpfs /tmp tmpfs defaults 0 0\n")));
        assert!(fake.performed.iter().all(|op| matches!(op, Op::WriteFile(_))));
    }

    #[test]
    fn an_entry_that_says_the_same_stays_and_further_ones_go() {
        let mut fake = Fake::debian();
        fake.file(FSTAB, "tmpfs\t/tmp/  tmpfs\tnosuid\ntmpfs /tmp tmpfs size=1G 0 0\n");
        mount("{ path: /tmp, device: tmpfs, fstype: tmpfs, options: [nosuid] }").settles(&mut fake);
        assert_eq!(fake.text(FSTAB).as_deref(), Some("tmpfs\t/tmp/  tmpfs\tnosuid\n"));
    }

    #[test]
    fn a_file_that_is_not_there_is_made_only_for_an_entry() {
        let mut fake = Fake::debian();
        mount("{ path: /tmp, state: absent }").settles(&mut fake);
        assert_eq!(fake.text(FSTAB), None);
        mount("{ path: \"/srv/my data\", device: '#a\\b', fstype: none, options: [bind] }")
            .settles(&mut fake);
        assert_eq!(fake.text(FSTAB).as_deref(), Some("\\043a\\134b /srv/my\\040data none bind 0 0\n"));
    }

    #[test]
    fn settles_mounted_and_unmounted_where_the_kernel_is_the_hosts_own() {
        let mut fake = Fake::debian();
        let mounted = mount("{ path: /srv/my-data, device: tmpfs, fstype: tmpfs, state: mounted }");
        insta::assert_snapshot!(mounted.settles(&mut fake), @r"
        example: mount /srv/my-data
          + create /etc/fstab (root:root 0644, 38 bytes)
              --- /dev/null
              +++ /etc/fstab
              @@ -0,0 +1 @@
              +tmpfs /srv/my-data tmpfs defaults 0 0
          > start srv-my\x2ddata.mount
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(mount("{ path: /srv/my-data, state: absent }").settles(&mut fake), @r"
        example: mount /srv/my-data
          > stop srv-my\x2ddata.mount
          ~ change /etc/fstab
              --- /etc/fstab
              +++ /etc/fstab
              @@ -1 +0,0 @@
              -tmpfs /srv/my-data tmpfs defaults 0 0
        Plan: 1 to change, 0 unchanged.
        ");
        let mut builder = Fake::builder();
        mounted.settles(&mut builder);
        assert!(matches!(&builder.performed[..], [Op::WriteFile(_)]));
    }

    #[test]
    fn files_on_it_wait_until_it_is_mounted() {
        let mut fake = Fake::debian();
        let example = Example::resources(
            "
- file: { path: /etc/before, content: a }
- mount: { path: /srv/data, device: LABEL=data, fstype: ext4, state: mounted }
- directory: { path: /srv/data/app }
- file: { path: /srv/data/app/a, content: a }
",
        );
        example.run(&mut fake, Files::Together).0.expect("it converges");
        let done: Vec<String> = fake.performed.iter().map(|op| Change::from(op).to_string()).collect();
        insta::assert_snapshot!(done.join("\n"), @"
        + create /etc/before (root:root 0644, 1 bytes)
        + create /etc/fstab (root:root 0644, 39 bytes)
        > start srv-data.mount
        + create the directory /srv/data (root:root 0755)
        + create the directory /srv/data/app (root:root 0755)
        + create /srv/data/app/a (root:root 0644, 1 bytes)
        ");
        assert!(example.plan(&fake).expect("a plan").is_empty());
    }

    #[test]
    fn what_is_mounted_is_unknown_after_a_start_that_may_mount_it() {
        let example = Example::resources(
            "
- package: { name: x }
- mount: { path: /tmp, device: tmpfs, fstype: tmpfs, state: mounted }
",
        );
        insta::assert_snapshot!(example.plan(&Fake::debian()).expect("a plan"), @"
        example: package x
          + install x
        example: mount /tmp (assumed)
          ? create /etc/fstab (root:root 0644, 30 bytes), unless installing x brings it
              --- /dev/null
              +++ /etc/fstab
              @@ -0,0 +1 @@
              +tmpfs /tmp tmpfs defaults 0 0
          ? start tmp.mount, unless installing x brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn contradictions_are_found() {
        let twice = "
- mount: { path: /tmp, device: tmpfs, fstype: tmpfs }
- mount: { path: /tmp/, state: absent }
- file: { path: /etc/fstab, content: '' }
";
        insta::assert_snapshot!(Example::resources(twice).problems(), @"
        example/recipe.yaml:3:5: the line `/tmp` of `/etc/fstab` is decided twice, differently (first here: example/recipe.yaml:2:5)
        example/recipe.yaml:2:5: the line `/tmp` of `/etc/fstab` is set, but the whole file is decided elsewhere (here: example/recipe.yaml:4:5); put it where the file is decided
        ");
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |fields: &str| mount(fields).problems();
        insta::assert_snapshot!(problems("{ path: /a }"), @"example/recipe.yaml:2:12: a `mount` needs `device` and `fstype`");
        insta::assert_snapshot!(problems("{ path: /a, device: UIUD=1, fstype: ext4 }"), @"example/recipe.yaml:2:12: `UIUD` is not a tag that devices are found by; did you mean `UUID`? valid are `UUID`, `LABEL`, `PARTUUID`, `PARTLABEL` and `ID`");
        insta::assert_snapshot!(problems("{ path: /a, device: UUID=, fstype: ext4 }"), @"example/recipe.yaml:2:12: `UUID=` names no device: nothing is behind `=`");
        insta::assert_snapshot!(problems("{ path: /a, device: \"x\\ny\", fstype: ext4 }"), @"example/recipe.yaml:2:12: `device` has a line end or another control character in it");
        insta::assert_snapshot!(problems("{ path: /a, device: x, fstype: ext 4 }"), @"example/recipe.yaml:2:12: `ext 4` is not a type of a file system; it is a word such as `ext4`; /proc/filesystems has those that the kernel knows");
        insta::assert_snapshot!(problems("{ path: /a, device: x, fstype: swap }"), @"example/recipe.yaml:2:12: swap is not mounted at a path; write a `swap`");
        insta::assert_snapshot!(problems("{ path: /a, device: x, fstype: ext4, options: ['ro,nofail'] }"), @"example/recipe.yaml:2:12: `ro,nofail` is not one mount option; write each as an element of the list: `options: [noatime, nofail]`");
        insta::assert_snapshot!(problems("{ path: /a, device: x, fstype: ext4, options: [] }"), @"example/recipe.yaml:2:12: `options` is empty; write `[defaults]`, or leave it out");
        insta::assert_snapshot!(problems("{ path: /a, device: x, fstype: ext4, options: ro }"), @"example/recipe.yaml:2:58: expected a list, found the string `ro`");
        insta::assert_snapshot!(problems("{ path: /a, device: x, fstype: ext4, pass: 3 }"), @"example/recipe.yaml:2:12: `pass` 3 is not valid; valid are 0, 1 and 2");
        insta::assert_snapshot!(problems("{ path: /a, device: x, fstype: ext4, dump: 2 }"), @"example/recipe.yaml:2:12: `dump` 2 is not valid; valid are 0 and 1");
        insta::assert_snapshot!(problems("{ path: /a, device: x, state: absent }"), @"example/recipe.yaml:2:12: a `mount` that shall be absent has a `path` only");
        insta::assert_snapshot!(problems("{ path: /, state: absent }"), @"example/recipe.yaml:2:12: `/` cannot be absent");
        mount("{ path: /a, device: x, fstype: ext4, options: ['context=\"a,b\"'] }").load().expect("valid");
    }
}
