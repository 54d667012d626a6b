//! A small account: a world with instance metadata and AWS in it, and the values of `prod`.

use std::io;

use serde_json::json;
use tempfile::TempDir;

use crate::aws::Aws;
use crate::host::{Disk, Host};
use crate::http::{Answer, ask};
use crate::metadata::{Instance, Metadata};
use crate::world::World;

/// The user-data of a launch template, as the README shows it.
pub const USER_DATA: &str = r#"#!/usr/local/bin/bootstrap-agent run
# the whole user-data of a launch template: valid YAML, and an executable script for cloud-init
environment: prod
role: web
parameters: [ "/acme/{{ environment }}/{{ role }}/" ]         # SSM, by path
secrets:
  db: { secretsmanager: "acme/{{ environment }}/db" }         # JSON secret: {{ secrets.db.password }}
health: [ { http: { url: "http://127.0.0.1/healthz", within: 60s } } ]
"#;

/// The one secret that is worth looking for everywhere.
pub const PASSWORD: &str = "correct-horse-battery-staple";

/// The name of the secret that has it.
pub const SECRET: &str = "acme/prod/db";

/// The account, for as long as this exists.
#[derive(Debug)]
pub struct Cloud {
    /// The network that everything is in.
    pub world: World,
    /// The stand-in for AWS.
    pub aws: Aws,
    /// The metadata service of the one instance.
    pub metadata: Metadata,
    _logs: TempDir,
}

/// The number of the one instance in the world.
const NUMBER: u8 = 2;

impl Cloud {
    /// An account with the parameters and the secret of `prod`, and an instance launched with [`USER_DATA`].
    ///
    /// # Errors
    /// When something does not come up.
    pub fn prod() -> io::Result<Self> {
        let world = World::new()?;
        let logs = TempDir::with_prefix("cloud-")?;
        let aws = Aws::start(&world, &logs.path().join("aws.log"))?;
        for (name, value) in [
            ("/acme/prod/web/title", "Hello from prod"),
            ("/acme/prod/web/greeting", "Nobody logged in to make this page."),
            ("/acme/prod/web/db/host", "db.prod.internal"),
        ] {
            aws.put_parameter(&world, name, "String", value)?;
        }
        aws.put_secret(&world, SECRET, &json!({ "username": "web", "password": PASSWORD }))?;
        let user_data = format!("{USER_DATA}endpoint_url: {}\n", Aws::url());
        let metadata = Metadata::start(&world, Instance::new(&World::address(NUMBER), &user_data))?;
        Ok(Self { world, aws, metadata, _logs: logs })
    }

    /// Boots a disk as the instance.
    ///
    /// # Errors
    /// When it does not boot.
    pub fn boot(&self, disk: Disk) -> io::Result<Host> {
        Host::boot(disk, self.world.place(NUMBER)?)
    }

    /// Fetches a page of the instance, from outside it.
    ///
    /// # Errors
    /// When it cannot be reached or does not answer.
    pub fn get(&self, path: &str) -> io::Result<Answer> {
        self.get_as(&World::address(NUMBER), path)
    }

    /// The same by another name.
    ///
    /// # Errors
    /// When it cannot be reached or does not answer.
    pub fn get_as(&self, name: &str, path: &str) -> io::Result<Answer> {
        let address = format!("{}:80", World::address(NUMBER));
        self.world.within(|| ask("GET", &address, path, &[("Host", name)], b""))
    }
}
