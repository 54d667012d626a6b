//! What the scanners found, and how it is told.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde_json::Value as Json;

/// What all of them found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// The hardening index of Lynis, from 0 to 100.
    pub lynis: u32,
    /// What Lynis would do besides: the number of a test, and what it says.
    pub suggestions: Vec<(String, String)>,
    /// Of each profile of the SCAP Security Guide the result of each rule.
    pub profiles: BTreeMap<String, BTreeMap<String, String>>,
    /// What ssh-audit says.
    pub ssh: Ssh,
    /// The exposure of each unit, from 0 to 10, as systemd-analyze counts it.
    pub exposure: BTreeMap<String, f64>,
    /// Units that failed.
    pub failed_units: Vec<String>,
    /// Who listens, not only for the host itself: protocol, address and program.
    pub listening: Vec<String>,
    /// Secrets in its files.
    pub leaks: Vec<String>,
}

/// What ssh-audit says of a server.
#[derive(Debug, Default)]
pub struct Ssh {
    /// Algorithms that are broken, and why.
    pub failures: Vec<String>,
    /// Algorithms that it would rather not see, and why.
    pub warnings: Vec<String>,
    /// Whether the server is just as its policy for hardened hosts has it.
    pub policy: bool,
}

impl Ssh {
    pub(super) fn new(answer: &Json, policy: bool) -> Self {
        let mut ssh = Self { policy, ..Self::default() };
        for kind in ["kex", "key", "enc", "mac"] {
            for algorithm in answer[kind].as_array().into_iter().flatten() {
                let name = algorithm["algorithm"].as_str().unwrap_or_default();
                for (level, list) in [("fail", &mut ssh.failures), ("warn", &mut ssh.warnings)] {
                    for note in algorithm["notes"][level].as_array().into_iter().flatten() {
                        list.push(format!("{name}: {}", note.as_str().unwrap_or_default()));
                    }
                }
            }
        }
        ssh
    }
}

impl Verdict {
    /// Reads what `inside.sh` printed.
    pub(super) fn new(findings: &str, ssh: Ssh, leaks: Vec<String>) -> Result<Self, String> {
        let mut verdict = Self { ssh, leaks, ..Self::default() };
        for line in findings.lines() {
            let parts: Vec<&str> = line.split('\t').collect();
            let [of, about, result] = parts[..] else { return Err(format!("no finding: `{line}`")) };
            match of {
                "lynis" => verdict.lynis = result.parse().map_err(|_| format!("no index: `{line}`"))?,
                "warning" | "suggestion" => verdict.suggestions.push((about.into(), result.into())),
                "unit" => verdict.failed_units.push(about.into()),
                "exposure" => {
                    let exposure = result.parse().map_err(|_| format!("no exposure: `{line}`"))?;
                    verdict.exposure.insert(about.into(), exposure);
                }
                "listens" if result == "itself" => {}
                "listens" => verdict.listening.push(about.into()),
                profile => {
                    let rules = verdict.profiles.entry(profile.into()).or_default();
                    rules.insert(about.into(), result.into());
                }
            }
        }
        if verdict.lynis == 0 {
            return Err("Lynis did not come to its end".into());
        }
        Ok(verdict)
    }

    /// How many rules of a profile hold, and how many do not. Those that are not about this host are neither.
    pub fn counts(&self, profile: &str) -> (usize, usize) {
        let results = || self.profiles.get(profile).into_iter().flat_map(BTreeMap::values);
        let failed = results().filter(|result| ["fail", "error", "unknown"].contains(&result.as_str()));
        (results().filter(|result| *result == "pass").count(), failed.count())
    }

    /// How many rules of a profile hold, in tenths of a percent of those that are about this host.
    pub fn per_mille(&self, profile: &str) -> usize {
        let (passed, failed) = self.counts(profile);
        passed * 1000 / (passed + failed).max(1)
    }

    /// The rules that do not hold, of all profiles whose names start so.
    pub fn failed_rules(&self, profiles: &str) -> Vec<&str> {
        let of = self.profiles.iter().filter(|(name, _)| name.starts_with(profiles));
        let failed = of
            .flat_map(|(_, rules)| rules.iter())
            .filter(|(_, result)| ["fail", "error", "unknown"].contains(&result.as_str()));
        let mut names: Vec<&str> = failed.map(|(rule, _)| rule.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "| judge | result |\n|---|---|")?;
        writeln!(formatter, "| Lynis | {} |", self.lynis)?;
        for profile in self.profiles.keys() {
            let ((passed, failed), percent) = (self.counts(profile), self.per_mille(profile));
            let (whole, tenth) = (percent / 10, percent % 10);
            writeln!(formatter, "| `{profile}` | {passed} hold, {failed} do not: {whole}.{tenth} % |")?;
        }
        let policy = if self.ssh.policy { "passed" } else { "not passed" };
        let (failures, warnings) = (self.ssh.failures.len(), self.ssh.warnings.len());
        writeln!(
            formatter,
            "| ssh-audit | {failures} failures, {warnings} warnings; its policy: {policy} |"
        )?;
        let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        writeln!(formatter, "| secrets (gitleaks) | {} |", list(&self.leaks))?;
        writeln!(formatter, "| units that failed | {} |", list(&self.failed_units))?;
        writeln!(formatter, "| listening | {} |", list(&self.listening))?;
        let units: Vec<String> =
            self.exposure.iter().map(|(unit, exposure)| format!("{unit} {exposure}")).collect();
        writeln!(formatter, "| exposure (systemd-analyze) | {} |", list(&units))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINDINGS: &str = "cis_level1_server\ta\tpass\ncis_level1_server\tb\tfail\ncis_level1_server\tc\tnotapplicable\n\
        cis_level1_server\td\tpass\nlistens\ttcp 0.0.0.0:22 sshd\teverybody\nlistens\ttcp 127.0.0.1:25 exim\titself\n\
        exposure\tssh.service\t9.6\nlynis\tindex\t92\nsuggestion\tUSB-3000\tUse USBGuard\n";

    #[test]
    fn what_is_not_about_a_host_does_not_count() {
        let verdict = Verdict::new(FINDINGS, Ssh::default(), Vec::new()).expect("findings");
        assert_eq!(
            (verdict.counts("cis_level1_server"), verdict.per_mille("cis_level1_server")),
            ((2, 1), 666)
        );
        assert_eq!(verdict.failed_rules("cis"), ["b"]);
        assert_eq!(verdict.listening, ["tcp 0.0.0.0:22 sshd"]);
        assert!(
            verdict.to_string().contains("| `cis_level1_server` | 2 hold, 1 do not: 66.6 % |"),
            "{verdict}"
        );
    }

    #[test]
    fn a_scanner_that_did_not_end_is_no_good_result() {
        let error =
            Verdict::new("unit\tx.service\tfailed\n", Ssh::default(), Vec::new()).expect_err("no index");
        assert!(error.contains("Lynis"), "{error}");
        assert!(Verdict::new("what\n", Ssh::default(), Vec::new()).is_err());
    }

    #[test]
    fn failures_and_warnings_of_an_ssh_server_are_told_with_their_algorithm() {
        let answer = serde_json::json!({
            "kex": [ { "algorithm": "curve25519-sha256", "notes": { "warn": ["not post-quantum"], "info": ["default"] } } ],
            "key": [ { "algorithm": "ssh-rsa", "notes": { "fail": ["uses SHA-1"] } } ],
        });
        let ssh = Ssh::new(&answer, false);
        assert_eq!(ssh.failures, ["ssh-rsa: uses SHA-1"]);
        assert_eq!(ssh.warnings, ["curve25519-sha256: not post-quantum"]);
    }
}
