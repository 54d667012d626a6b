//! What `sudo`, `cron`, `limits` and the like have in common: a file of their own, with a text made of
//! fields, in a folder whose files another program reads together, such as `/etc/cron.d`.

use std::path::{Path, PathBuf};

use super::contents::{Contents, group_exists, missing_parents, plan_no_file, user_exists};
use super::fields::State;
use super::{Claim, Resource};
use crate::error::Problem;
use crate::op::{Content, Op};
use crate::system::{Attributes, Facts, PlanError};

/// One file of such a folder.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    /// What is in it; nothing if there shall be no file.
    pub(super) text: Option<String>,
    pub(super) mode: u32,
    /// A command that must accept the new file.
    pub(super) validate: Option<Vec<String>>,
    pub(super) folder: Folder,
    /// Accounts that its program passes the file over without.
    pub(super) users: Vec<String>,
    /// Groups that its program passes the file over without.
    pub(super) groups: Vec<String>,
    /// What it decides besides its file.
    pub(super) decides: Vec<Claim>,
}

/// Where the folder comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Folder {
    /// It is made where it is missing: its program reads it if it is there.
    Made,
    /// It comes with a package. Where it is missing nothing would read the file.
    Of(&'static str),
}

impl Part {
    /// A file of root's that everybody may read.
    pub(super) fn new(folder: &str, file_name: &str) -> Self {
        Self {
            path: Path::new(folder).join(file_name),
            text: None,
            mode: 0o644,
            validate: None,
            folder: Folder::Made,
            users: Vec::new(),
            groups: Vec::new(),
            decides: Vec::new(),
        }
    }

    /// The file with this text, or none. What decides the text may not be given for a file that shall be
    /// absent: whoever wrote it meant something else.
    pub(super) fn with(mut self, state: State, text: Option<String>) -> Result<Self, Problem> {
        self.text = match (state, text) {
            (State::Present, text) => text,
            (State::Absent, None) => None,
            (State::Absent, Some(_)) => {
                return Err(Problem::new("what shall be absent has only its `name` and `state: absent`"));
            }
        };
        Ok(self)
    }

    fn plan_folder(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        match (facts.entry(folder)?.known()?, self.folder) {
            (Some(_), _) => Ok(Vec::new()),
            (None, Folder::Of(package)) => Err(PlanError::impossible_but(
                format!("the directory `{}` does not exist", folder.display()),
                format!("put a `package: {{ name: {package} }}` before it"),
            )),
            (None, Folder::Made) => {
                let attributes = Attributes { owner: "root".into(), group: "root".into(), mode: 0o755 };
                let missing = missing_parents(facts, &self.path)?;
                Ok(missing
                    .into_iter()
                    .map(|path| Op::CreateDirectory { path, attributes: attributes.clone() })
                    .collect())
            }
        }
    }
}

impl Resource for Part {
    fn subject(&self) -> String {
        self.path.display().to_string()
    }

    fn claims(&self) -> Vec<Claim> {
        [Claim::Path(self.path.clone())].into_iter().chain(self.decides.clone()).collect()
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let Some(text) = &self.text else { return plan_no_file(facts, &self.path) };
        self.users.iter().try_for_each(|name| user_exists(facts, name))?;
        self.groups.iter().try_for_each(|name| group_exists(facts, name))?;
        let contents = Contents {
            path: self.path.clone(),
            content: Content::new(text.as_str()),
            attributes: Attributes { owner: "root".into(), group: "root".into(), mode: self.mode },
            validate: self.validate.clone(),
        };
        let mut ops = self.plan_folder(facts)?;
        if ops.is_empty() {
            return contents.plan(facts);
        }
        ops.push(contents.create());
        Ok(ops)
    }
}
