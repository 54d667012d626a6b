//! The test cloud itself: what a client sees of it.

use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use testbed::binaries;
use testbed::ec2::{self, Cloud, Effect, On, Options};

use crate::Outcome;

/// Runs Python in which `ec2`, `ssm` and `sts` are clients of the cloud that do not try again, and returns what it printed.
fn python(cloud: &Cloud, program: &str) -> Result<String, Box<dyn std::error::Error>> {
    let begin = "
import boto3, botocore, time
from botocore.config import Config
once = Config(retries={'total_max_attempts': 1}, read_timeout=120)
def client(name, region='us-east-1', config=once): return boto3.client(name, region_name=region, config=config)
ec2, ssm, sts = client('ec2'), client('ssm'), client('sts')
def code(call, **arguments):
    try: call(**arguments)
    except botocore.exceptions.ClientError as error:
        return f\"{error.response['Error']['Code']} {error.response['ResponseMetadata']['HTTPStatusCode']}\"
    except Exception as error: return type(error).__name__
    return 'done'
def instance(id): return ec2.describe_instances(InstanceIds=[id])['Reservations'][0]['Instances'][0]
def until(state, id):
    end = time.time() + 60
    while instance(id)['State']['Name'] != state:
        assert time.time() < end, instance(id)
        time.sleep(0.1)
";
    let mut command = Command::new(binaries::python()?);
    command.args(["-c", &format!("{begin}{program}")]).stdin(Stdio::null());
    let output = cloud.output(&mut command)?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(format!("{text}\n{}", String::from_utf8_lossy(&output.stderr)).into())
}

/// Whether a program in an instance with a body succeeds.
fn succeeds(cloud: &Cloud, instance: &str, script: &str) -> std::io::Result<bool> {
    Ok(cloud.run(instance, &["sh", "-c", script])?.status.success())
}

#[test]
fn an_instance_boots_with_its_user_data_and_comes_back_as_an_image() -> Outcome {
    let cloud = Cloud::start(&Options { bodies: true, ..Options::default() })?;
    let source = cloud.source_ami("debian-12-amd64-20261101", Some(&ec2::debian()?))?;
    cloud.instance_profile("web")?;
    let launched = python(
        &cloud,
        &format!(
            "
launched = ec2.run_instances(ImageId='{source}', InstanceType='t3.small', MinCount=1, MaxCount=1,
    UserData='#!/bin/sh\\necho from user-data > /root/said\\n', IamInstanceProfile={{'Name': 'web'}},
    MetadataOptions={{'HttpTokens': 'required', 'InstanceMetadataTags': 'enabled'}},
    TagSpecifications=[{{'ResourceType': 'instance', 'Tags': [{{'Key': 'run', 'Value': 'r1'}}]}}])['Instances'][0]
print(launched['InstanceId'], instance(launched['InstanceId'])['PublicIpAddress'])
"
        ),
    )?;
    let (id, address) = launched.split_once(' ').ok_or("there is no address")?;
    cloud.wait_until_booted(id)?;
    assert!(succeeds(&cloud, id, "grep -qx 'from user-data' /root/said")?, "{}", cloud.console(id)?);
    assert!(succeeds(&cloud, id, &format!("ip -brief address show eth0 | grep -q {address}/"))?);
    let installs = "apt-get update && apt-get install --yes hello && hello > /root/kept";
    assert!(succeeds(&cloud, id, installs)?, "packages can be installed");

    let image = python(
        &cloud,
        &format!(
            "
volume = instance('{id}')['BlockDeviceMappings'][0]['Ebs']['VolumeId']
ec2.stop_instances(InstanceIds=['{id}']); until('stopped', '{id}')
snapshot = ec2.create_snapshot(VolumeId=volume)['SnapshotId']
image = ec2.register_image(Name='web-1', Architecture='x86_64', RootDeviceName='/dev/xvda', VirtualizationType='hvm',
    BlockDeviceMappings=[{{'DeviceName': '/dev/xvda', 'Ebs': {{'SnapshotId': snapshot}}}}])['ImageId']
ec2.terminate_instances(InstanceIds=['{id}']); until('terminated', '{id}')
print(image)
"
        ),
    )?;
    assert_eq!(cloud.image_tree(&image)?.read("/root/kept")?, "Hello, world!\n");
    let left: Vec<_> = cloud.left()?.into_iter().map(|left| left.kind).collect();
    assert_eq!(left, ["snapshot", "image"]);

    let second = python(
        &cloud,
        &format!(
            "print(ec2.run_instances(ImageId='{image}', InstanceType='t3.micro', MinCount=1, MaxCount=1)['Instances'][0]['InstanceId'])"
        ),
    )?;
    cloud.wait_until_booted(&second)?;
    assert!(succeeds(&cloud, &second, "grep -q Hello /root/kept")?);
    Ok(())
}

#[test]
fn calls_are_remembered_and_faults_happen_at_those_that_are_meant() -> Outcome {
    let cloud = Cloud::start(&Options::default())?;
    let source = cloud.source_ami("debian-12-amd64-20261101", None)?;
    cloud.fault(On::action("RunInstances"), Effect::InsufficientCapacity);
    let hooked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&hooked);
    cloud.fault(On::call(3), Effect::before(move |call| seen.lock().unwrap().push(call.action.clone())));
    let said = python(
        &cloud,
        &format!(
            "
launch = dict(ImageId='{source}', InstanceType='t3.small', MinCount=1, MaxCount=1)
print(code(ec2.run_instances, DryRun=True, **launch))
print(code(ec2.run_instances, **launch))
print(code(ec2.run_instances, **launch))
"
        ),
    )?;
    assert_eq!(said, "DryRunOperation 412\nInsufficientInstanceCapacity 500\ndone");
    assert_eq!(*hooked.lock().unwrap(), ["RunInstances"]);
    let calls: Vec<_> =
        cloud.calls().iter().map(|call| (call.dry_run, call.error().unwrap_or("-").to_owned())).collect();
    let codes = [(true, "DryRunOperation"), (false, "InsufficientInstanceCapacity"), (false, "-")];
    assert_eq!(calls, codes.map(|(dry_run, code)| (dry_run, code.to_owned())));
    let left: Vec<_> = cloud.left()?.into_iter().map(|left| left.kind).collect();
    assert_eq!(left, ["instance", "volume", "network interface"]);
    cloud.reset()?;
    assert_eq!((cloud.left()?.len(), cloud.calls().len()), (0, 0));
    Ok(())
}
