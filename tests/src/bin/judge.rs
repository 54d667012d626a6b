//! Has an image that was baked judged by scanners that we did not write, in a container or (`--vm`) on a virtual machine, and
//! prints the table.

use std::error::Error;
use std::io::{self, Write};
use std::process::{Command, ExitCode};

use testbed::binaries;
use testbed::judge::{ANSSI, CIS, Tools, judge, judge_on_machine};

#[expect(clippy::disallowed_methods, reason = "this is the program's `main`")]
fn main() -> ExitCode {
    let (flags, names): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|argument| argument == "--vm");
    let image = names.first().map_or("hardened", String::as_str);
    match run(image, !flags.is_empty()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {image} was not judged: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(image: &str, on_machine: bool) -> Result<(), Box<dyn Error>> {
    let project = binaries::project();
    let status = Command::new(binaries::baker()?)
        .current_dir(&project)
        .args(["build", &format!("images/{image}.yaml"), "--agent"])
        .arg(binaries::agent()?)
        .status()?;
    if !status.success() {
        return Err("it could not be baked".into());
    }
    let (baked, tools) = (project.join("output").join(image), Tools::get()?);
    let verdict = if on_machine {
        judge_on_machine(&baked, &tools)?
    } else {
        judge(&baked, &tools, &[CIS, ANSSI].concat())?
    };
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
