//! `firewall`: what the host lets in, through and out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::contents::{Contents, user_exists};
use super::fields::{AbsolutePath, AccountName, HostName, OneOrMore};
use super::nftables::{Rate, is_identifier};
use super::{Claim, Context, Fields, Resource};
use crate::duration::Span;
use crate::error::Problem;
use crate::op::{Command, Confirm, Content, LoadFirewall, Op, UnitAction};
use crate::system::units::{self, Enablement};
use crate::system::{Attributes, Facts, Mode, PlanError};
use crate::words::Words;

mod ruleset;

/// A table of nftables: what is let in, through and out, and what is not.
///
/// The rules are one file that `nft` has accepted. It replaces the table as a whole, in one transaction, and
/// leaves the tables of others, such as Docker's, as they are. `nftables.service` loads it at every boot. A
/// bake loads nothing. On a live host that systemd runs, a table that is not just as the file makes it, be it
/// changed by hand, is loaded again.
///
/// A load cannot lock anybody out: before it, a timer is set that brings the old rules back. It is stopped
/// only when the new ones have proved themselves by what `confirm` says. If they do not, or the run is cut
/// off, the old rules are in force again, the file stays as it was, and the resource has failed.
///
/// In this order a packet that comes in is looked at: connections that exist, the host itself, what IPv6 and
/// DHCP need, `deny`, `rules`, `allow`, `policy`.
///
/// ```yaml
/// - firewall:
///     sets: { office: [198.51.100.0/24, "2001:db8::/32"] }
///     allow:
///       - { port: [80, 443] }
///       - { port: 22, from: "@office", rate: 60/minute, comment: administrators }
///     deny: [ { from: 203.0.113.0/24 } ]
///     metadata_users: root
///     confirm: { within: 20s, tcp: "repository.internal:443" }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Firewall {
    /// The table, of the family `inet`; `filter` if not said. Letters, digits and `_`.
    name: Option<String>,
    /// The file; `/etc/nftables.conf`, which `nftables.service` loads, if not said. Another one has to be
    /// included there.
    path: Option<AbsolutePath>,
    /// What becomes of packets that no rule is about.
    #[serde(default)]
    policy: Policies,
    /// Addresses that rules name as `@NAME`: addresses, networks such as `10.0.0.0/8` and ranges such as
    /// `10.0.0.5-10.0.0.9`, of both families.
    #[serde(default)]
    sets: BTreeMap<String, OneOrMore>,
    /// What may come in.
    #[serde(default)]
    allow: Vec<Incoming>,
    /// What may not come in. It is dropped.
    #[serde(default)]
    deny: Vec<Incoming>,
    /// What may go out, and what may not.
    #[serde(default)]
    outgoing: Both,
    /// Who may reach the instance metadata service (`169.254.169.254` and `fd00:ec2::254`): users, or `any`;
    /// `any` if not said.
    metadata_users: Option<OneOrMore>,
    /// Whether the host answers pings, ten in a second; `true` if not said.
    ping: Option<bool>,
    /// Whether the host may get its addresses by DHCP; `true` if not said.
    dhcp: Option<bool>,
    /// How many packets that a `policy` drops are logged, or `never`; `5/minute` if not said.
    log_drops: Option<String>,
    /// Rules as nft has them, for what cannot be said otherwise. Interfaces are named with `iifname`, as
    /// one of `iif` has to be there when a rule is read.
    #[serde(default)]
    rules: Raw,
    /// Whether the tables of others go when the rules are loaded; `false` if not said.
    #[serde(default)]
    flush_ruleset: bool,
    /// What proves on a live host that the rules lock nobody out.
    #[serde(default)]
    confirm: Proof,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Policies {
    /// Of what comes in: `accept` or `drop`; `drop` if not said.
    input: Option<Policy>,
    /// Of what is passed on: `accept` or `drop`; `drop` if not said.
    forward: Option<Policy>,
    /// Of what goes out: `accept` or `drop`; `accept` if not said.
    output: Option<Policy>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Policy {
    Accept,
    Drop,
}

/// Packets that come in. All that is said must hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Incoming {
    /// To which port, range such as `8000-8010`, or list of them; any if not said.
    port: Option<OneOrMore>,
    /// `tcp`, `udp`, `icmp` (that of IPv6 as well), or a list; with a `port` `tcp` if not said, else any.
    protocol: Option<OneOrMore>,
    /// From which address, network, range, `@SET`, or list of them; `any` if not said.
    from: Option<OneOrMore>,
    /// By which interface; `*` at the end stands for the rest of a name.
    interface: Option<String>,
    /// How often, such as `60/minute`: allowed up to it, or denied beyond it.
    rate: Option<Rate>,
    /// Why, for those who list the rules.
    comment: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Both {
    /// What may go out, where `policy.output` is `drop`.
    #[serde(default)]
    allow: Vec<Outgoing>,
    /// What may not go out. Who tries is told so.
    #[serde(default)]
    deny: Vec<Outgoing>,
}

/// Packets that go out. All that is said must hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Outgoing {
    /// To which port, range such as `8000-8010`, or list of them; any if not said.
    port: Option<OneOrMore>,
    /// `tcp`, `udp`, `icmp` (that of IPv6 as well), or a list; with a `port` `tcp` if not said, else any.
    protocol: Option<OneOrMore>,
    /// To which address, network, range, `@SET`, or list of them; `any` if not said.
    to: Option<OneOrMore>,
    /// By which interface; `*` at the end stands for the rest of a name.
    interface: Option<String>,
    /// Sent by programs of these users.
    users: Option<Vec<AccountName>>,
    /// Sent by programs of other users than these.
    except_users: Option<Vec<AccountName>>,
    /// How often, such as `60/minute`: allowed up to it, or denied beyond it.
    rate: Option<Rate>,
    /// Why, for those who list the rules.
    comment: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Raw {
    /// Sets, maps and chains of the table.
    #[serde(default)]
    table: Vec<String>,
    /// Rules about what comes in.
    #[serde(default)]
    input: Vec<String>,
    /// Rules about what is passed on.
    #[serde(default)]
    forward: Vec<String>,
    /// Rules about what goes out.
    #[serde(default)]
    output: Vec<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Proof {
    /// How long it may take, from `1s` to `10m`; `30s` if not said.
    within: Option<Span>,
    /// Whether the connection that the run came in by, such as one of SSH, must still carry packets both
    /// ways; `true` if not said. A run that came in by none has nothing to prove.
    session: Option<bool>,
    /// What the host must still reach: `HOST:PORT`, or a list of them.
    tcp: Option<OneOrMore>,
    /// A command that must succeed.
    command: Option<Words>,
}

/// What nftables.service(8) of Debian and Ubuntu loads.
const DEFAULT_PATH: &str = "/etc/nftables.conf";

const UNIT: &str = "nftables.service";

const NFT: &str = "/usr/sbin/nft";

#[derive(Debug)]
struct Resolved {
    table: String,
    path: PathBuf,
    ruleset: String,
    flushes: bool,
    /// Who is named in rules: nft wants to know their numbers.
    users: Vec<String>,
    confirm: Confirm,
}

impl Fields for Firewall {
    const KIND: &'static str = "firewall";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let table = self.name.clone().unwrap_or_else(|| "filter".into());
        is_identifier("table", &table)?;
        let ruleset = self.text(&table)?;
        let mut users: Vec<String> = Vec::new();
        for rule in self.outgoing.allow.iter().chain(&self.outgoing.deny) {
            let named = rule.users.iter().chain(&rule.except_users).flatten();
            users.extend(named.map(|user| user.0.clone()));
        }
        users.extend(self.metadata_users()?.into_iter().flatten());
        let path = self.path.map_or_else(|| DEFAULT_PATH.into(), |path| path.as_path().to_owned());
        let confirm = self.confirm.read()?;
        Ok(Box::new(Resolved { table, path, ruleset, flushes: self.flush_ruleset, users, confirm }))
    }
}

impl Proof {
    fn read(self) -> Result<Confirm, Problem> {
        let within = self.within.map_or(Duration::from_secs(30), |span| span.0);
        if within < Duration::from_secs(1) || within > Duration::from_mins(10) {
            return Err(Problem::new("`confirm.within` is out of range (1s-10m)"));
        }
        let tcp = self.tcp.map(|values| values.0).unwrap_or_default();
        let tcp = tcp.iter().map(|text| host_and_port(text)).collect::<Result<_, _>>()?;
        let command = self.command.map(|words| Command::new(words.0));
        Ok(Confirm { within, session: self.session.unwrap_or(true), tcp, command })
    }
}

/// `HOST:PORT`, where an IPv6 address is in brackets (RFC 3986, 3.2.2).
fn host_and_port(text: &str) -> Result<(String, u16), Problem> {
    let read = || {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
        if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return address.parse::<std::net::Ipv6Addr>().ok().map(|ip| (ip.to_string(), port));
        }
        let name: HostName = serde_json::from_value(host.into()).ok()?;
        Some((name.0, port))
    };
    read().ok_or_else(|| {
        Problem::new(format!("`{text}` is not something that `confirm.tcp` can reach")).help(
            "write a name or address and a port: `db.internal:5432`, `10.0.0.5:443` or `[2001:db8::5]:443`",
        )
    })
}

impl Resolved {
    fn load(&self) -> Op {
        Op::LoadFirewall(LoadFirewall {
            table: self.table.clone(),
            ruleset: Content::new(self.ruleset.as_str()),
            flushes: self.flushes,
            confirm: self.confirm.clone(),
        })
    }

    fn plan_unit(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        if self.path != Path::new(DEFAULT_PATH) {
            return Ok(Vec::new());
        }
        let unit = units::unit(facts, UNIT)?.known()?;
        match unit.enablement {
            Enablement::Masked => Err(PlanError::impossible_but(
                format!("the unit `{UNIT}` is masked, so no boot would load the rules"),
                format!("unmask it before: `systemctl unmask {UNIT}`"),
            )),
            Enablement::Disabled if unit.exists => {
                Ok(vec![Op::Unit { name: UNIT.into(), action: UnitAction::Enable }])
            }
            _ => Ok(Vec::new()),
        }
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        format!("inet {}", self.table)
    }

    fn claims(&self) -> Vec<Claim> {
        let table = Claim::Setting { of: "nftables", key: format!("table inet {}", self.table) };
        let unit = (self.path == Path::new(DEFAULT_PATH)).then(|| Claim::Unit(UNIT.into()));
        [Claim::Path(self.path.clone()), table].into_iter().chain(unit).collect()
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        if facts.entry(Path::new(NFT))?.known()?.is_none() {
            return Err(PlanError::impossible_but(
                format!("`{NFT}` does not exist"),
                "put a `package: { name: nftables }` before it",
            ));
        }
        self.users.iter().try_for_each(|user| user_exists(facts, user))?;
        let contents = Contents {
            path: self.path.clone(),
            content: Content::new(self.ruleset.as_str()),
            // Who may log in need not know where the host is open.
            attributes: Attributes { owner: "root".into(), group: "root".into(), mode: 0o640 },
            validate: Some([NFT, "-c", "-f", "{file}"].map(str::to_owned).to_vec()),
        };
        let file = contents.plan(facts)?;
        let is_other = file.iter().any(|op| matches!(op, Op::WriteFile(_)));
        let host = facts.host();
        let mut ops = Vec::new();
        // The file comes after: what is not confirmed is not loaded at the next boot either.
        if host.mode == Mode::Live
            && host.systemd
            && (is_other || !facts.firewall_loaded(&self.path, &self.table)?.known()?)
        {
            ops.push(self.load());
        }
        ops.extend(file);
        ops.extend(self.plan_unit(facts)?);
        Ok(ops)
    }
}

#[cfg(test)]
mod tests {
    use crate::op::{Content, Op};
    use crate::system::fake::Fake;
    use crate::system::{Facts, Host};
    use crate::testing::Example;

    fn with_nft(mut fake: Fake) -> Fake {
        fake.directory("/usr/sbin");
        fake.file("/usr/sbin/nft", "");
        let unit = "/usr/lib/systemd/system/nftables.service";
        fake.file(unit, "[Install]\nWantedBy=sysinit.target\n");
        fake
    }

    fn firewall(fields: &str) -> Example {
        Example::resources(&format!("- firewall: {{ {fields} }}"))
    }

    /// What is performed, in a word each.
    fn performed(fake: &Fake, from: usize) -> Vec<&'static str> {
        let word = |op: &Op| match op {
            Op::LoadFirewall(_) => "load",
            Op::WriteFile(_) => "write",
            Op::Unit { .. } => "enable",
            _ => "other",
        };
        fake.performed[from..].iter().map(word).collect()
    }

    #[test]
    fn settles_loaded_before_it_is_written_down_and_again_when_it_was_changed_by_hand() {
        let mut fake = with_nft(Fake::debian());
        let example = firewall("policy: { input: accept, forward: accept }");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: firewall inet filter
          > load the table inet filter, and take it back unless it proves itself within 30s
          + create /etc/nftables.conf (root:root 0640, 1037 bytes)
              --- /dev/null
              +++ /etc/nftables.conf
              @@ -0,0 +1,26 @@
              +#!/usr/sbin/nft -f
              +# Made by a `firewall`; what is changed here is lost.
              +
              +table inet filter
              +delete table inet filter
              +
              +table inet filter {
              +  chain input {
              +    type filter hook input priority 0; policy accept;
              +    ct state vmap { established : accept, related : accept, invalid : drop }
              +    iif lo accept
              +    iif != lo ip saddr 127.0.0.0/8 counter drop
              +    iif != lo ip6 saddr ::1 counter drop
              +    icmp type { destination-unreachable, time-exceeded, parameter-problem, echo-request } limit rate 10/second accept
              +    icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem, echo-request, nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert, mld-listener-query } accept
              +    udp sport 67 udp dport 68 accept
              +    ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept
              +  }
              +  chain forward {
              +    type filter hook forward priority 0; policy accept;
              +    ct state vmap { established : accept, related : accept, invalid : drop }
              +  }
              +  chain output {
              +    type filter hook output priority 0; policy accept;
              +  }
              +}
          + enable nftables.service
        Plan: 1 to change, 0 unchanged.
        ");
        let Some(Op::LoadFirewall(mut other)) = fake.performed.first().cloned() else { panic!("a load") };
        other.ruleset = Content::new("changed by hand");
        fake.apply(&Op::LoadFirewall(other));
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: firewall inet filter
          > load the table inet filter, and take it back unless it proves itself within 30s
        Plan: 1 to change, 0 unchanged.
        ");
        let before = fake.performed.len();
        firewall("allow: [ { port: 22 } ]").settles(&mut fake);
        assert_eq!(performed(&fake, before), ["load", "write"]);
    }

    #[test]
    fn a_bake_and_a_host_that_nothing_would_rescue_load_nothing() {
        let mut fake = with_nft(Fake::builder());
        firewall("allow: [ { port: 22 } ]").settles(&mut fake);
        assert_eq!(performed(&fake, 0), ["write", "enable"]);
        let host = Host { systemd: false, ..Fake::debian().host().clone() };
        let mut fake = with_nft(Fake::with_host(host));
        firewall("allow: [ { port: 22 } ]").settles(&mut fake);
        assert_eq!(performed(&fake, 0), ["write", "enable"]);
    }

    #[test]
    fn another_file_is_for_whoever_includes_it() {
        let mut fake = with_nft(Fake::debian());
        firewall("name: app, path: /etc/app.nft").settles(&mut fake);
        assert_eq!(performed(&fake, 0), ["load", "write"]);
        assert!(fake.text("/etc/app.nft").is_some_and(|text| text.contains("delete table inet app")));
    }

    #[test]
    fn what_proves_it_reaches_the_load() {
        let mut fake = with_nft(Fake::debian());
        firewall("confirm: { within: 90s, session: false, tcp: [db.internal:5432, '[2001:db8::5]:443'], command: curl -f x }")
            .settles(&mut fake);
        let Some(Op::LoadFirewall(load)) = fake.performed.first() else { panic!("a load") };
        assert_eq!((load.confirm.within.as_secs(), load.confirm.session), (90, false));
        assert_eq!(load.confirm.tcp, [("db.internal".into(), 5432), ("2001:db8::5".into(), 443)]);
        assert_eq!(load.confirm.command.as_ref().expect("a command").argv, ["curl", "-f", "x"]);
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        insta::assert_snapshot!(firewall("name: a").fails(&mut Fake::debian()), @"example: firewall inet a: `/usr/sbin/nft` does not exist; put a `package: { name: nftables }` before it");
        let mut fake = with_nft(Fake::debian());
        insta::assert_snapshot!(firewall("metadata_users: [root, app]").fails(&mut fake), @"example: firewall inet filter: the user `app` does not exist; put a `user: { name: app }` before it");
        fake.symlink("/etc/systemd/system/nftables.service", "/dev/null");
        insta::assert_snapshot!(firewall("name: a").fails(&mut fake), @"example: firewall inet a: the unit `nftables.service` is masked, so no boot would load the rules; unmask it before: `systemctl unmask nftables.service`");
        let plan = Example::resources("- package: { name: nftables }\n- firewall: {}");
        insta::assert_snapshot!(plan.plan(&Fake::debian()).expect("a plan"), @"
        example: package nftables
          + install nftables
        example: firewall inet filter (assumed)
          ? known after apply: whether installing nftables brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |fields: &str| firewall(fields).problems();
        insta::assert_snapshot!(problems("name: a b"), @"example/recipe.yaml:2:15: `a b` is not the name of a table: letters, digits and `_`, at most 31, starting with a letter");
        insta::assert_snapshot!(problems("confirm: { within: 1h }"), @"example/recipe.yaml:2:15: `confirm.within` is out of range (1s-10m)");
        insta::assert_snapshot!(problems("confirm: { tcp: 'db' }"), @"example/recipe.yaml:2:15: `db` is not something that `confirm.tcp` can reach; write a name or address and a port: `db.internal:5432`, `10.0.0.5:443` or `[2001:db8::5]:443`");
        insta::assert_snapshot!(problems("allow: [ { protocol: [] } ]"), @"example/recipe.yaml:2:15: `protocol` is empty; leave it out for any");
        insta::assert_snapshot!(problems("allow: [ { port: 22, protocol: [] } ]"), @"example/recipe.yaml:2:15: `protocol` is empty; leave it out for `tcp`");
        insta::assert_snapshot!(problems("metadata_users: []"), @"example/recipe.yaml:2:15: `metadata_users` is empty; name `root` at least");
        insta::assert_snapshot!(problems("outgoing: { deny: [ { users: [] } ] }"), @"example/recipe.yaml:2:15: a rule about users names one at least");
        insta::assert_snapshot!(problems("policy: { input: reject }"), @"example/recipe.yaml:2:34: `reject` is not a valid value here; valid are `accept` and `drop`");
        insta::assert_snapshot!(problems("policy: { input: accept }, allow: [ { port: 22 } ]"), @"example/recipe.yaml:2:15: `allow` has no effect: `policy.input` is `accept`; set `policy: { input: drop }`, or say what to `deny`");
        insta::assert_snapshot!(problems("outgoing: { allow: [ { port: 443 } ] }"), @"example/recipe.yaml:2:15: `outgoing.allow` has no effect: `policy.output` is `accept`; set `policy: { output: drop }`, or say what to `deny`");
        insta::assert_snapshot!(problems("outgoing: { deny: [ { port: 25, users: [a], except_users: [b] } ] }"), @"example/recipe.yaml:2:15: a rule has either `users` or `except_users`, not both");
        insta::assert_snapshot!(problems("metadata_users: 'a b'"), @"example/recipe.yaml:2:15: `a b` is not a name for a user or group: lower-case letters, digits, `-` and `_`, at most 32, not starting with a digit");
        insta::assert_snapshot!(problems("log_drops: often"), @"example/recipe.yaml:2:15: `often` is not a rate; write one such as `60/minute`, of a `second`, `minute`, `hour` or `day`; for no log write `log_drops: never`");
        let twice = "- firewall: {}\n- service: { name: nftables, enabled: false }";
        insta::assert_snapshot!(Example::resources(twice).problems(), @"example/recipe.yaml:3:5: the unit `nftables.service` is decided twice, differently (first here: example/recipe.yaml:2:5)");
    }
}
