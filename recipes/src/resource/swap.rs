//! `swap`: a file that the kernel swaps to.

use std::fmt;
use std::io::{self, Read, SeekFrom};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::{self, Deserialize, Deserializer};

use super::contents::missing_parents;
use super::edit::{Found, Lines, plan_edit};
use super::fields::{AbsolutePath, State};
use super::fstab::{Entry, one_line};
use super::{Claim, Context, Fields, Resource};
use crate::archive::ReadSeek;
use crate::error::Problem;
use crate::op::{Before, Command, Content, Op, UnitAction, WriteFile};
use crate::system::units::unit_of_path;
use crate::system::{Attributes, EntryKind, Facts, FactsError, PlanError};

/// A swap file: the file itself, made by fallocate(1) and mkswap(8), and its entry in `/etc/fstab`.
///
/// It is root's and private (0600) before anything is in it, and not copied on write on btrfs. A file that
/// has another size is made anew. One that is no swap file and not empty is never replaced. A live host with
/// a kernel of its own swaps to it at once, through the unit that systemd makes of the entry; a bake and a
/// container only have file and entry. How eagerly is `sysctl: { settings: { vm.swappiness: 10 } }`.
///
/// ```yaml
/// - swap: { path: /swapfile, size: 2G }
/// - swap: { path: /var/swap, size: 512M, priority: 10 }
/// - swap: { path: /swapfile, state: absent }   # not swapped to any more, and removed
/// ```
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Swap {
    /// The file.
    path: AbsolutePath,
    /// How long it is: a number with `M`, `G` or `T` (powers of 1024) behind it, from `1M`; required, unless
    /// `absent`.
    size: Option<Size>,
    /// Which is used first of several: 0 to 32767, higher ones first (swapon(2)); the kernel's choice, below
    /// all that say one, if not said.
    priority: Option<u16>,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
}

/// Bytes, written with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let unit = [('M', 1_u64 << 20), ('G', 1 << 30), ('T', 1 << 40)];
        let bytes = unit.iter().find_map(|(letter, bytes)| {
            let number = text.strip_suffix(*letter)?;
            let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
            number.parse::<u64>().ok().filter(|_| is_number)?.checked_mul(*bytes)
        });
        // The header counts pages of 4 KiB in 32 bits.
        bytes.filter(|bytes| (1 << 20..=16 << 40).contains(bytes)).map(Self).ok_or_else(|| {
            de::Error::custom(format!(
                "`{text}` is not a size for swap: a number with `M`, `G` or `T` behind it, such as `2G`, from \
                 `1M` to `16T`"
            ))
        })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[derive(Debug)]
struct Resolved {
    path: AbsolutePath,
    /// None if there shall be none.
    wanted: Option<(Size, Entry)>,
}

const FSTAB: &str = "/etc/fstab";

impl Fields for Swap {
    const KIND: &'static str = "swap";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let path = self.path.to_string();
        one_line("path", &path)?;
        let wanted = match (self.state, self.size) {
            (State::Absent, None) if self.priority.is_none() => None,
            (State::Absent, _) => {
                return Err(Problem::new("a `swap` that shall be absent has a `path` only"));
            }
            (State::Present, None) => return Err(Problem::new("a `swap` needs its `size`")),
            (State::Present, Some(size)) => {
                if self.priority.is_some_and(|priority| priority > 32767) {
                    return Err(Problem::new("`priority` is out of range (0-32767)"));
                }
                let options = self.priority.map_or_else(|| "sw".into(), |number| format!("sw,pri={number}"));
                let (device, path, fstype) = (path, "none".into(), "swap".into());
                Some((size, Entry { device, path, fstype, options, dump: 0, pass: 0 }))
            }
        };
        Ok(Box::new(Resolved { path: self.path, wanted }))
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.path.to_string()
    }

    fn claims(&self) -> Vec<Claim> {
        let line = Claim::Line { path: FSTAB.into(), line: self.path.to_string() };
        vec![Claim::Path(self.path.as_path().to_owned()), line]
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let path = self.path.as_path();
        let there = self.there(facts)?;
        let mut ops = match (&self.wanted, there) {
            (Some((size, _)), There::Swap { bytes, attributes }) if bytes == size.0 => {
                let is_private = attributes == private();
                let set = Op::SetAttributes { path: path.into(), attributes: private(), before: attributes };
                if is_private { Vec::new() } else { vec![set] }
            }
            (Some((size, _)), there) => self.make(facts, *size, there != There::Nothing)?,
            (None, There::Nothing) => Vec::new(),
            (None, _) => vec![Op::Remove { path: path.into(), directory: false }],
        };
        let makes_anew = ops.iter().any(|op| matches!(op, Op::Remove { .. }));
        let entry = self.plan_entry(facts)?;
        // Without the entry nobody would know any more why there is such a file: it goes last, and comes last.
        let at = if self.wanted.is_some() { ops.len() } else { 0 };
        ops.splice(at..at, entry);
        if facts.host().systemd && facts.host().owns_kernel() {
            let name = unit_of_path(path, "swap");
            let is_active = facts.active(&name)?.known()?;
            if is_active && makes_anew {
                ops.insert(0, Op::Unit { name: name.clone(), action: UnitAction::Stop });
            }
            if self.wanted.is_some() && (!is_active || makes_anew) {
                ops.push(Op::Unit { name, action: UnitAction::Start });
            }
        }
        Ok(ops)
    }
}

/// What is at the path.
#[derive(Debug, PartialEq, Eq)]
enum There {
    Nothing,
    /// What a run that was cut off left: nothing is in it yet.
    Unfinished,
    Swap {
        bytes: u64,
        attributes: Attributes,
    },
}

impl Resolved {
    fn there(&self, facts: &dyn Facts) -> Result<There, PlanError> {
        let path = self.path.as_path();
        let Some(entry) = facts.entry(path)?.known()? else { return Ok(There::Nothing) };
        let is_no_swap = |what: &str| {
            let help = "name another `path`, or remove it before";
            PlanError::impossible_but(format!("`{}` is {what}, and no swap file", self.path), help)
        };
        if entry.kind != EntryKind::File {
            return Err(is_no_swap(entry.kind.noun()));
        }
        let Some(mut file) = facts.open(path)?.known()? else { return Ok(There::Nothing) };
        let reading = |source| FactsError { what: format!("`{}`", self.path), source };
        let (head, bytes) = head(file.as_mut()).map_err(reading)?;
        if is_swap(&head) {
            return Ok(There::Swap { bytes, attributes: entry.attributes });
        }
        if is_blank(file.as_mut()).map_err(reading)? {
            return Ok(There::Unfinished);
        }
        Err(is_no_swap("a file with something in it"))
    }

    fn make(&self, facts: &dyn Facts, size: Size, replaces: bool) -> Result<Vec<Op>, PlanError> {
        let path = self.path.as_path();
        if let Some(missing) = missing_parents(facts, path)?.last() {
            let missing = missing.display();
            return Err(PlanError::impossible_but(
                format!("the directory `{missing}` does not exist"),
                format!("put a `directory: {{ path: {missing} }}` before it"),
            ));
        }
        let mut ops = Vec::new();
        if replaces {
            ops.push(Op::Remove { path: path.into(), directory: false });
        }
        ops.push(Op::WriteFile(WriteFile {
            path: path.into(),
            content: Content::new(""),
            attributes: private(),
            validate: None,
            before: Before::Absent,
        }));
        let file = self.path.to_string();
        if is_on_btrfs(facts, path)? {
            // It can be set only while the file is empty (btrfs(5), "SWAPFILE SUPPORT").
            ops.push(Op::Run(Command::new(["chattr", "+C", &file])));
        }
        // A swap file has no holes (swapon(8)); fallocate(1) leaves none.
        ops.push(Op::Run(Command::new(["fallocate", "--length", &size.to_string(), &file])));
        ops.push(Op::Run(Command::new(["mkswap", &file])));
        Ok(ops)
    }

    fn plan_entry(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let device = self.path.to_string();
        let wanted = self.wanted.as_ref().map(|(_, entry)| entry);
        plan_edit(facts, Path::new(FSTAB), |before| {
            let mut lines = Lines::of(before);
            let line = wanted.map(Entry::line);
            let there = lines.keep_one(line.as_deref(), |line| match Entry::parse(line) {
                Some(entry) if Some(&entry) == wanted => Found::AsWanted,
                Some(entry) if entry.fstype == "swap" && entry.device == device => Found::Differs,
                _ => Found::Other,
            });
            if let Some(line) = line.filter(|_| !there) {
                lines.insert(None, &line);
            }
            lines.text()
        })
    }
}

fn private() -> Attributes {
    Attributes { owner: "root".into(), group: "root".into(), mode: 0o600 }
}

/// The largest page that Linux has on the processors that this is for: 64 KiB on aarch64.
const LARGEST_PAGE: usize = 64 * 1024;

/// How a file begins, and how long it is.
fn head(file: &mut dyn ReadSeek) -> io::Result<(Vec<u8>, u64)> {
    let mut head = Vec::new();
    file.take(LARGEST_PAGE as u64).read_to_end(&mut head)?;
    Ok((head, file.seek(SeekFrom::End(0))?))
}

/// Whether nothing is in a file but zeros, as fallocate(1) leaves it.
fn is_blank(file: &mut dyn ReadSeek) -> io::Result<bool> {
    file.seek(SeekFrom::Start(0))?;
    let mut piece = vec![0; LARGEST_PAGE];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(true),
            read if piece[..read].iter().all(|byte| *byte == 0) => {}
            _ => return Ok(false),
        }
    }
}

/// The header is a page long and ends with ten letters (mkswap(8), `union swap_header` of Linux).
fn is_swap(head: &[u8]) -> bool {
    [4 * 1024, 16 * 1024, LARGEST_PAGE].iter().any(|page| head.get(page - 10..*page) == Some(b"SWAPSPACE2"))
}

/// Whether the file system that a path is on is btrfs, see `proc_pid_mountinfo(5)`.
fn is_on_btrfs(facts: &dyn Facts, path: &Path) -> Result<bool, PlanError> {
    let Some(bytes) = facts.content(Path::new("/proc/self/mountinfo"))?.known()? else { return Ok(false) };
    let text = String::from_utf8_lossy(&bytes);
    let mounts = text.lines().filter_map(|line| {
        let (mount, fstype) = line.split_once(" - ")?;
        Some((PathBuf::from(mount.split(' ').nth(4)?), fstype.split(' ').next()?))
    });
    // Of two at one path the later one covers the other.
    let on = mounts.filter(|(mount, _)| path.starts_with(mount));
    Ok(on.max_by_key(|(mount, _)| mount.components().count()).is_some_and(|(_, fstype)| fstype == "btrfs"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    fn swap(fields: &str) -> Example {
        Example::resources(&format!("- swap: {{ {fields} }}"))
    }

    /// A swap file as fallocate and mkswap make it.
    fn made(path: &str, bytes: usize) -> Op {
        let mut content = vec![0; bytes];
        content[4086..4096].copy_from_slice(b"SWAPSPACE2");
        let (content, before) = (Content::new(content), Before::Absent);
        Op::WriteFile(WriteFile { path: path.into(), content, attributes: private(), validate: None, before })
    }

    fn with_tools(mut fake: Fake) -> Fake {
        fake.command_makes(&["fallocate", "--length", "1048576", "/swapfile"], vec![]);
        fake.command_makes(&["mkswap", "/swapfile"], vec![made("/swapfile", 1 << 20)]);
        fake.file(FSTAB, "# disks\n/dev/vda1 / ext4 defaults 0 1\n/swapfile none swap sw 0 0\n");
        fake
    }

    #[test]
    fn settles_swapping_on_a_host_and_to_absence() {
        let mut fake = with_tools(Fake::debian());
        let example = swap("path: /swapfile, size: 1M, priority: 5");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: swap /swapfile
          + create /swapfile (root:root 0600, 0 bytes)
          > run fallocate --length 1048576 /swapfile
          > run mkswap /swapfile
          ~ change /etc/fstab
              --- /etc/fstab
              +++ /etc/fstab
              @@ -1,3 +1,3 @@
               # disks
               /dev/vda1 / ext4 defaults 0 1
              -/swapfile none swap sw 0 0
              +/swapfile none swap sw,pri=5 0 0
          > start swapfile.swap
        Plan: 1 to change, 0 unchanged.
        ");
        fake.apply(&Op::SetAttributes {
            path: "/swapfile".into(),
            attributes: Attributes { mode: 0o644, ..private() },
            before: private(),
        });
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: swap /swapfile
          ~ /swapfile: root:root 0644 -> root:root 0600
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(swap("path: /swapfile, state: absent").settles(&mut fake), @"
        example: swap /swapfile
          > stop swapfile.swap
          ~ change /etc/fstab
              --- /etc/fstab
              +++ /etc/fstab
              @@ -1,3 +1,2 @@
               # disks
               /dev/vda1 / ext4 defaults 0 1
              -/swapfile none swap sw,pri=5 0 0
          - remove /swapfile
        Plan: 1 to change, 0 unchanged.
        ");
        assert_eq!(fake.text(FSTAB).as_deref(), Some("# disks\n/dev/vda1 / ext4 defaults 0 1\n"));
    }

    #[test]
    fn settles_with_another_size() {
        let mut fake = with_tools(Fake::debian());
        fake.apply(&made("/swapfile", 2 << 20));
        fake.apply(&Op::Unit { name: "swapfile.swap".into(), action: UnitAction::Start });
        insta::assert_snapshot!(swap("path: /swapfile, size: 1M").settles(&mut fake), @"
        example: swap /swapfile
          > stop swapfile.swap
          - remove /swapfile
          + create /swapfile (root:root 0600, 0 bytes)
          > run fallocate --length 1048576 /swapfile
          > run mkswap /swapfile
          > start swapfile.swap
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn an_image_has_file_and_entry_and_nothing_swaps_to_it() {
        let mut fake = with_tools(Fake::builder());
        fake.file("/swapfile", "");
        fake.file(
            "/proc/self/mountinfo",
            "1 0 0:1 / / rw - btrfs /dev/vda1 rw\n2 1 0:2 / /srv rw shared:1 - ext4 /dev/vdb rw\n",
        );
        insta::assert_snapshot!(swap("path: /swapfile, size: 1M").settles(&mut fake), @"
        example: swap /swapfile
          - remove /swapfile
          + create /swapfile (root:root 0600, 0 bytes)
          > run chattr +C /swapfile
          > run fallocate --length 1048576 /swapfile
          > run mkswap /swapfile
        Plan: 1 to change, 0 unchanged.
        ");
        assert!(!is_on_btrfs(&fake, Path::new("/srv/swap")).expect("read"));
    }

    #[test]
    fn what_is_no_swap_file_is_not_replaced() {
        let mut fake = Fake::debian();
        fake.file("/etc/a", "mine");
        insta::assert_snapshot!(swap("path: /etc/a, size: 1M").fails(&mut fake), @"example: swap /etc/a: `/etc/a` is a file with something in it, and no swap file; name another `path`, or remove it before");
        insta::assert_snapshot!(swap("path: /etc/a, state: absent").fails(&mut fake), @"example: swap /etc/a: `/etc/a` is a file with something in it, and no swap file; name another `path`, or remove it before");
        fake.file("/etc/late", &format!("{}mine", "\0".repeat(100_000)));
        insta::assert_snapshot!(swap("path: /etc/late, size: 1M").fails(&mut fake), @"example: swap /etc/late: `/etc/late` is a file with something in it, and no swap file; name another `path`, or remove it before");
        insta::assert_snapshot!(swap("path: /etc, size: 1M").fails(&mut fake), @"example: swap /etc: `/etc` is a directory, and no swap file; name another `path`, or remove it before");
        insta::assert_snapshot!(swap("path: /none/a, size: 1M").fails(&mut fake), @"example: swap /none/a: the directory `/none` does not exist; put a `directory: { path: /none }` before it");
        let unknown = Example::resources("- command: { argv: [x] }\n- swap: { path: /swapfile, size: 1M }");
        insta::assert_snapshot!(unknown.plan(&fake).expect("a plan"), @"
        example: command x (assumed)
          > run x
        example: swap /swapfile (assumed)
          ? create /swapfile (root:root 0600, 0 bytes), unless `x` makes it
          ? run fallocate --length 1048576 /swapfile, unless `x` makes it
          ? run mkswap /swapfile, unless `x` makes it
          ? create /etc/fstab (root:root 0644, 27 bytes), unless `x` makes it
              --- /dev/null
              +++ /etc/fstab
              @@ -0,0 +1 @@
              +/swapfile none swap sw 0 0
          ? start swapfile.swap, unless `x` makes it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 0 observed, 0 derived, 2 assumed.
        ");
    }

    #[test]
    fn wrong_fields_and_contradictions_are_explained() {
        let problems = |fields: &str| swap(fields).problems();
        insta::assert_snapshot!(problems("path: /a"), @"example/recipe.yaml:2:11: a `swap` needs its `size`");
        insta::assert_snapshot!(problems("path: /a, size: 10K"), @"example/recipe.yaml:2:11: `10K` is not a size for swap: a number with `M`, `G` or `T` behind it, such as `2G`, from `1M` to `16T`");
        insta::assert_snapshot!(problems("path: /a, size: +1G"), @"example/recipe.yaml:2:11: `+1G` is not a size for swap: a number with `M`, `G` or `T` behind it, such as `2G`, from `1M` to `16T`");
        insta::assert_snapshot!(problems("path: /a, size: 17T"), @"example/recipe.yaml:2:11: `17T` is not a size for swap: a number with `M`, `G` or `T` behind it, such as `2G`, from `1M` to `16T`");
        insta::assert_snapshot!(problems("path: /a, size: 1G, state: absent"), @"example/recipe.yaml:2:11: a `swap` that shall be absent has a `path` only");
        insta::assert_snapshot!(problems("path: /a, size: 1G, priority: 40000"), @"example/recipe.yaml:2:11: `priority` is out of range (0-32767)");
        insta::assert_snapshot!(problems("path: \"/a\\nb\", size: 1G"), @"example/recipe.yaml:2:11: `path` has a line end or another control character in it");
        let twice = "- swap: { path: /a, size: 1G }\n- swap: { path: /a, size: 2G }";
        insta::assert_snapshot!(Example::resources(twice).problems(), @"
        example/recipe.yaml:3:5: the path `/a` is decided twice, differently (first here: example/recipe.yaml:2:5)
        example/recipe.yaml:3:5: the line `/a` of `/etc/fstab` is decided twice, differently (first here: example/recipe.yaml:2:5)
        ");
    }
}
