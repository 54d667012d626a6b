//! Facts of a live host only: what an image has from its builder would be wrong on the hosts that boot from it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one host has and another that boots from the same image may not have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Live {
    /// The name of the host when the run began.
    pub hostname: String,
    /// The release of the running kernel, as `uname -r` has it.
    pub kernel: String,
    /// How many processors programs may use, as `nproc` says; a quota of the control group counts.
    pub cpus: u64,
    /// The memory that the kernel has, in MiB.
    pub memory: u64,
    /// What the host runs in, in the words of systemd-detect-virt(1); of a container in a virtual machine, the
    /// container.
    pub virtualization: Virtualization,
    /// The cloud that the host runs in, in the words of cloud-init's ds-identify.
    pub cloud: Cloud,
    /// What started the kernel; `bios` is anything but UEFI.
    pub firmware: Firmware,
}

/// What a host runs in. The names are those of systemd-detect-virt(1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Virtualization {
    /// Hardware of its own.
    #[default]
    None,
    /// A container of systemd-nspawn.
    SystemdNspawn,
    /// A container of Docker.
    Docker,
    /// A container of Podman.
    Podman,
    /// A container of LXC or Incus.
    Lxc,
    /// A container of LXC through libvirt.
    LxcLibvirt,
    /// The Windows Subsystem for Linux.
    Wsl,
    /// Another container.
    ContainerOther,
    /// A virtual machine of KVM.
    Kvm,
    /// QEMU without the help of the processor.
    Qemu,
    /// Amazon EC2 Nitro.
    Amazon,
    /// `VMware`.
    Vmware,
    /// Hyper-V.
    Microsoft,
    /// `VirtualBox`.
    Oracle,
    /// Xen.
    Xen,
    /// Google Compute Engine.
    Google,
    /// Apple Virtualization.
    Apple,
    /// Bochs.
    Bochs,
    /// Parallels.
    Parallels,
    /// bhyve of FreeBSD.
    Bhyve,
    /// Another virtual machine.
    VmOther,
}

/// The clouds that a host can tell from its own firmware. The names are those of cloud-init's ds-identify.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cloud {
    /// No cloud, or one that does not show.
    #[default]
    None,
    /// Amazon EC2.
    Ec2,
    /// Microsoft Azure.
    Azure,
    /// Google Compute Engine.
    Gce,
    /// `OpenStack`, and clouds made of it.
    Openstack,
    /// Alibaba Cloud.
    Aliyun,
    /// Akamai (Linode).
    Akamai,
    /// `DigitalOcean`.
    Digitalocean,
    /// Hetzner Cloud.
    Hetzner,
    /// Oracle Cloud.
    Oracle,
    /// Scaleway.
    Scaleway,
    /// Vultr.
    Vultr,
}

/// What starts the kernel of a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// Anything but UEFI: a PC BIOS, or a hypervisor that starts the kernel itself.
    #[default]
    Bios,
    /// UEFI.
    Uefi,
}

#[cfg(test)]
mod tests {
    use crate::system::Facts;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    #[test]
    fn what_differs_between_hosts_is_no_part_of_an_image() {
        let example = Example::resources("- file: { path: /etc/a, content: \"{{ facts.live.memory }}\" }");
        example.settles(&mut Fake::debian());
        let baked = example.resolve(Fake::builder().host()).expect_err("not known").to_string();
        insta::assert_snapshot!(baked, @"example/recipe.yaml:2:40: `facts.live.memory` is known only on a live host; hosts that boot from an image differ in it: use it in a boot recipe, for what the bake need not know");
        let misspelt =
            Example::resources("- file: { path: /etc/a, content: x }\n  when: facts.live.cluod == \"ec2\"");
        insta::assert_snapshot!(misspelt.problems(), @"example/recipe.yaml:3:11: `facts.live.cluod` is not defined; did you mean `cloud`? valid are `hostname`, `kernel`, `cpus`, `memory`, `virtualization`, `cloud` and `firmware`");
    }

    #[test]
    fn people_see_each_fact_under_the_name_that_templates_have_for_it() {
        insta::assert_snapshot!(Fake::debian().host().to_string(), @r#"
        facts.os.name              "Debian GNU/Linux 12 (bookworm)"
        facts.os.id                "debian"
        facts.os.family            "debian"
        facts.os.like              []
        facts.os.version           "12"
        facts.os.codename          "bookworm"
        facts.arch                 "x86_64"
        facts.container            false
        facts.systemd              true
        facts.package_manager      "apt"
        facts.mode                 "live"
        facts.live.hostname        "host"
        facts.live.kernel          "6.1.0-37-amd64"
        facts.live.cpus            2
        facts.live.memory          4096
        facts.live.virtualization  "kvm"
        facts.live.cloud           "none"
        facts.live.firmware        "bios"
        "#);
    }
}
