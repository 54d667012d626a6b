//! The engine: recipes in, a plan out, and the plan performed and proven.
//!
//! ```text
//! recipe.yaml ──load──▶ Recipe ──resolve(inputs, facts)──▶ Resolved ──plan(Facts)──▶ Plan
//!                                                              └──converge(Machine)──▶ Summary, Events
//! ```
//!
//! A [`resource`] reads [`system::Facts`] and returns [`op::Op`]s; one place performs them
//! ([`system::Machine`]). So a dry run has no second code path. The engine has no network, prints
//! nothing, and reads neither the environment nor the clock.
//!
//! Used by itself, on a folder that looks like a small host:
//!
//! ```
//! use recipes::bundle::with_facts;
//! use recipes::plan::{Guards, plan};
//! use recipes::recipe::Recipe;
//! use recipes::resolve::{RecipeUse, resolve};
//! use recipes::run::{Files, converge};
//! use recipes::system::linux::Linux;
//! use recipes::system::{Facts, Mode};
//! use recipes::template::Scope;
//! use serde_json::Map;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (root, folder) = (tempfile::tempdir()?, tempfile::tempdir()?);
//! # for path in ["etc", "run", "usr/lib", "var/lib"] { std::fs::create_dir_all(root.path().join(path))?; }
//! # std::fs::write(root.path().join("usr/lib/os-release"), "ID=debian\n")?;
//! # let me = std::process::id().to_string();
//! # let me = std::fs::read_to_string(format!("/proc/{me}/status"))?;
//! # let id = |name: &str| me.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next().map(str::to_owned)).unwrap_or_default();
//! # let (owner, group) = (id("Uid:"), id("Gid:"));
//! # std::fs::create_dir(folder.path().join("greeting"))?;
//! # std::fs::write(folder.path().join("greeting/recipe.yaml"), format!("resources:\n  - file: {{ path: /etc/motd, content: \"hello\\n\", owner: \"{owner}\", group: \"{group}\" }}\n"))?;
//! // recipes/greeting/recipe.yaml: resources: [ { file: { path: /etc/motd, content: "hello\n" } } ]
//! let recipe = Recipe::load(&folder.path().join("greeting"), "greeting").map_err(|problems| problems.to_string())?;
//! let uses = [RecipeUse { recipe, inputs: Map::new(), stage: 0, at: None }];
//!
//! let mut machine = Linux::open(root.path(), Mode::Live)?;
//! let scope = with_facts(&Scope::new(Map::new()), machine.host());
//! let resolved = resolve(&uses, &scope).map_err(|problems| problems.to_string())?;
//!
//! let before = plan(&resolved, &machine, Guards::Skip)?;
//! assert!(before.to_string().contains("create /etc/motd"));
//!
//! let summary = converge(&resolved, &mut machine, Files::InTurn, &mut |event| drop(event))?;
//! assert_eq!(summary.changed, 1);
//! assert_eq!(std::fs::read_to_string(root.path().join("etc/motd"))?, "hello\n");
//! assert!(plan(&resolved, &machine, Guards::Skip)?.is_empty());
//! # Ok(())
//! # }
//! ```

pub mod ahead;
pub mod archive;
pub mod bundle;
pub mod change;
pub mod check;
mod contradictions;
pub mod declaration;
pub mod difference;
pub mod drift;
pub mod duration;
pub mod error;
pub mod event;
mod foreseen;
pub mod from_node;
pub mod input;
mod installations;
pub mod load;
pub mod loader;
pub mod node;
pub mod op;
mod order;
pub mod plan;
pub mod recipe;
mod registered;
pub mod resolve;
pub mod resource;
pub mod run;

pub mod source;
pub mod system;
pub mod template;
pub mod url;
pub mod words;

#[cfg(test)]
mod generated;
#[cfg(any(test, fuzzing))]
pub mod hostile;
#[cfg(test)]
mod language;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod testing;
