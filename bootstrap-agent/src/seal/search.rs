//! What a leak looks like, and finding it as fast as reading.
//!
//! Each rule has texts that have to be there. All of them are searched for at once, in one pass; a rule's expression is tried only
//! where one of its texts is.

use std::borrow::Cow;
use std::sync::{LazyLock, OnceLock};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use regex::bytes::{Regex, RegexBuilder};

use super::assigned;

/// The rules of gitleaks, as data; the file says how to read it.
const GITLEAKS: &str = include_str!("rules/gitleaks.tsv");
/// What stands between a name and its value, and what ends a value, in those rules.
const IS: &str = r#"(?:[ \t\w.-]{0,20})[\s'"]{0,3}(?:=|>|:{1,3}=|\|\||:|=>|\?=|,)[\x60'"\s=]{0,5}"#;
const END: &str = r#"(?:[\x60'"\s;]|\\[nr]|$)"#;

/// How far around its text an expression of gitleaks may begin and end. The longest that it describes is a token of Atlassian's, of 192
/// characters; keys may be longer, but are recognised by their beginning.
const BEFORE: usize = 200;
const BEHIND: usize = 1000;

/// Keys that AWS's documentation uses.
const DUMMIES: &[&[u8]] =
    &[b"AKIAIOSFODNN7EXAMPLE", b"AKIAI44QH8DHBEXAMPLE", b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"];

/// What a value is called that something named like a password is given.
pub(super) const ASSIGNED: &str = "a password or token";

/// What is looked for besides: what it is, the texts that it is known by, exactly, and the expression of what has to follow them.
const OWN: &[(&str, &[&str], &str)] = &[
    // A key block needs its content: programs that handle keys contain the headers. In JSON, its line ends are escaped.
    (
        "a private key",
        &["PRIVATE KEY-----", "PRIVATE KEY BLOCK-----", "OpenVPN Static key V1-----"],
        r"(?:\s|\\n|\\r)+(?:[A-Za-z-]+: [^\n]*\n\s*)*[A-Za-z0-9+/=]{32}",
    ),
    // `-----BEGIN`, and `PRIVATE KEY` in one of the three ways that base64 has for it.
    (
        "a private key in base64",
        &["LS0tLS1CRUdJTi"],
        r"[A-Za-z0-9+/]{0,40}(?:UFJJVkFURSBLRV|BSSVZBVEUgS0VZ|QUklWQVRFIEtFW)[A-Za-z0-9+/\s]{64}",
    ),
    ("a private key", &["PuTTY-User-Key-File-"], r"\d: [^\n]*\n(?:[^\n]*\n){1,40}?Private-Lines: "),
    ("a key of WireGuard", &["PrivateKey", "PresharedKey"], r"\s*=\s*[A-Za-z0-9+/]{43}="),
    ("an AWS access key", &["AKIA", "ASIA"], r"[A-Z2-7]{16}(?:[^A-Za-z0-9]|$)"),
    (
        "an AWS secret key",
        &["secret_access_key", "SECRET_ACCESS_KEY", "secretAccessKey", "SecretAccessKey", "aws_secret_key"],
        r"\W{1,5}[A-Za-z0-9/+]{40}(?:[^A-Za-z0-9/+]|$)",
    ),
    ("a GitHub token", &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"], "[A-Za-z0-9]{36}"),
    ("a GitHub token", &["github_pat_"], "[A-Za-z0-9_]{60}"),
    ("a GitLab token", &["glpat-"], "[A-Za-z0-9_-]{20}"),
    ("a Slack token", &["xoxa-", "xoxb-", "xoxp-", "xoxr-", "xoxs-"], "[A-Za-z0-9-]{20}"),
    ("a Google API key", &["AIza"], "[A-Za-z0-9_-]{35}(?:[^A-Za-z0-9_-]|$)"),
    ("a key of Azure", &["AccountKey=", "SharedAccessKey="], "[A-Za-z0-9+/]{43,86}={1,2}"),
    ("a signature of Azure", &["&sig=", "?sig="], "(?:[A-Za-z0-9]|%[0-9A-Fa-f]{2}){43,}"),
    ("a token of Docker Hub", &["dckr_pat_"], "[A-Za-z0-9_-]{20}"),
    ("a token of Anthropic", &["sk-ant-"], "[A-Za-z0-9_-]{40}"),
    ("a token of Bitbucket", &["ATBB"], "[A-Za-z0-9]{28}(?:[^A-Za-z0-9]|$)"),
    ("a webhook of Discord", &["discord.com/api/webhooks/"], r"\d{15,20}/[A-Za-z0-9_-]{50}"),
    ("a token of Telegram", &[":AA"], r"[A-Za-z0-9_-]{33}(?:[^A-Za-z0-9_-]|$)"),
    (
        "credentials of a web server",
        &["Authorization: ", "authorization: "],
        "(?:[Bb]asic|[Bb]earer|[Tt]oken) [A-Za-z0-9+/=._~-]{12,}",
    ),
    ("credentials of a registry", &["\"auth\""], r#"\s*:\s*"[A-Za-z0-9+/]{12,}={0,2}""#),
    ("a password in a URL", &["://"], r#"[A-Za-z0-9._%-]{0,64}:[^\s/@:'"<>{}$*%\x00]{6,64}@[A-Za-z0-9.-]"#),
    // crypt(5).
    ("the hash of a password", &["$6$"], r"(?:rounds=\d+\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{86}"),
    ("the hash of a password", &["$5$"], r"(?:rounds=\d+\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{43}"),
    (
        "the hash of a password",
        &["$y$", "$gy$", "$7$"],
        r"[./A-Za-z0-9]+\$[./A-Za-z0-9]{1,86}\$[./A-Za-z0-9]{43}",
    ),
    ("the hash of a password", &["$2a$", "$2b$", "$2y$"], r"\d\d\$[./A-Za-z0-9]{53}"),
    (
        "the hash of a password",
        &["$1$", "$apr1$"],
        r"[./A-Za-z0-9]{1,8}\$[./A-Za-z0-9]{22}(?:[^./A-Za-z0-9]|$)",
    ),
    (
        "the hash of a password",
        &["$argon2id$", "$argon2i$"],
        r"v=\d+\$[a-z0-9=,]+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]{22}",
    ),
    ("the hash of a password", &["grub.pbkdf2.sha512."], r"\d+\.[0-9A-F]{64,}\.[0-9A-F]{64}"),
    ("the hash of a password", &["SCRAM-SHA-256$"], r"\d+:[A-Za-z0-9+/=]{20,}\$[A-Za-z0-9+/=]{40}"),
];

/// Where the expression of a rule begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begins {
    /// Behind its text.
    Behind,
    /// Where its text does.
    There,
    /// The same, and no word goes on there.
    Word,
    /// Anywhere around.
    Around,
}

struct Rule {
    what: Cow<'static, str>,
    /// Whether upper and lower case matter in its texts.
    exact: bool,
    begins: Begins,
    expression: Cow<'static, str>,
    compiled: OnceLock<Regex>,
    /// The least entropy of what was found, in bits a byte.
    entropy: f64,
    /// What has to be said about a value besides.
    plausible: Option<fn(&[u8]) -> bool>,
}

/// All rules, and what finds their texts.
pub(super) struct Rules {
    rules: Vec<Rule>,
    /// The rule of each text, and the text.
    texts: Vec<(usize, Vec<u8>)>,
    finder: AhoCorasick,
}

/// Something that looks like a leak: where, and what it looks like.
pub(super) struct Hit<'a> {
    pub(super) at: usize,
    pub(super) what: &'a str,
}

impl Rules {
    /// The rules, made once.
    pub(super) fn get() -> &'static Self {
        static RULES: LazyLock<Rules> = LazyLock::new(Rules::new);
        &RULES
    }

    fn new() -> Self {
        let (mut rules, mut texts) = (Vec::new(), Vec::new());
        let mut add = |rule: Rule, of: &mut dyn Iterator<Item = &str>| {
            texts.extend(of.map(|text| (rules.len(), text.as_bytes().to_vec())));
            rules.push(rule);
        };
        for (what, texts, follows) in OWN {
            let rule = Rule::new((*what).into(), Begins::Behind, format!("^(?:{follows})"));
            add(rule, &mut texts.iter().copied());
        }
        let assigned = Rule::new(ASSIGNED.into(), Begins::Behind, assigned::VALUE.into());
        let assigned = Rule { exact: false, plausible: Some(assigned::is_plausible), ..assigned };
        add(assigned, &mut assigned::NAMES.iter().copied());
        for line in GITLEAKS.lines().filter(|line| !line.starts_with('#')) {
            let mut fields = line.split('\t');
            let mut field = || fields.next().unwrap_or_default();
            let (id, entropy, keywords, how) = (field(), field(), field(), field());
            let expression = field().replace("%IS%", IS).replace("%END%", END);
            let (begins, expression) = match how {
                "a" => (Begins::There, format!("^(?:{expression})")),
                "b" => (Begins::Word, format!("^(?:{expression})")),
                _ => (Begins::Around, expression),
            };
            let rule = Rule::new(format!("a secret ({id})").into(), begins, expression);
            let entropy = entropy.parse().unwrap_or_default();
            add(Rule { exact: false, entropy, ..rule }, &mut keywords.split(','));
        }
        let finder = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::DFA))
            .match_kind(MatchKind::Standard)
            .ascii_case_insensitive(true)
            .build(texts.iter().map(|(_, text)| text))
            .expect("texts that fit an automaton");
        Self { rules, texts, finder }
    }

    /// Of each rule the first that is found.
    pub(super) fn look<'a>(&'a self, bytes: &[u8]) -> Vec<Hit<'a>> {
        let mut found: Vec<Option<usize>> = vec![None; self.rules.len()];
        for text in self.finder.find_overlapping_iter(bytes) {
            let (number, exactly) = &self.texts[text.pattern().as_usize()];
            let rule = &self.rules[*number];
            if found[*number].is_some() || rule.exact && &bytes[text.range()] != exactly.as_slice() {
                continue;
            }
            found[*number] = rule.finds(bytes, text.start(), text.end());
        }
        let hits = self.rules.iter().zip(found);
        hits.filter_map(|(rule, at)| Some(Hit { at: at?, what: &rule.what })).collect()
    }
}

impl Rule {
    fn new(what: Cow<'static, str>, begins: Begins, expression: String) -> Self {
        Self {
            what,
            exact: true,
            begins,
            expression: expression.into(),
            compiled: OnceLock::new(),
            entropy: 0.0,
            plausible: None,
        }
    }

    /// Where a leak is, if the text from `start` to `end` is of one.
    fn finds(&self, bytes: &[u8], start: usize, end: usize) -> Option<usize> {
        let in_word = |at: usize| at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let from = match self.begins {
            Begins::Behind => end,
            Begins::Word if in_word(start) => return None,
            Begins::There | Begins::Word => start,
            Begins::Around => start.saturating_sub(BEFORE),
        };
        let window = &bytes[from..bytes.len().min(end + BEHIND)];
        let regex = self.compiled.get_or_init(|| compile(&self.expression));
        // Most texts are not of a leak: whether there is one is cheaper to find than where.
        if !regex.is_match(window) {
            return None;
        }
        let captures = regex.captures(window)?;
        let whole = captures.get(0)?;
        let value = captures.iter().skip(1).flatten().next().unwrap_or(whole).as_bytes();
        if entropy(value) < self.entropy || self.plausible.is_some_and(|plausible| !plausible(value)) {
            return None;
        }
        let at = if self.begins == Begins::Around { from + whole.start() } else { start };
        let near = &bytes[at..bytes.len().min(at + 160)];
        let is_dummy = DUMMIES.iter().any(|dummy| near.windows(dummy.len()).any(|text| text == *dummy));
        (!is_dummy).then_some(at)
    }
}

fn compile(expression: &str) -> Regex {
    // Bytes, not characters: what is searched is any file.
    let built = RegexBuilder::new(expression).unicode(false).build();
    built.unwrap_or_else(|error| panic!("`{expression}` is not valid: {error}"))
}

/// Shannon's, in bits a byte.
pub(super) fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for &byte in bytes {
        counts[usize::from(byte)] += 1;
    }
    let length = f64::from(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    let parts = counts.iter().filter(|&&count| count > 0).map(|&count| f64::from(count) / length);
    -parts.map(|part| part * part.log2()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expression_is_valid_and_has_its_texts() {
        let rules = Rules::get();
        for (number, rule) in rules.rules.iter().enumerate() {
            compile(&rule.expression);
            assert!(rules.texts.iter().any(|(of, text)| *of == number && text.len() > 1), "{}", rule.what);
        }
        assert!(rules.rules.len() > 220, "{} rules", rules.rules.len());
    }

    #[test]
    fn entropy_is_in_bits() {
        assert!((entropy(b"abcdefgh") - 3.0).abs() < 0.001 && entropy(b"aaaa").abs() < 0.001);
    }
}
