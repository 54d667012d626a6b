//! Has an image that was baked judged by scanners that we did not write, and prints the table.

use std::error::Error;
use std::io::{self, Write};
use std::process::{Command, ExitCode};

use testbed::binaries;
use testbed::judge::{ANSSI, CIS, Tools, judge};

#[expect(clippy::disallowed_methods, reason = "this is the program's `main`")]
fn main() -> ExitCode {
    let image = std::env::args().nth(1).unwrap_or_else(|| "hardened".into());
    match run(&image) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {image} was not judged: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(image: &str) -> Result<(), Box<dyn Error>> {
    let project = binaries::project();
    let status = Command::new(binaries::baker()?)
        .current_dir(&project)
        .args(["build", &format!("images/{image}.yaml"), "--agent"])
        .arg(binaries::agent()?)
        .status()?;
    if !status.success() {
        return Err("it could not be baked".into());
    }
    let verdict = judge(&project.join("output").join(image), &Tools::get()?, &[CIS, ANSSI].concat())?;
    let mut out = io::stdout().lock();
    write!(out, "{verdict}\nRules of CIS that do not hold:\n")?;
    for rule in verdict.failed_rules("cis") {
        writeln!(out, "- {rule}")?;
    }
    writeln!(out, "\nWhat Lynis would do besides:")?;
    for (test, text) in &verdict.suggestions {
        writeln!(out, "- {test}: {text}")?;
    }
    writeln!(out, "\nWhat ssh-audit would rather not see:")?;
    for text in verdict.ssh.failures.iter().chain(&verdict.ssh.warnings) {
        writeln!(out, "- {text}")?;
    }
    Ok(())
}
