"""Instances: their states, the volumes that they get of their image, and client tokens."""

import functools
from base64 import b64decode

from moto.core.responses import ActionResult
from moto.core.types import Base64EncodedString
from moto.core.utils import utcnow
from moto.ec2.exceptions import DependencyViolationError, EC2ClientError
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.instances import Instance, InstanceBackend, InstanceState, StateReason
from moto.ec2.models.security_groups import SecurityGroupBackend
from moto.ec2.responses import EC2Response
from moto.ec2.utils import convert_tag_spec

import states
from states import BODIES, TIMES

CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}

# The network that bodies are in. The first address is that of the world.
ADDRESSES = [f"10.200.0.{number}" for number in range(2, 255)]

# Instances that have come up inside, and files with what they said on their consoles.
_booted = set()
_consoles = {}


def _instance_states():
    def get(instance):
        name = states.state(instance.id, "running")
        return InstanceState(name, CODES[name])

    def begin(instance, _):
        states.begin(instance.id, "pending", TIMES["running"], "running")

    def status(instance):
        if instance.state != "running":
            return {"Status": "not-applicable"}
        passed = states.since(instance.id) >= TIMES["status"] and (not BODIES["on"] or instance.id in _booted)
        return {
            "Details": [{"Name": "reachability", "Status": "passed" if passed else "initializing"}],
            "Status": "ok" if passed else "initializing",
        }

    Instance._state = property(get, begin)
    Instance.instance_status = property(status)
    start, stop, terminate = Instance.start, Instance.stop, Instance.terminate

    def must_be(instance, allowed, verb):
        if instance.state not in allowed:
            raise EC2ClientError(
                "IncorrectInstanceState",
                f"This instance '{instance.id}' is not in a state from which it can be {verb}.",
            )

    def started(instance):
        must_be(instance, ["stopped", "running"], "started")
        if instance.state == "running":
            return instance._state
        address = getattr(instance, "body_address", None)
        previous = start(instance)
        states.begin(instance.id, "pending", TIMES["running"], "running")
        if address:
            place(instance, address)
        return previous

    def stopped(instance):
        must_be(instance, ["running", "stopping", "stopped"], "stopped")
        if instance.state != "running":
            return instance._state
        previous = stop(instance)
        _booted.discard(instance.id)
        states.begin(instance.id, "stopping", None if BODIES["on"] else TIMES["stopped"], "stopped")
        return previous

    def terminated(instance):
        previous = instance._state
        if previous.name in ["shutting-down", "terminated"]:
            return previous
        for nic in instance.nics.values():
            # The interface that came with the instance goes with it.
            nic.delete_on_termination = True
        terminate(instance)
        delay = None if BODIES["on"] and previous.name != "stopped" else TIMES["terminated"]
        states.begin(instance.id, "shutting-down", delay, "terminated")
        return previous

    def rebooted(instance):
        must_be(instance, ["running"], "rebooted")

    Instance.start, Instance.stop, Instance.terminate, Instance.reboot = started, stopped, terminated, rebooted


def has_booted(instance):
    return instance.id in _booted


def place(instance, address):
    """Gives an instance the address of its body, public and private."""
    instance.body_address = address
    nic = instance.nics[0]
    nic.private_ip_address = address
    nic.private_ip_addresses = [{"Primary": True, "PrivateIpAddress": address}]
    if nic.public_ip:
        nic.public_ip = address
        # Not to be drawn anew.
        nic.public_ip_auto_assign = False


def _free_address():
    from moto.ec2.models import ec2_backends

    taken = {
        getattr(instance, "body_address", None)
        for account in ec2_backends.values()
        for backend in account.values()
        for instance in backend.all_instances()
        if instance.state != "terminated"
    }
    return next(address for address in ADDRESSES if address not in taken)


def _volumes_of(image, given):
    """What an instance gets: the devices of its image, with what the launch says otherwise."""
    devices = {}
    for mapping in image.block_device_mappings:
        if mapping.get("Ebs"):
            devices[mapping["DeviceName"]] = {"DeviceName": mapping["DeviceName"], "Ebs": dict(mapping["Ebs"])}
    for mapping in given:
        device = devices.setdefault(mapping["DeviceName"], {"DeviceName": mapping["DeviceName"], "Ebs": {}})
        if mapping.get("NoDevice") is not None:
            devices.pop(mapping["DeviceName"])
        elif mapping.get("Ebs"):
            device["Ebs"].update({key: value for key, value in mapping["Ebs"].items() if value is not None})
    for device in devices.values():
        ebs = device["Ebs"]
        if not ebs.get("VolumeSize"):
            raise EC2ClientError("MissingParameter", "The request must contain the parameter size or snapshotId")
        ebs["DeleteOnTermination"] = ebs.get("DeleteOnTermination", False)
    return list(devices.values())


def _check_launch(backend, image_id, instance_type):
    image = backend.describe_images(ami_ids=[image_id])
    if not image or image[0].state != "available":
        raise EC2ClientError("InvalidAMIID.Unavailable", f"The image ID '{image_id}' is not available")
    known = INSTANCE_TYPES.get(instance_type, {}).get("ProcessorInfo", {}).get("SupportedArchitectures", [])
    if known and image[0].architecture not in known:
        raise EC2ClientError(
            "InvalidParameterValue",
            f"The architecture '{known[0]}' of the specified instance type does not match the architecture "
            f"'{image[0].architecture}' of the specified AMI. Specify an instance type and an AMI that have "
            "matching architectures, and try again.",
        )
    return image[0]


def _launches():
    of_moto = InstanceBackend.run_instances

    def run_instances(backend, image_id, count, user_data, groups, **options):
        image = _check_launch(backend, image_id, options["instance_type"])
        volumes = _volumes_of(image, options.get("block_device_mappings", []))
        options["block_device_mappings"] = volumes
        reservation = of_moto(backend, image_id, count, user_data, groups, **options)
        for instance in reservation.instances:
            for device, block in instance.block_device_mapping.items():
                volume = backend.get_volume(block.volume_id)
                ebs = next(mapping["Ebs"] for mapping in volumes if mapping["DeviceName"] == device)
                volume.iops, volume.throughput = ebs.get("Iops", volume.iops), ebs.get("Throughput")
                volume.snapshot_id = ebs.get("SnapshotId")
            for nic in instance.nics.values():
                nic.delete_on_termination = True
            instance.boot_mode = image.boot_mode
            instance.ena_support = True
            instance.image_name = image.name
            if BODIES["on"]:
                place(instance, _free_address())
        return reservation

    def mappings(response):
        return [dict(mapping) for mapping in response._get_param("BlockDeviceMappings", [])]

    InstanceBackend.run_instances = run_instances
    EC2Response._parse_block_device_mapping = mappings


def _security_groups():
    of_moto = SecurityGroupBackend._delete_security_group

    def delete(backend, vpc_id, group_id):
        for instance in backend.all_instances():
            if instance.state != "terminated" and group_id in _groups_of(instance):
                raise DependencyViolationError(f"resource {group_id} has a dependent object")
        return of_moto(backend, vpc_id, group_id)

    SecurityGroupBackend._delete_security_group = delete


def _groups_of(instance):
    return [group.id for group in instance.security_groups]


# What calls with a client token came to: their parameters and their results.
_tokens = {}


def _idempotent(name):
    of_moto = getattr(EC2Response, name)

    @functools.wraps(of_moto)
    def call(response):
        response.error_on_dryrun()
        token = response._get_param("ClientToken")
        if not token:
            return of_moto(response)
        key, given = (response.region, name, token), repr(sorted(response.querystring.items()))
        if key not in _tokens:
            _tokens[key] = (given, of_moto(response))
        before, result = _tokens[key]
        if before != given:
            raise EC2ClientError(
                "IdempotentParameterMismatch",
                "The client token you have provided is associated with a resource that has been launched "
                "with different parameters",
            )
        return result

    setattr(EC2Response, name, call)


def _console_output(response):
    instance = response.ec2_backend.get_instance(response._get_param("InstanceId"))
    text = ""
    if instance.id in _consoles:
        with open(_consoles[instance.id], encoding="utf-8", errors="replace") as console:
            text = console.read()[-64 * 1024 :]
    output = Base64EncodedString.from_raw_string(text)
    return ActionResult({"InstanceId": instance.id, "Timestamp": utcnow(), "Output": output})


def describe(backend, instance):
    """What its body and its metadata service need to know."""
    profile = next(
        (
            association.iam_instance_profile
            for association in backend.iam_instance_profile_associations.values()
            if association.instance.id == instance.id
        ),
        None,
    )
    key = backend.key_pairs.get(instance.key_name)
    root = instance.block_device_mapping.get(instance.root_device_name)
    options = instance.metadata_options
    return {
        "id": instance.id,
        "region": backend.region_name,
        "zone": instance.availability_zone,
        "account": instance.owner_id,
        "image": instance.image_id,
        "type": instance.instance_type,
        "architecture": instance.architecture,
        "state": instance.state,
        "address": getattr(instance, "body_address", None) or instance.private_ip,
        "public_address": instance.public_ip,
        "mac": instance.nics[0].mac_address if instance.nics else None,
        # Of bytes as they are, a character each.
        "user_data": b64decode(str(instance.user_data)).decode("latin-1") if instance.user_data else None,
        "public_key": key.public_key if key else None,
        "key_name": instance.key_name,
        "role": profile.roles[0].name if profile and profile.roles else None,
        "shutdown": instance.instance_initiated_shutdown_behavior,
        "root_volume": root.volume_id if root else None,
        "tokens_required": options.http_tokens == "required",
        "hop_limit": options.http_put_response_hop_limit,
        "metadata": options.http_endpoint != "disabled",
        "metadata_tags": options.instance_metadata_tags == "enabled",
        "tags": {tag["key"]: tag["value"] for tag in instance.get_tags()},
    }


def tell(instance, event, detail):
    """What has become of a body."""
    if event == "booted":
        _booted.add(instance.id)
    elif event == "console":
        _consoles[instance.id] = detail
    elif event == "off":
        # It was stopped or terminated by a call, and is off now.
        leads_to = {"stopping": "stopped", "shutting-down": "terminated"}.get(instance.state)
        if leads_to:
            waited = states.since(instance.id)
            states.begin(instance.id, instance.state, max(0.0, TIMES[leads_to] - waited), leads_to)
    elif event == "shutdown":
        # Somebody inside shut it down.
        if instance.instance_initiated_shutdown_behavior == "terminate":
            instance.terminate()
            states.begin(instance.id, "shutting-down", TIMES["terminated"], "terminated")
        else:
            instance.stop()
            states.begin(instance.id, "stopping", TIMES["stopped"], "stopped")
        reason = "Client.InstanceInitiatedShutdown"
        instance.state_reason = StateReason(f"{reason}: Instance initiated shutdown", reason)
    elif event == "died":
        instance.terminate()
        states.begin(instance.id, "shutting-down", TIMES["terminated"], "terminated")
        reason = "Server.InternalError"
        instance.state_reason = StateReason(f"{reason}: Internal error on launch", reason)
    else:
        raise ValueError(event)


def forget():
    _tokens.clear()
    _booted.clear()
    _consoles.clear()


def extend():
    """Puts all of it in place of moto's own. Images must be extended before."""
    _instance_states()
    _launches()
    _security_groups()
    EC2Response.get_console_output = _console_output
    for name in ["run_instances", "copy_image", "create_volume"]:
        _idempotent(name)
