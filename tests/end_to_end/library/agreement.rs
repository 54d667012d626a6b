//! What a plan says, what an exact plan says, and what applying then does, of the recipe of the library that has most in it: they agree.

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

/// What a plan cannot know although the archives of all packages are at hand: dpkg begins its logs.
const ASSUMED: &[&str] =
    &["hardening: permissions /var/log/dpkg.log", "hardening: permissions /var/log/alternatives.log"];

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

fn agree(group: &str) -> Outcome {
    let planning = Planning::of(group)?;
    planning.fetch(&planning.plan()?)?;
    let fast = planning.plan()?;
    let exact = planning.exact()?;
    let done = planning.apply()?;
    let mut wrong = Vec::new();
    for (depth, plan) in [("fast", &fast), ("exact", &exact.plan)] {
        // What is assumed may be wrong; nothing else may.
        for item in plan.items.iter().filter(|item| item.basis != Basis::Assumed) {
            if done.get(&item.resource) != Some(&!item.changes.is_empty()) {
                wrong.push(format!("{depth}: {} {:?}", item.resource, item.changes));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let assumed = fast.items.iter().filter(|item| item.basis == Basis::Assumed);
    let more: Vec<_> = assumed.filter(|item| !ASSUMED.contains(&item.resource.as_str())).collect();
    assert!(more.is_empty(), "{more:#?}");
    Ok(())
}

#[test]
fn plans_of_the_hardest_level_agree_with_what_is_done() -> Outcome {
    agree("levels")
}
