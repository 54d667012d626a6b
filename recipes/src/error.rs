//! What can be wrong with what a person wrote, said so that they can mend it.

use std::error::Error;
use std::fmt;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};

use crate::source::Location;
use crate::url::with_queries_covered;

/// One thing that is wrong in a recipe, an image definition or a value given to one.
///
/// The message is a fragment in lower case; the location says where, the help says what to do.
/// `Display` is the message alone: renderers that show source ([`Diagnostic`]) add the place
/// themselves, and [`Problem::located`] is the one-line form for logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem(Box<Details>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Details {
    message: String,
    location: Option<Location>,
    label: Option<String>,
    related: Option<(Location, String)>,
    help: Option<String>,
    source: Option<Shown>,
}

/// The text that a [`Problem`] points into, in the form that miette wants.
#[derive(Debug, Clone)]
struct Shown(NamedSource<String>);

impl PartialEq for Shown {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl Eq for Shown {}

impl Problem {
    /// A problem with no place yet.
    pub fn new(message: impl Into<String>) -> Self {
        Self(Box::new(Details {
            message: message.into(),
            location: None,
            label: None,
            related: None,
            help: None,
            source: None,
        }))
    }

    /// Puts the problem at a place, unless a more exact one is known already.
    #[must_use]
    pub fn at(mut self, location: &Location) -> Self {
        if self.0.location.is_none() {
            // The line is shown, and an address in it may let in whoever has its query.
            let text = with_queries_covered(&location.source.text).into_owned();
            self.0.source = Some(Shown(NamedSource::new(&location.source.name, text)));
            self.0.location = Some(location.clone());
        }
        self
    }

    /// Words shown under the underlined text.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.0.label = Some(label.into());
        self
    }

    /// A second place that the problem involves, such as the first of two definitions.
    #[must_use]
    pub fn and_at(mut self, location: &Location, label: impl Into<String>) -> Self {
        self.0.related = Some((location.clone(), label.into()));
        self
    }

    /// What to do about it. The first advice stays: it comes from whoever knew most.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help.get_or_insert(help.into());
        self
    }

    /// The same problem in other words.
    #[must_use]
    pub(crate) fn with_message(mut self, message: String) -> Self {
        self.0.message = message;
        self
    }

    /// What is wrong, without where.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Where it is, if it is in a file.
    pub fn location(&self) -> Option<&Location> {
        self.0.location.as_ref()
    }

    /// What to do about it, if anybody knows.
    pub fn advice(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// The problem in one line, with its place in front and the help behind.
    pub fn located(&self) -> String {
        let mut line = String::new();
        if let Some(location) = &self.0.location {
            line = format!("{location}: ");
        }
        line += &self.0.message;
        if let Some((location, label)) = &self.0.related {
            line += &format!(" ({label}: {location})");
        }
        if let Some(help) = &self.0.help {
            line += &format!("; {help}");
        }
        line
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.message)?;
        // Renderers show one text; a second place in another file has to be said in words.
        match (&self.0.related, &self.0.location) {
            (Some((there, label)), here) if here.as_ref().is_none_or(|here| here.source != there.source) => {
                write!(formatter, " ({label}: {there})")
            }
            _ => Ok(()),
        }
    }
}

impl Error for Problem {}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.0.source.as_ref().map(|shown| &shown.0 as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let here = self.0.location.as_ref()?;
        let mut labels = vec![LabeledSpan::new(self.0.label.clone(), here.offset, here.length)];
        if let Some((there, label)) = &self.0.related
            && there.source == here.source
        {
            labels.push(LabeledSpan::new(Some(label.clone()), there.offset, there.length));
        }
        Some(Box::new(labels.into_iter()))
    }
}

/// Everything found wrong in one look, so that a person mends it in one go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

/// More than this many problems in one message help nobody.
const SHOWN: usize = 20;

impl Problems {
    /// No problem yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers a problem. One that was found before, by another way, is not told twice.
    pub fn push(&mut self, problem: Problem) {
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    /// Remembers everything that another look found.
    pub fn extend(&mut self, other: Self) {
        other.0.into_iter().for_each(|problem| self.push(problem));
    }

    /// The value, or the problem remembered and nothing.
    pub fn keep<T>(&mut self, result: Result<T, impl Into<Self>>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(problems) => {
                self.extend(problems.into());
                None
            }
        }
    }

    /// The value if nothing was found wrong.
    pub fn unless_any<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }

    /// Every problem, in the order in which it was found.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was found wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().take(SHOWN).enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            formatter.write_str(&problem.located())?;
        }
        if self.0.len() > SHOWN {
            write!(formatter, "\nand {} more", self.0.len() - SHOWN)?;
        }
        Ok(())
    }
}

impl Error for Problems {}

/// So many names are listed beside the nearest one; of more, the nearest alone helps.
const MANY: usize = 30;

/// Advice for a name that is not among the valid ones: the nearest, and all of them unless they are many.
pub fn did_you_mean(given: &str, valid: &[&str]) -> String {
    let nearest = valid
        .iter()
        .map(|name| (strsim::damerau_levenshtein(given, name), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1) || name.starts_with(given))
        .min();
    let all = match valid {
        [] => return "no name is valid here".into(),
        [only] => format!("valid is `{only}`"),
        [names @ .., last] => format!("valid are `{}` and `{last}`", names.join("`, `")),
    };
    match nearest {
        Some((_, name)) if valid.len() > MANY => format!("did you mean `{name}`?"),
        Some((_, name)) => format!("did you mean `{name}`? {all}"),
        None => all,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::source::Source;

    #[test]
    fn the_nearest_name_is_proposed_and_all_are_listed() {
        assert_eq!(
            did_you_mean("mdoe", &["mode", "owner"]),
            "did you mean `mode`? valid are `mode` and `owner`"
        );
        assert_eq!(did_you_mean("zzz", &["mode"]), "valid is `mode`");
    }

    #[test]
    fn the_first_place_and_the_first_help_stay() {
        let source = Arc::new(Source { name: "a".into(), text: "xyz".into() });
        let problem = Problem::new("odd")
            .at(&Location::new(&source, 1, 1))
            .at(&Location::new(&source, 0, 3))
            .help("mend it")
            .help("or not");
        assert_eq!(problem.located(), "a:1:2: odd; mend it");
    }

    #[test]
    fn two_places_in_two_files_are_both_named() {
        let here = Arc::new(Source { name: "here".into(), text: "x".into() });
        let there = Arc::new(Source { name: "there".into(), text: "x".into() });
        let problem = Problem::new("`/etc/motd` is wanted twice")
            .at(&Location::new(&here, 0, 1))
            .and_at(&Location::new(&there, 0, 1), "first here");
        assert_eq!(problem.to_string(), "`/etc/motd` is wanted twice (first here: there:1:1)");
    }

    #[test]
    fn many_problems_are_counted_after_the_first_twenty() {
        let mut problems = Problems::new();
        (0..25).for_each(|number| problems.push(Problem::new(number.to_string())));
        assert!(problems.to_string().ends_with("\n19\nand 5 more"));
    }
}
