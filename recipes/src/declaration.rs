//! What a recipe lists, as it is written: resources and other recipes, with what all of them may have.

use crate::error::{Problem, Problems, did_you_mean};
use crate::node::{Key, Node, Value};
use crate::resource::{KINDS, Kind};
use crate::source::Location;

/// One element of `resources`, with its strings not rendered yet.
#[derive(Debug)]
pub(crate) struct Declaration {
    pub(crate) what: What,
    pub(crate) name: Option<Node>,
    pub(crate) when: Option<Node>,
    pub(crate) for_each: Option<Node>,
    pub(crate) notify: Vec<Node>,
    pub(crate) after: Vec<Node>,
    pub(crate) tags: Vec<String>,
    pub(crate) register: Option<Key>,
    pub(crate) at: Location,
}

/// What is listed.
#[derive(Debug)]
pub(crate) enum What {
    /// A resource, with the value under its kind.
    Resource { kind: &'static Kind, fields: Node },
    /// Another recipe.
    Include(Wanted),
}

/// A recipe that is wanted, with what it is told: `name`, or `name: { input: value }`.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The recipe's name.
    pub name: String,
    /// Where it is named.
    pub at: Location,
    /// What it is told.
    pub inputs: Vec<(Key, Node)>,
}

/// The keys that every resource may have beside its kind.
const COMMON: [&str; 7] = ["name", "when", "for_each", "notify", "after", "tags", "register"];

/// The key of a recipe that is included.
const INCLUDE: &str = "include";

impl Wanted {
    /// Reads one element of a list of recipes, or what is under `include`.
    ///
    /// # Errors
    /// When it is neither a name nor a name with inputs.
    pub fn read(node: &Node) -> Result<Self, Problem> {
        match &node.value {
            Value::String(name) | Value::Rendered(name) => {
                Ok(Self { name: name.clone(), at: node.at.clone(), inputs: Vec::new() })
            }
            Value::Map(entries) => match entries.as_slice() {
                [(key, inputs)] => Ok(Self {
                    name: key.name.clone(),
                    at: key.at.clone(),
                    inputs: match &inputs.value {
                        Value::Null => Vec::new(),
                        _ => inputs.as_map("a mapping of inputs")?.to_vec(),
                    },
                }),
                _ => Err(Problem::new("one element is one recipe, `name: { input: value }`")
                    .at(&node.at)
                    .help("start another with `-`")),
            },
            _ => Err(node.mismatch("the name of a recipe, or `name: { input: value }`")),
        }
    }
}

impl Declaration {
    /// Reads a list of resources.
    pub(crate) fn list(node: &Node) -> Result<Vec<Self>, Problems> {
        let mut problems = Problems::new();
        let elements = node.as_list("a list of resources")?;
        let declared = elements.iter().filter_map(|element| problems.keep(Self::read(element))).collect();
        problems.unless_any(declared)
    }

    /// Reads the resources that are done when the recipe fails.
    pub(crate) fn on_error(node: &Node) -> Result<Vec<Self>, Problems> {
        let mut problems = Problems::new();
        let declared = Self::list(node)?;
        for declaration in &declared {
            declaration.has_none_of(
                "what is done on an error",
                &["notify", "register", INCLUDE],
                "it is done in the order in which it is written, and the run then ends",
                &mut problems,
            );
            if let What::Resource { kind, .. } = &declaration.what
                && kind.name == "reboot"
            {
                let problem = Problem::new("a host is not booted anew on an error").at(&declaration.at);
                problems.push(problem.help("the run would begin again, and fail again"));
            }
        }
        problems.unless_any(declared)
    }

    /// Reads a mapping of handlers.
    pub(crate) fn handlers(node: &Node) -> Result<Vec<(Key, Self)>, Problems> {
        let mut problems = Problems::new();
        let mut handlers = Vec::new();
        for (key, node) in node.as_map("a mapping of handlers")? {
            let Some(handler) = problems.keep(Self::read(node)) else { continue };
            handler.has_none_of(
                "a handler",
                &["for_each", "notify", "after", "name", "tags", "register", INCLUDE],
                "handlers run once, in the order in which they are written",
                &mut problems,
            );
            handlers.push((key.clone(), handler));
        }
        problems.unless_any(handlers)
    }

    fn has_none_of(&self, what: &str, fields: &[&str], help: &str, problems: &mut Problems) {
        for field in fields {
            let given = match *field {
                "name" => self.name.is_some(),
                "for_each" => self.for_each.is_some(),
                "notify" => !self.notify.is_empty(),
                "after" => !self.after.is_empty(),
                "tags" => !self.tags.is_empty(),
                "register" => self.register.is_some(),
                _ => matches!(self.what, What::Include(_)),
            };
            if given {
                problems.push(Problem::new(format!("{what} has no `{field}`")).at(&self.at).help(help));
            }
        }
    }

    fn read(node: &Node) -> Result<Self, Problem> {
        let entries = node.as_map("a resource, such as `file: { path: /etc/motd, content: hi }`")?;
        let is_kind = |name: &str| name == INCLUDE || Kind::named(name).is_some();
        let mut of_kind = entries.iter().filter(|(key, _)| is_kind(&key.name));
        let found = of_kind.next();
        if let (Some((first, _)), Some((second, _))) = (found, of_kind.next()) {
            let message = format!("a resource has one kind; this has `{}` and `{}`", first.name, second.name);
            return Err(Problem::new(message).at(&second.at).help("start another resource with `-`"));
        }
        let unknown = entries
            .iter()
            .map(|(key, _)| key)
            .find(|key| !is_kind(&key.name) && !COMMON.contains(&key.name.as_str()));
        if let Some(key) = unknown {
            // With a kind present it is a misspelt common key, without one it is a misspelt kind.
            let (message, valid): (_, Vec<&str>) = if found.is_some() {
                (format!("unknown field `{}` beside the kind", key.name), COMMON.to_vec())
            } else {
                let kinds = KINDS.iter().map(|kind| kind.name).chain([INCLUDE]);
                (format!("unknown kind `{}`", key.name), kinds.collect())
            };
            return Err(Problem::new(message).at(&key.at).help(did_you_mean(&key.name, &valid)));
        }
        let Some((key, value)) = found else {
            return Err(Problem::new("this resource has no kind")
                .at(&node.at)
                .help("such as `file: { path: /etc/motd, content: hi }`; `baker docs` lists all kinds"));
        };
        let field =
            |name: &str| entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| node.clone());
        let several = |name: &str| match field(name) {
            None => Ok(Vec::new()),
            Some(Node { value: Value::List(elements), .. }) => Ok(elements),
            Some(node @ Node { value: Value::String(_), .. }) => Ok(vec![node]),
            Some(other) => Err(other.mismatch("a name or a list of names")),
        };
        Ok(Self {
            what: match Kind::named(&key.name) {
                Some(kind) => What::Resource { kind, fields: value.clone() },
                None => What::Include(Wanted::read(value)?),
            },
            name: field("name"),
            when: field("when"),
            for_each: field("for_each"),
            notify: several("notify")?,
            after: several("after")?,
            tags: several("tags")?.iter().map(tag).collect::<Result<_, _>>()?,
            register: field("register").as_ref().map(register).transpose()?,
            at: key.at.clone(),
        })
    }
}

/// A tag is a word: on the command line several are separated by commas.
fn tag(node: &Node) -> Result<String, Problem> {
    let name = node.as_str("a tag")?;
    if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c)) {
        return Err(Problem::new(format!("`{name}` is not a tag"))
            .at(&node.at)
            .help("a tag is made of letters, digits, `_`, `-` and `.`"));
    }
    Ok(name.to_owned())
}

/// What a result is registered as has to be a name that a template can ask for.
fn register(node: &Node) -> Result<Key, Problem> {
    let name = node.as_str("a name")?;
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(Problem::new(format!("`{name}` cannot be a name in templates"))
            .at(&node.at)
            .help("it starts with a letter and goes on with letters, digits and `_`"));
    }
    Ok(Key { name: name.to_owned(), at: node.at.clone() })
}
