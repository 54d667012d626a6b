//! Advice for a name that is not among very many: the nearest ones, not all of them.

/// "did you mean ...?" with the three names that are nearest to one; none if none is near. Only the last
/// parts of paths may be alike, and capitals do not count.
pub(super) fn near<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let last = |name: &str| name.rsplit('/').next().unwrap_or(name).to_lowercase();
    let distance = |other: &str| {
        if other.strip_prefix(name).is_some_and(|rest| rest.starts_with('/')) {
            return 1;
        }
        let whole = strsim::damerau_levenshtein(&name.to_lowercase(), &other.to_lowercase());
        whole.min(strsim::damerau_levenshtein(&last(name), &last(other)))
    };
    let mut nearest: Vec<(usize, &str)> = names
        .into_iter()
        .map(|other| (distance(other), other))
        .filter(|(distance, _)| *distance <= (name.len() / 3).max(1))
        .collect();
    nearest.sort_unstable();
    nearest.dedup();
    let nearest: Vec<String> = nearest.into_iter().take(3).map(|(_, name)| format!("`{name}`")).collect();
    (!nearest.is_empty()).then(|| format!("did you mean {}?", nearest.join(" or ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_are_named_and_no_others() {
        let names = ["Europe/Berlin", "Europe/Bern", "Etc/UTC", "UTC", "America/Argentina/Salta"];
        insta::assert_snapshot!(near("Europe/Berlim", names).unwrap_or_default(), @"did you mean `Europe/Berlin` or `Europe/Bern`?");
        insta::assert_snapshot!(near("utc", names).unwrap_or_default(), @"did you mean `Etc/UTC` or `UTC`?");
        insta::assert_snapshot!(near("America/Argentina", names).unwrap_or_default(), @"did you mean `America/Argentina/Salta`?");
        assert_eq!(near("Atlantis", names), None);
        assert_eq!(near("x", []), None);
    }
}
