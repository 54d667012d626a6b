//! Bakes that are killed or interrupted leave nothing, at whatever step that happens.

use baker::bake::Step;
use baker::report::Event;
use nix::sys::signal::Signal;
use testbed::workspace::{Running, Workspace};

use crate::{NOTHING, Outcome};

/// The steps of a bake in a container, which boots no image.
fn steps() -> impl Iterator<Item = Step> {
    Step::ALL.into_iter().filter(|step| *step != Step::Boot)
}

/// Everything a bake does, in seconds.
const IMAGE: &str = "
source: { local: { suite: bookworm } }
recipes: [ small ]
checks: [ { command: { argv: test -f /etc/small } } ]
";
const RECIPE: &str = "resources: [ { file: { path: /etc/small, content: small } } ]\n";

/// When in a step a signal comes.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Start,
    Later,
}

fn workspace(empty: Workspace) -> std::io::Result<Workspace> {
    empty.with("images/small.yaml", IMAGE)?.with("recipes/small/recipe.yaml", RECIPE)
}

/// Follows a bake into a step, and returns the name of its run.
fn reach(bake: &mut Running, step: Step, moment: Moment) -> Result<String, Box<dyn std::error::Error>> {
    let started = bake.until(|event| matches!(event, Event::BakeStarted { .. }))?;
    let Some(Event::BakeStarted { run, .. }) = started else { return Err("the bake did not start".into()) };
    let reached =
        bake.until(|event| matches!(event, Event::StepStarted { step: now, .. } if *now == step))?;
    reached.ok_or_else(|| format!("the bake ended before {step}"))?;
    if let Moment::Later = moment {
        // Not to wait for anything, but to hit somewhere in the middle.
        std::thread::sleep(std::time::Duration::from_millis(150));
    }
    Ok(run)
}

/// `kill -9`, in every step, at its start and in the middle; then `baker clean`.
#[test]
fn a_killed_bake_leaves_nothing_after_clean() -> Outcome {
    let mut cases = 0;
    for step in steps() {
        for moment in [Moment::Start, Moment::Later] {
            let workspace = workspace(Workspace::new()?)?;
            let mut bake = workspace.start("small")?;
            let run = reach(&mut bake, step, moment)?;
            bake.signal(Signal::SIGKILL)?;
            bake.wait()?;
            clean(&workspace, &run, &format!("{step}, {moment:?}"))?;
            cases += 1;
        }
    }
    println!("{cases} cases of SIGKILL");
    assert_eq!(cases, 2 * steps().count());
    assert_ne!(cases, 0);
    Ok(())
}

/// The same while the tree is made of its packages, which other bakes find in the cache.
#[test]
fn a_bake_killed_while_it_makes_the_tree_leaves_nothing_after_clean() -> Outcome {
    let workspace = workspace(Workspace::without_cache()?)?;
    let mut bake = workspace.start("small")?;
    let run = reach(&mut bake, Step::Source, Moment::Start)?;
    bake.until(|event| matches!(event, Event::Output { line } if line.contains("download")))?
        .ok_or("nothing was downloaded")?;
    bake.signal(Signal::SIGKILL)?;
    bake.wait()?;
    clean(&workspace, &run, "the tree")
}

fn clean(workspace: &Workspace, run: &str, case: &str) -> Outcome {
    let ended = workspace.baker(&["clean"])?;
    assert_eq!(ended.code, Some(0), "{case}: {}", ended.stderr);
    assert_eq!(workspace.left(&[run.to_owned()])?, NOTHING, "{case}");
    // A second time there is nothing to do.
    let again = workspace.baker(&["clean"])?;
    assert_eq!(again.code, Some(0), "{case}: {}", again.stderr);
    Ok(())
}

/// Ctrl-C, in every step: the bake undoes what it created, and says so with its exit code.
#[test]
fn an_interrupted_bake_undoes_everything_and_ends_with_130() -> Outcome {
    let mut cases = 0;
    // The last step is a rename: what is interrupted after it has its image.
    for (number, step) in steps().filter(|step| *step != Step::Publish).enumerate() {
        let workspace = workspace(Workspace::new()?)?;
        let mut bake = workspace.start("small")?;
        let run = reach(&mut bake, step, Moment::Start)?;
        let signal = if number % 2 == 0 { Signal::SIGINT } else { Signal::SIGTERM };
        bake.signal(signal)?;
        let failed =
            bake.until(|event| matches!(event, Event::BakeFailed { .. } | Event::BakeFinished { .. }))?;
        let (status, stderr) = bake.wait()?;
        if let Some(Event::BakeFinished { .. }) = failed {
            // It was done before the signal came.
            assert_eq!(step, Step::Snapshot, "{stderr}");
        } else {
            assert_eq!(status.code(), Some(130), "{step}: {stderr}");
            assert!(stderr.contains("interrupted"), "{step}: {stderr}");
            assert!(!workspace.path("output/small").exists(), "{step}");
        }
        assert_eq!(workspace.left(&[run])?, NOTHING, "{step}");
        cases += 1;
    }
    println!("{cases} cases of SIGINT and SIGTERM");
    assert_eq!(cases, steps().count() - 1);
    Ok(())
}

/// A run that is under way is left alone by `baker clean` of somebody else.
#[test]
fn clean_leaves_a_bake_that_is_under_way_alone() -> Outcome {
    let workspace = workspace(Workspace::new()?)?;
    let mut bake = workspace.start("small")?;
    let run = reach(&mut bake, Step::Launch, Moment::Start)?;
    let ended = workspace.baker(&["clean"])?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains(&format!("{run}: under way, left alone")), "{}", ended.stdout);
    bake.until(|event| matches!(event, Event::BakeFinished { .. }))?.ok_or("it did not finish")?;
    let (status, stderr) = bake.wait()?;
    assert!(status.success(), "{stderr}");
    assert_eq!(workspace.left(&[run])?, NOTHING);
    Ok(())
}
