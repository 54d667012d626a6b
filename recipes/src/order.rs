//! The order of resources: as they are written, but after what they say they come after.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Puts items into an order in which each comes after the ones it names, and otherwise as given.
/// `after[i]` lists the items that item `i` comes after.
///
/// # Errors
/// Gives back an item that comes, in the end, after itself.
pub(crate) fn order(after: &[Vec<usize>]) -> Result<Vec<usize>, usize> {
    let mut waits_for: Vec<usize> = after.iter().map(Vec::len).collect();
    let mut before = vec![Vec::new(); after.len()];
    for (item, others) in after.iter().enumerate() {
        others.iter().for_each(|&other| before[other].push(item));
    }
    // Of those that wait for nothing, the first as given is next.
    let is_ready = |item: &usize| waits_for[*item] == 0;
    let mut ready: BinaryHeap<Reverse<usize>> = (0..after.len()).filter(is_ready).map(Reverse).collect();
    let mut ordered = Vec::with_capacity(after.len());
    while let Some(Reverse(item)) = ready.pop() {
        ordered.push(item);
        for &next in &before[item] {
            waits_for[next] -= 1;
            if waits_for[next] == 0 {
                ready.push(Reverse(next));
            }
        }
    }
    match (0..after.len()).find(|&item| waits_for[item] > 0) {
        None => Ok(ordered),
        Some(stuck) => Err(of_cycle(after, &waits_for, stuck)),
    }
}

/// The first item of the circle that an item waits for.
fn of_cycle(after: &[Vec<usize>], waits_for: &[usize], stuck: usize) -> usize {
    let one_that_waits =
        |item: usize| after[item].iter().copied().find(|&other| waits_for[other] > 0).unwrap_or(item);
    // After as many steps as there are items one is in the circle.
    let within = (0..after.len()).fold(stuck, |item, _| one_that_waits(item));
    let mut circle = vec![within];
    while let Some(next) = circle.last().map(|&last| one_that_waits(last)).filter(|&next| next != within) {
        circle.push(next);
    }
    circle.into_iter().min().unwrap_or(stuck)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_order_stands_unless_something_comes_after() {
        assert_eq!(order(&[vec![], vec![], vec![]]), Ok(vec![0, 1, 2]));
        assert_eq!(order(&[vec![2], vec![], vec![]]), Ok(vec![1, 2, 0]));
        assert_eq!(order(&[vec![1], vec![0]]), Err(0));
        assert_eq!(order(&[vec![0]]), Err(0));
        assert_eq!(order(&[vec![], vec![2], vec![3, 0], vec![2]]), Err(2), "1 only waits for the circle");
        assert_eq!(order(&[vec![3, 3], vec![0], vec![], vec![2]]), Ok(vec![2, 3, 0, 1]));
    }

    #[test]
    fn ten_thousand_items_that_each_come_after_the_next_are_put_in_order() {
        let count = 10_000;
        let after: Vec<Vec<usize>> = (0..count).map(|item| (item + 1..count).take(1).collect()).collect();
        assert_eq!(order(&after), Ok((0..count).rev().collect()));
    }
}
