//! `simulate`: a boot without a cloud.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use recipes::error::{Problem, Problems};
use recipes::plan::{Guards, plan_with_transaction};
use recipes::run::{Files, converge};
use recipes::system::linux::Linux;
use recipes::system::{Facts, Mode};

use super::{DONE, FAILED, complain, fail, fail_by, fail_with};
use crate::boot::BOOT_BUNDLE;
use crate::boot::error::BootError;
use crate::config::Config;
use crate::config::encoded::decode;
use crate::config::layers::{Layer, Written};
use crate::config::object::{Object, insert};
use crate::credentials::before;
use crate::redact::Redactor;
use crate::report::{Format, Reporter};
use crate::source::given::Given;
use crate::source::plan::FetchPlan;
use crate::unpack;
use crate::values::Values;

/// Show what a boot with this user-data would do, without a cloud
///
/// Everything is as in a boot, but that the values come from a file. With `--write` the files are written into a root
/// that is not `/`, to be looked at; programs are not run there.
#[derive(Debug, clap::Args)]
pub(super) struct Simulate {
    /// The user-data
    user_data: PathBuf,
    /// The values, in place of those that would be fetched
    #[arg(long, value_name = "FILE")]
    values: PathBuf,
    /// The object that `config` in the user-data names
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The boot recipes: a bundle as a tar file or a folder; those of the root if left out
    #[arg(long, value_name = "BUNDLE")]
    bundle: Option<PathBuf>,
    /// The root of the host
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Write what would be written, below the root
    #[arg(long)]
    write: bool,
}

impl Simulate {
    pub(super) fn run(self) -> u8 {
        if self.write && self.root.canonicalize().is_ok_and(|root| root == Path::new("/")) {
            complain(
                "error: `--write` is for a root that is not `/`: `bootstrap-agent run FILE` configures this host",
            );
            return FAILED;
        }
        let (config, values) = match self.values() {
            Ok(values) => values,
            Err(problems) => return fail_with(&problems),
        };
        let bundle =
            self.bundle.clone().unwrap_or_else(|| self.root.join(BOOT_BUNDLE.trim_start_matches('/')));
        let opened = match unpack::open(&bundle) {
            Ok(opened) => opened,
            Err(problems) => return fail_with(&problems),
        };
        let mode = if self.write { Mode::Bake } else { Mode::Live };
        let mut machine = match Linux::open(&self.root, mode) {
            Ok(machine) => machine,
            Err(error) => return fail_by(&error),
        };
        let bundle = before(opened.bundle, &config.credentials);
        let resolved = match bundle.and_then(|bundle| bundle.resolve(machine.host(), &values.scope())) {
            Ok(resolved) => resolved,
            Err(problems) => return fail_with(&problems),
        };
        let mut redactor = Redactor::default();
        redactor.learn(&values.secrets);
        if self.write {
            let mut reporter = Reporter::new(Format::Human, io::stdout());
            reporter.hide(&values.secrets);
            let result =
                converge(&resolved, &mut machine, Files::Together, &mut |event| reporter.event(&event));
            return match result {
                Ok(_) => DONE,
                Err(error) => {
                    complain(&redactor.clean(&format!("error: {}", BootError::of_run(&error).message)));
                    FAILED
                }
            };
        }
        let plan = match plan_with_transaction(&resolved, &machine, Guards::Skip, &[], None) {
            Ok(plan) => plan,
            Err(error) => return fail(&error),
        };
        let health = config.health.iter().map(|check| format!("\nhealth: {check}")).collect::<String>();
        let text = format!("{}\n{plan}{health}", FetchPlan::of(&config));
        let _ = writeln!(io::stdout(), "{}", redactor.clean(&text));
        DONE
    }

    /// What the host is told, and the values that it would fetch.
    fn values(&self) -> Result<(Config, Values), Problems> {
        let failed = |why: String| Problems::from(Problem::new(why));
        let given = Given::read(&self.values)?;
        let name = self.user_data.display().to_string();
        let bytes = std::fs::read(&self.user_data)
            .map_err(|error| failed(format!("failed to read `{name}`: {error}")))?;
        let bytes = decode(bytes).map_err(|why| failed(format!("{name} cannot be read: {why}")))?;
        let mut layers =
            Layer::of_image(&self.root).map_err(|error| failed(format!("failed to read {error}")))?;
        layers.push(Layer { name, bytes, is_user_data: true });
        let with_tags = |layers: &[Layer]| {
            let mut written = Written::read(layers)?;
            for (field, key) in written.tags_over(layers) {
                if let Some(value) = given.tags.get(&key) {
                    written.set(field, value, &key);
                }
            }
            Ok::<_, Problems>(written)
        };
        let mut written = with_tags(&layers)?;
        match (Object::of(&written)?, &self.config) {
            (None, None) => {}
            (None, Some(_)) => return Err(failed("the user-data names no object in `config`".into())),
            (Some(object), None) => {
                let problem = Problem::new(format!("{} is not fetched here", object.s3));
                return Err(problem.help("name a file that has it with `--config`").into());
            }
            (Some(object), Some(path)) => {
                let bytes = std::fs::read(path)
                    .map_err(|error| failed(format!("failed to read `{}`: {error}", path.display())))?;
                insert(&mut layers, object.layer(&bytes)?);
                written = with_tags(&layers)?;
            }
        }
        let config = Config::of(&written)?;
        let fetched = given.fetched(&FetchPlan::of(&config));
        let values = Values::assemble(&config, &given.identity, &fetched).map_err(|error| {
            let problem = Problem::new(error.to_string());
            Problems::from(match error.help {
                Some(help) => problem.help(help),
                None => problem,
            })
        })?;
        Ok((config, values))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sha2::{Digest, Sha256};

    use super::*;

    fn simulate(folder: &Path, values: &str) -> Simulate {
        let user_data = folder.join("user-data");
        fs::write(&user_data, "environment: prod\nrole: web\nparameters: [ /acme/ ]\ntags: { role: Role }\n")
            .expect("written");
        fs::write(folder.join("values.yaml"), values).expect("written");
        Simulate {
            user_data,
            values: folder.join("values.yaml"),
            config: None,
            bundle: None,
            root: folder.into(),
            write: false,
        }
    }

    #[test]
    fn what_a_boot_would_miss_is_missed_here() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = simulate(folder.path(), "parameters: { /other/x: y }").values().err().expect("missing");
        assert!(error.to_string().contains("the parameters below `/acme/`: there are none"), "{error}");
        let error =
            simulate(folder.path(), "parameters: { /acme/x: CHANGEME }").values().err().expect("unset");
        assert!(error.to_string().contains("it looks as if nobody had set it"), "{error}");
        let (config, values) =
            simulate(folder.path(), "parameters: { /acme/x: y }").values().expect("all there");
        assert_eq!((config.role.as_str(), values.names.len()), ("web", 1));
    }

    #[test]
    fn the_object_that_is_named_has_to_be_given() {
        let folder = tempfile::tempdir().expect("a folder");
        let verb = simulate(folder.path(), "parameters: { /other/x: y }");
        let object = folder.path().join("object.yaml");
        fs::write(&object, "parameters: [ /other/ ]\n").expect("written");
        let digest = recipes::op::hex(&Sha256::digest(fs::read(&object).expect("there")));
        let named =
            format!("environment: prod\nrole: web\nconfig: {{ s3: s3://acme/a, sha256: {digest} }}\n");
        fs::write(&verb.user_data, named).expect("written");
        let error = verb.values().err().expect("not given").to_string();
        assert!(error.contains("s3://acme/a is not fetched here"), "{error}");
        let (config, _) = Simulate { config: Some(object), ..verb }.values().expect("all there");
        assert_eq!(config.parameters[0].name(), "ssm:/other/");
    }

    #[test]
    fn this_host_is_not_written_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let verb = Simulate { write: true, root: "/".into(), ..simulate(folder.path(), "{}") };
        assert_eq!(verb.run(), FAILED);
    }
}
