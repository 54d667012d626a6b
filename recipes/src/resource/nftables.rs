//! Rules of nftables (nft(8)), made of what a `firewall` is told.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::de::{self, Deserialize, Deserializer};

use super::fields::OneOrMore;
use crate::error::{Problem, did_you_mean};

/// How often something may happen, such as `60/minute`, as nft writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rate(pub(super) String);

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let valid = text.split_once('/').is_some_and(|(count, unit)| {
            count.parse::<u32>().is_ok_and(|count| count > 0)
                && !count.starts_with('+')
                && ["second", "minute", "hour", "day"].contains(&unit)
        });
        if !valid {
            return Err(de::Error::custom(format!(
                "`{}` is not a rate; write one such as `60/minute`, of a `second`, `minute`, `hour` or `day`",
                text.escape_debug()
            )));
        }
        Ok(Self(text))
    }
}

/// Addresses, as sets of nftables have them: those of a family together.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    v4: Vec<String>,
    v6: Vec<String>,
    /// The names of sets, without what tells their families.
    sets: Vec<String>,
}

impl Addresses {
    /// Reads addresses, networks, ranges, and where there are `sets` their names with `@` before them.
    pub(super) fn read(field: &str, values: &OneOrMore, sets: &Sets) -> Result<Self, Problem> {
        let mut addresses = Self::default();
        if values.0.is_empty() {
            return Err(Problem::new(format!("`{field}` is empty"))
                .help("leave it out for any address; nothing matches an empty list"));
        }
        for text in &values.0 {
            if let Some(name) = text.strip_prefix('@') {
                if !sets.0.contains_key(name) {
                    let names: Vec<&str> = sets.0.keys().map(String::as_str).collect();
                    return Err(Problem::new(format!("there is no set `{name}` for `{field}`"))
                        .help(did_you_mean(name, &names)));
                }
                addresses.sets.push(name.to_owned());
            } else if is_v4(text)? {
                addresses.v4.push(text.clone());
            } else {
                addresses.v6.push(text.clone());
            }
        }
        Ok(addresses)
    }

    /// What matches them: of each family and each set something of its own.
    fn matches(&self, side: &str, sets: &Sets) -> Vec<String> {
        let mut matches = Vec::new();
        for (family, list) in [("ip", &self.v4), ("ip6", &self.v6)] {
            if !list.is_empty() {
                matches.push(format!("{family} {side} {}", set_of(list)));
            }
        }
        for name in &self.sets {
            let addresses = sets.0.get(name);
            for (family, version, list) in
                [("ip", "v4", addresses.map(|set| &set.v4)), ("ip6", "v6", addresses.map(|set| &set.v6))]
            {
                if list.is_some_and(|list| !list.is_empty()) {
                    matches.push(format!("{family} {side} @{name}_{version}"));
                }
            }
        }
        matches
    }
}

/// Whether an address, a network or a range is one of IPv4.
fn is_v4(text: &str) -> Result<bool, Problem> {
    let wrong = || {
        Problem::new(format!("`{text}` is not an address")).help(
            "write an address, a network such as `10.0.0.0/8`, a range such as `10.0.0.5-10.0.0.9`, \
             or `@NAME` for one of the `sets`",
        )
    };
    let parse = |text: &str| text.parse::<IpAddr>().map_err(|_| wrong());
    if let Some((first, last)) = text.split_once('-') {
        let (first, last) = (parse(first)?, parse(last)?);
        if first.is_ipv4() != last.is_ipv4() || first > last {
            return Err(wrong());
        }
        return Ok(first.is_ipv4());
    }
    let Some((address, length)) = text.split_once('/') else { return Ok(parse(text)?.is_ipv4()) };
    let address = parse(address)?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    match length.parse::<u8>() {
        Ok(bits) if bits <= longest && length == bits.to_string() => Ok(address.is_ipv4()),
        _ => Err(wrong()),
    }
}

/// One element, or several as an anonymous set.
fn set_of(elements: &[String]) -> String {
    match elements {
        [one] => one.clone(),
        several => format!("{{ {} }}", several.join(", ")),
    }
}

/// Sets of addresses that rules name.
#[derive(Debug, Default)]
pub(super) struct Sets(BTreeMap<String, Addresses>);

impl Sets {
    pub(super) fn read(given: &BTreeMap<String, OneOrMore>) -> Result<Self, Problem> {
        let none = Self::default();
        let mut sets = BTreeMap::new();
        for (name, values) in given {
            is_identifier("set", name)?;
            let addresses = Addresses::read(&format!("sets.{name}"), values, &none)?;
            sets.insert(name.clone(), addresses);
        }
        Ok(Self(sets))
    }

    /// Their declarations in a table.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (name, set) in &self.0 {
            for (version, list) in [("v4", &set.v4), ("v6", &set.v6)] {
                if list.is_empty() {
                    continue;
                }
                let elements = list.join(", ");
                text += &format!(
                    "  set {name}_{version} {{\n    type ip{version}_addr\n    flags interval\n    auto-merge\n    \
                     elements = {{ {elements} }}\n  }}\n"
                );
            }
        }
        text
    }
}

/// A name that nft reads as one, and that no rule can break out of.
pub(super) fn is_identifier(what: &str, name: &str) -> Result<(), Problem> {
    let valid = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.len() <= 31
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if valid {
        return Ok(());
    }
    Err(Problem::new(format!(
        "`{}` is not the name of a {what}: letters, digits and `_`, at most 31, starting with a letter",
        name.escape_debug()
    )))
}

/// Which packets a rule is about, and what becomes of them.
#[derive(Debug, Default)]
pub(super) struct Rule<'a> {
    /// Whether it is about packets that come in.
    pub(super) incoming: bool,
    pub(super) interface: Option<&'a str>,
    pub(super) addresses: Option<Addresses>,
    pub(super) port: Option<&'a OneOrMore>,
    pub(super) protocol: Option<&'a OneOrMore>,
    /// What matches the users who send, if it is about some.
    pub(super) users: Option<String>,
    pub(super) rate: Option<&'a Rate>,
    pub(super) comment: Option<&'a str>,
    /// Whether the packets are let through.
    pub(super) allows: bool,
}

impl Rule<'_> {
    /// Its lines: one for each family of addresses and each set.
    pub(super) fn lines(&self, sets: &Sets) -> Result<Vec<String>, Problem> {
        let mut before = Vec::new();
        if let Some(name) = self.interface {
            is_interface(name)?;
            before.push(format!("{} \"{name}\"", if self.incoming { "iifname" } else { "oifname" }));
        }
        let mut after: Vec<String> = Vec::new();
        after.extend(transport(self.port, self.protocol)?);
        after.extend(self.users.clone());
        if before.is_empty() && after.is_empty() && self.addresses.is_none() {
            return Err(Problem::new("a rule of a firewall says nothing about the packets that it is for")
                .help("to decide what becomes of all others, set `policy`"));
        }
        if let Some(Rate(rate)) = self.rate {
            // What is allowed at a rate is so up to it; what is denied at one is so beyond it.
            after.push(format!("limit rate {}{rate}", if self.allows { "" } else { "over " }));
        }
        after.push(
            match (self.allows, self.incoming) {
                (true, _) => "accept",
                (false, true) => "counter drop",
                // The program that asks is this host's own: it is told, and need not wait.
                (false, false) => "counter reject with icmpx type admin-prohibited",
            }
            .into(),
        );
        if let Some(comment) = self.comment {
            is_comment(comment)?;
            after.push(format!("comment \"{comment}\""));
        }
        let side = if self.incoming { "saddr" } else { "daddr" };
        let addresses = match &self.addresses {
            Some(addresses) => addresses.matches(side, sets).into_iter().map(Some).collect(),
            None => vec![None],
        };
        let line = |address: Option<String>| {
            let parts = before.iter().cloned().chain(address).chain(after.iter().cloned());
            parts.collect::<Vec<_>>().join(" ")
        };
        Ok(addresses.into_iter().map(line).collect())
    }
}

/// The protocols that a rule may name.
const PROTOCOLS: [&str; 3] = ["tcp", "udp", "icmp"];

/// What matches protocols and ports.
fn transport(port: Option<&OneOrMore>, protocol: Option<&OneOrMore>) -> Result<Option<String>, Problem> {
    let protocols = match protocol {
        Some(values) => values.0.iter().map(String::as_str).collect(),
        None if port.is_some() => vec!["tcp"],
        None => return Ok(None),
    };
    if let Some(other) = protocols.iter().find(|name| !PROTOCOLS.contains(name)) {
        return Err(
            Problem::new(format!("`{other}` is not a `protocol` here")).help(did_you_mean(other, &PROTOCOLS))
        );
    }
    let Some(port) = port else {
        // The two that are meant by `icmp` have numbers of their own.
        let numbers =
            protocols.iter().map(|name| if *name == "icmp" { "icmp, ipv6-icmp" } else { name }.to_owned());
        return Ok(Some(match &numbers.collect::<Vec<_>>()[..] {
            [] => return Err(Problem::new("`protocol` is empty").help("leave it out for any")),
            [one] if !one.contains(',') => format!("meta l4proto {one}"),
            several => format!("meta l4proto {{ {} }}", several.join(", ")),
        }));
    };
    let ports = set_of(&ports(port)?);
    match &protocols[..] {
        [] => Err(Problem::new("`protocol` is empty").help("leave it out for `tcp`")),
        names if names.contains(&"icmp") => Err(Problem::new("`icmp` has no ports").help("leave out `port`")),
        [one] => Ok(Some(format!("{one} dport {ports}"))),
        several => Ok(Some(format!("meta l4proto {{ {} }} th dport {ports}", several.join(", ")))),
    }
}

fn ports(values: &OneOrMore) -> Result<Vec<String>, Problem> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0 && text == port.to_string());
    let valid = |text: &str| match text.split_once('-') {
        Some((first, last)) => number(first).zip(number(last)).is_some_and(|(first, last)| first < last),
        None => number(text).is_some(),
    };
    if values.0.is_empty() {
        return Err(Problem::new("`port` is empty").help("leave it out for any port"));
    }
    match values.0.iter().find(|text| !valid(text)) {
        None => Ok(values.0.clone()),
        Some(wrong) => Err(Problem::new(format!("`{wrong}` is not a port (1-65535)"))
            .help("write a number, a range such as `8000-8010`, or a list of them")),
    }
}

/// The kernel's names of interfaces have at most 15 characters; `*` at the end stands for the rest.
fn is_interface(name: &str) -> Result<(), Problem> {
    let stem = name.strip_suffix('*').unwrap_or(name);
    let valid = (1..=15).contains(&name.len())
        && stem.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:@".contains(c));
    if valid {
        return Ok(());
    }
    Err(Problem::new(format!("`{}` is not the name of an interface", name.escape_debug()))
        .help("it has at most 15 letters, digits, `-`, `_`, `.`, `:` and `@`, and may end in `*`"))
}

/// nft(8) takes 128 characters, and reads them up to the next quote.
fn is_comment(text: &str) -> Result<(), Problem> {
    if text.len() <= 128 && !text.contains('"') && !text.contains(char::is_control) {
        return Ok(());
    }
    Err(Problem::new("a `comment` has at most 128 characters, in one line, without a quote"))
}

/// Lines that somebody wrote for a chain, or for the table itself. What is in braces stays in them.
pub(super) fn raw(field: &str, lines: &[String]) -> Result<(), Problem> {
    for line in lines {
        let mut depth = 0_i32;
        let mut is_quoted = false;
        for c in line.chars() {
            match c {
                '"' => is_quoted = !is_quoted,
                '{' if !is_quoted => depth += 1,
                '}' if !is_quoted => depth -= 1,
                _ => {}
            }
            if depth < 0 {
                break;
            }
        }
        if depth != 0 || is_quoted || line.contains('\0') {
            return Err(Problem::new(format!("`{line}` of `rules.{field}` leaves a brace or a quote open"))
                .help("each element is whole: a rule, or a set or chain with its braces"));
        }
    }
    Ok(())
}
