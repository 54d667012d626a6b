//! What is answered where instances have no bodies: faults, time, images, and what is left.

use std::time::{Duration, Instant};

use testbed::ec2::{Cloud, Effect, On, Options, Times};

use super::python;
use crate::Outcome;

/// Lines of text, without those that are only there to be read.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

fn kinds_left(cloud: &Cloud) -> std::io::Result<Vec<String>> {
    Ok(cloud.left()?.into_iter().map(|left| left.kind).collect())
}

#[test]
fn each_fault_is_answered_in_the_words_of_the_service() -> Outcome {
    let cloud = Cloud::start(&Options::default())?;
    let source = cloud.source_ami("debian-12-amd64-20261101", None)?;
    let throttled = On::any().when(|call| call.action.starts_with("Get") || call.action.ends_with("Regions"));
    cloud.fault(throttled.times(3), Effect::Throttle);
    cloud.fault(On::any().when(|call| call.parameter("InstanceId.1") == "i-1").always(), Effect::NotFound);
    cloud.fault(On::any().when(|call| call.parameter("ImageId.1") == "ami-1").always(), Effect::NotFound);
    cloud.fault(On::any().when(|call| call.parameter("Name") == "/gone").always(), Effect::NotFound);
    let expired = On::any().when(|call| ["ec2", "ssm", "sts"].contains(&call.service.as_str()));
    cloud.fault(expired.nth(7).times(3), Effect::Expired);
    cloud.fault(On::action("StopInstances"), Effect::Unauthorized);
    cloud.fault(On::action("PutParameter"), Effect::Unauthorized);
    cloud.fault(On::action("DescribeVpcs"), Effect::error("OptInRequired", "not subscribed"));
    cloud.fault(On::action("DescribeSubnets"), Effect::Slow(Duration::from_millis(500)));
    let said = python(
        &cloud,
        "
for call in [ec2.describe_regions, sts.get_caller_identity]: print(code(call))
print(code(ssm.get_parameter, Name='/x'))
print(code(ec2.describe_instances, InstanceIds=['i-1']))
print(code(ec2.describe_images, ImageIds=['ami-1']))
print(code(ssm.get_parameter, Name='/gone'))
print(code(ec2.describe_regions), code(sts.get_caller_identity), code(ssm.get_parameter, Name='/x'), sep=', ')
try: ec2.stop_instances(InstanceIds=['i-2'])
except botocore.exceptions.ClientError as error: said = error.response['Error']
print(said['Code'], said['Message'].partition(' is not')[0])
encoded = said['Message'].rpartition(' ')[2]
decoded = json.loads(sts.decode_authorization_message(EncodedMessage=encoded)['DecodedMessage'])
print(decoded['allowed'], decoded['context']['action'])
print(code(ssm.put_parameter, Name='/x', Value='x', Type='String'))
print(code(ec2.describe_vpcs))
before = time.time(); ec2.describe_subnets(); print(time.time() - before >= 0.5)
",
    )?;
    let expected = [
        "RequestLimitExceeded 503",
        "Throttling 400",
        "ThrottlingException 400",
        "InvalidInstanceID.NotFound 400",
        "InvalidAMIID.NotFound 400",
        "ParameterNotFound 400",
        "RequestExpired 400, ExpiredToken 403, ExpiredTokenException 400",
        "UnauthorizedOperation You are not authorized to perform this operation. User: \
         arn:aws:iam::123456789012:user/ci",
        "False ec2:StopInstances",
        "AccessDeniedException 400",
        "OptInRequired 400",
        "True",
    ];
    assert_eq!(lines(&said), expected);
    let launch = format!(
        "launch = dict(ImageId='{source}', InstanceType='t3.small', MinCount=1, MaxCount=1)
def launched(): return ec2.run_instances(**launch)['Instances'][0]['InstanceId']
"
    );

    cloud.clear_faults();
    cloud.fault(On::action("CreateKeyPair"), Effect::CutBefore);
    cloud.fault(On::action("CreateSecurityGroup"), Effect::CutAfter);
    cloud.fault(On::action("DescribeInstances").nth(2), Effect::Stale);
    cloud.fault(On::action("RunInstances").nth(2), Effect::Dies(Duration::ZERO));
    cloud.fault(On::action("CreateSnapshot"), Effect::Fails);
    cloud.fault(On::action("CreateImage"), Effect::Fails);
    let said = python(
        &cloud,
        &(launch
            + "
print(code(ec2.create_key_pair, KeyName='k'))
print(code(ec2.create_security_group, GroupName='g', Description='d'))
print(len(ec2.describe_key_pairs()['KeyPairs']), [g['GroupName'] for g in ec2.describe_security_groups()['SecurityGroups']])
i = launched()
print(instance(i)['State']['Name'])
ec2.stop_instances(InstanceIds=[i])
print(instance(i)['State']['Name'], instance(i)['State']['Name'])
snapshot = ec2.create_snapshot(VolumeId=instance(i)['BlockDeviceMappings'][0]['Ebs']['VolumeId'])['SnapshotId']
snapshot = ec2.describe_snapshots(SnapshotIds=[snapshot])['Snapshots'][0]
print(snapshot['State'], snapshot['StateMessage'])
image = ec2.create_image(InstanceId=i, Name='fails')['ImageId']
image = ec2.describe_images(ImageIds=[image])['Images'][0]
print(image['State'], image['StateReason']['Code'])
i = launched(); until('terminated', i); print(instance(i)['StateReason']['Code'])
"),
    )?;
    let expected = [
        "ConnectionClosedError",
        "ConnectionClosedError",
        "0 ['default', 'g']",
        "running",
        "running stopped",
        "error Client.InternalError",
        "failed Client.InternalError",
        "Server.InternalError",
    ];
    assert_eq!(lines(&said), expected);
    Ok(())
}

#[test]
fn a_clock_that_is_wrong_is_refused_and_the_right_time_is_told() -> Outcome {
    let cloud = Cloud::start(&Options::default())?;
    for (ahead, expected) in
        [(20 * 60, "RequestExpired 400"), (-20 * 60, "RequestExpired 400"), (5 * 60, "done")]
    {
        cloud.set_clock_ahead(ahead);
        assert_eq!(python(&cloud, "print(code(ec2.describe_vpcs))")?, expected, "{ahead}");
    }
    let told = "
from email.utils import parsedate_to_datetime
date = ec2.describe_vpcs()['ResponseMetadata']['HTTPHeaders']['date']
print(round((parsedate_to_datetime(date).timestamp() - time.time()) / 60))
";
    assert_eq!(python(&cloud, told)?, "5");
    Ok(())
}

#[test]
fn states_take_the_time_that_is_said_or_so_many_calls_where_time_stands_still() -> Outcome {
    let times = Times {
        running: Duration::from_secs(30),
        status: Duration::from_mins(1),
        stopped: Duration::from_secs(40),
        terminated: Duration::from_secs(20),
        snapshot: Duration::from_secs(100),
        image: Duration::from_secs(10),
        copy: Duration::from_secs(50),
    };
    let virtually = Options { times, step: Some(Duration::from_secs(10)), ..Options::default() };
    let cloud = Cloud::start(&virtually)?;
    let program = |source: &str| {
        format!(
            "
def states(look):
    seen = []
    while not seen or seen[-1] != end: seen.append(look())
    return ' '.join(f'{{seen.count(state)}} {{state}}' for state in dict.fromkeys(seen[:-1])) + ', ' + end
def state(): return instance(i)['State']['Name']
def status(): return ec2.describe_instance_status(InstanceIds=[i])['InstanceStatuses'][0]['InstanceStatus']['Status']
def progress(): return ec2.describe_snapshots(SnapshotIds=[s])['Snapshots'][0]['Progress']
def image(id, ec2=ec2): return lambda: ec2.describe_images(ImageIds=[id])['Images'][0]['State']
i = ec2.run_instances(ImageId='{source}', InstanceType='t3.small', MinCount=1, MaxCount=1)['Instances'][0]['InstanceId']
end = 'running'; print(states(state))
end = 'ok'; print(states(status))
ec2.stop_instances(InstanceIds=[i]); end = 'stopped'; print(states(state))
s = ec2.create_snapshot(VolumeId=instance(i)['BlockDeviceMappings'][0]['Ebs']['VolumeId'])['SnapshotId']
end = '100%'; print(states(progress))
a = ec2.register_image(Name='web-1', RootDeviceName='/dev/xvda',
    BlockDeviceMappings=[{{'DeviceName': '/dev/xvda', 'Ebs': {{'SnapshotId': s}}}}])['ImageId']
end = 'available'; print(states(image(a)))
west = client('ec2', 'us-west-2')
c = west.copy_image(SourceRegion='us-east-1', SourceImageId=a, Name='web-1')['ImageId']
print(states(image(c, west)))
ec2.terminate_instances(InstanceIds=[i]); end = 'terminated'; print(states(state))
"
        )
    };
    let began = Instant::now();
    let said = python(&cloud, &program(&cloud.source_ami("debian-12-amd64-20261101", None)?))?;
    // A call takes ten seconds, so the third look is at the thirtieth second.
    let expected = [
        "2 pending, running",
        "5 initializing, ok",
        "3 stopping, stopped",
        "1 10% 1 20% 1 30% 1 40% 1 50% 1 60% 1 70% 1 80% 1 90%, 100%",
        ", available",
        "4 pending, available",
        "1 shutting-down, terminated",
    ];
    assert_eq!(lines(&said), expected);
    assert!(began.elapsed() < Duration::from_mins(1), "nobody waits");

    let times = Times { running: Duration::from_secs(1), ..Times::default() };
    let cloud = Cloud::start(&Options { times, ..Options::default() })?;
    let source = cloud.source_ami("debian-12-amd64-20261101", None)?;
    let said = python(
        &cloud,
        &format!(
            "
before = time.time()
i = ec2.run_instances(ImageId='{source}', InstanceType='t3.small', MinCount=1, MaxCount=1)['Instances'][0]['InstanceId']
until('running', i); print(time.time() - before >= 1)
"
        ),
    )?;
    assert_eq!(said, "True");
    Ok(())
}

#[test]
fn images_keep_what_they_are_given_and_copies_are_made_once() -> Outcome {
    let cloud = Cloud::start(&Options::default())?;
    let source = cloud.source_ami("debian-12-amd64-20261101", None)?;
    let said = python(
        &cloud,
        &format!(
            "
i = ec2.run_instances(ImageId='{source}', InstanceType='t3.small', MinCount=1, MaxCount=1)['Instances'][0]['InstanceId']
volume = instance(i)['BlockDeviceMappings'][0]['Ebs']['VolumeId']
s = ec2.create_snapshot(VolumeId=volume)['SnapshotId']
root = {{'DeviceName': '/dev/xvda', 'Ebs': {{'SnapshotId': s, 'VolumeType': 'gp3', 'Iops': 4000, 'Throughput': 200}}}}
given = dict(Name='web-1', Description='web', Architecture='x86_64', VirtualizationType='hvm', RootDeviceName='/dev/xvda',
    BootMode='uefi-preferred', TpmSupport='v2.0', ImdsSupport='v2.0', EnaSupport=True, BlockDeviceMappings=[root],
    TagSpecifications=[{{'ResourceType': 'image', 'Tags': [{{'Key': 'run', 'Value': 'r1'}}]}}])
a = ec2.register_image(**given)['ImageId']
def image(id, ec2=ec2): return ec2.describe_images(ImageIds=[id])['Images'][0]
for name in ['Description', 'BootMode', 'TpmSupport', 'ImdsSupport', 'EnaSupport', 'Tags', 'BlockDeviceMappings']:
    print(name, image(a)[name])
print(code(ec2.register_image, **given))
print(code(ec2.create_image, InstanceId=i, Name='web-1'))
print(code(ec2.delete_snapshot, SnapshotId=s))
west = client('ec2', 'us-west-2')
copy = dict(SourceRegion='us-east-1', SourceImageId=a, Name='web-1', ClientToken='t', CopyImageTags=True, Encrypted=True)
c, again = west.copy_image(**copy)['ImageId'], west.copy_image(**copy)['ImageId']
print(c == again, code(west.copy_image, **{{**copy, 'Name': 'web-2'}}))
print(image(c, west)['Tags'], image(c, west)['SourceImageId'] == a, image(c, west)['ImdsSupport'])
copied = image(c, west)['BlockDeviceMappings'][0]['Ebs']
print(copied['Encrypted'], copied['SnapshotId'] != s)
b = ec2.create_image(InstanceId=i, Name='web-3', NoReboot=True, TagSpecifications=[
    {{'ResourceType': kind, 'Tags': [{{'Key': 'kind', 'Value': kind}}]}} for kind in ['image', 'snapshot']])['ImageId']
t = image(b)['BlockDeviceMappings'][0]['Ebs']['SnapshotId']
print(image(b)['Tags'], ec2.describe_snapshots(SnapshotIds=[t])['Snapshots'][0]['Tags'])
ec2.deregister_image(ImageId=a); print(code(ec2.delete_snapshot, SnapshotId=s))
"
        ),
    )?;
    let said = lines(&said);
    let [description, boot, tpm, imds, ena, tags, devices, rest @ ..] = said.as_slice() else {
        return Err(format!("{said:?}").into());
    };
    let attributes = [
        "Description web",
        "BootMode uefi-preferred",
        "TpmSupport v2.0",
        "ImdsSupport v2.0",
        "EnaSupport True",
        "Tags [{'Key': 'run', 'Value': 'r1'}]",
    ];
    assert_eq!([*description, *boot, *tpm, *imds, *ena, *tags], attributes);
    for attribute in ["'VolumeType': 'gp3'", "'Iops': 4000", "'Throughput': 200", "'VolumeSize': 8"] {
        assert!(devices.contains(attribute), "{devices}");
    }
    let expected = [
        "InvalidAMIName.Duplicate 400",
        "InvalidAMIName.Duplicate 400",
        "InvalidSnapshot.InUse 400",
        "True IdempotentParameterMismatch 400",
        "[{'Key': 'run', 'Value': 'r1'}] True v2.0",
        "True True",
        "[{'Key': 'kind', 'Value': 'image'}] [{'Key': 'kind', 'Value': 'snapshot'}]",
        "done",
    ];
    assert_eq!(rest, expected);
    Ok(())
}

#[test]
fn what_was_there_before_is_told_from_what_is_left_and_what_is_lost() -> Outcome {
    let cloud = Cloud::start(&Options::default())?;
    cloud.source_ami("debian-12-amd64-20261101", None)?;
    python(&cloud, "for name in 'ab': ec2.create_security_group(GroupName=name, Description='of others')")?;
    assert_eq!(kinds_left(&cloud)?, ["security group", "security group"]);
    cloud.remember()?;
    python(
        &cloud,
        "
ec2.create_key_pair(KeyName='k')
ssm.put_parameter(Name='/images/web', Value='ami-1', Type='String')
ec2.create_tags(Resources=[ec2.describe_security_groups(GroupNames=['a'])['SecurityGroups'][0]['GroupId']],
    Tags=[{'Key': 'seen', 'Value': 'yes'}])
ec2.delete_security_group(GroupId=ec2.describe_security_groups(GroupNames=['b'])['SecurityGroups'][0]['GroupId'])
client('ec2', 'us-west-2').create_volume(AvailabilityZone='us-west-2a', Size=1)
",
    )?;
    let mut left: Vec<_> =
        cloud.left()?.into_iter().map(|left| format!("{} {}", left.region, left.kind)).collect();
    left.sort();
    assert_eq!(left, ["us-east-1 key pair", "us-east-1 parameter", "us-west-2 volume"]);
    let lost: Vec<_> = cloud.lost()?.into_iter().map(|lost| lost.kind).collect();
    assert_eq!(lost, ["security group", "security group"], "one is gone and one has another tag");
    Ok(())
}

#[test]
fn a_token_of_somebody_else_is_exchanged_for_a_role() -> Outcome {
    let cloud = Cloud::start(&Options::default())?;
    let said = python(
        &cloud,
        "
from botocore import UNSIGNED
unsigned = client('sts', config=Config(signature_version=UNSIGNED))
assumed = unsigned.assume_role_with_web_identity(RoleArn='arn:aws:iam::123456789012:role/ci', RoleSessionName='run-1',
    WebIdentityToken='eyJhbGciOiJub25lIn0.e30.')
keys = assumed['Credentials']
print(assumed['AssumedRoleUser']['Arn'])
role = boto3.client('sts', aws_access_key_id=keys['AccessKeyId'], aws_secret_access_key=keys['SecretAccessKey'],
    aws_session_token=keys['SessionToken'])
print(role.get_caller_identity()['Arn'])
",
    )?;
    let role = "arn:aws:sts::123456789012:assumed-role/ci/run-1";
    assert_eq!(lines(&said), [role, role]);
    let calls: Vec<_> = cloud.calls().into_iter().map(|call| (call.service, call.action)).collect();
    let expected = [("sts", "AssumeRoleWithWebIdentity"), ("sts", "GetCallerIdentity")];
    assert_eq!(calls, expected.map(|(service, action)| (service.to_owned(), action.to_owned())));
    Ok(())
}
