//! The order of resources: as they are written, but after what they say they come after.

/// Puts items into an order in which each comes after the ones it names, and otherwise as given.
/// `after[i]` lists the items that item `i` comes after.
///
/// # Errors
/// Gives back an item that comes, in the end, after itself.
pub(crate) fn order(after: &[Vec<usize>]) -> Result<Vec<usize>, usize> {
    let mut ordered = Vec::with_capacity(after.len());
    let mut done = vec![false; after.len()];
    while ordered.len() < after.len() {
        let ready =
            (0..after.len()).find(|&item| !done[item] && after[item].iter().all(|&before| done[before]));
        let Some(item) = ready else {
            return Err((0..after.len()).find(|&item| !done[item]).unwrap_or(0));
        };
        done[item] = true;
        ordered.push(item);
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_order_stands_unless_something_comes_after() {
        assert_eq!(order(&[vec![], vec![], vec![]]), Ok(vec![0, 1, 2]));
        assert_eq!(order(&[vec![2], vec![], vec![]]), Ok(vec![1, 2, 0]));
        assert_eq!(order(&[vec![1], vec![0]]), Err(0));
    }
}
