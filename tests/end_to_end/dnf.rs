//! A host whose package manager is dnf: a tree of Debian, which has dnf and rpm, that says it is of the other family.

use std::fs;

use serde_json::Value as Json;
use testbed::host::{Disk, Host};
use testbed::workspace::Workspace;
use testbed::world::World;

use crate::boot::AGENT;
use crate::{NOTHING, Outcome};

/// Makes a repository of packages with nothing in them but a file of configuration, and signs them with a key that
/// is thrown away.
pub(crate) const MAKE_REPOSITORY: &str = r#"#!/bin/sh -e
package() {
    cat > /tmp/package.spec <<EOF
Name: $1
Version: $2
Release: 1
Summary: for a test
License: none
BuildArch: noarch
$3
%description
For a test.
%install
mkdir -p %{buildroot}/etc/probe
echo "${4:-$2}" > %{buildroot}/etc/probe/$1
%files
%config(noreplace) /etc/probe/$1
EOF
    rpmbuild --quiet -bb --define '_topdir /tmp/rpmbuild' --define '_rpmdir /srv/repository' \
        --define '_rpmfilename %%{NAME}-%%{VERSION}.rpm' /tmp/package.spec
}
mkdir --parents /srv/repository
package probe-library 1.0 'Epoch: 3'
package probe-application 1.0 'Requires: probe-library'
package probe-held 1.0
package probe-held 2.0
package probe-upgraded 1.0
package probe-upgraded 2.0
package probe-purged 1.0
package probe-weak 1.0
package probe-strong 1.0 'Recommends: probe-weak'
package probe-boot-library 1.0
package probe-boot 1.0 'Requires: probe-boot-library'
kind='OPENSSH PRIVATE KEY'
package probe-key 1.0 '' "-----BEGIN $kind-----
$(printf 'public%.0s' $(seq 12))
-----END $kind-----"
export GNUPGHOME=/tmp/gnupg
mkdir --mode 700 $GNUPGHOME
gpg --batch --quiet --passphrase '' --pinentry-mode loopback --quick-generate-key testbed rsa2048 sign never
rpmsign --define '_gpg_name testbed' --define '__gpg /usr/bin/gpg' --addsign /srv/repository/*.rpm
createrepo_c --quiet /srv/repository
gpg --armor --export testbed > /srv/repository/key.asc
gpgconf --kill all
rm -r $GNUPGHOME
"#;

/// Debian's rpm has its database in the home of a user, and its dnf a repository without a key.
const DISGUISE: &str = r#"resources:
  - directory: { path: /etc/rpm }
  - file: { path: /etc/rpm/macros, content: "%_dbpath /var/lib/rpm\n" }
  - file: { path: /etc/dnf/plugins/local.conf, content: "[main]\nenabled = 0\n" }
  - file: { path: /srv/make-repository, source: make-repository, mode: "0755" }
  - command: { argv: [/srv/make-repository], creates: /srv/repository/key.asc }
  - file: { path: /usr/lib/os-release, content: "ID=rocky\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=9\n" }
"#;

const PACKAGES: &str = r#"resources:
  - repository: { name: probe, uris: ["file:/srv/repository"], signed_by: /srv/repository/key.asc, exclude: [nothing-like-this] }
  - command:
      argv: [sh, -ec, 'rpm --install /srv/repository/probe-upgraded-1.0.rpm /srv/repository/probe-purged-1.0.rpm; echo changed > /etc/probe/probe-purged']
      unless: rpm --query probe-upgraded
  - package: { name: probe-application }
  - package: { name: probe-held, version: 1.0-1 }
  - package: { name: probe-strong }
  - package: { name: probe-purged, state: purged }
  - package_hold: { names: [probe-held] }
  - package_upgrade: {}
"#;

const LATER: &str = r#"resources:
  - package: { name: probe-held, version: "2.*" }
  - package_hold: { names: [probe-held] }
  - package_hold: { names: [probe-upgraded], held: false }
  - package: { name: probe-library, state: absent }
  - package: { name: probe-weak, source: /srv/repository/probe-weak-1.0.rpm }
  - package: { name: probe-upgraded.noarch, source: /srv/repository/probe-upgraded-1.0.rpm }
"#;

fn checks(checks: &[&str]) -> String {
    let check = |check: &&str| {
        let argv = serde_json::json!(["sh", "-ec", check]);
        format!("  - command: {{ argv: {argv}, within: 10s }}\n")
    };
    format!("checks:\n{}", checks.iter().map(check).collect::<String>())
}

fn workspace() -> std::io::Result<Workspace> {
    let after_packages = checks(&[
        "test \"$(rpm --query --queryformat '%{EVR} ' probe-application probe-library probe-upgraded)\" = '1.0-1 3:1.0-1 2.0-1 '",
        // What is held stays, whoever asks for all that is newer.
        "test $(rpm --query probe-held) = probe-held-1.0-1.noarch; test \"$(dnf --quiet versionlock list)\" = 'probe-held-0:1.0-1.*'",
        "test -z \"$(rpm --query --all probe-weak probe-purged)\"; ! ls /etc/probe | grep purged",
        "rpm --query gpg-pubkey; rpm --verify probe-application; dnf --cacheonly check-update",
    ]);
    let after_later = checks(&[
        "test $(rpm --query probe-held) = probe-held-2.0-1.noarch; test \"$(dnf --quiet versionlock list)\" = 'probe-held-0:2.0-1.*'",
        "test \"$(rpm --query --all --queryformat '%{NAME} ' 'probe-[als]*')\" = 'probe-strong '",
        "test \"$(rpm --query --queryformat '%{EVR} ' probe-weak probe-upgraded)\" = '1.0-1 1.0-1 '",
    ]);
    Workspace::new()?
        .with("recipes/disguise/recipe.yaml", DISGUISE)?
        .with("recipes/disguise/files/make-repository", MAKE_REPOSITORY)?
        .with("recipes/packages-of-dnf/recipe.yaml", PACKAGES)?
        .with("recipes/later/recipe.yaml", LATER)?
        .with("recipes/at-boot/recipe.yaml", "resources:\n  - package: { name: probe-boot }\n")?
        .with(
            "images/disguised.yaml",
            "source: { local: { suite: bookworm, include: [createrepo-c, dnf, dnf-plugins-core, file, gpg, gpg-agent, rpm] } }\nrecipes: [ disguise ]\n",
        )?
        .with("images/first.yaml", &format!("extends: disguised\nrecipes: [ packages-of-dnf ]\n{after_packages}"))?
        .with(
            "images/second.yaml",
            &format!("extends: first\nrecipes: [ later ]\nboot: {{ recipes: [ at-boot ] }}\n{after_later}"),
        )
}

/// What sealing tells of a host that has packages of rpm and one file of a resource.
fn sealed(host: &Host) -> Result<Json, Box<dyn std::error::Error>> {
    let gate = serde_json::json!({ "made": { "/etc/probe/mine": "site: file /etc/probe/mine" } });
    let seal = format!("echo '{gate}' | {AGENT} seal --root=/ --gate --format=json || test $? = 1");
    Ok(serde_json::from_str(&host.output(&["sh", "-c", &seal])?)?)
}

/// A bake proves by itself that a second plan is empty.
#[test]
fn packages_of_dnf_converge_and_rpm_sees_it() -> Outcome {
    let workspace = workspace()?;
    let image = workspace.bake("second")?;
    let manifest = |name: &str| -> Result<Json, Box<dyn std::error::Error>> {
        let path = workspace.path("output").join(name).join("manifest.json");
        Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
    };
    let packages = manifest("first")?["packages"].clone();
    let expected = serde_json::json!([
        { "name": "probe-application", "version": "1.0-1" },
        { "name": "probe-held", "version": "1.0-1" },
        { "name": "probe-library", "version": "3:1.0-1" },
        { "name": "probe-strong", "version": "1.0-1" },
        { "name": "probe-upgraded", "version": "2.0-1" },
    ]);
    assert_eq!(packages, expected, "the image tells what rpm has");

    let world = World::new()?;
    let disk = Disk::of_image(&image)?;
    // It would wait for metadata, and there is none in this world: here the test applies the recipe.
    let unit = disk.tree().join("etc/systemd/system/bootstrap-agent.service");
    fs::write(unit, "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n")?;
    let host = Host::boot(disk, world.place(2)?)?;
    let boot = "/usr/lib/bootstrap-agent/boot";
    // An image has no package lists, without which nobody can tell what comes along.
    let planned = |host: &Host| host.output(&[AGENT, "plan", boot]);
    assert!(planned(&host)?.contains("\n  + install probe-boot\n"), "{}", planned(&host)?);
    host.output(&["dnf", "--quiet", "makecache"])?;
    let said = planned(&host)?;
    let told = "+ install probe-boot 1.0-1 (with 1 more: probe-boot-library 1.0-1; 12 kB to download)\n";
    assert!(said.contains(told), "{said}");
    host.output(&["sh", "-ec", "! rpm --query probe-boot"])?;

    let applied = || -> Result<Vec<String>, Box<dyn std::error::Error>> {
        let said = host.output(&[AGENT, "apply", "--format", "json", boot])?;
        let events = said.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
        let changed = events.filter(|event| event["outcome"] == "changed");
        Ok(changed.map(|event| event["resource"].as_str().unwrap_or_default().to_owned()).collect())
    };
    assert_eq!(applied()?, ["at-boot: package probe-boot"]);
    assert_eq!(applied()?, NOTHING);
    host.output(&["rpm", "--query", "probe-boot", "probe-boot-library"])?;

    // What a package brought is its own, and no leak, whatever it looks like; if somebody changed it, it is.
    host.output(&["rpm", "--install", "/srv/repository/probe-key-1.0.rpm"])?;
    host.output(&["sh", "-ec", "echo mine > /etc/probe/mine; echo nobodys > /etc/probe/nobodys"])?;
    let told = sealed(&host)?;
    assert_eq!(told["findings"], serde_json::json!([]));
    let files = &told["files"];
    assert_eq!(files["packages"]["probe-key"], serde_json::json!(["/etc/probe/probe-key"]));
    assert_eq!(files["resources"]["site: file /etc/probe/mine"], serde_json::json!(["/etc/probe/mine"]));
    let has = |list: &Json, path: &str| list.as_array().is_some_and(|list| list.contains(&path.into()));
    assert!(has(&files["nobody"], "/etc/probe/nobodys") && !has(&files["nobody"], "/etc/probe/probe-key"));
    assert!(has(&files["packages"]["rpm"], "/var/lib/rpm/rpmdb.sqlite"), "{}", files["packages"]["rpm"]);
    host.output(&["sh", "-ec", "echo more >> /etc/probe/probe-key"])?;
    let finding = serde_json::json!({ "path": "/etc/probe/probe-key", "line": 1, "what": "a private key" });
    assert_eq!(sealed(&host)?["findings"], serde_json::json!([finding]));
    Ok(())
}
