"""Images and snapshots: what moto drops of them, and the states that they go through."""

import re

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.amis import Ami
from moto.ec2.models.elastic_block_store import EBSBackend, Snapshot
from moto.ec2.responses import EC2Response
from moto.ec2.utils import convert_tag_spec, random_ami_id
from moto.core.responses import ActionResult

import states
from states import TIMES

# Which snapshot a snapshot is a copy of.
ORIGINS = {}

_NAME = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]{3,128}")


def _snapshot_states():
    def get(snapshot):
        return states.state(snapshot.id, "completed")

    def begin(snapshot, _):
        states.begin(snapshot.id, "pending", TIMES["snapshot"], "completed")

    Snapshot.status = property(get, begin)
    Snapshot.progress = property(lambda snapshot: f"{states.progress(snapshot.id)}%")
    Snapshot.state_message = property(
        lambda snapshot: "Client.InternalError" if snapshot.status == "error" else None
    )


def _image_states():
    def get(image):
        found = states.state(image.id, "available")
        if found != "available":
            return found
        # It is there when all its snapshots are.
        snapshots = [image.ec2_backend.snapshots.get(id) for id in snapshots_of(image)]
        found = {snapshot.status for snapshot in snapshots if snapshot}
        return "failed" if "error" in found else "pending" if "pending" in found else "available"

    def begin(image, value):
        if value == "available":
            states.begin(image.id, "pending", TIMES["image"], "available")
        else:
            states.settle(image.id, value)

    def reason(image):
        failed = {"Code": "Client.InternalError", "Message": "Client.InternalError: the image could not be made"}
        return failed if image.state == "failed" else None

    Ami.state = property(get, begin)
    Ami.state_reason = property(reason)
    of_moto = Ami.block_device_mappings.fget
    Ami.block_device_mappings = property(lambda image: image.__dict__.get("mappings") or of_moto(image))


def snapshots_of(image):
    """The snapshots that an image has."""
    found = [mapping.get("Ebs", {}).get("SnapshotId") for mapping in image.__dict__.get("mappings", [])]
    return [snapshot for snapshot in found if snapshot]


def root_snapshot(image):
    """The snapshot of an image's root volume."""
    for mapping in image.block_device_mappings:
        if mapping["DeviceName"] == image.root_device_name:
            return mapping.get("Ebs", {}).get("SnapshotId")
    return None


def describe(image):
    """What bodies are made of: the snapshots that hold the root volume, the nearest first."""
    snapshot, chain = root_snapshot(image), []
    while snapshot:
        chain.append(snapshot)
        snapshot = ORIGINS.get(snapshot)
    return {
        "id": image.id,
        "name": image.name,
        "state": image.state,
        "snapshots": chain,
        "architecture": image.architecture,
    }


def _check_name(backend, name):
    if not name or not _NAME.fullmatch(name):
        raise EC2ClientError(
            "InvalidAMIName.Malformed",
            "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, "
            "'(', ')', '.', '-', '/' and '_'",
        )
    for image in backend.amis.values():
        if image.name == name and image.owner_id == backend.account_id:
            raise EC2ClientError(
                "InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {image.id}"
            )


def create(backend, mappings, tags=None, **attributes):
    """An image of snapshots that are there. moto would make a snapshot of its own for it."""
    image = Ami(backend, attributes.pop("ami_id", None) or random_ami_id(), **attributes)
    backend.snapshots.pop(image.ebs_snapshot.id)
    image.mappings = mappings
    root = backend.snapshots.get(root_snapshot(image))
    if root:
        image.ebs_snapshot = root
    image.add_tags(tags or {})
    backend.amis[image.id] = image
    return image


def seed(backend, request):
    """An image of somebody else, with a snapshot that is not to be seen."""
    volume = backend.create_volume(size=request["size"], zone_name=backend.region_name + "a")
    snapshot = backend.create_snapshot(volume.id, f"Source of {request['name']}", owner_id=request["owner"])
    backend.volumes.pop(volume.id)
    states.settle(snapshot.id, "completed")
    device = request["root_device_name"]
    ebs = {
        "SnapshotId": snapshot.id,
        "VolumeSize": request["size"],
        "VolumeType": "gp3",
        "DeleteOnTermination": True,
        "Encrypted": False,
    }
    image = create(
        backend,
        [{"DeviceName": device, "Ebs": ebs}],
        name=request["name"],
        owner_id=request["owner"],
        description=request.get("description"),
        architecture=request["architecture"],
        creation_date=request.get("created"),
        public=True,
        virtualization_type="hvm",
        hypervisor="xen",
        root_device_type="ebs",
        root_device_name=device,
        image_location=f"{request['owner']}/{request['name']}",
        boot_mode=request.get("boot_mode"),
    )
    image.ena_support = True
    states.settle(image.id, "available")
    return image


def _mappings(backend, given):
    """The block devices of an image, as they were given, and what AWS adds of their snapshots."""
    mappings = []
    for device in given:
        mapping = {"DeviceName": device["DeviceName"]}
        if device.get("VirtualName"):
            mapping["VirtualName"] = device["VirtualName"]
        if device.get("Ebs"):
            ebs = dict(device["Ebs"])
            snapshot_id = ebs.get("SnapshotId")
            if snapshot_id:
                snapshot = backend.get_snapshot(snapshot_id)
                if snapshot.status != "completed":
                    raise EC2ClientError(
                        "IncorrectState", f"{snapshot_id} is in an invalid state: {snapshot.status}"
                    )
                ebs.setdefault("VolumeSize", snapshot.volume_size)
                ebs["Encrypted"] = snapshot.encrypted
            ebs.setdefault("DeleteOnTermination", True)
            ebs.setdefault("VolumeType", "gp2")
            mapping["Ebs"] = ebs
        mappings.append(mapping)
    return mappings


def _register_image(response):
    response.error_on_dryrun()
    given, backend = response._get_params(), response.ec2_backend
    name = given.get("Name")
    _check_name(backend, name)
    root = given.get("RootDeviceName")
    mappings = _mappings(backend, given.get("BlockDeviceMappings", []))
    if root not in [mapping["DeviceName"] for mapping in mappings]:
        raise EC2ClientError(
            "InvalidBlockDeviceMapping", f"The block device mapping has no root device {root}"
        )
    image = create(
        backend,
        mappings,
        tags=convert_tag_spec(given.get("TagSpecifications", [])).get("image"),
        name=name,
        description=given.get("Description", ""),
        architecture=given.get("Architecture", "i386"),
        virtualization_type=given.get("VirtualizationType", "paravirtual"),
        root_device_type="ebs",
        root_device_name=root,
        hypervisor="xen",
        image_location=f"{backend.account_id}/{name}",
        boot_mode=given.get("BootMode"),
    )
    image.tpm_support = given.get("TpmSupport")
    image.imds_support = given.get("ImdsSupport")
    image.ena_support = given.get("EnaSupport", False)
    return ActionResult({"ImageId": image.id})


def _create_image(response):
    response.error_on_dryrun()
    given, backend = response._get_params(), response.ec2_backend
    instance = backend.get_instance(given["InstanceId"])
    _check_name(backend, given.get("Name"))
    tags = convert_tag_spec(given.get("TagSpecifications", []))
    image_id, mappings = random_ami_id(), []
    for device, block in instance.get_block_device_mapping:
        volume = backend.get_volume(block.volume_id)
        description = f"Created by CreateImage({instance.id}) for {image_id}"
        snapshot = backend.create_snapshot(volume.id, description)
        snapshot.add_tags(tags.get("snapshot", {}))
        ebs = {
            "SnapshotId": snapshot.id,
            "VolumeSize": volume.size,
            "VolumeType": volume.volume_type,
            "DeleteOnTermination": block.delete_on_termination,
            "Encrypted": volume.encrypted,
        }
        mappings.append({"DeviceName": device, "Ebs": ebs})
    source = backend.amis.get(instance.image_id)
    image = create(
        backend,
        mappings,
        ami_id=image_id,
        tags=tags.get("image"),
        instance=instance,
        name=given["Name"],
        description=given.get("Description", ""),
        root_device_type="ebs",
        root_device_name=instance.root_device_name,
        hypervisor="xen",
        image_location=f"{backend.account_id}/{given['Name']}",
        boot_mode=source.boot_mode if source else None,
    )
    for attribute in ["tpm_support", "imds_support", "ena_support"]:
        setattr(image, attribute, getattr(source, attribute, None))
    # Its snapshots were begun just now.
    states.begin(image.id, "pending", TIMES["snapshot"] + TIMES["image"], "available")
    return ActionResult({"ImageId": image.id})


def _copy_image(response):
    from moto.ec2.models import ec2_backends

    response.error_on_dryrun()
    given, backend = response._get_params(), response.ec2_backend
    elsewhere = ec2_backends[backend.account_id][given["SourceRegion"]]
    source = elsewhere.describe_images(ami_ids=[given["SourceImageId"]])[0]
    if source.state != "available":
        raise EC2ClientError("InvalidAMIID.Unavailable", f"The image ID '{source.id}' is not available")
    _check_name(backend, given.get("Name"))
    tags, image_id, mappings = convert_tag_spec(given.get("TagSpecifications", [])), random_ami_id(), []
    if str(given.get("CopyImageTags")).lower() == "true":
        own = {tag["key"]: tag["value"] for tag in source.get_tags()}
        tags["image"] = {**own, **tags.get("image", {})}
    for mapping in source.block_device_mappings:
        mapping = {**mapping, "Ebs": dict(mapping["Ebs"])}
        origin = elsewhere.get_snapshot(mapping["Ebs"]["SnapshotId"])
        description = f"Copied for DestinationAmi {image_id} from SourceAmi {source.id} for SourceSnapshot {origin.id}."
        snapshot = backend.copy_snapshot(origin.id, given["SourceRegion"], description, given.get("KmsKeyId"))
        snapshot.add_tags(tags.get("snapshot", {}))
        snapshot.encrypted = origin.encrypted or str(given.get("Encrypted")).lower() == "true"
        mapping["Ebs"].update(SnapshotId=snapshot.id, Encrypted=snapshot.encrypted)
        mappings.append(mapping)
    image = create(
        backend,
        mappings,
        ami_id=image_id,
        tags=tags.get("image"),
        source_ami=source,
        name=given["Name"],
        description=given.get("Description"),
        root_device_type="ebs",
        root_device_name=source.root_device_name,
        hypervisor="xen",
        image_location=f"{backend.account_id}/{given['Name']}",
        boot_mode=source.boot_mode,
    )
    image.source_image_id, image.source_image_region = source.id, given["SourceRegion"]
    for attribute in ["tpm_support", "imds_support", "ena_support"]:
        setattr(image, attribute, getattr(source, attribute, None))
    states.begin(image.id, "pending", TIMES["copy"], "available")
    return ActionResult({"ImageId": image.id})


def _snapshots():
    copy_of_moto, delete_of_moto = EBSBackend.copy_snapshot, EBSBackend.delete_snapshot

    def copy_snapshot(backend, source_snapshot_id, source_region, description, kms_key_id):
        snapshot = copy_of_moto(backend, source_snapshot_id, source_region, description, kms_key_id)
        ORIGINS[snapshot.id] = source_snapshot_id
        states.begin(snapshot.id, "pending", TIMES["copy"], "completed")
        return snapshot

    def delete_snapshot(backend, snapshot_id):
        for image in backend.amis.values():
            if snapshot_id in snapshots_of(image):
                raise EC2ClientError(
                    "InvalidSnapshot.InUse",
                    f"The snapshot {snapshot_id} is currently in use by {image.id}",
                )
        return delete_of_moto(backend, snapshot_id)

    EBSBackend.copy_snapshot = copy_snapshot
    EBSBackend.delete_snapshot = delete_snapshot


def extend():
    """Puts all of it in place of moto's own."""
    _snapshot_states()
    _image_states()
    _snapshots()
    EC2Response.register_image = _register_image
    EC2Response.create_image = _create_image
    EC2Response.copy_image = _copy_image
