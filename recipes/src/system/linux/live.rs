//! Facts of a live host, from what the kernel and the firmware show in files. No program is run.

use std::io;
use std::path::Path;

use super::reading;
use super::tree::Tree;
use crate::system::FactsError;
use crate::system::live::{Cloud, Firmware, Live, Virtualization};

/// Looks at the running host.
pub(super) fn detect(tree: &Tree) -> Result<Live, FactsError> {
    let read = |path: &str| text(tree, path);
    let there = |path: &str| match read(path)? {
        text if text.is_empty() => Err(reading(Path::new(path))(io::ErrorKind::NotFound.into())),
        text => Ok(text),
    };
    let cpus = std::thread::available_parallelism()
        .map_err(|source| FactsError { what: "how many processors there are".into(), source })?;
    let exists = |path: &str| super::host::exists(tree, path);
    let virtualization = match container(&read, &exists)? {
        Some(container) => container,
        None => machine(&read)?,
    };
    Ok(Live {
        hostname: there("/proc/sys/kernel/hostname")?,
        kernel: there("/proc/sys/kernel/osrelease")?,
        cpus: cpus.get() as u64,
        memory: memory(&there("/proc/meminfo")?)?,
        virtualization,
        cloud: cloud(&read)?,
        firmware: if exists("/sys/firmware/efi")? { Firmware::Uefi } else { Firmware::Bios },
    })
}

/// The text of a file without the space around it; empty if there is none, and if only root may see it.
pub(super) fn text(tree: &Tree, path: &str) -> Result<String, FactsError> {
    let path = Path::new(path);
    match tree.read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(String::new()),
        Err(error) => Err(reading(path)(error)),
    }
}

/// The container that a host is; none if it is none.
pub(super) fn container(
    read: &dyn Fn(&str) -> Result<String, FactsError>,
    exists: &dyn Fn(&str) -> Result<bool, FactsError>,
) -> Result<Option<Virtualization>, FactsError> {
    // systemd writes down for everybody what only root sees in the environment of the first process.
    let mut kind = read("/run/systemd/container")?;
    if kind.is_empty() {
        let environment = read("/proc/1/environ")?;
        let value = environment.split('\0').find_map(|entry| entry.strip_prefix("container="));
        value.unwrap_or_default().clone_into(&mut kind);
    }
    Ok(match kind.as_str() {
        "systemd-nspawn" => Some(Virtualization::SystemdNspawn),
        "docker" => Some(Virtualization::Docker),
        "podman" => Some(Virtualization::Podman),
        "lxc" => Some(Virtualization::Lxc),
        "lxc-libvirt" => Some(Virtualization::LxcLibvirt),
        "wsl" => Some(Virtualization::Wsl),
        "" => {
            // Engines whose containers have no systemd leave a marker.
            match (exists("/run/.containerenv")?, exists("/.dockerenv")?) {
                (true, _) => Some(Virtualization::Podman),
                (false, true) => Some(Virtualization::Docker),
                (false, false) => None,
            }
        }
        _ => Some(Virtualization::ContainerOther),
    })
}

/// Where the firmware shows what the hardware says of itself (SMBIOS).
const DMI: &str = "/sys/class/dmi/id";

/// The virtual machine that a host is. It goes by systemd's own order and table (`src/basic/virt.c`), but for
/// the CPUID leaf of the hypervisor, in whose place are the clocks that the kernel has from it.
fn machine(read: &dyn Fn(&str) -> Result<String, FactsError>) -> Result<Virtualization, FactsError> {
    const VENDORS: &[(&str, Virtualization)] = &[
        ("KVM", Virtualization::Kvm),
        ("OpenStack", Virtualization::Kvm),
        ("KubeVirt", Virtualization::Kvm),
        ("Amazon EC2", Virtualization::Amazon),
        ("QEMU", Virtualization::Qemu),
        ("VMware", Virtualization::Vmware),
        ("VMW", Virtualization::Vmware),
        ("innotek GmbH", Virtualization::Oracle),
        ("VirtualBox", Virtualization::Oracle),
        ("Xen", Virtualization::Xen),
        ("Bochs", Virtualization::Bochs),
        ("Parallels", Virtualization::Parallels),
        ("BHYVE", Virtualization::Bhyve),
        ("Hyper-V", Virtualization::Microsoft),
        ("Apple Virtualization", Virtualization::Apple),
        ("Google Compute Engine", Virtualization::Google),
    ];
    let mut vendor = None;
    for field in ["product_name", "sys_vendor", "board_vendor", "bios_vendor", "product_version"] {
        let text = read(&format!("{DMI}/{field}"))?;
        vendor = vendor.or_else(|| VENDORS.iter().find(|(prefix, _)| text.starts_with(prefix)));
    }
    let vendor = vendor.map(|(_, machine)| *machine);
    // EC2's bare metal (`m7i.metal-24xl`) says the same of itself as its virtual machines.
    if vendor == Some(Virtualization::Amazon) && read(&format!("{DMI}/product_name"))?.contains(".metal") {
        return Ok(Virtualization::None);
    }
    if read("/sys/hypervisor/type")? == "xen" {
        // The host of the others has "control_d" there.
        let is_host = read("/proc/xen/capabilities")?.contains("control_d");
        return Ok(if is_host { Virtualization::None } else { Virtualization::Xen });
    }
    let clocks = read("/sys/devices/system/clocksource/clocksource0/available_clocksource")?;
    Ok(match vendor {
        // What QEMU emulates looks the same whether KVM helps or not.
        Some(Virtualization::Qemu) | None if clocks.contains("kvm-clock") => Virtualization::Kvm,
        None if clocks.contains("hyperv_clocksource") => Virtualization::Microsoft,
        Some(machine) => machine,
        None => {
            let flags = read("/proc/cpuinfo")?;
            let flags = flags.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
            let is_machine = flags.split_whitespace().any(|flag| flag == "hypervisor");
            if is_machine { Virtualization::VmOther } else { Virtualization::None }
        }
    })
}

/// The cloud that a host is in, by what cloud-init's `tools/ds-identify` goes by.
fn cloud(read: &dyn Fn(&str) -> Result<String, FactsError>) -> Result<Cloud, FactsError> {
    /// Azure's mark in the asset tag of every virtual machine.
    const AZURE: &str = "7783-7084-3265-9085-8269-3286-77";
    let dmi = |field: &str| read(&format!("{DMI}/{field}"));
    let (vendor, product, asset) = (dmi("sys_vendor")?, dmi("product_name")?, dmi("chassis_asset_tag")?);
    Ok(match (vendor.as_str(), product.as_str(), asset.as_str()) {
        (_, _, AZURE) => Cloud::Azure,
        (_, _, "OracleCloud.com") => Cloud::Oracle,
        (_, "Google Compute Engine", _) => Cloud::Gce,
        (_, "Alibaba Cloud ECS", _) => Cloud::Aliyun,
        (_, "OpenStack Nova" | "OpenStack Compute", _)
        | (_, _, "OpenTelekomCloud" | "SAP CCloud VM" | "HUAWEICLOUD" | "Samsung Cloud Platform") => {
            Cloud::Openstack
        }
        ("Amazon EC2", ..) => Cloud::Ec2,
        ("Akamai" | "Linode", ..) => Cloud::Akamai,
        ("DigitalOcean", ..) => Cloud::Digitalocean,
        ("Hetzner", ..) => Cloud::Hetzner,
        ("Scaleway", ..) => Cloud::Scaleway,
        ("Vultr", ..) => Cloud::Vultr,
        // The Xen instances of EC2 have nothing but their number, and the second one only root sees.
        _ => {
            let is_ec2 = |id: &str| id.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("ec2"));
            let found = is_ec2(&read("/sys/hypervisor/uuid")?) || is_ec2(&dmi("product_uuid")?);
            if found { Cloud::Ec2 } else { Cloud::None }
        }
    })
}

/// The memory in MiB, from `/proc/meminfo`, which has it in KiB.
fn memory(text: &str) -> Result<u64, FactsError> {
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    total
        .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .map(|kibibytes| kibibytes / 1024)
        .ok_or_else(|| FactsError {
            what: "`MemTotal` in `/proc/meminfo`".into(),
            source: io::ErrorKind::InvalidData.into(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Files<'a> = &'a [(&'a str, &'a str)];

    /// A host in which these files are.
    fn seen(files: Files<'_>) -> (Virtualization, Cloud) {
        let read = |path: &str| {
            let found = files.iter().find(|(name, _)| path == *name || path == format!("{DMI}/{name}"));
            Ok(found.map(|(_, text)| (*text).to_owned()).unwrap_or_default())
        };
        let exists = |path: &str| Ok(files.iter().any(|(name, _)| path == *name));
        let container = container(&read, &exists).expect("readable");
        (container.unwrap_or_else(|| machine(&read).expect("readable")), cloud(&read).expect("readable"))
    }

    #[test]
    fn virtual_machines_and_clouds_are_told_by_their_firmware() {
        let clock = "/sys/devices/system/clocksource/clocksource0/available_clocksource";
        let azure = "7783-7084-3265-9085-8269-3286-77";
        let cases: &[(Files<'_>, Virtualization, Cloud)] = &[
            (&[("sys_vendor", "Dell Inc.")], Virtualization::None, Cloud::None),
            (
                &[("sys_vendor", "Amazon EC2"), ("product_name", "t3.nano")],
                Virtualization::Amazon,
                Cloud::Ec2,
            ),
            (
                &[("sys_vendor", "Amazon EC2"), ("product_name", "m7i.metal-24xl")],
                Virtualization::None,
                Cloud::Ec2,
            ),
            (
                &[
                    ("product_name", "HVM domU"),
                    ("/sys/hypervisor/type", "xen"),
                    ("/sys/hypervisor/uuid", "ec2e1916"),
                ],
                Virtualization::Xen,
                Cloud::Ec2,
            ),
            (
                &[("/sys/hypervisor/type", "xen"), ("/proc/xen/capabilities", "control_d")],
                Virtualization::None,
                Cloud::None,
            ),
            (&[("sys_vendor", "Xen"), ("product_uuid", "EC2E1916-9099")], Virtualization::Xen, Cloud::Ec2),
            (
                &[("product_version", "Hyper-V UEFI Release v4.1"), ("chassis_asset_tag", azure)],
                Virtualization::Microsoft,
                Cloud::Azure,
            ),
            (&[("product_name", "Google Compute Engine")], Virtualization::Google, Cloud::Gce),
            (&[("product_name", "OpenStack Nova")], Virtualization::Kvm, Cloud::Openstack),
            (&[("sys_vendor", "Hetzner"), (clock, "kvm-clock tsc")], Virtualization::Kvm, Cloud::Hetzner),
            (&[("sys_vendor", "QEMU")], Virtualization::Qemu, Cloud::None),
            (&[("sys_vendor", "QEMU"), (clock, "tsc kvm-clock")], Virtualization::Kvm, Cloud::None),
            (&[("product_name", "VirtualBox")], Virtualization::Oracle, Cloud::None),
            (
                &[("/proc/cpuinfo", "model : x\nflags : fpu hypervisor lm")],
                Virtualization::VmOther,
                Cloud::None,
            ),
            (&[("/proc/cpuinfo", "model : hypervisor\nflags : fpu lm")], Virtualization::None, Cloud::None),
        ];
        for (files, virtualization, cloud) in cases {
            assert_eq!(seen(files), (*virtualization, *cloud), "{files:?}");
        }
    }

    #[test]
    fn a_container_is_told_before_the_machine_that_it_is_in() {
        let vendor = ("sys_vendor", "Amazon EC2");
        for (path, text, expected) in [
            ("/run/systemd/container", "systemd-nspawn", Virtualization::SystemdNspawn),
            ("/run/systemd/container", "lxc", Virtualization::Lxc),
            ("/run/systemd/container", "crio", Virtualization::ContainerOther),
            ("/proc/1/environ", "PATH=/bin\0container=podman\0", Virtualization::Podman),
            ("/proc/1/environ", "NO_container=podman\0", Virtualization::Amazon),
            ("/.dockerenv", "", Virtualization::Docker),
            ("/run/.containerenv", "", Virtualization::Podman),
        ] {
            assert_eq!(seen(&[vendor, (path, text)]), (expected, Cloud::Ec2), "{path}: {text}");
        }
    }

    #[test]
    fn memory_is_in_mebibytes() {
        assert_eq!(memory("MemFree: 1 kB\nMemTotal:       24576000 kB\n").expect("there"), 24000);
        let error = memory("MemFree: 1 kB\n").expect_err("not there");
        assert_eq!(error.to_string(), "failed to read `MemTotal` in `/proc/meminfo`");
    }
}
