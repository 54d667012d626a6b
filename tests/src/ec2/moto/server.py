"""moto as a cloud for bakes: EC2 takes its time, keeps what it is told, and knows who asks twice.

    python server.py SOCKET

It listens on a Unix socket, and ends when its standard input does. Paths below `/cloud/` are for the test bed: they
take and answer JSON.
"""

import json
import os
import sys
import threading

# Before moto reads them.
os.environ.update(
    MOTO_EC2_LOAD_DEFAULT_AMIS="false",
    MOTO_ENABLE_AMI_VALIDATION="true",
    MOTO_ENABLE_KEYPAIR_VALIDATION="true",
    MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION="true",
)

from werkzeug.serving import run_simple  # noqa: E402

from moto.core import DEFAULT_ACCOUNT_ID  # noqa: E402
from moto.core.exceptions import ServiceException  # noqa: E402
from moto.ec2.exceptions import DryRunClientError  # noqa: E402
from moto.ec2.models import ec2_backends  # noqa: E402
from moto.ec2.responses import EC2Response  # noqa: E402
from moto.moto_server.werkzeug_app import (  # noqa: E402
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.ssm.models import ssm_backends  # noqa: E402

import account  # noqa: E402
import images  # noqa: E402
import instances  # noqa: E402
import states  # noqa: E402

LOCK = threading.RLock()


def _backends():
    return ec2_backends[DEFAULT_ACCOUNT_ID]


def _find(resource, of):
    """What has an id, and the backend of the region that it is in."""
    for backend in list(_backends().values()):
        found = of(backend).get(resource)
        if found:
            return backend, found
    raise KeyError(f"{resource} is not there")


def _instances(backend):
    return {instance.id: instance for instance in backend.all_instances()}


def configure(request):
    states.TIMES.update(request.get("times", {}))
    states.BODIES["on"] = request.get("bodies", states.BODIES["on"])
    states.CLOCK.step = request.get("step")


def seed_image(request):
    backend = _backends()[request["region"]]
    return images.describe(images.seed(backend, request))


def describe_image(request):
    return images.describe(_find(request["id"], lambda backend: backend.amis)[1])


def describe_instance(request):
    return instances.describe(*_find(request["id"], _instances))


def tell(request):
    instance = _find(request["id"], _instances)[1]
    instances.tell(instance, request["event"], request.get("detail"))


def doom(request):
    states.doom(request["id"], request["state"])


def snapshot(request):
    found = _find(request["id"], lambda backend: backend.snapshots)[1]
    return {"id": found.id, "volume": found.volume_id}


def inventory(_):
    """Everything that is there and costs or clutters, but what every account has from the start."""
    listed = []
    for region, backend in list(_backends().items()):
        own = [
            ("instance", [i for i in backend.all_instances() if i.state != "terminated"]),
            ("volume", backend.volumes.values()),
            ("snapshot", [s for s in backend.snapshots.values() if s.owner_id == DEFAULT_ACCOUNT_ID]),
            ("image", [i for i in backend.amis.values() if i.owner_id == DEFAULT_ACCOUNT_ID]),
            ("key pair", backend.key_pairs.values()),
            ("network interface", backend.enis.values()),
            ("launch template", backend.launch_templates.values()),
            (
                "security group",
                [g for groups in backend.groups.values() for g in groups.values() if g.name != "default"],
            ),
        ]
        for kind, resources in own:
            for resource in resources:
                # A key pair is known by its name.
                name = resource.key_name if kind == "key pair" else resource.id
                tags = {tag["key"]: tag["value"] for tag in backend.describe_tags({"resource-id": [resource.id]})}
                state = getattr(resource, "state", None) or getattr(resource, "status", None)
                listed.append({"region": region, "kind": kind, "id": name, "state": state, "tags": tags})
    for region, backend in list(ssm_backends[DEFAULT_ACCOUNT_ID].items()):
        for name, versions in backend._parameters.items():
            if not name.startswith("/aws/"):
                value = versions[-1].value
                listed.append({"region": region, "kind": "parameter", "id": name, "state": value, "tags": {}})
    return listed


def quota(request):
    account.QUOTAS[request["code"]] = request["value"]


def deny(request):
    account.DENIED.add(request["action"])


def reset(_):
    from moto.backends import get_backend  # noqa: F401
    from moto.core.models import DEFAULT_ACCOUNT_ID as _account  # noqa: F401
    from moto.moto_api._internal.models import moto_api_backend

    moto_api_backend.reset()
    states.forget()
    account.forget()
    instances.forget()
    images.ORIGINS.clear()


VERBS = {
    verb.__name__: verb
    for verb in [
        configure,
        seed_image,
        describe_image,
        describe_instance,
        tell,
        doom,
        snapshot,
        inventory,
        quota,
        deny,
        reset,
    ]
}


def _dry_runs():
    """A dry run of any call ends before the call does anything, if what it names is there."""
    of_moto = EC2Response.call_action
    known = {
        "InstanceId": "get_instance",
        "VolumeId": "get_volume",
        "SnapshotId": "get_snapshot",
        "SubnetId": "get_subnet",
    }

    def dry_run(response):
        for parameter, find in known.items():
            if given := response._get_param(parameter):
                getattr(response.ec2_backend, find)(given)
        for given in response._get_param("InstanceIds", []):
            response.ec2_backend.get_instance(given)
        if given := response._get_param("ImageId"):
            response.ec2_backend.describe_images(ami_ids=[given])
        raise DryRunClientError()

    def call_action(response):
        if str(response._get_param("DryRun")).lower() == "true":
            from moto.core.utils import camelcase_to_underscores

            setattr(response, camelcase_to_underscores(response._get_action()), lambda: dry_run(response))
        return of_moto(response)

    EC2Response.call_action = call_action


def application(moto):
    def answer(environ, start_response):
        path = environ["PATH_INFO"]
        with LOCK:
            if not path.startswith("/cloud/"):
                states.CLOCK.called()
                return moto(environ, start_response)
            length = int(environ.get("CONTENT_LENGTH") or 0)
            request = json.loads(environ["wsgi.input"].read(length) or "{}")
            try:
                status, body = "200 OK", VERBS[path.removeprefix("/cloud/")](request)
            except (KeyError, ValueError, ServiceException) as error:
                status, body = "400 Bad Request", {"error": str(error)}
        text = json.dumps(body, default=str).encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(text)))])
        return [text]

    return answer


def _end_with_input():
    sys.stdin.buffer.read()
    os._exit(0)


def main():
    images.extend()
    instances.extend()
    _dry_runs()
    threading.Thread(target=_end_with_input, daemon=True).start()
    moto = DomainDispatcherApplication(create_backend_app)
    run_simple(
        f"unix://{sys.argv[1]}", 0, application(moto), threaded=True, request_handler=MotoRequestHandler
    )


if __name__ == "__main__":
    main()
