//! Tells a lifecycle hook that the host still works, for as long as it does.
//!
//! The engine blocks the thread that runs the boot, so this is done in one of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::message::Recipient;
use super::query::Query;
use super::recipients::Way;
use crate::source::aws::Account;
use crate::source::instance::Metadata;

/// How soon one that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Heartbeats, until this is dropped.
#[derive(Debug)]
pub struct Heartbeats(Arc<Notify>);

impl Heartbeats {
    /// Starts them if a recipient wants any. The first is due after an interval, so a short boot sends none.
    pub fn start(
        recipients: &[Recipient],
        account: Account,
        metadata: Arc<Metadata>,
        instance_id: String,
        proxies: BTreeMap<String, String>,
    ) -> Option<Self> {
        let (hook, group, interval) = recipients.iter().find_map(|recipient| match recipient {
            Recipient::AutoScaling { hook, group, heartbeat } => {
                Some((hook.clone(), group.clone(), Duration::from_secs(*heartbeat)))
            }
            _ => None,
        })?;
        let end = Arc::new(Notify::new());
        let beats = Self(Arc::clone(&end));
        thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                return;
            };
            runtime.block_on(async {
                let query = Query::new(account, proxies);
                let way = Way { query: &query, metadata: &metadata, instance_id: &instance_id };
                let beat = async {
                    let mut wait = interval;
                    loop {
                        sleep(wait).await;
                        // One that fails changes nothing here: the next may succeed, and the hook has its own time.
                        let beat = way.heartbeat(&hook, group.as_deref()).await;
                        wait = if beat.is_ok() { interval } else { AGAIN.min(interval) };
                    }
                };
                tokio::select! {
                    () = beat => {}
                    () = end.notified() => {}
                }
            });
        });
        Some(beats)
    }
}

impl Drop for Heartbeats {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::post::tests::{Service, account};

    #[tokio::test]
    async fn they_go_on_until_the_run_ends_and_only_where_a_hook_waits() {
        let service = Service::new(vec![(500, String::new())]).await;
        let account = account(&service.url);
        let metadata = Arc::new(Metadata::new(Some(&service.url), Duration::from_secs(1)));
        let start = |recipients: &[Recipient]| {
            Heartbeats::start(
                recipients,
                account.clone(),
                Arc::clone(&metadata),
                "i-1".into(),
                BTreeMap::new(),
            )
        };
        assert!(start(&[Recipient::InstanceHealth]).is_none());
        let hook = Recipient::AutoScaling { hook: "launch".into(), group: Some("web".into()), heartbeat: 1 };
        let beats = start(&[hook]).expect("a hook waits");
        while service.asked().len() < 2 {
            sleep(Duration::from_millis(20)).await;
        }
        drop(beats);
        sleep(Duration::from_millis(50)).await;
        let count = service.asked().len();
        sleep(Duration::from_millis(1200)).await;
        assert_eq!(service.asked().len(), count, "none after the end");
        assert!(service.asked()[0].body.starts_with("Action=RecordLifecycleActionHeartbeat&"));
    }
}
