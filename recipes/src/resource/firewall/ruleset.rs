//! The file of a `firewall`, as nft(8) reads it.

use std::fmt::Write;

use super::super::fields::{AccountName, OneOrMore};
use super::super::nftables::{Addresses, Rate, Rule, Sets, raw};
use super::{Firewall, Incoming, NFT, Outgoing, Policy};
use crate::error::Problem;

impl Firewall {
    /// The users of `metadata_users`; none if all may.
    pub(super) fn metadata_users(&self) -> Result<Option<Vec<String>>, Problem> {
        let Some(OneOrMore(names)) = &self.metadata_users else { return Ok(None) };
        if names.iter().any(|name| name == "any") {
            return Ok(None);
        }
        if names.is_empty() {
            return Err(Problem::new("`metadata_users` is empty").help("name `root` at least"));
        }
        let read = |name: &String| serde_json::from_value::<AccountName>(name.as_str().into());
        let users: Result<Vec<AccountName>, _> = names.iter().map(read).collect();
        let users = users.map_err(|error| Problem::new(error.to_string()))?;
        Ok(Some(users.into_iter().map(|user| user.0).collect()))
    }

    /// The file, as nft(8) reads it.
    pub(super) fn text(&self, table: &str) -> Result<String, Problem> {
        let sets = Sets::read(&self.sets)?;
        let policy = |policy: Option<Policy>, otherwise| policy.unwrap_or(otherwise);
        let input = policy(self.policy.input, Policy::Drop);
        let forward = policy(self.policy.forward, Policy::Drop);
        let output = policy(self.policy.output, Policy::Accept);
        if input == Policy::Accept && !self.allow.is_empty() {
            return Err(no_effect("allow", "input"));
        }
        if output == Policy::Accept && !self.outgoing.allow.is_empty() {
            return Err(no_effect("outgoing.allow", "output"));
        }
        let mut text = format!("#!{NFT} -f\n# Made by a `firewall`; what is changed here is lost.\n\n");
        if self.flush_ruleset {
            text += "flush ruleset\n";
        } else {
            // Removing needs it to be there. All of the file is one transaction.
            let _ = writeln!(text, "table inet {table}\ndelete table inet {table}");
        }
        let _ = writeln!(text, "\ntable inet {table} {{\n{}", sets.text().trim_end());
        text = text.trim_end().to_owned() + "\n";
        for (field, lines) in [
            ("table", &self.rules.table),
            ("input", &self.rules.input),
            ("forward", &self.rules.forward),
            ("output", &self.rules.output),
        ] {
            raw(field, lines)?;
        }
        self.rules.table.iter().for_each(|lines| push(&mut text, "  ", lines));
        let log = self.log()?;
        chain(&mut text, "input", input, log.as_deref(), &self.input(&sets)?);
        chain(&mut text, "forward", forward, log.as_deref(), &self.forward());
        chain(&mut text, "output", output, log.as_deref(), &self.output(output, &sets)?);
        Ok(text + "}\n")
    }

    /// What says that a packet is dropped, if that is logged.
    fn log(&self) -> Result<Option<String>, Problem> {
        let rate = self.log_drops.as_deref().unwrap_or("5/minute");
        if rate == "never" {
            return Ok(None);
        }
        let Rate(rate) = serde_json::from_value(rate.into())
            .map_err(|error| Problem::new(error.to_string()).help("for no log write `log_drops: never`"))?;
        Ok(Some(format!("limit rate {rate} log prefix \"nft-drop: \" level info")))
    }

    fn input(&self, sets: &Sets) -> Result<Vec<String>, Problem> {
        let mut rules: Vec<String> = [
            "ct state vmap { established : accept, related : accept, invalid : drop }",
            "iif lo accept",
            "iif != lo ip saddr 127.0.0.0/8 counter drop",
            "iif != lo ip6 saddr ::1 counter drop",
        ]
        .map(str::to_owned)
        .to_vec();
        let ping = if self.ping.unwrap_or(true) { ", echo-request" } else { "" };
        // RFC 4890, 4.3.1 and 4.4.1: without these IPv6 does not work; and what tells of the way.
        rules.extend([
            format!(
                "icmp type {{ destination-unreachable, time-exceeded, parameter-problem{ping} }} limit rate 10/second accept"
            ),
            format!(
                "icmpv6 type {{ destination-unreachable, packet-too-big, time-exceeded, parameter-problem{ping}, \
                 nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert, mld-listener-query }} accept"
            ),
        ]);
        if self.dhcp.unwrap_or(true) {
            rules.push("udp sport 67 udp dport 68 accept".into());
            rules.push("ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept".into());
        }
        for rule in &self.deny {
            rules.extend(rule.lines(false, sets)?);
        }
        rules.extend(self.rules.input.clone());
        for rule in &self.allow {
            rules.extend(rule.lines(true, sets)?);
        }
        Ok(rules)
    }

    fn forward(&self) -> Vec<String> {
        let existing = "ct state vmap { established : accept, related : accept, invalid : drop }";
        [existing.to_owned()].into_iter().chain(self.rules.forward.clone()).collect()
    }

    fn output(&self, policy: Policy, sets: &Sets) -> Result<Vec<String>, Problem> {
        let mut rules = Vec::new();
        if let Some(users) = self.metadata_users()? {
            let metadata = |address: &str| {
                let users = users_match(&users, "!= ");
                format!("{address} {users} counter reject with icmpx type admin-prohibited")
            };
            rules.push(metadata("ip daddr 169.254.169.254"));
            rules.push(metadata("ip6 daddr fd00:ec2::254"));
        }
        if policy == Policy::Drop {
            rules.push("ct state established,related accept".into());
            rules.push("oif lo accept".into());
            rules.push(
                "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld2-listener-report } accept"
                    .into(),
            );
            if self.dhcp.unwrap_or(true) {
                rules.push("udp sport 68 udp dport 67 accept".into());
                rules.push("udp sport 546 udp dport 547 accept".into());
            }
        }
        for rule in &self.outgoing.deny {
            rules.extend(rule.lines(false, sets)?);
        }
        rules.extend(self.rules.output.clone());
        for rule in &self.outgoing.allow {
            rules.extend(rule.lines(true, sets)?);
        }
        Ok(rules)
    }
}

fn chain(text: &mut String, hook: &str, policy: Policy, log: Option<&str>, rules: &[String]) {
    let verdict = if policy == Policy::Drop { "drop" } else { "accept" };
    let _ = writeln!(text, "  chain {hook} {{\n    type filter hook {hook} priority 0; policy {verdict};");
    rules.iter().for_each(|rule| push(text, "    ", rule));
    if policy == Policy::Drop {
        log.into_iter().for_each(|log| push(text, "    ", log));
        push(text, "    ", "counter drop");
    }
    text.push_str("  }\n");
}

fn no_effect(rules: &str, chain: &str) -> Problem {
    Problem::new(format!("`{rules}` has no effect: `policy.{chain}` is `accept`"))
        .help(format!("set `policy: {{ {chain}: drop }}`, or say what to `deny`"))
}

/// A text of several lines, indented as its place is.
fn push(text: &mut String, indent: &str, lines: &str) {
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let _ = writeln!(text, "{indent}{}", line.trim_end());
    }
}

fn users_match(users: &[String], operator: &str) -> String {
    match users {
        [one] => format!("meta skuid {operator}\"{one}\""),
        several => format!("meta skuid {operator}{{ \"{}\" }}", several.join("\", \"")),
    }
}

/// The addresses of a field where `any` says as much as leaving it out.
fn addresses(field: &str, values: Option<&OneOrMore>, sets: &Sets) -> Result<Option<Addresses>, Problem> {
    let values = values.filter(|values| values.0 != ["any"]);
    values.map(|values| Addresses::read(field, values, sets)).transpose()
}

impl Incoming {
    fn lines(&self, allows: bool, sets: &Sets) -> Result<Vec<String>, Problem> {
        let rule = Rule {
            incoming: true,
            interface: self.interface.as_deref(),
            addresses: addresses("from", self.from.as_ref(), sets)?,
            port: self.port.as_ref(),
            protocol: self.protocol.as_ref(),
            users: None,
            rate: self.rate.as_ref(),
            comment: self.comment.as_deref(),
            allows,
        };
        rule.lines(sets)
    }
}

impl Outgoing {
    fn lines(&self, allows: bool, sets: &Sets) -> Result<Vec<String>, Problem> {
        let (users, operator) = match (&self.users, &self.except_users) {
            (Some(_), Some(_)) => {
                return Err(Problem::new("a rule has either `users` or `except_users`, not both"));
            }
            (Some(users), None) => (users.as_slice(), ""),
            (None, Some(users)) => (users.as_slice(), "!= "),
            (None, None) => (&[][..], ""),
        };
        if users.is_empty() && (self.users.is_some() || self.except_users.is_some()) {
            return Err(Problem::new("a rule about users names one at least"));
        }
        let users: Vec<String> = users.iter().map(|user| user.0.clone()).collect();
        let rule = Rule {
            incoming: false,
            interface: self.interface.as_deref(),
            addresses: addresses("to", self.to.as_ref(), sets)?,
            port: self.port.as_ref(),
            protocol: self.protocol.as_ref(),
            users: (!users.is_empty()).then(|| users_match(&users, operator)),
            rate: self.rate.as_ref(),
            comment: self.comment.as_deref(),
            allows,
        };
        rule.lines(sets)
    }
}

#[cfg(test)]
mod tests {
    use crate::system::fake::Fake;
    use crate::testing::Example;

    /// The rules that are not in every file.
    fn rules(fields: &str) -> String {
        let mut fake = Fake::builder();
        fake.directory("/usr/sbin");
        fake.file("/usr/sbin/nft", "");
        Example::resources(&format!("- firewall: {{ {fields} }}")).settles(&mut fake);
        let text = fake.text("/etc/nftables.conf").expect("the file");
        let common = [
            "#",
            "type ",
            "ct state vmap",
            "iif ",
            "icmp",
            "udp sport",
            "ip6 saddr fe80",
            "limit rate 5/minute log",
        ];
        let is_common =
            |line: &str| line.trim().is_empty() || common.iter().any(|start| line.trim().starts_with(start));
        text.lines().filter(|line| !is_common(line)).map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn what_comes_in_is_denied_and_allowed_by_all_that_is_said() {
        insta::assert_snapshot!(rules(
            "sets: { office: [198.51.100.0/24, 10.0.0.5-10.0.0.9, '2001:db8::/32'], lab: 10.9.0.0/16 }, \
             deny: [ { from: 203.0.113.7 }, { port: 22, rate: 10/second } ], \
             allow: [ { port: [80, 443, 8000-8010], interface: 'eth*', comment: the web }, \
                      { port: 22, from: ['@office', '@lab', 192.0.2.1, 192.0.2.9], rate: 60/minute }, \
                      { port: 53, protocol: [tcp, udp], from: any }, { protocol: icmp, from: 'fd00::/8' }, { protocol: [udp, icmp] }, { interface: wg0 } ]"
        ), @r#"
        table inet filter
        delete table inet filter
        table inet filter {
          set lab_v4 {
            flags interval
            auto-merge
            elements = { 10.9.0.0/16 }
          }
          set office_v4 {
            flags interval
            auto-merge
            elements = { 198.51.100.0/24, 10.0.0.5-10.0.0.9 }
          }
          set office_v6 {
            flags interval
            auto-merge
            elements = { 2001:db8::/32 }
          }
          chain input {
            ip saddr 203.0.113.7 counter drop
            tcp dport 22 limit rate over 10/second counter drop
            iifname "eth*" tcp dport { 80, 443, 8000-8010 } accept comment "the web"
            ip saddr { 192.0.2.1, 192.0.2.9 } tcp dport 22 limit rate 60/minute accept
            ip saddr @office_v4 tcp dport 22 limit rate 60/minute accept
            ip6 saddr @office_v6 tcp dport 22 limit rate 60/minute accept
            ip saddr @lab_v4 tcp dport 22 limit rate 60/minute accept
            meta l4proto { tcp, udp } th dport 53 accept
            ip6 saddr fd00::/8 meta l4proto { icmp, ipv6-icmp } accept
            meta l4proto { udp, icmp, ipv6-icmp } accept
            iifname "wg0" accept
            counter drop
          }
          chain forward {
            counter drop
          }
          chain output {
          }
        }
        "#);
    }

    #[test]
    fn what_goes_out_may_be_for_some_users_and_rules_may_be_as_nft_has_them() {
        insta::assert_snapshot!(rules(
            "metadata_users: root, policy: { output: drop }, flush_ruleset: true, log_drops: never, \
             outgoing: { deny: [ { port: 25, except_users: [root] } ], \
                         allow: [ { port: 443, to: '2001:db8::1', users: [root] }, { port: 123, protocol: udp } ] }, \
             rules: { table: [\"chain nat {\\n  type nat hook postrouting priority srcnat;\\n  masquerade\\n}\"], \
                      input: [tcp dport 2222 accept], forward: [oifname \"eth1\" accept], output: [ip daddr 192.0.2.1 accept] }"
        ), @r#"
        flush ruleset
        table inet filter {
          chain nat {
            masquerade
          }
          chain input {
            tcp dport 2222 accept
            counter drop
          }
          chain forward {
            oifname "eth1" accept
            counter drop
          }
          chain output {
            ip daddr 169.254.169.254 meta skuid != "root" counter reject with icmpx type admin-prohibited
            ip6 daddr fd00:ec2::254 meta skuid != "root" counter reject with icmpx type admin-prohibited
            ct state established,related accept
            oif lo accept
            tcp dport 25 meta skuid != "root" counter reject with icmpx type admin-prohibited
            ip daddr 192.0.2.1 accept
            ip6 daddr 2001:db8::1 tcp dport 443 meta skuid "root" accept
            udp dport 123 accept
            counter drop
          }
        }
        "#);
    }

    #[test]
    fn rules_that_nobody_meant_are_explained() {
        let rule =
            |rule: &str| Example::resources(&format!("- firewall: {{ allow: [ {{ {rule} }} ] }}")).problems();
        insta::assert_snapshot!(rule("comment: all"), @"example/recipe.yaml:2:15: a rule of a firewall says nothing about the packets that it is for; to decide what becomes of all others, set `policy`");
        insta::assert_snapshot!(rule("port: 0"), @"example/recipe.yaml:2:15: `0` is not a port (1-65535); write a number, a range such as `8000-8010`, or a list of them");
        insta::assert_snapshot!(rule("port: 90-80"), @"example/recipe.yaml:2:15: `90-80` is not a port (1-65535); write a number, a range such as `8000-8010`, or a list of them");
        insta::assert_snapshot!(rule("port: []"), @"example/recipe.yaml:2:15: `port` is empty; leave it out for any port");
        insta::assert_snapshot!(rule("port: 22, protocol: icmp"), @"example/recipe.yaml:2:15: `icmp` has no ports; leave out `port`");
        insta::assert_snapshot!(rule("port: 22, protocol: tpc"), @"example/recipe.yaml:2:15: `tpc` is not a `protocol` here; did you mean `tcp`? valid are `tcp`, `udp` and `icmp`");
        insta::assert_snapshot!(rule("port: 22, from: []"), @"example/recipe.yaml:2:15: `from` is empty; leave it out for any address; nothing matches an empty list");
        insta::assert_snapshot!(rule("port: 22, from: 10.0.0.0/33"), @"example/recipe.yaml:2:15: `10.0.0.0/33` is not an address; write an address, a network such as `10.0.0.0/8`, a range such as `10.0.0.5-10.0.0.9`, or `@NAME` for one of the `sets`");
        insta::assert_snapshot!(rule("port: 22, from: '@office'"), @"example/recipe.yaml:2:15: there is no set `office` for `from`; no name is valid here");
        insta::assert_snapshot!(rule("port: 22, interface: 'a\" accept'"), @r#"example/recipe.yaml:2:15: `a\" accept` is not the name of an interface; it has at most 15 letters, digits, `-`, `_`, `.`, `:` and `@`, and may end in `*`"#);
        insta::assert_snapshot!(rule("port: 22, comment: 'a\" accept'"), @"example/recipe.yaml:2:15: a `comment` has at most 128 characters, in one line, without a quote");
        insta::assert_snapshot!(rule("port: 22, rate: 60"), @"example/recipe.yaml:2:26: `60` is not a rate; write one such as `60/minute`, of a `second`, `minute`, `hour` or `day`");
        let raw = |line: &str| {
            Example::resources(&format!("- firewall: {{ rules: {{ input: ['{line}'] }} }}")).problems()
        };
        insta::assert_snapshot!(raw("accept } chain x {"), @"example/recipe.yaml:2:15: `accept } chain x {` of `rules.input` leaves a brace or a quote open; each element is whole: a rule, or a set or chain with its braces");
        let set = Example::resources("- firewall: { sets: { 'a-b': 10.0.0.1 } }").problems();
        insta::assert_snapshot!(set, @"example/recipe.yaml:2:15: `a-b` is not the name of a set: letters, digits and `_`, at most 31, starting with a letter");
    }
}
