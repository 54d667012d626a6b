//! A repository as dnf reads it, in `/etc/yum.repos.d` (dnf.conf(5)).

use std::path::Path;

use super::fields::is_package_word;
use super::repository::{Repository, check_uri};
use crate::error::Problem;

/// Checks each value: a space or a line end in one would become other values and lines of the file.
pub(super) fn check(repository: &Repository) -> Result<(), Problem> {
    if repository.name() == "main" {
        return Err(Problem::new("`main` is where dnf has its own settings, and no name for a repository"));
    }
    let places = [("metalink", repository.metalink.as_ref()), ("mirrorlist", repository.mirrorlist.as_ref())];
    let lists: Vec<(&str, &String)> =
        places.iter().filter_map(|(field, address)| Some((*field, (*address)?))).collect();
    if lists.len() + usize::from(!repository.uris.is_empty()) != 1 {
        return Err(Problem::new(
            "a `repository` for dnf needs exactly one of `uris`, `metalink` and `mirrorlist`",
        )
        .help("one for apt needs `uris` and `suites`"));
    }
    for (field, address) in lists {
        if address.starts_with("file:") {
            return Err(Problem::new(format!(
                "`{field}` is an address that starts with `https://` or `http://`"
            )));
        }
        check_uri(address)?;
    }
    for uri in &repository.uris {
        check_uri(uri)?;
        if uri.contains(',') {
            return Err(Problem::new(format!("`{uri}` has a comma in it, which ends an address for dnf"))
                .help("write `%2C`"));
        }
    }
    if let Some(priority) = repository.priority.filter(|priority| !(1..=99).contains(priority)) {
        return Err(Problem::new(format!("`priority` {priority} is out of range (1-99)")));
    }
    for package in &repository.exclude {
        if !is_package_word(package.trim_start_matches(['*', '?']), "+-._*?") && package != "*" {
            let message = format!("`{}` is not the name of a package", package.escape_debug());
            return Err(Problem::new(message).help("`*` and `?` stand for any characters"));
        }
    }
    Ok(())
}

/// The file. Packages are always checked against the key.
pub(super) fn text(repository: &Repository, key: &Path) -> String {
    let name = repository.name();
    let mut text = format!("[{name}]\nname={name}\n");
    let mut line = |key: &str, value: &str| text += &format!("{key}={value}\n");
    if !repository.uris.is_empty() {
        // The address of a file has an empty host in it; apt knows a shorter form.
        let addresses = repository.uris.iter().map(|uri| match uri.strip_prefix("file:/") {
            Some(path) if !path.starts_with('/') => format!("file:///{path}"),
            _ => uri.clone(),
        });
        line("baseurl", &addresses.collect::<Vec<_>>().join(" "));
    }
    for (key, value) in [("metalink", &repository.metalink), ("mirrorlist", &repository.mirrorlist)] {
        if let Some(value) = value {
            line(key, value);
        }
    }
    line("enabled", if repository.enabled == Some(false) { "0" } else { "1" });
    line("gpgcheck", "1");
    line("repo_gpgcheck", if repository.repo_gpgcheck == Some(true) { "1" } else { "0" });
    line("gpgkey", &format!("file://{}", key.display()));
    if let Some(priority) = repository.priority {
        line("priority", &priority.to_string());
    }
    if !repository.exclude.is_empty() {
        line("excludepkgs", &repository.exclude.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::system::fake::Fake;
    use crate::testing::Example;

    const KEY: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQ==\n-----END PGP PUBLIC KEY BLOCK-----\n";

    fn example(fields: &str) -> Example {
        Example::resources(&format!("- repository: {{ {fields} }}")).file("vendor.asc", KEY)
    }

    #[test]
    fn settles_new_changed_and_gone() {
        let mut fake = Fake::amazon();
        insta::assert_snapshot!(example("name: vendor, uris: ['https://rpm.example.com/$releasever'], key: vendor.asc").settles(&mut fake), @"
        example: repository vendor
          + create the directory /etc/pki (root:root 0755)
          + create the directory /etc/pki/rpm-gpg (root:root 0755)
          + create /etc/pki/rpm-gpg/RPM-GPG-KEY-vendor (root:root 0644, 78 bytes)
              --- /dev/null
              +++ /etc/pki/rpm-gpg/RPM-GPG-KEY-vendor
              @@ -0,0 +1,4 @@
              +-----BEGIN PGP PUBLIC KEY BLOCK-----
              +
              +mQ==
              +-----END PGP PUBLIC KEY BLOCK-----
          + create the directory /etc/yum.repos.d (root:root 0755)
          + create /etc/yum.repos.d/vendor.repo (root:root 0644, 152 bytes)
              --- /dev/null
              +++ /etc/yum.repos.d/vendor.repo
              @@ -0,0 +1,7 @@
              +[vendor]
              +name=vendor
              +baseurl=https://rpm.example.com/$releasever
              +enabled=1
              +gpgcheck=1
              +repo_gpgcheck=0
              +gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-vendor
        Plan: 1 to change, 0 unchanged.
        ");
        let changed = "name: vendor, uris: ['file:/srv/a', 'https://b.c'], key: vendor.asc, enabled: false, priority: 10, exclude: ['kernel*', a], repo_gpgcheck: true";
        example(changed).settles(&mut fake);
        insta::assert_snapshot!(fake.text("/etc/yum.repos.d/vendor.repo").expect("written"), @"
        [vendor]
        name=vendor
        baseurl=file:///srv/a https://b.c
        enabled=0
        gpgcheck=1
        repo_gpgcheck=1
        gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-vendor
        priority=10
        excludepkgs=kernel* a
        ");
        insta::assert_snapshot!(example("name: vendor, state: absent").settles(&mut fake), @"
        example: repository vendor
          - remove /etc/yum.repos.d/vendor.repo
          - remove /etc/pki/rpm-gpg/RPM-GPG-KEY-vendor
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn each_package_manager_has_fields_of_its_own() {
        let for_apt = "name: a, uris: [https://a.b], suites: [s], components: [main], key: vendor.asc";
        insta::assert_snapshot!(example(for_apt).fails(&mut Fake::amazon()), @r#"example: repository a: a `repository` with `suites` or other fields of apt is for hosts with apt, and this is `amzn`, which has dnf; write `when: facts.os.family == "debian"`, and another without them for dnf"#);
        let for_dnf = "name: a, uris: [https://a.b], key: vendor.asc";
        insta::assert_snapshot!(example(for_dnf).fails(&mut Fake::debian()), @r#"example: repository a: a `repository` without `suites` is for hosts with dnf, and this is `debian`, which has apt; name its `suites`, or write `when: facts.os.family != "debian"`"#);
        insta::assert_snapshot!(example(&format!("{for_apt}, priority: 1")).problems(), @"example/recipe.yaml:2:17: `suites` of a `repository` is for apt, and `priority` for dnf; write one `repository` for each, with `when`");
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |fields: &str| example(&format!("key: vendor.asc, {fields}")).problems();
        insta::assert_snapshot!(problems("name: main, uris: [https://a.b]"), @"example/recipe.yaml:2:17: `main` is where dnf has its own settings, and no name for a repository");
        insta::assert_snapshot!(problems("name: a"), @"example/recipe.yaml:2:17: a `repository` for dnf needs exactly one of `uris`, `metalink` and `mirrorlist`; one for apt needs `uris` and `suites`");
        insta::assert_snapshot!(problems("name: a, uris: [https://a.b], metalink: https://a.b"), @"example/recipe.yaml:2:17: a `repository` for dnf needs exactly one of `uris`, `metalink` and `mirrorlist`; one for apt needs `uris` and `suites`");
        insta::assert_snapshot!(problems("name: a, metalink: 'file:/srv'"), @"example/recipe.yaml:2:17: `metalink` is an address that starts with `https://` or `http://`");
        insta::assert_snapshot!(problems("name: a, mirrorlist: \"https://a.b\\ngpgcheck=0\""), @r"example/recipe.yaml:2:17: `https://a.b\ngpgcheck=0` has a space or a line end in it, or is not ASCII");
        insta::assert_snapshot!(problems("name: a, uris: ['https://a.b,c']"), @"example/recipe.yaml:2:17: `https://a.b,c` has a comma in it, which ends an address for dnf; write `%2C`");
        insta::assert_snapshot!(problems("name: a, uris: [https://a.b], priority: 100"), @"example/recipe.yaml:2:17: `priority` 100 is out of range (1-99)");
        insta::assert_snapshot!(problems("name: a, uris: [https://a.b], exclude: [\"a\\nb\"]"), @r"example/recipe.yaml:2:17: `a\nb` is not the name of a package; `*` and `?` stand for any characters");
        insta::assert_snapshot!(example("name: a, uris: [https://a.b]").problems(), @"example/recipe.yaml:2:17: a `repository` needs the `key` that signs it; put the key into the recipe's `files/`, or name a keyring of the host with `signed_by`");
    }
}
