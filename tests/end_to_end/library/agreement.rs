//! What a plan says, what an exact plan says, and what applying then does, of the recipes of the library: they agree.

use std::collections::BTreeMap;
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

/// What comes out otherwise in an exact plan than on the host, and why docs/plans.md says so: scripts of these packages ask whether
/// systemd runs.
const EXACT_DIFFERS: &[&str] = &["metrics: service sysstat.service"];

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
        plan(&self.host, "/root/bundle")
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
}

/// Plans a bundle that is on a host.
pub(super) fn plan(host: &Host, bundle: &str) -> Result<Plan, Box<dyn Error>> {
    Ok(serde_json::from_str(&host.output(&[AGENT, "plan", "--format=json", bundle])?)?)
}

/// Of each resource that was applied, whether it was changed.
pub(super) fn done<'a>(events: impl IntoIterator<Item = &'a Event>) -> BTreeMap<String, bool> {
    let finished = events.into_iter().filter_map(|event| match event {
        Event::ResourceFinished { resource, outcome } => Some((resource.clone(), *outcome == Came::Changed)),
        _ => None,
    });
    finished.collect()
}

/// The resources of which a plan says something else than what was done, although it is not assumed.
pub(super) fn wrong(plan: &Plan, done: &BTreeMap<String, bool>) -> Vec<String> {
    let known = plan.items.iter().filter(|item| item.basis != Basis::Assumed);
    let wrong = known.filter(|item| done.get(&item.resource) != Some(&!item.changes.is_empty()));
    wrong.map(|item| format!("{} {:?}", item.resource, item.changes)).collect()
}

/// How much is known of the resources of a recipe before they are applied.
#[derive(Default)]
struct Row {
    known: usize,
    assumed: usize,
}

/// What docs/plans.md says of the recipes of a group.
fn page(group: &str) -> Result<BTreeMap<String, Row>, Box<dyn Error>> {
    let page = fs::read_to_string(binaries::project().join("docs/plans.md"))?;
    let (_, table) = page.split_once(&format!("\n## `{group}`\n")).ok_or("the page has no such group")?;
    let rows = table.lines().take_while(|line| !line.starts_with("## ")).filter_map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let recipe = cells.next()?.to_owned();
        Some((recipe, Row { known: cells.next()?.parse().ok()?, assumed: cells.next()?.parse().ok()? }))
    });
    Ok(rows.collect())
}

/// Plans and applies a group of recipes. All of it agrees, but for what is assumed; how much that is is on the page.
fn agree(group: &str) -> Outcome {
    let planning = Planning::of(group)?;
    planning.fetch(&planning.plan()?)?;
    let fast = planning.plan()?;
    let exact = planning.exact()?;
    let applied = planning.host.apply(&[], "/root/bundle")?;
    assert_eq!(applied.code, Some(0), "{:?} {}", applied.failure(), applied.stderr);
    let done = done(&applied.events);
    assert_eq!(wrong(&fast, &done), Vec::<String>::new());
    let mut differing = wrong(&exact.plan, &done);
    differing.retain(|told| !EXACT_DIFFERS.iter().any(|id| told.starts_with(id)));
    assert_eq!(differing, Vec::<String>::new());
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for item in &fast.items {
        let row = rows.entry(item.resource.split(": ").next().unwrap_or_default().to_owned()).or_default();
        match item.basis {
            Basis::Observed | Basis::Derived => row.known += 1,
            Basis::Assumed => row.assumed += 1,
        }
    }
    // Scripts of packages change with them, and what is known because of that may become more.
    let told = page(group)?;
    let is_told = |(recipe, row): (&String, &Row)| {
        told.get(recipe).is_some_and(|told| {
            row.assumed <= told.assumed && row.known + row.assumed == told.known + told.assumed
        })
    };
    let rows_of_page =
        rows.iter().map(|(recipe, row)| format!("| {recipe} | {} | {} |\n", row.known, row.assumed));
    let assumed: Vec<_> = fast.items.iter().filter(|item| item.basis == Basis::Assumed).collect();
    assert!(
        rows.iter().all(is_told),
        "docs/plans.md does not have\n{}{assumed:#?}",
        rows_of_page.collect::<String>()
    );
    Ok(())
}

#[test]
fn plans_of_what_every_host_has_agree_with_what_is_done() -> Outcome {
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
