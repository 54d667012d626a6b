"""What an account may: quotas, permissions as IAM simulates them, and sessions of Session Manager."""

import json

from moto.core.responses import ActionResult
from moto.ec2.models import ec2_backends
from moto.iam.responses import IamResponse
from moto.servicequotas.models import ServiceQuotasBackend
from moto.ssm.responses import SimpleSystemManagerResponse
from moto.core.exceptions import JsonRESTError

import instances

# Values by the code of the quota.
QUOTAS = {}

# Actions that the caller may not do.
DENIED = set()


def forget():
    QUOTAS.clear()
    DENIED.clear()


def _quotas():
    of_moto = ServiceQuotasBackend.get_service_quota

    def get_service_quota(backend, service_code, quota_code):
        if quota_code not in QUOTAS:
            return of_moto(backend, service_code, quota_code)
        return {"ServiceCode": service_code, "QuotaCode": quota_code, "Value": QUOTAS[quota_code]}

    ServiceQuotasBackend.get_service_quota = get_service_quota


def _simulation():
    def simulate_principal_policy(response):
        resources = response._get_param("ResourceArns", []) or ["*"]
        results = [
            {
                "EvalActionName": action,
                "EvalResourceName": resource,
                "EvalDecision": "implicitDeny" if action in DENIED else "allowed",
                "MissingContextValues": [],
            }
            for action in response._get_param("ActionNames", [])
            for resource in resources
        ]
        return ActionResult({"EvaluationResults": results, "IsTruncated": False})

    IamResponse.simulate_principal_policy = simulate_principal_policy


def _sessions():
    def start_session(response):
        target = response._get_param("Target")
        backend = ec2_backends[response.current_account][response.region]
        found = {instance.id: instance for instance in backend.all_instances()}.get(target)
        if not found or not instances.has_booted(found):
            raise JsonRESTError("TargetNotConnected", f"{target} is not connected.")
        port = response._get_param("Parameters")["portNumber"][0]
        address = found.nics[0].private_ip_address
        return json.dumps(
            {"SessionId": "baker-0abcdef", "TokenValue": "the-token-of-the-session", "StreamUrl": f"wss://{address}:{port}"}
        )

    SimpleSystemManagerResponse.start_session = start_session


_quotas()
_simulation()
_sessions()
