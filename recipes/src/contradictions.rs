//! Resources that contradict each other, found before anything runs.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::error::{Problem, Problems};
use crate::resolve::{Resolved, Step};
use crate::resource::Claim;
use crate::source::Location;

/// Two resources that decide the same thing differently would undo each other for ever.
pub(crate) fn find_contradictions(resolved: &Resolved, problems: &mut Problems) {
    let mut claimed: BTreeMap<(usize, Claim), &Step> = BTreeMap::new();
    for (stage, step) in
        resolved.recipes.iter().flat_map(|recipe| recipe.resources.iter().map(|step| (recipe.stage, step)))
    {
        for claim in step.resource.claims() {
            match claimed.entry((stage, claim)) {
                Entry::Vacant(place) => {
                    place.insert(step);
                }
                Entry::Occupied(first) => {
                    let same = format!("{:?}", first.get().resource) == format!("{:?}", step.resource);
                    if !same {
                        let problem =
                            Problem::new(format!("{} is decided twice, differently", first.key().1));
                        let (at, first_at) = places(step, first.get());
                        problems.push(problem.at(at).and_at(first_at, "first here"));
                    }
                }
            }
        }
    }
    for ((stage, claim), step) in &claimed {
        for outer in claim.within() {
            let Some(whole) = claimed.get(&(*stage, outer.clone())) else { continue };
            let (what, help) = match outer {
                Claim::Path(_) => ("the whole file".to_owned(), "put it where the file is decided"),
                Claim::AuthorizedKeys(_) => (outer.to_string(), "put it among the keys there"),
                outer => (format!("all of {outer}"), "put it into the value there"),
            };
            let message = format!("{claim} is set, but {what} is decided elsewhere");
            problems.push(Problem::new(message).at(&step.at).and_at(&whole.at, "here").help(help));
        }
    }
    for ((stage, many), by) in claimed.iter().filter(|((_, claim), _)| claim.is_of_many()) {
        for ((_, one), step) in claimed.iter().filter(|((of, claim), _)| of == stage && many.reaches(claim)) {
            let message = format!("{one} is set, but {many} is decided elsewhere");
            let problem = Problem::new(message).at(&step.at).and_at(&by.at, "here");
            problems.push(problem.help(match many {
                Claim::Purged { .. } => "add it to `keep` there",
                _ => "narrow the pattern, or take one of the two away",
            }));
        }
    }
}

/// Where two resources are decided; if that is the same place in a recipe that is used twice, where it is used.
fn places<'a>(step: &'a Step, first: &'a Step) -> (&'a Location, &'a Location) {
    match (&step.recipe_at, &first.recipe_at) {
        (Some(at), Some(first_at)) if step.at == first.at => (at, first_at),
        _ => (&step.at, &first.at),
    }
}
