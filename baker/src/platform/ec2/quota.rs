//! Whether the account's quota of vCPUs has room for a builder.

use aws_sdk_ec2::types::{Filter, Instance, InstanceLifecycleType, Reservation};

use super::Ec2;
use super::call::{CallError, call};
use super::place::Candidate;
use crate::failure::Failure;

/// Families that share one quota (EC2, "Amazon EC2 instance type quotas": Standard).
const STANDARD: [char; 9] = ['a', 'c', 'd', 'h', 'i', 'm', 'r', 't', 'z'];

/// The codes of the quotas of running Standard instances (Service Quotas): On-Demand, and Spot requests.
const ON_DEMAND: &str = "L-1216C47A";
const SPOT: &str = "L-34B43A08";

impl Ec2 {
    /// Whether one more instance is within the quota of its kind; what could not be found out is said.
    pub(super) async fn has_room(&self, candidate: &Candidate) -> Result<Option<String>, Failure> {
        if !is_standard(&candidate.instance_type) {
            return Ok(None);
        }
        let (code, market) =
            if candidate.spot { (SPOT, "Spot requests for") } else { (ON_DEMAND, "running On-Demand") };
        let (quota, used) = tokio::join!(self.quota(code), self.used(candidate.spot));
        let quota = match quota {
            Ok(Some(quota)) => quota,
            Ok(None) => return Ok(None),
            Err(error) => {
                return Ok(Some(format!("the quota of vCPUs was not looked at: {}", error.message.trim())));
            }
        };
        let used = used?;
        if f64::from(used + candidate.vcpus) <= quota {
            return Ok(None);
        }
        Err(Failure::new(format!(
            "the quota of {market} Standard instances in {} is full: {used} of {quota} vCPUs are used, and `{}` has {}",
            self.region, candidate.instance_type, candidate.vcpus
        ))
        .help(format!("ask for more of {code} in Service Quotas, or end instances")))
    }

    /// The value of a quota; none if there is no such quota.
    async fn quota(&self, code: &str) -> Result<Option<f64>, CallError> {
        let client = aws_sdk_servicequotas::Client::new(&self.sdk);
        let about = format!("`{code}` in {}", self.region);
        let request = client.get_service_quota().service_code("ec2").quota_code(code);
        match call("servicequotas:GetServiceQuota", &about, request.send()).await {
            Ok(answer) => Ok(answer.quota.and_then(|quota| quota.value)),
            Err(error) if error.is("NoSuchResourceException") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The vCPUs of the Standard instances that run.
    async fn used(&self, spot: bool) -> Result<i32, Failure> {
        let running =
            Filter::builder().name("instance-state-name").values("pending").values("running").build();
        let request = self.ec2.describe_instances().filters(running).into_paginator().items().send();
        let about = format!("instances in {}", self.region);
        let found = call("ec2:DescribeInstances", &about, request.collect::<Result<Vec<_>, _>>()).await?;
        let counts = |instance: &&Instance| {
            let is_spot = instance.instance_lifecycle() == Some(&InstanceLifecycleType::Spot);
            is_spot == spot && instance.instance_type().is_some_and(|name| is_standard(name.as_str()))
        };
        let vcpus = |instance: &Instance| {
            let cores = instance.cpu_options()?;
            Some(cores.core_count()? * cores.threads_per_core()?)
        };
        let instances = found.iter().flat_map(Reservation::instances);
        Ok(instances.filter(counts).filter_map(vcpus).sum())
    }
}

/// Whether a type is of a Standard family: the first letter tells, but for families of longer names.
fn is_standard(instance_type: &str) -> bool {
    let family: String = instance_type.chars().take_while(char::is_ascii_lowercase).collect();
    match family.as_str() {
        "im" | "is" => true,
        family => family.len() == 1 && family.starts_with(STANDARD),
    }
}

#[cfg(test)]
mod tests {
    use super::is_standard;

    #[test]
    fn families_of_one_quota_are_known() {
        for standard in ["t3.small", "c7i.large", "m7g.medium", "r6id.xlarge", "im4gn.large", "z1d.large"] {
            assert!(is_standard(standard), "{standard}");
        }
        for other in
            ["g5.xlarge", "p4d.24xlarge", "inf2.xlarge", "x2idn.16xlarge", "mac2.metal", "trn1.2xlarge"]
        {
            assert!(!is_standard(other), "{other}");
        }
    }
}
