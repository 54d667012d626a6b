//! What comes with the packages of a plan: versions and dependencies, as the package manager's solver says.

use std::collections::BTreeSet;
use std::path::Path;

use crate::change::Change;
use crate::op::{Op, PackageRequest};
use crate::plan::{Basis, Plan};
use crate::system::simulated::Archives;
use crate::system::{Facts, Known, PackageChange};

/// The packages that a plan installs, and where in the plan.
#[derive(Debug, Default)]
pub(crate) struct Installations {
    places: Vec<Place>,
    /// Whether the plan changes where packages come from, so that the lists at hand are not those of then.
    lists_change: bool,
}

#[derive(Debug)]
struct Place {
    item: usize,
    change: usize,
    package: PackageRequest,
}

impl Installations {
    /// Notes the operations of an item of a plan.
    pub(crate) fn note(&mut self, item: usize, ops: &[Op]) {
        for (change, op) in ops.iter().enumerate() {
            self.lists_change |= op.path().is_some_and(is_source);
            if let Op::InstallPackages { packages } = op {
                // A resource is about one package.
                let places = packages.iter().map(|package| Place { item, change, package: package.clone() });
                self.places.extend(places);
            }
        }
    }

    /// All that they come to; none where nobody can tell, of which a plan is none the worse.
    pub(crate) fn transaction(&self, facts: &dyn Facts) -> Option<Vec<PackageChange>> {
        if self.places.is_empty() || self.lists_change {
            return None;
        }
        match facts.transaction(&self.requests()) {
            Ok(Known::Yes(changes)) => Some(changes),
            _ => None,
        }
    }

    fn requests(&self) -> Vec<PackageRequest> {
        self.places.iter().map(|place| place.package.clone()).collect()
    }

    /// What the packages of a transaction bring; none if no archive is at hand, or if other packages go for them.
    /// `looked_for` are texts of which has to be known whether they have them.
    pub(crate) fn archives(
        &self,
        changes: &[PackageChange],
        facts: &dyn Facts,
        looked_for: BTreeSet<String>,
    ) -> Option<Archives> {
        let source = |change: &PackageChange| {
            let requested = self.places.iter().find(|place| place.package.name == change.name);
            requested.and_then(|place| place.package.source.as_deref())
        };
        let versions: Vec<String> =
            changes.iter().map(|change| change.version.clone()).collect::<Option<_>>()?;
        let asked: Vec<_> = changes.iter().map(|change| (change, source(change))).collect();
        let Ok(Known::Yes(archives)) = facts.package_archives(&asked, &looked_for) else { return None };
        if archives.iter().all(Option::is_none) {
            return None;
        }
        let names = changes.iter().map(|change| change.name.clone());
        Some(Archives { packages: names.zip(versions.into_iter().zip(archives)).collect(), looked_for })
    }

    /// Tells in a plan which versions are installed, and at the last package what else all of them bring.
    pub(crate) fn tell(&self, plan: &mut Plan, changes: &[PackageChange]) {
        let Some(last) = self.places.last() else { return };
        let packages = self.requests();
        for place in &self.places {
            let Some(coming) = changes.iter().find(|change| change.name == place.package.name) else {
                continue;
            };
            let package = PackageRequest { version: coming.version.clone(), ..place.package.clone() };
            if let Some(item) = plan.items.get_mut(place.item) {
                // That it does not come with another is known now.
                item.basis = item.basis.min(Basis::Derived);
            }
            if let Some(change) = place.change_of(plan) {
                *change = Change::from(&Op::InstallPackages { packages: vec![package] });
            }
        }
        let is_asked = |change: &&PackageChange| packages.iter().any(|package| package.name == change.name);
        let (coming, going): (Vec<_>, Vec<_>) =
            changes.iter().filter(|change| !is_asked(change)).partition(|change| change.version.is_some());
        let downloads =
            changes.iter().filter(|change| change.version.is_some()).map(|change| change.download);
        let download = downloads.sum::<Option<u64>>();
        let names = |changes: &[&PackageChange]| {
            let names: Vec<String> = changes
                .iter()
                .map(|change| match &change.version {
                    Some(version) => format!("{} {version}", change.name),
                    None => change.name.clone(),
                })
                .collect();
            names.join(", ")
        };
        let mut parts = Vec::new();
        if !coming.is_empty() {
            parts.push(format!("with {} more: {}", coming.len(), names(&coming)));
        }
        if !going.is_empty() {
            parts.push(format!("removes {}", names(&going)));
        }
        parts.extend(download.map(|bytes| format!("{} to download", shown(bytes))));
        if parts.is_empty() {
            return;
        }
        let of = if packages.len() > 1 { "all packages of this plan " } else { "" };
        if let Some(change) = last.change_of(plan) {
            change.summary += &format!(" ({of}{})", parts.join("; "));
        }
    }
}

/// Whether what is at a path decides which packages there are to be had, in which versions (sources.list(5), dnf.conf(5)).
fn is_source(path: &Path) -> bool {
    let deciding = [
        "/etc/apt/sources.list",
        "/etc/apt/sources.list.d",
        "/etc/apt/preferences",
        "/etc/apt/preferences.d",
        "/etc/yum.repos.d",
        "/etc/dnf",
    ];
    deciding.iter().any(|deciding| path.starts_with(deciding) || Path::new(deciding).starts_with(path))
}

/// A number of bytes as apt shows it.
fn shown(bytes: u64) -> String {
    match bytes {
        0 => "nothing".into(),
        1..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
    }
}

impl Place {
    fn change_of<'a>(&self, plan: &'a mut Plan) -> Option<&'a mut Change> {
        plan.items.get_mut(self.item)?.changes.get_mut(self.change)
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::{Guards, plan_with_transaction};
    use crate::system::fake::Fake;
    use crate::system::{Facts, PackageArchive};
    use crate::testing::Example;

    fn planned(resources: &str, fake: &Fake) -> String {
        let resolved = Example::resources(resources).resolve(fake.host()).expect("valid");
        plan_with_transaction(&resolved, fake, Guards::Skip, &[], None).expect("a plan").to_string()
    }

    #[test]
    fn a_plan_tells_what_comes_with_a_package() {
        let mut fake = Fake::debian();
        fake.solve_to(&[("libpcre2", Some("10.42")), ("nginx", Some("1.22.1-9")), ("apache2", None)]);
        insta::assert_snapshot!(planned("- package: { name: nginx, version: '1.22.*' }", &fake), @"
        example: package nginx
          + install nginx 1.22.1-9 (with 1 more: libpcre2 10.42; removes apache2; 1.2 MB to download)
        Plan: 1 to change, 0 unchanged.
        ");
        fake.solve_to(&[("nginx", Some("1.22.1-9"))]);
        insta::assert_snapshot!(planned("- package: { name: nginx }", &fake), @"
        example: package nginx
          + install nginx 1.22.1-9 (600 kB to download)
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn of_several_packages_the_last_tells_what_comes_with_all() {
        let mut fake = Fake::debian();
        fake.solve_to(&[("b", Some("2")), ("x", Some("3")), ("a", Some("1")), ("y", Some("4"))]);
        let two = "- package: { name: a }\n- file: { path: /etc/f, content: x }\n- package: { name: b, version: '2' }";
        insta::assert_snapshot!(planned(two, &fake), @r"
        example: package a
          + install a 1
        example: file /etc/f (assumed)
          ? create /etc/f (root:root 0644, 1 bytes), unless installing a brings it
              --- /dev/null
              +++ /etc/f
              @@ -0,0 +1 @@
              +x
              \ No newline at end of file
        example: package b (derived)
          + install b 2 (all packages of this plan with 2 more: x 3, y 4; 2.4 MB to download)
        Plan: 2 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 1 derived, 1 assumed.
        ");
        assert_eq!(fake.times_asked(), 1);
    }

    #[test]
    fn packages_that_come_in_one_transaction_are_all_installed_though_one_would_bring_another() {
        let mut fake = Fake::debian();
        fake.solve_to(&[("a", Some("1")), ("b", Some("2"))]);
        let brings_b = PackageArchive { depends: vec![vec!["b".into()]], ..PackageArchive::default() };
        fake.has_archive("a", brings_b);
        fake.has_archive("b", PackageArchive::default());
        let two = "- package: { name: a }\n- package: { name: b }";
        insta::assert_snapshot!(planned(two, &fake), @"
        example: package a
          + install a 1
        example: package b
          + install b 2 (all packages of this plan 1.2 MB to download)
        Plan: 2 to change, 0 unchanged.
        ");
        let apart = "- package: { name: a }\n- file: { path: /etc/f, content: x }\n- package: { name: b }";
        insta::assert_snapshot!(planned(apart, &fake), @r"
        example: package a
          + install a 1 (with 1 more: b 2; 1.2 MB to download)
        example: file /etc/f (derived)
          + create /etc/f (root:root 0644, 1 bytes)
              --- /dev/null
              +++ /etc/f
              @@ -0,0 +1 @@
              +x
              \ No newline at end of file
        Plan: 2 to change, 1 unchanged.
        Of these 1 observed, 2 derived, 0 assumed.
        ");
    }

    #[test]
    fn a_service_that_a_package_may_have_started_may_be_restarted() {
        let mut fake = Fake::debian();
        fake.file("/etc/f", "old\n");
        fake.file("/usr/lib/systemd/system/a.service", "[Service]\nExecStart=/a\n");
        let restart = "resources:\n- package: { name: a }\n- file: { path: /etc/f, content: x }\n  notify: again\nhandlers:\n  again: { service: { name: a, state: restarted } }\n";
        let told = |fake: &Fake| {
            let resolved = Example::recipe(restart).resolve(fake.host()).expect("valid");
            plan_with_transaction(&resolved, fake, Guards::Skip, &[], None).expect("a plan").to_string()
        };
        insta::assert_snapshot!(told(&fake), @r"
        example: package a
          + install a
        example: file /etc/f
          ~ change /etc/f
              --- /etc/f
              +++ /etc/f
              @@ -1 +1 @@
              -old
              +x
              \ No newline at end of file
        example: handler again (assumed), notified by example: file /etc/f
          > restart a.service
        Plan: 3 to change, 0 unchanged.
        Of these 2 observed, 0 derived, 1 assumed.
        ");
        Example::resources("- service: { name: a, state: running }").settles(&mut fake);
        assert!(told(&fake).contains("example: handler again (derived), notified by"));
    }

    #[test]
    fn nobody_is_asked_where_nothing_is_installed_or_the_answer_would_be_wrong() {
        let mut fake = Fake::debian();
        fake.solve_to(&[("b", Some("2"))]);
        Example::resources("- package: { name: a }").settles(&mut fake);
        planned("- package: { name: a }\n- package: { name: gone, state: absent }", &fake);
        // The lists at hand are not those of the new repository.
        planned("- package: { name: b }\n- file: { path: /etc/apt, content: x }", &fake);
        assert_eq!(fake.times_asked(), 0);
    }

    #[test]
    fn a_plan_is_none_the_worse_where_nobody_can_tell() {
        insta::assert_snapshot!(planned("- package: { name: nginx }", &Fake::debian()), @"
        example: package nginx
          + install nginx
        Plan: 1 to change, 0 unchanged.
        ");
    }
}
