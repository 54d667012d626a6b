//! `wait_for`: something that other programs bring about must hold before the run goes on.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::AbsolutePath;
use super::program::Surroundings;
use super::{Claim, Context, Fields, Resource};
use crate::duration::Span;
use crate::error::Problem;
use crate::op::{Command, Op};
use crate::system::condition::Condition;
use crate::system::units::full_name;
use crate::system::{Facts, PlanError};
use crate::words::Words;

/// How long is waited if nothing is said, as for the checks of an image.
const WITHIN: Duration = Duration::from_secs(30);

/// Something that must hold before the run goes on, and that the host brings about by itself: a port that
/// answers, a path that is there or gone, a unit that runs or has stopped, a command that succeeds.
///
/// It is looked at at once and then at least twice a second. What is not seen in time is an error that says
/// what was seen last. If it holds already, there is nothing to do, so after a bake it has to hold still.
/// Services are waited for only where systemd runs the host.
///
/// ```yaml
/// - wait_for: { tcp: "127.0.0.1:5432", within: 60s }
/// - wait_for: { path: /run/app/app.sock }
/// - wait_for: { service: cloud-init, state: stopped }
/// - wait_for: { command: pg_isready --quiet }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WaitFor {
    /// `HOST:PORT` that accepts connections; an IPv6 address is in brackets.
    tcp: Option<String>,
    /// A path.
    path: Option<AbsolutePath>,
    /// A systemd unit; without a suffix it is a `.service`.
    service: Option<String>,
    /// A command that succeeds. It only looks, as the guards of a `command` do.
    command: Option<Words>,
    /// Of a path `present` or `absent`, of a service `running` or `stopped`; the first of each if not said.
    state: Option<WaitState>,
    /// How long it may take; `30s` if not said.
    within: Option<Span>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum WaitState {
    Present,
    Absent,
    Running,
    Stopped,
}

#[derive(Debug)]
struct Resolved {
    condition: Condition,
    within: Duration,
}

impl Fields for WaitFor {
    const KIND: &'static str = "wait_for";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let within = self.within.map_or(WITHIN, |span| span.0);
        let state = self.state;
        let condition = match (self.tcp, self.path, self.service, self.command) {
            (Some(address), None, None, None) if state.is_none() => {
                check_address(&address)?;
                Condition::Tcp { address }
            }
            (None, Some(path), None, None) => match state {
                None | Some(WaitState::Present) => Condition::Exists(path.as_path().to_owned()),
                Some(WaitState::Absent) => Condition::Absent(path.as_path().to_owned()),
                Some(_) => return Err(Problem::new("a path is waited for to be `present` or `absent`")),
            },
            (None, None, Some(unit), None) => match state {
                None | Some(WaitState::Running) => Condition::Running(full_name(&unit)),
                Some(WaitState::Stopped) => Condition::Stopped(full_name(&unit)),
                Some(_) => return Err(Problem::new("a service is waited for to be `running` or `stopped`")),
            },
            (None, None, None, Some(words)) if state.is_none() => {
                // One try may take all of the time.
                Condition::Succeeds(Command { timeout: within, ..Surroundings::default().command(words.0)? })
            }
            _ => {
                return Err(Problem::new("a `wait_for` has one of `tcp`, `path`, `service` and `command`")
                    .help("`state` goes with `path` and `service`"));
            }
        };
        Ok(Box::new(Resolved { condition, within }))
    }
}

/// An address is found to be wrong here, not when the time is over.
fn check_address(address: &str) -> Result<(), Problem> {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    let is_host = !host.is_empty()
        && (is_bracketed || !host.contains(':'))
        && !host.contains(|c: char| c.is_whitespace() || c.is_control());
    if !is_host || !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Err(Problem::new(format!(
            "`{}` is not `HOST:PORT`, with a port of 1-65535",
            address.escape_debug()
        )));
    }
    Ok(())
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.condition.to_string()
    }

    fn claims(&self) -> Vec<Claim> {
        // To wait decides nothing.
        Vec::new()
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let is_of_unit = matches!(self.condition, Condition::Running(_) | Condition::Stopped(_));
        if is_of_unit && !facts.host().systemd {
            return Ok(Vec::new());
        }
        if self.condition.holds(facts)?.known()? {
            return Ok(Vec::new());
        }
        Ok(vec![Op::WaitFor { condition: self.condition.clone(), within: self.within }])
    }
}

#[cfg(test)]
mod tests {
    use crate::op::{Op, UnitAction};
    use crate::system::fake::Fake;
    use crate::testing::Example;

    #[test]
    fn settles_when_it_holds_at_once_or_later() {
        let mut fake = Fake::debian();
        fake.file("/run/app.sock", "");
        fake.let_accept("127.0.0.1:80");
        fake.let_succeed(&["ready"]);
        fake.comes_later(Op::Unit { name: "app.service".into(), action: UnitAction::Start });
        fake.comes_later(Op::Remove { path: "/run/lock".into(), directory: false });
        let example = Example::resources(
            "
- wait_for: { path: /run/app.sock }
- wait_for: { path: /run/none, state: absent }
- wait_for: { tcp: '127.0.0.1:80' }
- wait_for: { service: other, state: stopped }
- wait_for: { command: ready }
",
        );
        example.converge(&mut fake).expect("all holds");
        assert!(fake.performed.is_empty(), "there is nothing to wait for");
        fake.file("/run/lock", "");
        let example = Example::resources(
            "- wait_for: { service: app, within: 90s }\n- wait_for: { path: /run/lock, state: absent }",
        );
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: wait_for app.service is running
          > wait until app.service is running, at most 1m 30s
        example: wait_for /run/lock is gone
          > wait until /run/lock is gone, at most 30s
        Plan: 2 to change, 0 unchanged.
        ");
    }

    #[test]
    fn a_plan_does_not_know_what_comes_of_what_is_started() {
        let mut fake = Fake::debian();
        fake.file("/etc/systemd/system/app.service", "[Service]\nExecStart=/bin/app\n");
        let example = Example::resources(
            "
- service: { name: app, state: running }
- wait_for: { tcp: 'localhost:80' }
- wait_for: { path: /run/app.sock }
- wait_for: { service: app }
",
        );
        insta::assert_snapshot!(example.plan(&fake).expect("a plan"), @"
        example: service app.service
          > start app.service
        example: wait_for localhost:80 accepts connections (assumed)
          ? known after apply: whether localhost:80 accepts connections
        example: wait_for /run/app.sock exists (assumed)
          ? wait until /run/app.sock exists, at most 30s, unless `example: wait_for localhost:80 accepts connections` makes it
        Plan: 1 to change, 2 known after apply, 1 unchanged.
        Of these 1 observed, 1 derived, 2 assumed.
        ");
    }

    #[test]
    fn what_is_not_seen_in_time_is_an_error() {
        let example = Example::resources("- wait_for: { tcp: '127.0.0.1:80', within: 1s }");
        insta::assert_snapshot!(example.fails(&mut Fake::debian()), @"example: wait_for 127.0.0.1:80 accepts connections: failed to wait until 127.0.0.1:80 accepts connections, at most 1s: not seen within 1s: 127.0.0.1:80 accepts connections (nothing came)");
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |fields: &str| Example::resources(&format!("- wait_for: {{ {fields} }}")).problems();
        insta::assert_snapshot!(problems("within: 1s"), @"example/recipe.yaml:2:15: a `wait_for` has one of `tcp`, `path`, `service` and `command`; `state` goes with `path` and `service`");
        insta::assert_snapshot!(problems("tcp: 'a:1', path: /a"), @"example/recipe.yaml:2:15: a `wait_for` has one of `tcp`, `path`, `service` and `command`; `state` goes with `path` and `service`");
        insta::assert_snapshot!(problems("path: /a, state: running"), @"example/recipe.yaml:2:15: a path is waited for to be `present` or `absent`");
        insta::assert_snapshot!(problems("service: a, state: absent"), @"example/recipe.yaml:2:15: a service is waited for to be `running` or `stopped`");
        insta::assert_snapshot!(problems("tcp: localhost"), @"example/recipe.yaml:2:15: `localhost` is not `HOST:PORT`, with a port of 1-65535");
        for address in ["localhost", "a:0", "a:65536", "::1:80", ":80", "a b:80"] {
            assert!(problems(&format!("tcp: '{address}'")).contains("is not `HOST:PORT`"), "{address}");
        }
        assert!(Example::resources("- wait_for: { tcp: '[::1]:80' }").load().is_ok());
    }
}
