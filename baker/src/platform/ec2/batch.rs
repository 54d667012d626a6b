//! One call for all who ask the same question about different things at the same moment.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::OnceCell;

use super::call::CallError;

/// How long the first who asks waits for others. Waits look at the same moments ([`super::wait`]), so they are there.
const GATHER: Duration = Duration::from_millis(10);

/// A question that is about to be asked, or was.
#[derive(Debug)]
struct Question<T> {
    ids: RefCell<BTreeSet<String>>,
    answer: OnceCell<Result<BTreeMap<String, T>, CallError>>,
}

/// Questions of one kind to one region.
#[derive(Debug)]
pub(super) struct Batch<T>(RefCell<Option<Rc<Question<T>>>>);

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<T: Clone> Batch<T> {
    /// What there is with this id; nothing if it is not seen. `ask` is called with all ids that are asked for, once for
    /// all who ask. Whoever goes away does not keep the others from their answer.
    pub(super) async fn get(
        &self,
        id: &str,
        ask: impl AsyncFn(Vec<String>) -> Result<BTreeMap<String, T>, CallError>,
    ) -> Result<Option<T>, CallError> {
        let question =
            Rc::clone(self.0.borrow_mut().get_or_insert_with(|| {
                Rc::new(Question { ids: RefCell::default(), answer: OnceCell::new() })
            }));
        question.ids.borrow_mut().insert(id.to_owned());
        let answer = question.answer.get_or_init(|| async {
            tokio::time::sleep(GATHER).await;
            // Whoever comes from here on asks anew.
            self.0.borrow_mut().take_if(|next| Rc::ptr_eq(next, &question));
            let ids = question.ids.borrow().iter().cloned().collect();
            ask(ids).await
        });
        answer.await.as_ref().map(|found| found.get(id).cloned()).map_err(CallError::clone)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Answers with the length of each id, but for what is called `none`.
    async fn lengths(calls: &Cell<u32>, ids: Vec<String>) -> Result<BTreeMap<String, usize>, CallError> {
        calls.set(calls.get() + 1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(ids.into_iter().filter(|id| id != "none").map(|id| (id.clone(), id.len())).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_at_one_moment_shares_a_call_and_who_goes_away_spoils_it_for_nobody() {
        let (batch, calls) = (Batch::<usize>::default(), Cell::new(0));
        let get = |id: &'static str| batch.get(id, async |ids| lengths(&calls, ids).await);
        let seen = tokio::join!(get("a"), get("bcd"), get("none"), get("a"));
        assert_eq!(seen, (Ok(Some(1)), Ok(Some(3)), Ok(None), Ok(Some(1))));
        assert_eq!(calls.get(), 1);
        let impatient = async { tokio::time::timeout(Duration::from_millis(500), get("a")).await.is_err() };
        let (gave_up, seen) = tokio::join!(impatient, get("ab"));
        assert_eq!((gave_up, seen), (true, Ok(Some(2))));
        assert_eq!(calls.get(), 3, "who was left asked again");
        assert_eq!(get("abcd").await, Ok(Some(4)));
        assert_eq!(calls.get(), 4, "an answer is not kept");
    }
}
