//! `service`: a systemd unit, enabled and running or not.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::{Op, UnitAction};
use crate::system::units::{self, Enablement};
use crate::system::{Facts, Known, PlanError};

/// A systemd unit: whether it is started at boot, and whether it runs now.
///
/// Units are enabled by their links, so this works on a tree that is not booted; they are started only
/// where systemd runs the host. `reloaded` and `restarted` are for handlers: they do something only if
/// the unit is active.
///
/// ```yaml
/// - service: { name: nginx, enabled: true, state: running }
/// - service: { name: apt-daily.timer, masked: true, state: stopped }
/// handlers:
///   reload nginx: { service: { name: nginx, state: reloaded } }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    /// The unit; without a suffix it is a `.service`.
    name: String,
    /// Whether it is started at boot; left as it is if not said.
    enabled: Option<bool>,
    /// Whether it cannot be started at all; left as it is if not said.
    masked: Option<bool>,
    /// `running` or `stopped`, or for handlers `reloaded` or `restarted`; left as it is if not said.
    state: Option<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum State {
    Running,
    Stopped,
    Reloaded,
    Restarted,
}

impl Fields for Service {
    const KIND: &'static str = "service";

    fn build(mut self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        // systemd.unit(5): letters, digits, and these.
        let valid = self.name.chars().all(|c| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c));
        if !valid || self.name.is_empty() || self.name.starts_with('-') {
            return Err(Problem::new(format!("`{}` is not the name of a unit", self.name)));
        }
        self.name = units::full_name(&self.name);
        match (self.masked, self.enabled, self.state) {
            (None, None, None) => {
                return Err(Problem::new("a `service` needs `enabled`, `masked` or `state`"));
            }
            (Some(true), Some(true), _) | (Some(true), _, Some(State::Running)) => {
                return Err(Problem::new("a unit that is masked cannot be enabled or running"));
            }
            _ => {}
        }
        if self.is_reaction() && (self.enabled.is_some() || self.masked.is_some()) {
            return Err(Problem::new(
                "`reloaded` and `restarted` stand alone: nothing else is decided with them",
            ));
        }
        Ok(Box::new(self))
    }
}

impl Resource for Service {
    fn subject(&self) -> String {
        self.name.clone()
    }

    fn claims(&self) -> Vec<Claim> {
        let mut claims = vec![Claim::Unit(self.name.clone())];
        if self.masked == Some(true) {
            // The mask is a link where a unit file of the administrator would be.
            claims.push(Claim::Path(Path::new("/etc/systemd/system").join(&self.name)));
        }
        claims
    }

    fn is_reaction(&self) -> bool {
        matches!(self.state, Some(State::Reloaded | State::Restarted))
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let op = |action| Op::Unit { name: self.name.clone(), action };
        let booted = facts.host().systemd;
        if self.is_reaction() {
            let reacts = booted && facts.active(&self.name)? != Known::Yes(false);
            let action =
                if self.state == Some(State::Reloaded) { UnitAction::Reload } else { UnitAction::Restart };
            return Ok(if reacts { vec![op(action)] } else { Vec::new() });
        }
        let unit = units::unit(facts, &self.name)?.known()?;
        let wants_it = self.enabled == Some(true) || self.state == Some(State::Running);
        if !unit.exists && wants_it {
            return Err(PlanError::impossible_but(
                format!("there is no unit `{}`", self.name),
                "install the package that brings it before, or write its unit file",
            ));
        }
        let masked = unit.enablement == Enablement::Masked;
        let mut ops = Vec::new();
        if masked && (self.masked == Some(false) || wants_it) {
            if self.masked != Some(false) {
                return Err(PlanError::impossible_but(
                    format!("the unit `{}` is masked", self.name),
                    "write `masked: false` to unmask it",
                ));
            }
            ops.push(op(UnitAction::Unmask));
        }
        match (self.enabled, unit.enablement) {
            (Some(true), Enablement::Static) => {
                return Err(PlanError::impossible_but(
                    format!(
                        "the unit `{}` cannot be enabled: its file has no `[Install]` section",
                        self.name
                    ),
                    "other units start it; leave `enabled` out",
                ));
            }
            (Some(true), Enablement::Disabled | Enablement::Masked) => ops.push(op(UnitAction::Enable)),
            (Some(false), Enablement::Enabled) => ops.push(op(UnitAction::Disable)),
            _ => {}
        }
        if booted {
            let active = facts.active(&self.name)?.known()?;
            match self.state {
                Some(State::Running) if !active => ops.push(op(UnitAction::Start)),
                Some(State::Stopped) if active => ops.push(op(UnitAction::Stop)),
                _ => {}
            }
        }
        // Masked last: a masked unit can still be stopped, but links are better gone before.
        if self.masked == Some(true) && !masked {
            ops.push(op(UnitAction::Mask));
        }
        Ok(ops)
    }
}

#[cfg(test)]
mod tests {
    use crate::system::fake::Fake;
    use crate::testing::Example;

    fn with_nginx(mut fake: Fake) -> Fake {
        fake.file("/usr/lib/systemd/system/nginx.service", "[Install]\nWantedBy=multi-user.target\n");
        fake
    }

    #[test]
    fn settles_enabled_running_stopped_and_masked() {
        let mut fake = with_nginx(Fake::debian());
        insta::assert_snapshot!(Example::resources("- service: { name: nginx, enabled: true, state: running }").settles(&mut fake), @"
        example: service nginx.service
          + enable nginx.service
          > start nginx.service
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(Example::resources("- service: { name: nginx, enabled: false, state: stopped }").settles(&mut fake), @"
        example: service nginx.service
          - disable nginx.service
          > stop nginx.service
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(Example::resources("- service: { name: nginx, masked: true }").settles(&mut fake), @"
        example: service nginx.service
          - mask nginx.service
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(Example::resources("- service: { name: nginx, masked: false, enabled: true }").settles(&mut fake), @"
        example: service nginx.service
          + unmask nginx.service
          + enable nginx.service
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn nothing_is_started_where_systemd_does_not_run_the_host() {
        use crate::system::{Facts, Host};
        let host = Host { systemd: false, ..Fake::debian().host().clone() };
        let mut fake = with_nginx(Fake::with_host(host));
        insta::assert_snapshot!(Example::resources("- service: { name: nginx, enabled: true, state: running }").settles(&mut fake), @"
        example: service nginx.service
          + enable nginx.service
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn what_cannot_be_is_named() {
        let mut fake = with_nginx(Fake::debian());
        fake.file("/usr/lib/systemd/system/static.service", "[Service]\n");
        fake.symlink("/etc/systemd/system/off.service", "/dev/null");
        let fails =
            |fields: &str, fake: &mut Fake| Example::resources(&format!("- service: {fields}")).fails(fake);
        insta::assert_snapshot!(fails("{ name: ngnix, enabled: true }", &mut fake), @"example: service ngnix.service: there is no unit `ngnix.service`; install the package that brings it before, or write its unit file");
        insta::assert_snapshot!(fails("{ name: static, enabled: true }", &mut fake), @"example: service static.service: the unit `static.service` cannot be enabled: its file has no `[Install]` section; other units start it; leave `enabled` out");
        insta::assert_snapshot!(fails("{ name: off, state: running }", &mut fake), @"example: service off.service: the unit `off.service` is masked; write `masked: false` to unmask it");
        Example::resources("- service: { name: nothing, enabled: false, state: stopped }").settles(&mut fake);
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |fields: &str| Example::resources(&format!("- service: {fields}")).problems();
        insta::assert_snapshot!(problems("{ name: nginx }"), @"example/recipe.yaml:2:14: a `service` needs `enabled`, `masked` or `state`");
        insta::assert_snapshot!(problems("{ name: 'a b', enabled: true }"), @"example/recipe.yaml:2:14: `a b` is not the name of a unit");
        insta::assert_snapshot!(problems("{ name: a, masked: true, state: running }"), @"example/recipe.yaml:2:14: a unit that is masked cannot be enabled or running");
        insta::assert_snapshot!(problems("{ name: a, state: restarted, enabled: true }"), @"example/recipe.yaml:2:14: `reloaded` and `restarted` stand alone: nothing else is decided with them");
        insta::assert_snapshot!(problems("{ name: a, state: reloaded }"), @"example/recipe.yaml:2:5: this is done every time, so it is for a handler; put it under `handlers:` and `notify` it from what it depends on");
        insta::assert_snapshot!(problems("{ name: a, state: started }"), @"example/recipe.yaml:2:32: `started` is not a valid value here; did you mean `restarted`? valid are `running`, `stopped`, `reloaded` and `restarted`");
    }
}
