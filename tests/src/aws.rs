//! A stand-in for AWS, with real parameters and secrets in it: `moto_server`.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value as Json, json};

use crate::binaries;
use crate::http::ask;
use crate::world::{GATEWAY, World};

const PORT: u16 = 5000;

/// How long it may take to come up.
const LIMIT: Duration = Duration::from_mins(1);

/// The stand-in, for as long as this exists.
#[derive(Debug)]
pub struct Aws {
    server: Child,
    address: String,
}

impl Aws {
    /// Starts it in a world. `log` gets what it prints: a line for each request.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub fn start(world: &World, log: &Path) -> io::Result<Self> {
        let log = File::create(log)?;
        let mut command = Command::new(binaries::moto_server()?);
        command
            .args(["-H", "0.0.0.0", "-p", &PORT.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let aws = Self { server: world.spawn(&mut command)?, address: address() };
        let until = Instant::now() + LIMIT;
        while world.within(|| ask("GET", &address(), "/moto-api/", &[], b"")).is_err() {
            if Instant::now() > until {
                return Err(io::Error::other("moto_server does not answer"));
            }
            sleep(Duration::from_millis(100));
        }
        Ok(aws)
    }

    /// Its URL, as hosts of the world reach it.
    pub fn url() -> String {
        format!("http://{}", address())
    }

    /// Puts a parameter into SSM Parameter Store.
    ///
    /// # Errors
    /// When it is refused.
    pub fn put_parameter(&self, world: &World, name: &str, kind: &str, value: &str) -> io::Result<()> {
        let body = json!({ "Name": name, "Type": kind, "Value": value, "Overwrite": true });
        self.call(world, "ssm", "AmazonSSM.PutParameter", &body).map(drop)
    }

    /// Puts a secret into Secrets Manager.
    ///
    /// # Errors
    /// When it is refused.
    pub fn put_secret(&self, world: &World, name: &str, value: &Json) -> io::Result<()> {
        let body = json!({ "Name": name, "SecretString": value.to_string() });
        self.call(world, "secretsmanager", "secretsmanager.CreateSecret", &body).map(drop)
    }

    /// Gives a secret another value.
    ///
    /// # Errors
    /// When it is refused.
    pub fn change_secret(&self, world: &World, name: &str, value: &Json) -> io::Result<()> {
        let body = json!({ "SecretId": name, "SecretString": value.to_string() });
        self.call(world, "secretsmanager", "secretsmanager.PutSecretValue", &body).map(drop)
    }

    /// The value of a parameter.
    ///
    /// # Errors
    /// When there is none.
    pub fn parameter(&self, world: &World, name: &str) -> io::Result<String> {
        let answer = self.call(world, "ssm", "AmazonSSM.GetParameter", &json!({ "Name": name }))?;
        let answer: Json = serde_json::from_str(&answer)?;
        Ok(answer["Parameter"]["Value"].as_str().unwrap_or_default().to_owned())
    }

    /// Puts an object into S3, whose bucket is made if it is missing.
    ///
    /// # Errors
    /// When it is refused.
    pub fn put_object(&self, world: &World, bucket: &str, key: &str, text: &str) -> io::Result<()> {
        let authorization = authorization("s3");
        for (path, body) in [(format!("/{bucket}"), ""), (format!("/{bucket}/{key}"), text)] {
            let headers = [("Authorization", authorization.as_str())];
            let answer = world.within(|| ask("PUT", &self.address, &path, &headers, body.as_bytes()))?;
            if answer.status != 200 {
                return Err(io::Error::other(format!("{path} answered {}: {}", answer.status, answer.body)));
            }
        }
        Ok(())
    }

    /// Removes a secret from Secrets Manager at once.
    ///
    /// # Errors
    /// When it is refused.
    pub fn delete_secret(&self, world: &World, name: &str) -> io::Result<()> {
        let body = json!({ "SecretId": name, "ForceDeleteWithoutRecovery": true });
        self.call(world, "secretsmanager", "secretsmanager.DeleteSecret", &body).map(drop)
    }

    /// Calls the service that logs are sent to, and returns the answer.
    ///
    /// # Errors
    /// When it is refused.
    pub fn logs(&self, world: &World, action: &str, body: &Json) -> io::Result<String> {
        self.call(world, "logs", &format!("Logs_20140328.{action}"), body)
    }

    /// From now on nobody answers; connections are accepted.
    ///
    /// # Errors
    /// When it is gone.
    pub fn pause(&self) -> io::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Ends what [`Self::pause`] began.
    ///
    /// # Errors
    /// When it is gone.
    pub fn resume(&self) -> io::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let id = i32::try_from(self.server.id()).map_err(io::Error::other)?;
        kill(Pid::from_raw(id), signal).map_err(io::Error::from)
    }

    fn call(&self, world: &World, service: &str, target: &str, body: &Json) -> io::Result<String> {
        let authorization = authorization(service);
        let headers = [
            ("Content-Type", "application/x-amz-json-1.1"),
            ("X-Amz-Target", target),
            ("Authorization", authorization.as_str()),
        ];
        let answer =
            world.within(|| ask("POST", &self.address, "/", &headers, body.to_string().as_bytes()))?;
        match answer.status {
            200 => Ok(answer.body),
            status => Err(io::Error::other(format!("{target} answered {status}: {}", answer.body))),
        }
    }
}

impl Drop for Aws {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// It does not look at signatures, only at which service is meant.
fn authorization(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261122/us-east-1/{service}/aws4_request, \
         SignedHeaders=host, Signature=0"
    )
}

fn address() -> String {
    format!("{GATEWAY}:{PORT}")
}
