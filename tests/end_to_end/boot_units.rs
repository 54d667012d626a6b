//! What the agent's units may do on a host: what recipes take, and nothing else.

use std::fs;

use testbed::binaries;
use testbed::cloud::Cloud;
use testbed::host::Disk;
use testbed::workspace::image;

use crate::Outcome;
use crate::boot::status_of;

/// Each unit with the highest exposure that it may have, as `systemd-analyze security` counts it.
const UNITS: [(&str, f64); 3] =
    [("bootstrap-agent-outbox", 2.5), ("bootstrap-agent", 8.6), ("bootstrap-agent-watch", 8.6)];

#[test]
fn each_unit_is_exposed_as_much_as_its_work_takes() -> Outcome {
    let cloud = Cloud::prod()?;
    let host = cloud.boot(Disk::of_image(&image("web")?)?)?;
    assert_eq!(status_of(&host)?["state"], "done");
    let documented = fs::read_to_string(binaries::project().join("docs/boot.md"))?;
    for (unit, most) in UNITS {
        let unit = format!("{unit}.service");
        let said = host.output(&["systemd-analyze", "security", "--no-pager", &unit])?;
        let said = said.lines().last().unwrap_or_default();
        let level = said.split_whitespace().find_map(|word| word.parse::<f64>().ok());
        let level = level.ok_or_else(|| said.to_owned())?;
        assert!(level <= most, "{said}");
        let is_told =
            |line: &str| line.contains(&format!("`{unit}`")) && line.ends_with(&format!("| {level} |"));
        assert!(documented.lines().any(is_told), "docs/boot.md does not say that {unit} has {level}");
    }
    Ok(())
}
