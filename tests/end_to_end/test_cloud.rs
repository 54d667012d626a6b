//! The test cloud itself: what a client sees of it.

mod answers;

use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use testbed::binaries;
use testbed::ec2::{self, Cloud, Effect, On, Options};

use crate::Outcome;

/// Runs Python in which `ec2`, `ssm` and `sts` are clients of the cloud that do not try again, and returns what it printed.
fn python(cloud: &Cloud, program: &str) -> Result<String, Box<dyn std::error::Error>> {
    let begin = "
import boto3, botocore, json, time
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

#[test]
fn a_host_is_cut_off_started_rebooted_and_shut_down_as_an_instance_is() -> Outcome {
    let cloud = Cloud::start(&Options { bodies: true, ..Options::default() })?;
    let source = cloud.source_ami("debian-12-amd64-20261101", Some(&ec2::debian()?))?;
    let folder = tempfile::TempDir::new()?;
    let key = folder.path().join("key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status()?;
    assert!(made.success());
    let launched = python(
        &cloud,
        &format!(
            "
ec2.import_key_pair(KeyName='k', PublicKeyMaterial=open('{key}.pub', 'rb').read())
i = ec2.run_instances(ImageId='{source}', InstanceType='t3.small', MinCount=1, MaxCount=1, KeyName='k',
    MetadataOptions={{'HttpTokens': 'required', 'HttpPutResponseHopLimit': 1}})['Instances'][0]['InstanceId']
print(i, instance(i)['PublicIpAddress'])
",
            key = key.display()
        ),
    )?;
    let (id, address) = launched.split_once(' ').ok_or("there is no address")?;
    cloud.wait_until_booted(id)?;

    let mut ssh = Command::new("ssh");
    ssh.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]);
    ssh.arg("-i").arg(&key).arg(format!("admin@{address}")).arg("sudo id --user");
    let said = cloud.output(ssh.stdin(Stdio::null()))?;
    assert_eq!(String::from_utf8_lossy(&said.stdout), "0\n", "{}", String::from_utf8_lossy(&said.stderr));

    let asked = cloud.run(id, &["python3", "-c", METADATA])?;
    let said = String::from_utf8_lossy(&asked.stdout);
    let expected = format!("401\n401\n{id}\nnothing from further away\n");
    assert_eq!(said, expected, "{}", String::from_utf8_lossy(&asked.stderr));

    // What was synchronised is on the disk when the power is cut, and nothing else of the last moments, of which ext4 writes what is
    // older than five seconds where it is not told otherwise (ext4(5)).
    let written = "mount -o remount,commit=300 / && echo 1 > /root/kept && sync --file-system /root && \
        echo 1 > /root/lost && touch /run/running";
    assert!(succeeds(&cloud, id, written)?);
    let image = python(
        &cloud,
        &format!(
            "
ec2.stop_instances(InstanceIds=['{id}'], SkipOsShutdown=True); until('stopped', '{id}')
print(ec2.create_image(InstanceId='{id}', Name='cut-off')['ImageId'])
ec2.start_instances(InstanceIds=['{id}'])
"
        ),
    )?;
    let tree = cloud.image_tree(&image)?;
    assert_eq!(tree.read("/root/kept")?, "1\n");
    assert!(tree.read("/root/lost").is_err(), "what was not synchronised is lost");

    cloud.wait_until_booted(id)?;
    assert!(succeeds(&cloud, id, "test -e /root/kept && test ! -e /root/lost && test ! -e /run/running")?);
    assert!(succeeds(&cloud, id, "echo 1 > /root/written && touch /run/running")?);
    python(&cloud, &format!("ec2.reboot_instances(InstanceIds=['{id}'])"))?;
    until(|| succeeds(&cloud, id, "test ! -e /run/running").unwrap_or_default());
    cloud.wait_until_booted(id)?;
    assert!(succeeds(&cloud, id, "test -e /root/written")?, "a reboot is in order");
    assert_eq!(python(&cloud, &format!("print(instance('{id}')['State']['Name'])"))?, "running");

    assert!(succeeds(&cloud, id, "echo 1 > /root/last && systemctl poweroff")?);
    let said = python(
        &cloud,
        &format!(
            "
until('stopped', '{id}'); print(instance('{id}')['StateReason']['Code'])
print(ec2.create_image(InstanceId='{id}', Name='shut-down')['ImageId'])
ec2.terminate_instances(InstanceIds=['{id}'])
"
        ),
    )?;
    let (reason, image) = said.split_once('\n').ok_or("there is no image")?;
    assert_eq!(reason, "Client.InstanceInitiatedShutdown");
    assert_eq!(cloud.image_tree(image)?.read("/root/last")?, "1\n");
    Ok(())
}

/// Asks the metadata service without a token, with a wrong one, and with the right one; and then for a token with a socket
/// that takes no answer which could not go a hop further (`IP_MINTTL`).
const METADATA: &str = "
import socket, urllib.error, urllib.request as http
def ask(path, method='GET', **headers):
    headers = {name.replace('_', '-'): value for name, value in headers.items()}
    request = http.Request('http://169.254.169.254/latest' + path, method=method, headers=headers)
    try: return http.urlopen(request, timeout=5).read().decode()
    except urllib.error.HTTPError as error: return error.code
print(ask('/meta-data/instance-id'))
print(ask('/meta-data/instance-id', X_aws_ec2_metadata_token='another'))
token = ask('/api/token', 'PUT', X_aws_ec2_metadata_token_ttl_seconds='60')
print(ask('/meta-data/instance-id', X_aws_ec2_metadata_token=token))
far = socket.create_connection(('169.254.169.254', 80))
far.setsockopt(socket.IPPROTO_IP, 21, 2)
far.settimeout(1)
far.sendall(b'PUT /latest/api/token HTTP/1.1\\r\\nHost: m\\r\\nX-aws-ec2-metadata-token-ttl-seconds: 60\\r\\n\\r\\n')
try: print(far.recv(100))
except TimeoutError: print('nothing from further away')
";

/// Waits until something is so.
fn until(is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !is_so() {
        assert!(Instant::now() < end, "it does not come to be so");
        sleep(Duration::from_millis(100));
    }
}

#[test]
fn an_instance_dies_or_has_no_room_or_ends_itself_when_that_is_said() -> Outcome {
    let cloud = Cloud::start(&Options { bodies: true, ..Options::default() })?;
    let source = cloud.source_ami("debian-12-amd64-20261101", Some(&ec2::debian()?))?;
    cloud.fault(On::action("RunInstances"), Effect::DiskFull(50));
    cloud.fault(On::action("RunInstances").nth(2), Effect::Dies(Duration::from_secs(1)));
    let launched = python(
        &cloud,
        &format!(
            "
for name in ['full', 'dies']:
    print(ec2.run_instances(ImageId='{source}', InstanceType='t3.small', MinCount=1, MaxCount=1,
        InstanceInitiatedShutdownBehavior='terminate')['Instances'][0]['InstanceId'])
"
        ),
    )?;
    let (full, dies) = launched.split_once('\n').ok_or("there are not two instances")?;
    cloud.wait_until_booted(full)?;
    let written = cloud.run(full, &["dd", "if=/dev/zero", "of=/root/large", "bs=1M", "count=60"])?;
    let said = String::from_utf8_lossy(&written.stderr);
    assert!(said.contains("No space left on device"), "{said}");
    assert!(succeeds(&cloud, full, "systemctl poweroff")?);
    let said = python(
        &cloud,
        &format!(
            "
for id in ['{full}', '{dies}']:
    until('terminated', id); print(instance(id)['StateReason']['Code'])
"
        ),
    )?;
    assert_eq!(said, "Client.InstanceInitiatedShutdown\nServer.InternalError");
    assert_eq!(cloud.left()?, []);
    Ok(())
}
