//! The hardened image on a virtual machine, where auditing, process accounting, `AppArmor` and the clock run.
//!
//! It is not part of a usual run, since the machine is emulated: `make test-machine`.

use testbed::judge::{Tools, judge_on_machine};
use testbed::workspace::image;

use crate::Outcome;
use crate::hardened::is_as_good_as_the_page_says;

#[test]
fn scanners_find_the_hardened_image_on_a_machine_as_good_as_the_page_says() -> Outcome {
    let verdict = judge_on_machine(&image("hardened")?, &Tools::get()?)?;
    println!("{verdict}");
    is_as_good_as_the_page_says(&verdict, "machine", (93, 975, 965))?;
    for rule in ["service_auditd_enabled", "service_timesyncd_enabled"] {
        let result = verdict.profiles["cis_level2_server"].get(rule).map(String::as_str);
        assert_eq!(result, Some("pass"), "{rule}");
    }
    // Lynis has nothing to say of process accounting and of auditing.
    let missed = verdict.suggestions.iter().filter(|(test, _)| ["ACCT-9622", "ACCT-9628"].contains(&&**test));
    assert_eq!(missed.count(), 0, "{:#?}", verdict.suggestions);
    Ok(())
}
