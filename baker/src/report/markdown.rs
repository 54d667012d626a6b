//! A plan as a CI job posts it on a pull request.

use std::fmt::Write as _;

use recipes::drift::Drift;
use recipes::plan::{Basis, Plan};

/// A plan in Markdown, as GitHub and GitLab show it: the counts, and behind them the changes as a diff. `behind` is more text.
pub fn markdown(image: &str, plan: &Plan, behind: Option<&str>) -> String {
    let shown = plan.to_string();
    let counts = shown.rfind("Plan: ").map_or("", |start| &shown[start..]);
    let text = format!("### Plan of `{image}`\n\n{}\n", counts.replace('\n', " "));
    with_blocks(text, &[("Changes", &diff(plan), "diff"), ("Difference", behind.unwrap_or_default(), "text")])
}

/// What has changed on a host, in the same way.
pub fn drift_markdown(host: &str, drift: &Drift) -> String {
    let text = format!("### Drift of `{host}`\n\n{}\n", drift.counts());
    with_blocks(
        text,
        &[
            ("Difference", &drift.of_record(), "text"),
            ("What the recipes would change back", &diff(&drift.plan), "diff"),
        ],
    )
}

/// What a plan changes, as a diff.
fn diff(plan: &Plan) -> String {
    let mut diff = String::new();
    for item in plan.items.iter().filter(|item| !item.changes.is_empty()) {
        let _ = write!(diff, "@@ {}", item.resource);
        if item.basis != Basis::Observed {
            let _ = write!(diff, " ({})", item.basis);
        }
        if !item.notified_by.is_empty() {
            let _ = write!(diff, ", notified by {}", item.notified_by.join(", "));
        }
        diff += " @@\n";
        for change in &item.changes {
            // What a diff knows no sign for is changed, too.
            let sign = if matches!(change.kind.sign(), '+' | '-') { change.kind.sign() } else { '!' };
            let _ = writeln!(diff, "{sign} {}", change.summary);
            for line in change.diff.iter().flat_map(|diff| diff.lines()) {
                let _ = writeln!(diff, "  {line}");
            }
        }
    }
    diff
}

/// A text with blocks behind it, each with a title and a language, that are shown when they are unfolded.
fn with_blocks(mut text: String, blocks: &[(&str, &str, &str)]) -> String {
    for (title, block, language) in blocks.iter().filter(|(_, block, _)| !block.trim().is_empty()) {
        let fence = fence(block);
        let _ = write!(
            text,
            "\n<details><summary>{title}</summary>\n\n{fence}{language}\n{}\n{fence}\n\n</details>\n",
            block.trim_end()
        );
    }
    text.trim_end().to_owned()
}

/// A fence that no line of a text ends (`CommonMark`, 4.5).
fn fence(text: &str) -> String {
    let runs = text.lines().map(|line| line.trim_start().chars().take_while(|&c| c == '`').count());
    "`".repeat(runs.max().unwrap_or(0).max(2) + 1)
}

#[cfg(test)]
mod tests {
    use recipes::plan::Plan;

    use super::*;

    #[test]
    fn a_pull_request_gets_the_counts_and_the_changes_as_a_diff() {
        let plan: Plan = serde_json::from_value(serde_json::json!({ "items": [
            { "resource": "site: package nginx", "basis": "observed", "changes": [
                { "kind": "create", "summary": "install nginx 1.22.1" } ] },
            { "resource": "site: file /etc/a", "basis": "derived", "changes": [
                { "kind": "update", "summary": "change /etc/a", "diff": "--- /etc/a\n+++ /etc/a\n```\n+x\n" } ] },
            { "resource": "site: handler again", "basis": "derived", "notified_by": ["site: file /etc/a"], "changes": [
                { "kind": "run", "summary": "reload nginx.service" } ] },
            { "resource": "site: file /etc/b", "basis": "observed", "changes": [] },
        ] }))
        .expect("a plan");
        insta::assert_snapshot!(markdown("web", &plan, Some("Users\n  + site\n")), @"
        ### Plan of `web`

        Plan: 3 to change, 1 unchanged. Of these 2 observed, 2 derived, 0 assumed.

        <details><summary>Changes</summary>

        ````diff
        @@ site: package nginx @@
        + install nginx 1.22.1
        @@ site: file /etc/a (derived) @@
        ! change /etc/a
          --- /etc/a
          +++ /etc/a
          ```
          +x
        @@ site: handler again (derived), notified by site: file /etc/a @@
        ! reload nginx.service
        ````

        </details>

        <details><summary>Difference</summary>

        ```text
        Users
          + site
        ```

        </details>
        ");
        insta::assert_snapshot!(markdown("web", &Plan::default(), None), @"
        ### Plan of `web`

        Plan: 0 to change, 0 unchanged.
        ");
    }

    #[test]
    fn drift_is_told_in_the_same_way() {
        let drift: Drift = serde_json::from_value(serde_json::json!({
            "packages": [ { "name": "tree", "before": "2.1" } ],
            "files": [],
            "plan": { "items": [ { "resource": "site: package tree", "basis": "observed", "changes": [
                { "kind": "create", "summary": "install tree 2.1" } ] } ] },
        }))
        .expect("drift");
        insta::assert_snapshot!(drift_markdown("ssh://web-1", &drift), @"
        ### Drift of `ssh://web-1`

        Drift: 1 package, 0 files; 1 of 1 resources are to be changed back.

        <details><summary>Difference</summary>

        ```text
        Packages
          - tree 2.1
        ```

        </details>

        <details><summary>What the recipes would change back</summary>

        ```diff
        @@ site: package tree @@
        + install tree 2.1
        ```

        </details>
        ");
    }
}
