//! Which package manager a resource is for: files and fields for one mean nothing to another.

use crate::system::{Facts, PackageManager, PlanError};

/// The package manager of a host. What is about packages cannot be had where none is known.
pub(super) fn package_manager(facts: &dyn Facts, what: &str) -> Result<PackageManager, PlanError> {
    let host = facts.host();
    host.package_manager.ok_or_else(|| {
        PlanError::impossible_but(
            format!("{what} is for hosts with apt or dnf, and this is `{}`", host.os.id),
            "write `when: facts.os.family == \"debian\"`, or what is right for it",
        )
    })
}

/// Refuses a resource that is for the other package manager; `what` is it in words, `instead` what to do.
pub(super) fn needs(
    wanted: PackageManager,
    facts: &dyn Facts,
    what: &str,
    instead: &str,
) -> Result<(), PlanError> {
    let os = &facts.host().os;
    let found = package_manager(facts, what)?;
    if found == wanted {
        return Ok(());
    }
    Err(PlanError::impossible_but(
        format!("{what} is for hosts with {wanted}, and this is `{}`, which has {found}", os.id),
        instead,
    ))
}
