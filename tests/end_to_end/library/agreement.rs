//! What a plan says, what an exact plan says, and what applying then does, of the recipes of the library: they agree.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;

use baker::image::Chain;
use recipes::difference::ExactPlan;
use recipes::event::{Event, Outcome as Came};
use recipes::plan::{Basis, Plan};
use testbed::binaries;
use testbed::host::{Disk, Host};
use testbed::workspace::Workspace;

use super::cases::GROUPS;
use crate::Outcome;
use crate::boot::AGENT;

/// What a plan cannot know although the archives of all packages are at hand, by whose doing it is not known.
const ASSUMED: &[(&str, &[&str])] = &[
    (
        "the scripts of openssh-server, which name it",
        &[
            "sshd: directory /run/sshd",
            "sshd: template /etc/ssh/sshd_config",
            r"sshd: line /etc/ssh/moduli: ^\d+ \d+ \d+ \d+ (1023|1535|2047) ",
            "sshd: service ssh.service",
            "sshd: handler reload ssh",
        ],
    ),
    ("a script of nginx-common", &["nginx: symlink /etc/nginx/sites-enabled/default"]),
    ("a script of redis-server", &["redis: line /etc/redis/redis.conf: include /etc/redis/recipe.conf"]),
    (
        "a script of postgresql-15, which makes a cluster, and one of ssl-cert",
        &[
            "postgresql: file /etc/ssl/private/ssl-cert-snakeoil.key",
            "postgresql: file /etc/ssl/certs/ssl-cert-snakeoil.pem",
            "postgresql: template /etc/postgresql/15/main/conf.d/10-recipe.conf",
            "postgresql: template /etc/postgresql/15/main/pg_hba.conf",
            "postgresql: service postgresql@15-main.service",
            "postgresql: handler restart postgresql",
        ],
    ),
    (
        "a script of sysstat, which asks debconf",
        &["metrics: line /etc/default/sysstat: ENABLED=\"true\"", "metrics: service sysstat.service"],
    ),
    (
        "a script of unattended-upgrades",
        &[
            "updates: template /etc/apt/apt.conf.d/20auto-upgrades",
            "updates: service unattended-upgrades.service",
        ],
    ),
    (
        "a script of chrony, which has ucf write its file",
        &[
            "time: template /etc/chrony/chrony.conf",
            "time: service chrony.service",
            "time: handler restart chrony",
        ],
    ),
    ("scripts that make locales", &["localization: locale C.UTF-8"]),
    (
        "a service that may be started before and write there: unattended-upgrades",
        &[
            "swap: swap /swapfile",
            "swap: sysctl swap",
            "tuning: sysctl tuning",
            "tuning: kernel_module tcp_bbr",
            "tuning: kernel_module sch_fq",
            "ci-runner: directory /var/lib/ci",
        ],
    ),
    (
        "a script of zookeeper, whose folder is an alternative",
        &[
            "zookeeper: template /etc/zookeeper/conf/zoo.cfg",
            "zookeeper: file /etc/zookeeper/conf/myid",
            "zookeeper: service zookeeper.service",
            "zookeeper: handler restart zookeeper",
        ],
    ),
    (
        "a command that looks for programs, when all are installed, and what needs its result",
        &[
            "audit: command find /usr /opt -xdev ( -perm -4000 -o -perm -2000 ) -type f",
            "audit: template /etc/audit/rules.d/10-recipe.rules",
            "audit: template /etc/audit/rules.d/50-recipe.rules",
            "audit: permissions /etc/audit/aud*",
        ],
    ),
    (
        "dpkg, which begins its logs",
        &["hardening: permissions /var/log/dpkg.log", "hardening: permissions /var/log/alternatives.log"],
    ),
    ("a command whose guard needs the package", &["integrity: command aideinit --yes --force"]),
];

/// What an exact plan has otherwise: sysstat's script asks whether systemd runs, and in the copy it does not.
const DIFFERS: &str = "metrics: service sysstat.service";

/// How many resources of a recipe are known in which way.
#[derive(Default)]
struct Row {
    observed: usize,
    derived: usize,
    assumed: usize,
}

struct Planning {
    host: Host,
}

impl Planning {
    /// A host that reaches the repositories, with the recipes of a group on it.
    fn of(group: &str) -> Result<Self, Box<dyn Error>> {
        let (_, cases) = GROUPS.iter().find(|(name, _)| *name == group).ok_or("there is no such group")?;
        let wanted: Vec<&str> = cases.iter().map(|case| case.wanted).collect();
        let workspace = Workspace::new()?
            .with("images/base.yaml", "source: { local: { suite: bookworm } }\n")?
            .with("images/one.yaml", &format!("extends: base\nrecipes: [ {} ]\n", wanted.join(", ")))?;
        let host = Host::boot_with_way_out(Disk::of_image(&workspace.bake("base")?)?)?;
        let (definition, cache) = (workspace.path("images/one.yaml"), workspace.path("cache"));
        let chain = Chain::load(&definition, &BTreeMap::new(), &[], &cache)
            .map_err(|problems| problems.to_string())?;
        let tree = host.disk().tree();
        for (path, bytes) in chain.images.last().ok_or("no image")?.bundle()? {
            let path = tree.join("root/bundle").join(path);
            fs::create_dir_all(path.parent().ok_or("no folder")?)?;
            fs::write(path, bytes)?;
        }
        fs::copy(binaries::agent()?, tree.join(AGENT.trim_start_matches('/')))?;
        host.output(&["apt-get", "-o", "APT::Update::Error-Mode=any", "update"])?;
        Ok(Self { host })
    }

    fn plan(&self) -> Result<Plan, Box<dyn Error>> {
        Ok(serde_json::from_str(&self.host.output(&[AGENT, "plan", "--format=json", "/root/bundle"])?)?)
    }

    fn exact(&self) -> Result<ExactPlan, Box<dyn Error>> {
        let exact = [AGENT, "plan", "--exact", "--format=json", "/root/bundle"];
        Ok(serde_json::from_str(&self.host.output(&exact)?)?)
    }

    /// Fetches the archives of everything that a plan installs.
    fn fetch(&self, plan: &Plan) -> Outcome {
        let changes = plan.items.iter().flat_map(|item| &item.changes);
        let installed = changes.filter_map(|change| change.summary.strip_prefix("install "));
        let names = installed.filter_map(|rest| rest.split_whitespace().next());
        let fetch = ["apt-get", "--yes", "--download-only", "--no-install-recommends", "install"];
        self.host.output(&fetch.into_iter().chain(names).collect::<Vec<_>>())?;
        Ok(())
    }

    /// Applies, and says of each resource whether it was changed.
    fn apply(&self) -> Result<BTreeMap<String, bool>, Box<dyn Error>> {
        let applied = self.host.apply(&[], "/root/bundle")?;
        assert_eq!(applied.code, Some(0), "{:?} {}", applied.failure(), applied.stderr);
        let finished = applied.events.into_iter().filter_map(|event| match event {
            Event::ResourceFinished { resource, outcome } => Some((resource, outcome == Came::Changed)),
            _ => None,
        });
        Ok(finished.collect())
    }
}

#[expect(clippy::print_stdout, reason = "the table of docs/images.md")]
fn agree(group: &str) -> Outcome {
    let planning = Planning::of(group)?;
    planning.fetch(&planning.plan()?)?;
    let fast = planning.plan()?;
    let exact = planning.exact()?;
    let done = planning.apply()?;
    let mut wrong = Vec::new();
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    for (depth, plan) in [("fast", &fast), ("exact", &exact.plan)] {
        // What is assumed may be wrong; nothing else may.
        for item in plan.items.iter().filter(|item| item.basis != Basis::Assumed) {
            let differs = depth == "exact" && item.resource == DIFFERS;
            if !differs && done.get(&item.resource) != Some(&!item.changes.is_empty()) {
                wrong.push(format!("{depth}: {} {:?}", item.resource, item.changes));
            }
        }
    }
    let mut assumed = BTreeSet::new();
    for item in &fast.items {
        let (recipe, _) = item.resource.split_once(": ").ok_or("a resource of no recipe")?;
        let row = rows.entry(recipe).or_default();
        match item.basis {
            Basis::Observed => row.observed += 1,
            Basis::Derived => row.derived += 1,
            Basis::Assumed => {
                row.assumed += 1;
                assumed.insert(item.resource.as_str());
            }
        }
    }
    for (recipe, Row { observed, derived, assumed }) in rows {
        println!("| `{recipe}` | {observed} | {derived} | {assumed} |");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let known: BTreeSet<&str> = ASSUMED.iter().flat_map(|(_, resources)| *resources).copied().collect();
    let more: Vec<_> = assumed.difference(&known).collect();
    assert!(more.is_empty(), "{more:#?}");
    Ok(())
}

#[test]
fn plans_of_every_host_agree_with_what_is_done() -> Outcome {
    agree("plain")
}

#[test]
fn plans_of_the_hardest_level_agree_with_what_is_done() -> Outcome {
    agree("levels")
}

#[test]
fn plans_of_services_agree_with_what_is_done() -> Outcome {
    agree("services")
}
