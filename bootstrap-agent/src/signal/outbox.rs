//! Messages on the disk: those that wait, and those that arrived.
//!
//! `outbox/` has one file for each recipient who is still to be told, and `told/` what each was told last. A
//! newer message to the same recipient takes the place of an older one: only the latest result counts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;

use super::message::{Message, VERSION};
use crate::lock;

/// The folders of messages.
#[derive(Debug, Clone)]
pub struct Outbox {
    waiting: PathBuf,
    told: PathBuf,
    lock: PathBuf,
}

/// As long as this exists, nobody else sends.
#[derive(Debug)]
pub struct Sender {
    _lock: Flock<fs::File>,
}

impl Outbox {
    /// The outbox below a root.
    pub fn below(root: &Path) -> Self {
        let folder = root.join("var/lib/bootstrap-agent");
        Self {
            waiting: folder.join("outbox"),
            told: folder.join("told"),
            lock: root.join("run/bootstrap-agent/outbox.lock"),
        }
    }

    /// Has a message sent, unless the same was said already.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, message: &Message) -> io::Result<()> {
        if read(&self.told, message.to.key())?.is_some_and(|told| told.is_same(message)) {
            return self.withdraw(message.to.key());
        }
        let waits = read(&self.waiting, message.to.key())?;
        if waits.is_some_and(|waiting| waiting.is_same(message)) {
            return Ok(());
        }
        write(&self.waiting, message)
    }

    /// Puts a message back that was tried and not taken, unless it has been replaced meanwhile.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, message: &Message) -> io::Result<()> {
        match read(&self.waiting, message.to.key())? {
            Some(waiting) if waiting.is_same(message) => write(&self.waiting, message),
            _ => Ok(()),
        }
    }

    /// Remembers that a recipient has a message. One that has replaced it meanwhile goes on waiting.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn delivered(&self, message: &Message) -> io::Result<()> {
        write(&self.told, message)?;
        match read(&self.waiting, message.to.key())? {
            Some(waiting) if waiting.is_same(message) => self.withdraw(message.to.key()),
            _ => Ok(()),
        }
    }

    /// Takes back what a recipient has not been told yet.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn withdraw(&self, key: &str) -> io::Result<()> {
        match fs::remove_file(self.waiting.join(format!("{key}.json"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Forgets what a recipient was told.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn forget(&self, key: &str) -> io::Result<()> {
        match fs::remove_file(self.told.join(format!("{key}.json"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// What waits, in the order of the recipients' keys.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn waiting(&self) -> io::Result<Vec<Message>> {
        all(&self.waiting)
    }

    /// What each recipient was told last.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn told(&self) -> io::Result<Vec<Message>> {
        all(&self.told)
    }

    /// The right to send; none while somebody else has it.
    ///
    /// # Errors
    /// When the lock cannot be made.
    pub fn sender(&self) -> io::Result<Option<Sender>> {
        fs::create_dir_all(self.lock.parent().unwrap_or(Path::new("/")))?;
        Ok(lock::try_lock(&self.lock)?.map(|lock| Sender { _lock: lock }))
    }
}

fn all(folder: &Path) -> io::Result<Vec<Message>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut keys: Vec<String> = entries
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned()))
        .collect();
    keys.sort();
    keys.iter().filter_map(|key| read(folder, key).transpose()).collect()
}

/// A message; none if there is none, or if it is one that nobody can read: a file that a version of this program
/// wrote otherwise, or that somebody damaged, must not keep others from being told.
fn read(folder: &Path, key: &str) -> io::Result<Option<Message>> {
    let bytes = match fs::read(folder.join(format!("{key}.json"))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let message: Option<Message> = serde_json::from_slice(&bytes).ok();
    Ok(message.filter(|message| message.version == VERSION && message.to.key() == key))
}

fn write(folder: &Path, message: &Message) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(message)?;
    crate::status::replace(&folder.join(format!("{}.json", message.to.key())), &text, 0o600)
}

#[cfg(test)]
mod tests {
    use super::super::message::{Outcome, Recipient, of_test};
    use super::*;

    fn failed(step: &str) -> Message {
        of_test(Recipient::InstanceHealth, Outcome::Failed { step: step.into() })
    }

    #[test]
    fn a_message_waits_until_it_was_told_and_is_not_told_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let outbox = Outbox::below(folder.path());
        assert_eq!(outbox.waiting().expect("empty"), []);
        outbox.put(&failed("fetch")).expect("written");
        let tried = Message { tries: 1, last_error: Some("no".into()), ..failed("fetch") };
        outbox.keep(&tried).expect("written");
        outbox.put(&failed("fetch")).expect("there already");
        assert_eq!(outbox.waiting().expect("readable"), std::slice::from_ref(&tried), "its tries count on");
        outbox.delivered(&tried).expect("written");
        assert_eq!(outbox.waiting().expect("readable"), []);
        outbox.put(&failed("fetch")).expect("told already");
        assert_eq!(outbox.waiting().expect("readable"), []);
        let later = Message { boot_id: "boot-2".into(), ..failed("fetch") };
        outbox.put(&later).expect("another boot");
        assert_eq!(outbox.waiting().expect("readable"), [later]);
        assert_eq!(outbox.told().expect("readable"), [tried]);
    }

    #[test]
    fn a_newer_result_takes_the_place_of_one_that_waits_or_is_being_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let outbox = Outbox::below(folder.path());
        outbox.put(&failed("fetch")).expect("written");
        outbox.put(&failed("health")).expect("written");
        assert_eq!(outbox.waiting().expect("readable"), [failed("health")]);
        // The older one was under way.
        outbox.keep(&failed("fetch")).expect("passed over");
        outbox.delivered(&failed("fetch")).expect("written");
        assert_eq!(outbox.waiting().expect("readable"), [failed("health")]);
        outbox.withdraw("instance_health").expect("removed");
        outbox.withdraw("instance_health").expect("not there");
        assert_eq!(outbox.waiting().expect("readable"), []);
    }

    #[test]
    fn a_damaged_file_keeps_nobody_from_being_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let outbox = Outbox::below(folder.path());
        outbox.put(&failed("fetch")).expect("written");
        for (name, text) in [("tag", "{"), ("auto_scaling", r#"{"version":2}"#), ("power_off", "")] {
            fs::write(folder.path().join(format!("var/lib/bootstrap-agent/outbox/{name}.json")), text)
                .expect("written");
        }
        assert_eq!(outbox.waiting().expect("readable"), [failed("fetch")]);
        let tag = of_test(Recipient::Tag { key: "k".into() }, Outcome::Up);
        outbox.put(&tag).expect("replaced");
        assert_eq!(outbox.waiting().expect("readable").len(), 2);
    }
}
