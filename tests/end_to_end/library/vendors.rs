//! Recipes of what Debian does not have, with archives that only have the vendors' layout.

use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns};
use recipes::op::Content;
use tempfile::TempDir;
use testbed::apt::{Scripted, repository_with_scripts};
use testbed::host::Host;
use testbed::https::{Authority, Reply, Server};

use super::hosts::apply;
use crate::Outcome;

/// A recipe, the program that its archive has, and the file that the recipe writes for it.
const VENDORS: &[(&str, &str, &str, &str)] = &[
    ("consul-agent", "consul", "consul", "join: ['10.0.0.5']"),
    ("elasticsearch", "elasticsearch-8.0.0/bin/elasticsearch", "elasticsearch", "cluster: probe"),
    ("kibana", "kibana-8.0.0/bin/kibana", "kibana", "elasticsearch: ['http://10.0.0.5:9200']"),
    ("mesos-master", "sbin/mesos-master", "mesos-master", "zookeeper: 'zk://10.0.0.5:2181/mesos'"),
    (
        "consul-templates",
        "consul-template",
        "consul-template",
        "templates: [ { name: peers, contents: '{% raw %}{{ range service \"web\" }}{{ .Address }}{{ end }}{% endraw %}' } ]",
    ),
    ("mesos-agent", "sbin/mesos-agent", "mesos-agent", "zookeeper: 'zk://10.0.0.5:2181/mesos'"),
    (
        "ci-runner",
        "runner",
        "ci-runner",
        "docker: false, packages: [curl], arguments: run --config /etc/runner",
    ),
];

/// What stands in for the program: it tells how it was started, and by whom.
pub(super) const PROGRAM: &str = "#!/bin/sh\necho \"$(id -un) $*\"\nenv\nexec sleep infinity\n";

/// Every program runs as its own account, with what the recipe tells it; one with another digest is not put in place.
pub(super) fn programs_of_vendors_are_what_their_digests_say(host: &Host) -> Outcome {
    let authority = Authority::new()?;
    fs::write(host.disk().tree().join("etc/vendors.pem"), &authority.pem)?;
    for (recipe, program, unit, inputs) in VENDORS {
        let archive = if *recipe == "ci-runner" { PROGRAM.into() } else { archive(program)? };
        let include = |server: &Server, digest: &str| {
            format!(
                "  - include: {{ {recipe}: {{ url: 'https://{}/archive', sha256: '{digest}', ca_file: /etc/vendors.pem, {inputs} }} }}\n",
                server.address
            )
        };
        let wrong = include(&serve(host, &authority, &archive)?, &"0".repeat(64));
        let refused =
            host.apply(&[], &host.put(&format!("{recipe}-wrong"), &format!("resources:\n{wrong}"))?)?;
        assert_eq!(refused.code, Some(1), "{recipe}");
        let why = refused.failure().unwrap_or_default();
        assert!(why.contains("sha256") || why.contains("SHA-256"), "{why}");
        let server = serve(host, &authority, &archive)?;
        apply(host, recipe, &include(&server, &Content::new(&archive[..]).sha256()))?;
        host.output(&["systemctl", "start", unit])?;
        let account = match *unit {
            "ci-runner" => "ci",
            "mesos-agent" => "root",
            own => own,
        };
        let told = format!(
            "for n in $(seq 100); do journalctl --no-pager -o cat -u {unit} | grep -qE '^{account}( |$)' && exit; sleep 0.1; done; journalctl --no-pager -u {unit}; exit 1"
        );
        host.output(&["sh", "-c", &told])?;
        // What runs cannot change what will run.
        let owners = host.output(&["find", &format!("/opt/{unit}"), "-not", "-user", "root"])?;
        assert_eq!(owners, "", "{recipe}");
        host.output(&["systemctl", "stop", unit])?;
    }
    let settings = host.disk().read("/etc/elasticsearch/elasticsearch.yml")?;
    assert!(
        settings.contains("cluster.name: probe") && settings.contains("discovery.type: single-node"),
        "{settings}"
    );
    serde_json::from_str::<serde_json::Value>(&host.disk().read("/etc/consul/agent.json")?)?;
    let templates = host.disk().read("/etc/consul-template/config.hcl")?;
    assert!(templates.contains("{{ range service \"web\" }}"), "{templates}");
    packages(host)?;
    a_node_of_kubernetes_joins_with_its_token(host)
}

/// Agents that come as packages.
fn packages(host: &Host) -> Outcome {
    // There is no network, and so nothing that apt could ask; Docker leaves its swarm, in which containers cannot outlive it.
    host.output(&[
        "sh",
        "-ec",
        "rm -f /etc/apt/sources.list.d/*; : > /etc/apt/sources.list; docker swarm leave --force",
    ])?;
    for (recipe, name, service, inputs) in [
        ("ssm-agent", "amazon-ssm-agent", "amazon-ssm-agent", ""),
        ("cloudwatch-agent", "amazon-cloudwatch-agent", "amazon-cloudwatch-agent", ""),
        ("ecs-host", "amazon-ecs-init", "ecs", ", cluster: web"),
    ] {
        let package = package(name, service)?;
        // It is there already, so nothing is fetched.
        let there = host.disk().tree().join("opt/vendor");
        fs::create_dir_all(&there)?;
        fs::write(there.join(format!("{name}.deb")), &package)?;
        let include = format!(
            "  - include: {{ {recipe}: {{ url: 'https://127.0.0.1:1/none.deb', sha256: '{}'{inputs} }} }}\n",
            Content::new(&package[..]).sha256()
        );
        apply(host, recipe, &include)?;
        host.output(&["systemctl", "is-enabled", "--quiet", service])?;
    }
    let cluster = host.disk().read("/etc/ecs/ecs.config")?;
    assert!(
        cluster.contains("ECS_CLUSTER=web\n") && cluster.contains("ECS_DISABLE_PRIVILEGED=true\n"),
        "{cluster}"
    );
    let settings = host.disk().read("/opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.json")?;
    let settings: serde_json::Value = serde_json::from_str(&settings)?;
    assert_eq!(
        settings["logs"]["logs_collected"]["files"]["collect_list"][0]["file_path"],
        "/var/log/syslog"
    );
    Ok(())
}

/// A package that brings a unit which does nothing.
pub(super) fn package(name: &str, service: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let folder = TempDir::with_prefix("vendor-")?;
    let postinst = format!(
        "#!/bin/sh -e\nmkdir -p /lib/systemd/system; printf '[Service]\\nExecStart=/bin/sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n' > /lib/systemd/system/{service}.service\n"
    );
    repository_with_scripts(
        folder.path(),
        &[Scripted { name, fields: "", scripts: &[("postinst", &postinst)] }],
    )?;
    Ok(fs::read(folder.path().join(format!("{name}_1.0_all.deb")))?)
}

/// What stands in for kubeadm: it keeps what it is told, and says that the node has joined.
const KUBEADM: &str = "#!/bin/sh -e\necho \"$*\" > /run/kubeadm.arguments\ncat \"${2#--config=}\" > /run/kubeadm.input\ntouch /etc/kubernetes/kubelet.conf\n";

/// containerd is Debian's; kubelet waits until the node has joined.
fn a_node_of_kubernetes_joins_with_its_token(host: &Host) -> Outcome {
    let programs = archive_of(&[
        ("kubernetes/node/bin/kubeadm", KUBEADM),
        ("kubernetes/node/bin/kubelet", PROGRAM),
        ("kubernetes/node/bin/kubectl", PROGRAM),
    ])?;
    let plugins = archive_of(&[("bridge", PROGRAM)])?;
    let there = host.disk().tree().join("opt/vendor");
    fs::create_dir_all(&there)?;
    fs::write(there.join("kubernetes-node.archive"), &programs)?;
    fs::write(there.join("cni-plugins.archive"), &plugins)?;
    let node = format!(
        "  - include: {{ kubernetes-node: {{ url: 'https://127.0.0.1:1/none', sha256: '{}', cni_url: 'https://127.0.0.1:1/none', cni_sha256: '{}' }} }}\n",
        Content::new(&programs[..]).sha256(),
        Content::new(&plugins[..]).sha256()
    );
    apply(host, "kubernetes-node", &node)?;
    let settings = host.output(&["containerd", "config", "dump"])?;
    assert!(
        settings.contains("SystemdCgroup = true") && settings.contains("registry.k8s.io/pause"),
        "{settings}"
    );
    let active = |unit: &str| {
        Ok::<_, Box<dyn Error>>(host.run(&["systemctl", "is-active", "--quiet", unit])?.status.success())
    };
    host.output(&["systemctl", "start", "kubelet"])?;
    assert!(!active("kubelet")?, "it has nothing to do before the node has joined");
    let ca = "ab".repeat(32);
    let join = format!(
        "  - include: {{ kubernetes-join: {{ endpoint: '10.0.0.5:6443', token: abcdef.0123456789abcdef, ca_sha256: '{ca}', labels: tier=web }} }}\n"
    );
    apply(host, "kubernetes-join", &join)?;
    assert!(active("kubelet")? && active("containerd")?);
    let told = host.output(&["cat", "/run/kubeadm.input", "/run/kubeadm.arguments"])?;
    for text in ["token: \"abcdef.0123456789abcdef\"", &format!("sha256:{ca}"), "join --config=/dev/stdin"] {
        assert!(told.contains(text), "{text}: {told}");
    }
    Ok(())
}

/// An archive with one program in it.
fn archive(program: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    archive_of(&[(program, PROGRAM)])
}

pub(super) fn archive_of(programs: &[(&str, &str)]) -> Result<Vec<u8>, Box<dyn Error>> {
    let folder = TempDir::with_prefix("vendor-")?;
    for (program, text) in programs {
        let path = folder.path().join("tree").join(program);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    let archive = folder.path().join("archive");
    let mut command = Command::new("tar");
    command.args(["--create", "--gzip", "--directory"]).arg(folder.path().join("tree"));
    assert!(command.arg("--file").arg(&archive).arg(".").status()?.success());
    Ok(fs::read(archive)?)
}

/// A server that a host reaches at its own loopback.
fn serve(host: &Host, authority: &Authority, content: &[u8]) -> Result<Server, Box<dyn Error>> {
    let reply = Reply::new("HTTP/1.1 200 OK", content);
    at_loopback(host, || authority.serve(vec![reply]))
}

/// Starts something in the network of a host. The threads that it starts are there as well.
pub(super) fn at_loopback<T: Send>(
    host: &Host,
    start: impl FnOnce() -> io::Result<T> + Send,
) -> Result<T, Box<dyn Error>> {
    let namespace = File::open(format!("/proc/{}/ns/net", host.leader()))?;
    let started = thread::scope(|scope| {
        let started = scope.spawn(|| {
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            start()
        });
        started.join().map_err(|_| "it did not start")
    });
    Ok(started??)
}
