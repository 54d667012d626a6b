//! Kernel modules: where files say something about them, and what the running kernel has.

use std::path::Path;

use crate::system::{Facts, PlanError};

/// Where systemd-modules-load looks (modules-load.d(5)).
pub(super) const LOAD: [&str; 5] = [
    "/etc/modules-load.d",
    "/run/modules-load.d",
    "/usr/local/lib/modules-load.d",
    "/usr/lib/modules-load.d",
    "/lib/modules-load.d",
];

/// Where modprobe(8) looks (modprobe.d(5)).
pub(super) const MODPROBE: [&str; 5] = [
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
];

/// Whether the running kernel has a module, loaded or built in.
pub(super) fn is_in_kernel(facts: &dyn Facts, module: &str) -> Result<bool, PlanError> {
    let name = kernel_name(module);
    if facts.entry(&Path::new("/sys/module").join(&name))?.known()?.is_some() {
        return Ok(true);
    }
    let Some(release) = facts.kernel_parameter("kernel.osrelease")?.known()? else { return Ok(false) };
    let path = Path::new("/lib/modules").join(release).join("modules.builtin");
    let built_in = facts.content(&path)?.known()?.unwrap_or_default();
    let is_it = |line: &str| {
        let file = line.rsplit('/').next().unwrap_or(line);
        file.strip_suffix(".ko").is_some_and(|other| kernel_name(other) == name)
    };
    Ok(String::from_utf8_lossy(&built_in).lines().any(is_it))
}

/// The kernel calls modules by `_` whatever their files are called.
pub(super) fn kernel_name(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Op;
    use crate::system::fake::Fake;

    #[test]
    fn a_module_is_there_loaded_or_built_in() {
        let mut fake = Fake::debian();
        let there = |fake: &Fake, name| is_in_kernel(fake, name).expect("known");
        fake.directory("/sys/module/usb_storage");
        assert!(there(&fake, "usb-storage") && !there(&fake, "ext4"));
        let (key, value) = ("kernel.osrelease".into(), "6.1.0".into());
        fake.apply(&Op::SetKernelParameter { key, value, before: None });
        assert!(!there(&fake, "ext4"), "there is no list");
        fake.file("/lib/modules/6.1.0/modules.builtin", "kernel/fs/ext4/ext4.ko\nkernel/crypto/a-b.ko\n");
        assert!(there(&fake, "ext4") && there(&fake, "a_b") && !there(&fake, "ext"));
    }
}
