//! A program with a configuration of its own, as the boot recipes of an image, in place of those that it came with.

use std::fs;
use std::io;

use crate::applied::write_bundle;
use crate::host::Disk;

/// The program: it takes its configuration in when it is started or reloaded, and is healthy if its limit is a number.
/// What it takes in of its credential is a digest.
pub const RECIPE: &str = r#"
resources:
  - directory: { path: /etc/app }
  - file:
      path: /usr/local/bin/app-load
      mode: "0755"
      content: |
        #!/bin/sh
        echo loaded >> /run/app/loads
        sha256sum < "$CREDENTIALS_DIRECTORY/password" > /run/app/password 2>/dev/null
        if grep -qx 'limit=[0-9]*' /etc/app/app.conf; then echo healthy > /run/app/state; else echo sick > /run/app/state; fi
  - file: { path: /etc/app/app.conf, content: "limit={{ parameters.limit }}\n" }
    notify: reload app
  - file: { path: /etc/app/other.conf, content: "{{ parameters.other }}\n" }
    notify: reload other
  - systemd_unit:
      name: app.service
      content: |
        [Service]
        DynamicUser=yes
        RuntimeDirectory=app
        ExecStart=/bin/sh -c '/usr/local/bin/app-load; exec sleep infinity'
        ExecReload=/usr/local/bin/app-load
  - systemd_unit:
      name: other.service
      content: |
        [Service]
        RuntimeDirectory=other
        ExecStart=/bin/sleep infinity
        ExecReload=/bin/sh -c 'echo loaded >> /run/other/loads'
  - service: { name: app, state: running }
  - service: { name: other, state: running }
handlers:
  reload app: { service: { name: app, state: reloaded } }
  reload other: { service: { name: other, state: reloaded } }
"#;

/// What of the user-data is about it.
pub const HEALTH: &str = "health: [ { command: { argv: \"grep -qx healthy /run/app/state\", within: 3s } } ]";

/// Puts it on a disk.
///
/// # Errors
/// When the disk cannot be written.
pub fn put(disk: &Disk) -> io::Result<()> {
    let folder = disk.tree().join("usr/lib/bootstrap-agent/boot");
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    write_bundle(&folder, "app", RECIPE, &["app.service".into(), "other.service".into()])
}
