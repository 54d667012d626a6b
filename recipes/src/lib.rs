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

pub mod bundle;
pub mod change;
pub mod check;
pub mod duration;
pub mod error;
pub mod event;
pub mod from_node;
pub mod input;
pub mod load;
pub mod node;
pub mod op;
mod order;
pub mod plan;
pub mod recipe;
pub mod resolve;
pub mod resource;
pub mod run;
pub mod source;
pub mod system;
pub mod template;
pub mod words;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod testing;
