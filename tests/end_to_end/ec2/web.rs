//! The whole way on EC2: the shipped images are baked, and an instance of one of them serves with nobody logging in.

use std::fs;

use serde_json::json;
use testbed::binaries;
use testbed::cloud::{PASSWORD, SECRET, USER_DATA};
use testbed::ec2::{self, Cloud, Options};
use testbed::http::ask;
use testbed::workspace::Workspace;

use super::{BUILDER, baker, launch};
use crate::Outcome;

#[test]
fn an_instance_of_a_baked_ami_is_configured_by_its_user_data_and_serves() -> Outcome {
    let cloud = Cloud::start(&Options { bodies: true, ..Options::default() })?;
    cloud.source_ami("debian-12-amd64-20261101", Some(&ec2::debian()?))?;
    cloud.instance_profile("web")?;
    for (name, value) in [
        ("/acme/prod/web/title", "Hello from prod"),
        ("/acme/prod/web/greeting", "Nobody logged in to make this page."),
        ("/acme/prod/web/db/host", "db.prod.internal"),
    ] {
        let parameter = json!({ "Name": name, "Type": "String", "Value": value });
        cloud.call_json("ssm", "AmazonSSM.PutParameter", &parameter)?;
    }
    let value = json!({ "username": "web", "password": PASSWORD }).to_string();
    let secret = json!({ "Name": SECRET, "SecretString": value });
    cloud.call_json("secretsmanager", "secretsmanager.CreateSecret", &secret)?;

    let image = |name: &str| fs::read_to_string(binaries::project().join(format!("images/{name}.yaml")));
    let user_data = format!("{USER_DATA}endpoint_url: {}\n", cloud.url());
    let web = image("web")? + "test: { user_data: web.test.yaml, instance_profile: web }\n";
    let workspace = Workspace::new()?
        .with("images/base.yaml", &(image("base")? + BUILDER))?
        .with("images/web.yaml", &web)?
        .with("images/web.test.yaml", &user_data)?;
    let built = baker(&cloud, &workspace, &["build", "images/web.yaml", "--platform=ec2"])?;
    assert_eq!(built.code, Some(0), "{}", built.stderr);
    assert!(built.stderr.contains("it came up with its test user-data"), "{}", built.stderr);

    let (id, address) = launch(&cloud, built.stdout.trim(), &user_data)?;
    cloud.wait_until_booted(&id)?;
    let page = cloud.within(|| ask("GET", &format!("{address}:80"), "/", &[("Host", "web")], b""))?;
    assert!(page.body.contains("Hello from prod"), "{page:?}");
    Ok(())
}
