use super::*;
use crate::op::{Before, PackageRequest, WriteFile};
use crate::system::fake::Fake;
use crate::system::units::{self, Enablement};

fn write(path: &str, text: &str) -> Op {
    Op::WriteFile(WriteFile {
        path: path.into(),
        content: Content::new(text),
        attributes: Attributes { owner: "root".into(), group: "root".into(), mode: 0o644 },
        validate: None,
        before: Before::Absent,
    })
}

fn install(name: &str) -> Op {
    let package = PackageRequest { name: name.into(), version: None, recommends: false, source: None };
    Op::InstallPackages { packages: vec![package] }
}

#[test]
fn later_readers_see_what_earlier_operations_wrote() {
    let host = Fake::debian();
    let mut simulated = Simulated::over(&host, Guards::Skip);
    simulated.foresee(&write("/etc/a", "x"), None);
    assert_eq!(simulated.content(Path::new("/etc/a")).expect("read"), Known::Yes(Some(b"x".to_vec())));
    assert_eq!(host.content(Path::new("/etc/a")).expect("read"), Known::Yes(None), "the host is as it was");
    simulated.foresee(&Op::Remove { path: "/etc".into(), directory: true }, None);
    assert_eq!(simulated.entry(Path::new("/etc/a")).expect("read"), Known::Yes(None));
}

#[test]
fn after_a_package_what_was_absent_is_unknown_and_what_was_there_is_not() {
    let mut host = Fake::debian();
    host.file("/etc/there", "x");
    let mut simulated = Simulated::over(&host, Guards::Skip);
    simulated.foresee(&install("nginx"), None);
    let unknown = simulated.entry(Path::new("/etc/nginx/nginx.conf")).expect("read");
    assert_eq!(unknown, Known::Unknown(Why("installing nginx brings it".into())));
    assert!(matches!(simulated.entry(Path::new("/etc/there")).expect("read"), Known::Yes(Some(_))));
    assert!(matches!(simulated.user("www").expect("read"), Known::Unknown(_)));
    assert_eq!(simulated.package("nginx").expect("read"), Known::Yes(Some(NEWEST.into())));
    assert!(matches!(simulated.package("nginx-common").expect("read"), Known::Unknown(_)));
    assert!(matches!(units::unit(&simulated, "nginx.service").expect("read"), Known::Unknown(_)));
}

#[test]
fn a_unit_file_written_before_can_be_enabled_and_started() {
    let host = Fake::debian();
    let mut simulated = Simulated::over(&host, Guards::Skip);
    simulated
        .foresee(&write("/etc/systemd/system/app.service", "[Install]\nWantedBy=multi-user.target\n"), None);
    let unit = |simulated: &Simulated<'_>| units::unit(simulated, "app.service").expect("read");
    assert_eq!(unit(&simulated), Known::Yes(units::Unit { exists: true, enablement: Enablement::Disabled }));
    simulated.foresee(&Op::Unit { name: "app.service".into(), action: UnitAction::Enable }, None);
    assert_eq!(unit(&simulated), Known::Yes(units::Unit { exists: true, enablement: Enablement::Enabled }));
    simulated.foresee(&Op::Unit { name: "app.service".into(), action: UnitAction::Start }, None);
    assert_eq!(simulated.active("app.service").expect("read"), Known::Yes(true));
}
