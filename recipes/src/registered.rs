//! What commands print, for the resources behind them.
//!
//! A registered command only looks, so what it prints is a fact: it is asked for whenever a plan needs it, and
//! is unknown as long as something that comes before it has yet to change.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use regex::Regex;
use serde_json::{Value as Json, json};

use crate::error::{Problem, did_you_mean};
use crate::node::{Key, Node, Value};
use crate::op::Op;
use crate::recipe::Recipe;
use crate::resolve::build;
use crate::resource::{Claim, Kind, Resource};
use crate::source::Location;
use crate::system::{Facts, Known, PlanError, Why};
use crate::template::{MASK, Scope, blocks};

/// The name that templates know the results by.
const NAME: &str = "registered";

/// What stands for a result in what is shown and checked before it is known.
pub(crate) const LATER: &str = "(known after apply)";

/// A resource that cannot be made yet.
pub(crate) struct Unbuilt {
    pub(crate) kind: &'static Kind,
    pub(crate) fields: Node,
    pub(crate) recipe: Arc<Recipe>,
    pub(crate) scope: Arc<Scope>,
    pub(crate) at: Location,
}

impl Unbuilt {
    fn build(&self, results: Json, masked: Json) -> Result<Box<dyn Resource>, Problem> {
        let scope = Scope::clone(&self.scope).with_masked(NAME, results, masked);
        build(self.kind, &self.fields, &self.recipe, &scope, &self.at)
    }

    /// With something in the place of each result.
    fn foresee(&self, asks: &[Arc<Query>]) -> Result<Box<dyn Resource>, Problem> {
        let all = |shown: fn(&Query) -> &'static str| {
            asks.iter().map(|query| (query.name.clone(), result(shown(query)))).collect::<Json>()
        };
        self.build(all(|_| LATER), all(|query| if query.is_sensitive { MASK } else { LATER }))
    }

    /// With what the commands print now.
    fn build_now(&self, asks: &[Arc<Query>], facts: &dyn Facts) -> Result<Box<dyn Resource>, PlanError> {
        let mut results = BTreeMap::new();
        let mut masked = BTreeMap::new();
        for query in asks {
            let Output { text, secret } = query.output(facts)?.known()?;
            let shown = if secret { MASK } else { text.as_str() };
            masked.insert(query.name.as_str(), result(shown));
            results.insert(query.name.as_str(), result(&text));
        }
        self.build(json!(results), json!(masked))
            .map_err(|problem| PlanError::Impossible { message: problem.located(), help: None })
    }
}

/// What a template sees of what a command printed.
fn result(text: &str) -> Json {
    let text = text.trim_end_matches('\n');
    json!({ "stdout": text, "stdout_lines": text.lines().collect::<Vec<_>>() })
}

/// What a command printed.
struct Output {
    text: String,
    secret: bool,
}

/// A command that only looks.
pub(crate) struct Query {
    name: String,
    command: Unbuilt,
    asks: Vec<Arc<Query>>,
    is_sensitive: bool,
}

impl Query {
    /// What it prints now.
    fn output(&self, facts: &dyn Facts) -> Result<Known<Output>, PlanError> {
        let resource = match self.command.build_now(&self.asks, facts) {
            Err(PlanError::Unknown(why)) => return Ok(Known::Unknown(why)),
            other => other?,
        };
        let Some(command) = resource.command() else { return Ok(Known::Unknown(Why(LATER.into()))) };
        Ok(facts.output(command)?.map(|text| Output { text, secret: command.sensitive }))
    }
}

/// The registered commands of a recipe.
#[derive(Default)]
pub(crate) struct Queries {
    /// The names of all of them.
    names: Vec<String>,
    /// Those that come before what is being resolved.
    before: BTreeMap<String, Arc<Query>>,
    /// What the template files ask for.
    templates: Vec<String>,
}

impl Queries {
    /// Those of a recipe, before its first resource.
    pub(crate) fn of(recipe: &Recipe) -> Self {
        let names = recipe.resources.iter().filter_map(|declaration| declaration.register.as_ref());
        let names: Vec<String> = names.map(|key| key.name.clone()).collect();
        let templates = if names.is_empty() {
            Vec::new()
        } else {
            recipe.templates().texts().flat_map(asked_in).collect()
        };
        Self { names, before: BTreeMap::new(), templates }
    }

    /// The commands whose results the fields of a resource ask for, themselves or through a template.
    pub(crate) fn asked_by(&self, kind: &Kind, fields: &Node) -> Result<Vec<Arc<Query>>, Problem> {
        let mut asks = BTreeMap::new();
        let by_fields = texts(fields).into_iter().flat_map(|node| {
            let Value::String(text) = &node.value else { return Vec::new() };
            asked_in(text).into_iter().map(|name| (name, &node.at)).collect()
        });
        let is_template = ["template", "script"].contains(&kind.name);
        let of_template = if is_template { self.templates.as_slice() } else { &[] };
        for (name, at) in by_fields.chain(of_template.iter().map(|name| (name.clone(), &fields.at))) {
            match self.before.get(&name) {
                Some(query) => asks.insert(name, Arc::clone(query)),
                None => return Err(self.unknown(&name).at(at)),
            };
        }
        Ok(asks.into_values().collect())
    }

    fn unknown(&self, name: &str) -> Problem {
        if self.names.iter().any(|other| other == name) {
            return Problem::new(format!("`{NAME}.{name}` is not known here"))
                .help("what asks for it comes after its command, under the same `when`");
        }
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        Problem::new(format!("`{NAME}.{name}` is not defined")).help(did_you_mean(name, &names))
    }

    /// Makes the result of a command known by a name to what comes after it.
    pub(crate) fn register(
        &mut self,
        key: &Key,
        command: Unbuilt,
        asks: Vec<Arc<Query>>,
    ) -> Result<Asked, Problem> {
        let foreseen = command.foresee(&asks)?;
        let Some(is_sensitive) = foreseen.command().map(|command| command.sensitive) else {
            let message = format!("a `{}` prints nothing that could be registered", command.kind.name);
            return Err(Problem::new(message)
                .at(&key.at)
                .help("`register` goes with `command` and `script`"));
        };
        if !foreseen.runs_every_time() {
            return Err(Problem::new("a registered command has no `creates`, `unless` or `onlyif`")
                .at(&key.at)
                .help("it is run whenever its result is needed, so it only looks; what it would make is for a command before it"));
        }
        if self.before.contains_key(&key.name) {
            return Err(Problem::new(format!("`{}` is registered twice", key.name)).at(&key.at));
        }
        let query = Arc::new(Query { name: key.name.clone(), command, asks, is_sensitive });
        self.before.insert(key.name.clone(), Arc::clone(&query));
        Ok(Asked { query, subject: foreseen.subject() })
    }
}

/// A registered command in its place: it changes nothing, and says so if it fails.
pub(crate) struct Asked {
    query: Arc<Query>,
    subject: String,
}

impl fmt::Debug for Asked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Asked").field(&self.query.name).finish()
    }
}

impl Resource for Asked {
    fn subject(&self) -> String {
        self.subject.clone()
    }

    fn claims(&self) -> Vec<Claim> {
        Vec::new()
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        self.query.output(facts)?;
        Ok(Vec::new())
    }
}

/// A resource that is made when the results it asks for are known.
pub(crate) struct Deferred {
    resource: Unbuilt,
    asks: Vec<Arc<Query>>,
    /// The resource with something in the place of each result, if one can be made that way.
    foreseen: Option<Box<dyn Resource>>,
}

impl Deferred {
    /// # Errors
    /// When the resource is wrong in a field that does not depend on a result.
    pub(crate) fn new(resource: Unbuilt, asks: Vec<Arc<Query>>) -> Result<Self, Problem> {
        let foreseen = match resource.foresee(&asks) {
            Ok(foreseen) => Some(foreseen),
            // What stands in the place of a result need not be valid there.
            Err(problem) if depends_on_result(&problem, &resource) => None,
            Err(problem) => return Err(problem),
        };
        Ok(Self { resource, asks, foreseen })
    }
}

/// Whether a problem is one of what stands in the place of a result: it is in a text that asks for one, or is
/// about that very text.
fn depends_on_result(problem: &Problem, resource: &Unbuilt) -> bool {
    let asks = |node: &Node| matches!(&node.value, Value::String(text) if !asked_in(text).is_empty());
    problem.message().contains(LATER)
        || texts(&resource.fields).into_iter().any(|node| problem.location() == Some(&node.at) && asks(node))
}

impl fmt::Debug for Deferred {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Deferred").field(&self.foreseen).finish()
    }
}

impl Resource for Deferred {
    fn subject(&self) -> String {
        self.foreseen.as_ref().map_or_else(|| LATER.into(), |resource| resource.subject())
    }

    fn claims(&self) -> Vec<Claim> {
        self.foreseen.as_ref().map_or_else(Vec::new, |resource| resource.claims())
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        self.resource.build_now(&self.asks, facts)?.plan(facts)
    }

    fn foreseen(&self) -> Option<&dyn Resource> {
        self.foreseen.as_deref()
    }

    fn is_reaction(&self) -> bool {
        self.foreseen.as_ref().is_some_and(|resource| resource.is_reaction())
    }

    fn runs_every_time(&self) -> bool {
        self.foreseen.as_ref().is_some_and(|resource| resource.runs_every_time())
    }
}

/// Refuses results where everything is decided before anything runs. `expressions` says whether the text is an
/// expression without braces.
pub(crate) fn refuse(node: &Node, of: &str, expressions: bool) -> Result<(), Problem> {
    let asks = |node: &&Node| match &node.value {
        Value::String(text) if expressions => !asked(text).is_empty(),
        Value::String(text) => !asked_in(text).is_empty(),
        _ => false,
    };
    match texts(node).into_iter().find(asks) {
        None => Ok(()),
        Some(node) => {
            let problem = Problem::new(format!("`{NAME}` may not be used in {of}")).at(&node.at);
            Err(problem.help("that is decided before anything runs, from inputs and facts"))
        }
    }
}

/// Every scalar in a tree.
fn texts(node: &Node) -> Vec<&Node> {
    match &node.value {
        Value::List(elements) => elements.iter().flat_map(texts).collect(),
        Value::Map(entries) => entries.iter().flat_map(|(_, value)| texts(value)).collect(),
        _ => vec![node],
    }
}

/// The names of the results that a text asks for where Tera reads it.
fn asked_in(text: &str) -> Vec<String> {
    // Few texts ask for any, and every text of a recipe comes by here.
    if !text.contains(NAME) {
        return Vec::new();
    }
    blocks(text).flat_map(|(_, block)| asked(block)).collect()
}

/// The names of the results that an expression asks for.
fn asked(expression: &str) -> Vec<String> {
    static RESULT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#""[^"]*"|'[^']*'|`[^`]*`|[\w.]*\bregistered\b(?:\.(\w+))?"#).expect("a valid pattern")
    });
    let found = RESULT.captures_iter(expression).filter(|captures| captures[0].starts_with(NAME));
    found.map(|captures| captures.get(1).map_or_else(String::new, |name| name.as_str().to_owned())).collect()
}
